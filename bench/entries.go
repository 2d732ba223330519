package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/datadir"
	"github.com/skerry-sync/skerry/replica"
)

// EntriesResult is the outcome of Entries.
type EntriesResult struct {
	Entries         int     `json:"entries"`
	BatchPerSecond  float64 `json:"batch_sets_per_s"`  // signed and stored, in batches
	SinglePerSecond float64 `json:"single_sets_per_s"` // each in a transaction of its own
	// likewise, and each on the disk before the next
	SyncedPerSecond float64 `json:"synced_sets_per_s"`
	SyncPerSecond   float64 `json:"first_sync_entries_per_s"`
	LiveSamples     int     `json:"live_samples"`
	// from set to stored, verified, at a connected peer
	LiveMedianMillis float64 `json:"live_median_ms"`
	LiveP99Millis    float64 `json:"live_p99_ms"`
	PeakHeapMiB      float64 `json:"peak_heap_mib"` // of both nodes together
}

// setBatch is how many entries are set together.
const setBatch = 8192

// setSingles is how many are set each in a transaction of its own, and as many again synced.
const setSingles = 2000

// Entries sets, syncs and pushes entries between two nodes in this process over loopback.
func Entries(ctx context.Context, cfg Config, entries int) (res EntriesResult, err error) {
	dir, remove, err := workDir(cfg)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	h := watchHeap()
	defer h.end()
	res.Entries = entries
	author := replica.NewSecretKey()
	value := newShortValue("value")
	r, err := setEntries(ctx, cfg, memberDir(dir, 0), author, value, &res)
	if err != nil {
		return res, err
	}
	p, err := newPair(ctx, dir)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	// Both nodes have the content, so that entries are measured and not downloads.
	for _, n := range []*node.Node{p.a, p.b} {
		if _, err := n.Blobs().ImportBytes(ctx, value.value); err != nil {
			return res, err
		}
	}
	cfg.Note("syncing them to a new node")
	t, err := p.a.Ticket(ctx, r, replica.Read)
	if err != nil {
		return res, err
	}
	start := time.Now()
	if _, err := p.b.Join(ctx, t, "bench"); err != nil {
		return res, err
	}
	res.SyncPerSecond = rate(entries+2*setSingles, start)
	if err := live(ctx, cfg, p, r.ID, node.WriteOptions{As: author}, value, &res); err != nil {
		return res, err
	}
	res.PeakHeapMiB = h.end()
	return res, nil
}

// setEntries measures the set itself, below a node: it sets entries of a new replica in a data
// directory that no node has open yet.
func setEntries(
	ctx context.Context, cfg Config, dir string, author replica.SecretKey, value shortValue,
	res *EntriesResult,
) (r replica.Replica, err error) {
	d, err := datadir.Open(dir, "")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	records, err := d.OpenStore(pebble.Options{})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	s, err := replica.Open(ctx, records, replica.Config{})
	if err != nil {
		return r, err
	}
	defer s.Close()
	if r, err = s.Create(ctx, "bench"); err != nil {
		return r, err
	}
	change := func(prefix string, i int) replica.Change {
		return replica.Change{
			Key:  fmt.Appendf(nil, "%s/%012d", prefix, i),
			Hash: value.hash, Size: uint64(len(value.value)),
		}
	}
	cfg.Note("setting %d entries", res.Entries)
	start := time.Now()
	for at := 0; at < res.Entries; at += setBatch {
		var changes []replica.Change
		for i := at; i < min(at+setBatch, res.Entries); i++ {
			changes = append(changes, change("entry", i))
		}
		if _, err := s.Write(ctx, r.ID, author, changes); err != nil {
			return r, err
		}
	}
	if err := s.Sync(ctx); err != nil {
		return r, err
	}
	res.BatchPerSecond = rate(res.Entries, start)
	single := func(prefix string, sync func(context.Context) error) (float64, error) {
		start := time.Now()
		for i := range setSingles {
			changes := []replica.Change{change(prefix, i)}
			if _, err := s.Write(ctx, r.ID, author, changes); err != nil {
				return 0, err
			}
			if sync == nil {
				continue
			}
			if err := sync(ctx); err != nil {
				return 0, err
			}
		}
		return rate(setSingles, start), nil
	}
	if res.SinglePerSecond, err = single("single", nil); err != nil {
		return r, err
	}
	res.SyncedPerSecond, err = single("synced", s.Sync)
	return r, err
}

func rate(n int, start time.Time) float64 {
	return float64(int(float64(n) / time.Since(start).Seconds()))
}

// shortValue is a value that entries are set to.
type shortValue struct {
	value []byte
	hash  blobs.Hash
}

func newShortValue(value string) shortValue {
	return shortValue{[]byte(value), blobs.HashOf([]byte(value))}
}

// at is the change that sets a key to the value.
func (s shortValue) at(key []byte) node.Change {
	return node.Change{Key: key, Value: s.value, Hash: s.hash}
}

func live(
	ctx context.Context, cfg Config, p *pair, id replica.ID, as node.WriteOptions, value shortValue,
	res *EntriesResult,
) error {
	const samples = 200
	cfg.Note("timing %d entries from set to stored at the peer", samples)
	sub := p.b.Replicas().Subscribe(id)
	defer sub.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var times []time.Duration
	for i := range samples {
		start := time.Now()
		key := fmt.Appendf(nil, "live/%d", i)
		if _, err := p.a.ReplicaOf(id).Apply(ctx, as, value.at(key)); err != nil {
			return err
		}
		for seen := false; !seen; {
			events, _, err := sub.Next(ctx)
			if err != nil {
				return fmt.Errorf("a live entry did not arrive: %w", err)
			}
			seen = slices.ContainsFunc(events, func(e replica.Event) bool {
				return string(e.Entry.Key) == string(key)
			})
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	res.LiveSamples, res.LiveMedianMillis, res.LiveP99Millis = samples, ms(times[samples/2]), ms(
		times[samples*99/100],
	)
	return nil
}

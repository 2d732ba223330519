package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// EntriesResult is the outcome of Entries.
type EntriesResult struct {
	Entries          int     `json:"entries"`
	BatchPerSecond   float64 `json:"batch_sets_per_s"`  // signed and stored, in batches
	SinglePerSecond  float64 `json:"single_sets_per_s"` // each in a transaction of its own
	SyncedPerSecond  float64 `json:"synced_sets_per_s"` // likewise, and each on the disk before the next
	SyncPerSecond    float64 `json:"first_sync_entries_per_s"`
	LiveSamples      int     `json:"live_samples"`
	LiveMedianMillis float64 `json:"live_median_ms"` // from set to stored, verified, at a connected peer
	LiveP99Millis    float64 `json:"live_p99_ms"`
	PeakHeapMiB      float64 `json:"peak_heap_mib"` // of both nodes together
}

// setBatch is how many entries are set together.
const setBatch = 8192

// Entries sets, syncs and pushes entries between two nodes in this process over loopback.
func Entries(ctx context.Context, cfg Config, entries int) (res EntriesResult, err error) {
	dir, remove, err := workDir(cfg)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	p, err := newPair(ctx, dir)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	h := watchHeap()
	res.Entries = entries
	r, err := p.a.CreateReplica(ctx, "bench", false)
	if err != nil {
		return res, err
	}
	as := node.WriteOptions{As: replica.NewSecretKey()}
	value, here := newShortValue("value"), p.a.ReplicaOf(r.ID)
	// The other node has the content, so that entries are measured and not downloads.
	if _, err := p.b.Blobs().ImportBytes(ctx, []byte("value")); err != nil {
		return res, err
	}
	cfg.Note("setting %d entries", entries)
	start := time.Now()
	batch, err := here.Batch(ctx, as)
	if err != nil {
		return res, err
	}
	defer batch.Close()
	for i := range entries {
		if err := batch.Add(value.at(fmt.Appendf(nil, "entry/%012d", i))); err != nil {
			return res, err
		}
		if batch.Len() < setBatch {
			continue
		}
		if _, err := batch.Write(); err != nil {
			return res, err
		}
	}
	if _, err := batch.Commit(); err != nil {
		return res, err
	}
	res.BatchPerSecond = rate(entries, start)
	const singles = 2000
	single := func(prefix string, write func() ([]replica.Item, error)) (float64, error) {
		start := time.Now()
		for i := range singles {
			if err := batch.Add(value.at(fmt.Appendf(nil, "%s/%d", prefix, i))); err != nil {
				return 0, err
			}
			if _, err := write(); err != nil {
				return 0, err
			}
		}
		return rate(singles, start), nil
	}
	if res.SinglePerSecond, err = single("single", batch.Write); err != nil {
		return res, err
	}
	if res.SyncedPerSecond, err = single("synced", batch.Commit); err != nil {
		return res, err
	}
	cfg.Note("syncing them to a new node")
	t, err := p.a.Ticket(ctx, r, replica.Read)
	if err != nil {
		return res, err
	}
	start = time.Now()
	if _, err := p.b.Join(ctx, t, "bench"); err != nil {
		return res, err
	}
	res.SyncPerSecond = rate(entries+2*singles, start)
	if err := live(ctx, cfg, p, r.ID, as, value, &res); err != nil {
		return res, err
	}
	res.PeakHeapMiB = h.end()
	return res, nil
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
			seen = slices.ContainsFunc(events, func(e replica.Event) bool { return string(e.Entry.Key) == string(key) })
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	res.LiveSamples, res.LiveMedianMillis, res.LiveP99Millis = samples, ms(times[samples/2]), ms(times[samples*99/100])
	return nil
}

package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// EntriesResult is the outcome of Entries.
type EntriesResult struct {
	Entries          int     `json:"entries"`
	BatchPerSecond   float64 `json:"batch_sets_per_s"`  // signed and stored, in batches
	SinglePerSecond  float64 `json:"single_sets_per_s"` // each in a transaction of its own, synced to disk
	SyncPerSecond    float64 `json:"first_sync_entries_per_s"`
	LiveSamples      int     `json:"live_samples"`
	LiveMedianMillis float64 `json:"live_median_ms"` // from set to stored, verified, at a connected peer
	LiveP99Millis    float64 `json:"live_p99_ms"`
	PeakHeapMiB      float64 `json:"peak_heap_mib"` // of both nodes together
}

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
	r, err := p.a.Replicas.Create(ctx, "bench")
	if err != nil {
		return res, err
	}
	author := replica.NewSecretKey()
	value, err := p.a.Blobs.ImportBytes(ctx, []byte("value"))
	if err != nil {
		return res, err
	}
	// The other node has the content, so that entries are measured and not downloads.
	if _, err := p.b.Blobs.ImportBytes(ctx, []byte("value")); err != nil {
		return res, err
	}
	cfg.Note("setting %d entries", entries)
	start := time.Now()
	for at := 0; at < entries; at += 1024 {
		var changes []replica.Change
		for i := at; i < min(at+1024, entries); i++ {
			changes = append(changes, replica.Change{Key: fmt.Appendf(nil, "entry/%012d", i), Hash: value.Hash, Size: value.Size})
		}
		if _, err := p.a.Replicas.Write(ctx, r.ID, author, changes); err != nil {
			return res, err
		}
	}
	if err := p.a.Replicas.Sync(ctx); err != nil {
		return res, err
	}
	res.BatchPerSecond = rate(entries, start)
	const singles = 500
	start = time.Now()
	for i := range singles {
		if _, err := p.a.Replicas.Write(ctx, r.ID, author, []replica.Change{{Key: fmt.Appendf(nil, "single/%d", i), Hash: value.Hash, Size: value.Size}}); err != nil {
			return res, err
		}
		if err := p.a.Replicas.Sync(ctx); err != nil {
			return res, err
		}
	}
	res.SinglePerSecond = rate(singles, start)
	cfg.Note("syncing them to a new node")
	t, err := p.a.Ticket(r, replica.Read)
	if err != nil {
		return res, err
	}
	start = time.Now()
	if _, err := p.b.Join(ctx, t, "bench"); err != nil {
		return res, err
	}
	res.SyncPerSecond = rate(entries+singles, start)
	if err := live(ctx, cfg, p, r.ID, author, value, &res); err != nil {
		return res, err
	}
	res.PeakHeapMiB = h.end()
	return res, nil
}

func rate(n int, start time.Time) float64 {
	return float64(int(float64(n) / time.Since(start).Seconds()))
}

func live(ctx context.Context, cfg Config, p *pair, id replica.ID, author replica.SecretKey, value blobs.Info, res *EntriesResult) error {
	const samples = 200
	cfg.Note("timing %d entries from set to stored at the peer", samples)
	sub := p.b.Replicas.Subscribe(id)
	defer sub.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var times []time.Duration
	for i := range samples {
		start := time.Now()
		key := fmt.Appendf(nil, "live/%d", i)
		if _, err := p.a.Replicas.Write(ctx, id, author, []replica.Change{{Key: key, Hash: value.Hash, Size: value.Size}}); err != nil {
			return err
		}
		if err := p.a.Replicas.Sync(ctx); err != nil {
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

// ReconcileResult is the outcome of one session of Reconcile.
type ReconcileResult struct {
	Items         int     `json:"items"`
	Differences   int     `json:"differences"`
	Rounds        int     `json:"rounds"`
	BytesSent     uint64  `json:"bytes_sent"`
	BytesReceived uint64  `json:"bytes_received"`
	ItemBytes     uint64  `json:"item_bytes"`     // of these, the differing items themselves
	Overhead      uint64  `json:"overhead_bytes"` // of these, everything else
	Milliseconds  float64 `json:"milliseconds"`
}

// Reconcile runs sessions between two sets in memory that differ in some items, which lie scattered, half of them on each side.
func Reconcile(ctx context.Context, cfg Config, items int, differences []int) ([]ReconcileResult, error) {
	var out []ReconcileResult
	for _, d := range differences {
		cfg.Note("reconciling %d items, %d of them different", items, d)
		a, b := newItems(items, d, 0), newItems(items, d, 1)
		ca, cb := net.Pipe()
		done := make(chan error, 1)
		key := [32]byte{1}
		insert := func(context.Context, [][]byte) error { return nil }
		start := time.Now()
		go func() {
			_, err := reconcile.Run(ctx, bufio.NewReader(cb), cb, func() { _ = cb.Close() }, reconcile.Config{Set: b.set(), Insert: insert, Key: key})
			done <- err
		}()
		st, err := reconcile.Run(ctx, bufio.NewReader(ca), ca, func() { _ = ca.Close() }, reconcile.Config{Set: a.set(), Insert: insert, Key: key, Initiator: true})
		took := time.Since(start)
		if err = errors.Join(err, <-done, ca.Close(), cb.Close()); err != nil {
			return out, err
		}
		moved := (st.ItemsSent + st.ItemsReceived) * itemSize
		out = append(out, ReconcileResult{Items: items, Differences: d, Rounds: st.Rounds, BytesSent: st.BytesSent, BytesReceived: st.BytesReceived,
			ItemBytes: moved, Overhead: st.BytesSent + st.BytesReceived - moved, Milliseconds: float64(took.Microseconds()) / 1000})
	}
	return out, nil
}

const itemSize = 200 // about that of an entry with a short key

// items is a sorted list of random 32-byte ids.
type items [][32]byte

// newItems makes the set of one side: of n items, d lie on one side only.
func newItems(n, d, side int) items {
	out := make(items, 0, n)
	step := max(n/max(d, 1), 1)
	for i := range n {
		if d > 0 && i%step == 0 && i/step < d && i/step%2 != side {
			continue
		}
		out = append(out, blake3.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))))
	}
	slices.SortFunc(out, func(x, y [32]byte) int { return slices.Compare(x[:], y[:]) })
	return out
}

func (s items) set() reconcile.Set {
	return reconcile.Scanned(func(_ context.Context, r reconcile.Range) iter.Seq2[reconcile.Item, error] {
		return func(yield func(reconcile.Item, error) bool) {
			data := make([]byte, itemSize)
			at, _ := slices.BinarySearchFunc(s, r.From, func(x [32]byte, from []byte) int { return slices.Compare(x[:], from) })
			for ; at < len(s) && (len(r.To) == 0 || slices.Compare(s[at][:], r.To) < 0); at++ {
				if !yield(reconcile.Item{Key: s[at][:], ID: s[at], Data: data}, nil) {
					return
				}
			}
		}
	})
}

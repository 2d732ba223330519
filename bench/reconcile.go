package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/reconcile/tree"
)

// ReconcileResult is the outcome of one session of Reconcile.
type ReconcileResult struct {
	Items         int     `json:"items"`
	Differences   int     `json:"differences"`
	Plain         bool    `json:"plain"` // without sketches
	Rounds        int     `json:"rounds"`
	Messages      int     `json:"messages"`
	BytesSent     uint64  `json:"bytes_sent"`
	BytesReceived uint64  `json:"bytes_received"`
	ItemBytes     uint64  `json:"item_bytes"`     // of these, the differing items themselves
	Overhead      uint64  `json:"overhead_bytes"` // of these, everything else
	Milliseconds  float64 `json:"milliseconds"`
	BuildSeconds  float64 `json:"build_seconds"` // of both trees
}

// Reconcile runs sessions between two sets of random items that differ in some, which lie scattered
// by chance, half of them on each side. The trees lie in stores on disk. If plain is set, each
// session is run again without sketches.
func Reconcile(
	ctx context.Context, cfg Config, items int, differences []int, plain bool,
) (out []ReconcileResult, err error) {
	dir, remove, err := workDir(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	all := newItems(items)
	for _, d := range differences {
		cfg.Note("building two trees of %d items, %d of them different", items, d)
		start := time.Now()
		lacking := [2]map[int]bool{{}, {}}
		rng := rand.New(rand.NewPCG(uint64(d), 1))
		for n := 0; n < d; {
			if i := rng.IntN(items); !lacking[0][i] && !lacking[1][i] {
				lacking[n%2][i] = true
				n++
			}
		}
		var sets [2]*itemSet
		for side := range sets {
			sets[side], err = newItemSet(
				ctx, filepath.Join(dir, fmt.Sprintf("%d-%d", d, side)), all, lacking[side],
			)
			if err != nil {
				return out, err
			}
		}
		built := time.Since(start)
		runs := []bool{false}
		if plain {
			runs = append(runs, true)
		}
		for _, p := range runs {
			var r ReconcileResult
			if r, err = reconcileOnce(ctx, sets, p); err != nil {
				break
			}
			r.Items, r.Differences, r.BuildSeconds = items, d, seconds(built)
			out = append(out, r)
		}
		if err := errors.Join(err, sets[0].kv.Close(), sets[1].kv.Close()); err != nil {
			return out, err
		}
	}
	return out, nil
}

func reconcileOnce(ctx context.Context, sets [2]*itemSet, plain bool) (ReconcileResult, error) {
	ca, cb := net.Pipe()
	done := make(chan error, 1)
	config := func(s *itemSet, initiator bool) reconcile.Config {
		return reconcile.Config{
			Set: s, Insert: s.insert, Key: [32]byte{1}, Plain: plain, Initiator: initiator,
		}
	}
	start := time.Now()
	go func() {
		_, err := reconcile.Run(ctx, bufio.NewReader(cb), cb, func() {
			_ = cb.Close()
		}, config(sets[1], false))
		done <- err
	}()
	st, err := reconcile.Run(ctx, bufio.NewReader(ca), ca, func() {
		_ = ca.Close()
	}, config(sets[0], true))
	took := time.Since(start)
	if err = errors.Join(err, <-done, ca.Close(), cb.Close()); err != nil {
		return ReconcileResult{}, err
	}
	for _, s := range sets {
		if got := len(s.came); len(s.lacking) != 0 {
			return ReconcileResult{}, fmt.Errorf("%d items did not arrive, %d did", len(s.lacking), got)
		}
		if err := s.forget(ctx); err != nil {
			return ReconcileResult{}, err
		}
	}
	moved := (st.ItemsSent + st.ItemsReceived) * itemSize
	return ReconcileResult{
		Plain: plain, Rounds: st.Rounds, Messages: st.Messages, BytesSent: st.BytesSent,
		BytesReceived: st.BytesReceived, ItemBytes: moved,
		Overhead:     st.BytesSent + st.BytesReceived - moved,
		Milliseconds: float64(took.Microseconds()) / 1000,
	}, nil
}

const itemSize = 200 // about that of an entry with a short key

// newItems makes n random ids of 32 bytes, sorted.
func newItems(n int) [][32]byte {
	out := make([][32]byte, n)
	for i := range out {
		out[i] = blake3.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	}
	slices.SortFunc(out, func(x, y [32]byte) int { return bytes.Compare(x[:], y[:]) })
	return out
}

// itemSet is the set of one side: the items lie in memory, the tree on disk.
type itemSet struct {
	all  [][32]byte
	kv   kv.Store
	tree tree.Tree

	mu      sync.Mutex
	lacking map[int]bool
	came    [][32]byte
}

var _ reconcile.Set = (*itemSet)(nil)

func newItemSet(
	ctx context.Context, dir string, all [][32]byte, lacking map[int]bool,
) (*itemSet, error) {
	store, err := pebble.Open(dir, pebble.Options{})
	if err != nil {
		return nil, err
	}
	s := &itemSet{all: all, lacking: lacking, kv: store}
	s.tree = tree.Tree{Prefix: []byte("t"), Bound: func(key []byte) []byte {
		return key
	}, Items: func(_ kv.Reader, r reconcile.Range) iter.Seq2[tree.Item, error] {
		return func(yield func(tree.Item, error) bool) {
			for id := range s.ids(r) {
				if !yield(tree.Item{Key: id[:], Mark: markOf(id)}, nil) {
					return
				}
			}
		}
	}}
	err = store.View(ctx, func(rd kv.Reader) error {
		return store.Batch(ctx, func(w kv.Writer) error { return s.tree.Build(rd, w) })
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return s, nil
}

func markOf(id [32]byte) reconcile.Mark {
	return reconcile.Mark{ID: id, Element: reconcile.Element(id[:])}
}

func (s *itemSet) ids(r reconcile.Range) iter.Seq[[32]byte] {
	return func(yield func([32]byte) bool) {
		at, _ := slices.BinarySearchFunc(s.all, r.From, func(x [32]byte, from []byte) int {
			return bytes.Compare(x[:], from)
		})
		for ; at < len(s.all) && (len(r.To) == 0 || bytes.Compare(s.all[at][:], r.To) < 0); at++ {
			s.mu.Lock()
			lacking := s.lacking[at]
			s.mu.Unlock()
			if !lacking && !yield(s.all[at]) {
				return
			}
		}
	}
}

func (s *itemSet) item(id [32]byte) reconcile.Item {
	return reconcile.Item{
		Key: id[:], Mark: markOf(id), Data: append(id[:], make([]byte, itemSize-len(id))...),
	}
}

func (s *itemSet) place(id [32]byte) int {
	at, _ := slices.BinarySearchFunc(s.all, id, func(x, y [32]byte) int {
		return bytes.Compare(x[:], y[:])
	})
	return at
}

// change adds or removes items, of which the tree knows afterwards.
func (s *itemSet) change(ctx context.Context, ids [][32]byte, add bool) error {
	slices.SortFunc(ids, func(x, y [32]byte) int { return bytes.Compare(x[:], y[:]) })
	changes := make([]tree.Change, 0, len(ids))
	for i := range ids {
		m := markOf(ids[i])
		c := tree.Change{Key: ids[i][:], Add: &m}
		if !add {
			c.Add, c.Remove = nil, &m
		}
		changes = append(changes, c)
	}
	for some := range slices.Chunk(changes, 256) {
		err := s.kv.Update(ctx, func(tx kv.Txn) error {
			return s.kv.View(ctx, func(rd kv.Reader) error { return s.tree.Apply(rd, tx, some) })
		})
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if at := s.place(id); add {
			delete(s.lacking, at)
		} else {
			s.lacking[at] = true
		}
	}
	return nil
}

func (s *itemSet) insert(ctx context.Context, items [][]byte) error {
	ids := make([][32]byte, len(items))
	for i, b := range items {
		ids[i] = [32]byte(b)
	}
	s.came = append(s.came, ids...)
	return s.change(ctx, ids, true)
}

// forget undoes insert.
func (s *itemSet) forget(ctx context.Context) error {
	err := s.change(ctx, s.came, false)
	s.came = nil
	return err
}

func (s *itemSet) Items(_ context.Context, r reconcile.Range) iter.Seq2[reconcile.Item, error] {
	return func(yield func(reconcile.Item, error) bool) {
		for id := range s.ids(r) {
			if !yield(s.item(id), nil) {
				return
			}
		}
	}
}

func (s *itemSet) Find(
	_ context.Context, r reconcile.Range, elements []reconcile.Element,
) iter.Seq2[reconcile.Item, error] {
	return func(yield func(reconcile.Item, error) bool) {
		for _, e := range elements {
			for id := range s.ids(reconcile.Range{From: e[:], To: kv.After(e[:])}) {
				if r.Contains(id[:]) && !yield(s.item(id), nil) {
					return
				}
			}
		}
	}
}

func (s *itemSet) Summaries(
	ctx context.Context, bounds [][]byte,
) (sums []reconcile.Summary, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		sums, err = s.tree.Summaries(rd, bounds)
		return err
	})
	return sums, err
}

func (s *itemSet) Split(
	ctx context.Context, r reconcile.Range, k int,
) (parts []reconcile.Part, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		parts, err = s.tree.Split(rd, r, k)
		return err
	})
	return parts, err
}

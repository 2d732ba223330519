package versions

import (
	"bytes"
	"context"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/record"
)

// ReadAll returns the items of some keys, in their order, as Read does. That costs much less than
// to read each. looked returns what was shown of a key; nil is nothing of any.
func (s *Set) ReadAll(
	ctx context.Context, keys [][]byte, looked func(key []byte) Looked,
) ([]*Item, error) {
	all := make([]slotsOf, len(keys))
	mine := make([][]byte, len(keys))
	for i, key := range keys {
		if len(key) > 0 && key[0] == 0 {
			return nil, ErrReservedKey
		}
		mine[i] = append(make([]byte, 0, len(key)), key...) // not nil
	}
	entries, err := s.cfg.Slots.EntriesOf(ctx, mine)
	if err != nil {
		return nil, s.failed(err)
	}
	for i, key := range mine {
		all[i] = slotsOf{key: key, slots: entries[i]}
		if looked != nil {
			all[i].looked = looked(key)
		}
	}
	tiny, err := s.tiny(ctx, all...)
	if err != nil {
		return nil, s.failed(err)
	}
	items, err := s.items(ctx, all, tiny)
	return items, s.failed(err)
}

// slots returns the entries of a key.
func (s *Set) slots(ctx context.Context, key []byte) ([]replica.Item, error) {
	all, err := s.cfg.Slots.EntriesOf(ctx, [][]byte{key})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// How many keys All looks at together: few at first, since whoever asks may want no more. Small
// contents are read in the order of their hashes: the more of them together, the closer they lie.
const (
	minReadAhead = 1 << 4
	maxReadAhead = 1 << 13
)

const (
	// bytesAhead and entriesAhead are how much these may have together, unless it is one key. Whoever
	// may have others write can give any number of keys any number of versions, each of which takes as
	// much memory as its record has bytes, however little its author has sent: entries can share a
	// content.
	bytesAhead   = 16 << 20
	entriesAhead = 1 << 14
)

// itemsTogether is how many items All makes before it yields the first of them.
const itemsTogether = 1 << 9

// inTurn is how many items a goroutine makes in one go.
const inTurn = 1 << 5

// slotsOf is what there is of a key.
type slotsOf struct {
	key    []byte // not the caller's
	slots  []replica.Item
	looked Looked
}

// All yields the items of all keys that begin with prefix, in order. looked returns what was shown
// of a key; nil is nothing of any. It looks at some items before they are asked for.
func (s *Set) All(
	ctx context.Context, prefix []byte, looked func(key []byte) Looked,
) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		var ahead []slotsOf
		most, entries, size := minReadAhead, 0, uint64(0) // those of ahead
		flush := func() bool {
			entries, size = 0, 0
			tiny, err := s.tiny(ctx, ahead...)
			if err != nil {
				yield(nil, s.failed(err))
				return false
			}
			for part := range slices.Chunk(ahead, itemsTogether) {
				n := 0
				for i := range part {
					n += len(part[i].slots)
				}
				items, err := s.items(ctx, part, tiny[:n])
				tiny = tiny[n:]
				for _, item := range items {
					if !yield(item, nil) {
						return false
					}
				}
				if err != nil {
					yield(nil, s.failed(err))
					return false
				}
			}
			clear(ahead)
			ahead = ahead[:0]
			return true
		}
		for it, err := range s.cfg.Slots.Entries(ctx, replica.Query{Prefix: prefix}) {
			if err != nil {
				if flush() {
					yield(nil, s.failed(err))
				}
				return
			}
			if len(it.Key) > 0 && it.Key[0] == 0 {
				continue
			}
			if n := len(ahead); n > 0 && bytes.Equal(it.Key, ahead[n-1].key) {
				ahead[n-1].slots = append(ahead[n-1].slots, it)
				entries, size = entries+1, size+min(it.Entry.Size, record.MaxRecord)
				continue
			}
			if len(ahead) == most || entries >= entriesAhead || size >= bytesAhead {
				if !flush() {
					return
				}
				most = min(2*most, maxReadAhead)
			}
			entries, size = entries+1, size+min(it.Entry.Size, record.MaxRecord)
			x := slotsOf{key: slices.Clone(it.Key), slots: []replica.Item{it}}
			if looked != nil {
				x.looked = looked(x.key)
			}
			ahead = append(ahead, x)
		}
		flush()
	}
}

// items makes the items of some keys, on all processors; tiny are the contents of their entries, as
// the method says. Those before the first that fails are returned with its error.
func (s *Set) items(ctx context.Context, all []slotsOf, tiny [][]byte) ([]*Item, error) {
	items, errs, first := make([]*Item, len(all)), make([]error, len(all)), make([]int, len(all)+1)
	for i := range all {
		first[i+1] = first[i] + len(all[i].slots)
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	work := func() {
		for {
			from := int(next.Add(inTurn)) - inTurn
			if from >= len(all) {
				return
			}
			for i := from; i < min(from+inTurn, len(all)); i++ {
				items[i], errs[i] = s.item(ctx, all[i], tiny[first[i]:first[i+1]])
			}
		}
	}
	for range min(runtime.GOMAXPROCS(0), (len(all)+inTurn-1)/inTurn) - 1 {
		workers.Go(work)
	}
	work()
	workers.Wait()
	for i, err := range errs {
		if err != nil {
			return items[:i], err
		}
	}
	return items, nil
}

// oneItem makes the item of one key.
func (s *Set) oneItem(ctx context.Context, of slotsOf) (*Item, error) {
	tiny, err := s.tiny(ctx, of)
	if err != nil {
		return nil, err
	}
	return s.item(ctx, of, tiny)
}

// tiny returns the contents of the entries of some keys, one behind the other: of those that are
// small and at hand, nil for others.
func (s *Set) tiny(ctx context.Context, all ...slotsOf) ([][]byte, error) {
	var entries []*replica.Entry
	for i := range all {
		for j := range all[i].slots {
			entries = append(entries, &all[i].slots[j].Entry)
		}
	}
	if len(entries) == 0 {
		return nil, nil
	}
	return s.cfg.Slots.Tiny(ctx, entries)
}

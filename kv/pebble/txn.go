package pebble

import (
	"iter"
	"slices"
	"strings"

	pbl "github.com/cockroachdb/pebble/v2"

	"github.com/skerry-sync/skerry/kv"
)

// txn lays its own changes over a snapshot.
type txn struct {
	reader
	s       *Store
	batch   *pbl.Batch
	changed []uint64 // hashes of keys
	own     overlay
	content bool // free space for it has been checked for
}

func (t *txn) Get(key []byte) ([]byte, error) {
	if c, ok := t.own.get(key); ok {
		if c.deleted {
			return nil, kv.ErrNotFound
		}
		return append([]byte{}, c.value...), nil
	}
	return t.reader.Get(key)
}

func (t *txn) Peek(key []byte, fn func([]byte) error) error {
	if c, ok := t.own.get(key); ok {
		if c.deleted {
			return kv.ErrNotFound
		}
		return fn(c.value)
	}
	return t.reader.Peek(key, fn)
}

func (t *txn) Has(key []byte) (bool, error) {
	if c, ok := t.own.get(key); ok {
		return !c.deleted, nil
	}
	return t.reader.Has(key)
}

// Scan merges what is stored with the transaction's own changes, as they are when the scan begins.
func (t *txn) Scan(r kv.Range, o kv.ScanOptions) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		own := t.own.within(r)
		if len(own) == 0 {
			t.reader.Scan(r, o)(yield)
			return
		}
		if o.Reverse {
			own = slices.Clone(own)
			slices.Reverse(own)
		}
		before := func(a, b string) bool { return a < b && !o.Reverse || a > b && o.Reverse }
		emit := func(c *change) bool { // reports whether to go on
			if c.deleted {
				return true
			}
			p := kv.Pair{Key: []byte(c.key)}
			if !o.KeysOnly {
				p.Value = c.value
			}
			return yield(p, nil)
		}
		for p, err := range t.reader.Scan(r, o) {
			if err != nil {
				yield(p, err)
				return
			}
			for len(own) > 0 && before(own[0].key, string(p.Key)) {
				if !emit(own[0]) {
					return
				}
				own = own[1:]
			}
			if len(own) > 0 && own[0].key == string(p.Key) {
				if !emit(own[0]) {
					return
				}
				own = own[1:]
				continue
			}
			if !yield(p, nil) {
				return
			}
		}
		for _, c := range own {
			if !emit(c) {
				return
			}
		}
	}
}

func (t *txn) Set(key, value []byte) error {
	if err := kv.CheckSizes(key, value); err != nil {
		return err
	}
	if len(value) >= contentSize && !t.content {
		if err := t.s.checkSpace(needOf(t.ctx, true)); err != nil {
			return err
		}
		t.content = true
	}
	if err := t.room(len(key) + len(value)); err != nil {
		return err
	}
	t.own.put(change{key: string(key), value: value})
	t.changed = append(t.changed, t.watch(key))
	return t.batch.Set(key, value, nil)
}

func (t *txn) Delete(key []byte) error {
	if err := kv.CheckSizes(key, nil); err != nil {
		return err
	}
	if err := t.room(len(key)); err != nil {
		return err
	}
	t.own.put(change{key: string(key), deleted: true})
	t.changed = append(t.changed, t.watch(key))
	return t.batch.Delete(key, nil)
}

func (t *txn) room(more int) error {
	if t.batch.Len()+more > maxTxnSize {
		return kv.ErrTooBig
	}
	return nil
}

// change is what a transaction does to a key.
type change struct {
	key     string
	value   []byte
	deleted bool
}

// overlay holds the changes of a transaction: by key, and in order as far as scans asked for that.
type overlay struct {
	byKey  map[string]*change
	sorted []*change
	fresh  []*change // not yet among the sorted
}

func (o *overlay) get(key []byte) (*change, bool) {
	c, ok := o.byKey[string(key)]
	return c, ok
}

func (o *overlay) put(c change) {
	if o.byKey == nil {
		o.byKey = map[string]*change{}
	}
	if have, ok := o.byKey[c.key]; ok {
		*have = c
		return
	}
	o.byKey[c.key] = &c
	o.fresh = append(o.fresh, &c)
}

// within returns the changes to the keys of a range in ascending order. The slice is good until the
// next change.
func (o *overlay) within(r kv.Range) []*change {
	byKey := func(a, b *change) int { return strings.Compare(a.key, b.key) }
	if len(o.fresh) > 0 {
		slices.SortFunc(o.fresh, byKey)
		merged := make([]*change, 0, len(o.sorted)+len(o.fresh))
		old, fresh := o.sorted, o.fresh
		for len(old) > 0 && len(fresh) > 0 {
			if old[0].key < fresh[0].key {
				merged, old = append(merged, old[0]), old[1:]
			} else {
				merged, fresh = append(merged, fresh[0]), fresh[1:]
			}
		}
		o.sorted, o.fresh = append(append(merged, old...), fresh...), nil
	}
	at := func(key []byte) int {
		i, _ := slices.BinarySearchFunc(o.sorted, key, func(c *change, k []byte) int {
			return strings.Compare(c.key, string(k))
		})
		return i
	}
	lo, hi := at(r.From), len(o.sorted)
	if r.To != nil {
		hi = at(r.To)
	}
	return o.sorted[lo:max(lo, hi)]
}

package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	pbl "github.com/cockroachdb/pebble/v2"

	"github.com/skerry-sync/skerry/kv"
)

// reader reads from a snapshot.
type reader struct {
	ctx     context.Context
	dir     string // named in errors
	from    *pbl.Snapshot
	watch   func(key []byte) uint64 // nil if nobody asks what was read
	watched []uint64
	// Moving an iterator is cheaper than making one.
	points *pbl.Iterator // for single keys, from the second on
	first  bool          // the first single key was read
	busy   bool          // a value of points is in use
	spare  *pbl.Iterator // of a scan that ended
}

func (r *reader) close() {
	for _, it := range []*pbl.Iterator{r.points, r.spare} {
		if it != nil {
			_ = it.Close() // says again what Error said
		}
	}
}

// scanner returns an iterator over a range, to be given back.
func (r *reader) scanner(low, high []byte) (*pbl.Iterator, error) {
	if it := r.spare; it != nil {
		r.spare = nil
		it.SetBounds(low, high)
		return it, nil
	}
	return r.from.NewIter(&pbl.IterOptions{LowerBound: low, UpperBound: high})
}

func (r *reader) giveBack(it *pbl.Iterator) {
	if r.spare == nil && it.Error() == nil {
		r.spare = it
		return
	}
	_ = it.Close()
}

// point returns the value of a key, good until the next call.
func (r *reader) point(key []byte) ([]byte, error) {
	if r.points == nil {
		var err error
		if r.points, err = r.from.NewIter(nil); err != nil {
			return nil, err
		}
	}
	if !r.points.SeekPrefixGE(key) {
		if err := r.points.Error(); err != nil {
			return nil, err
		}
		return nil, pbl.ErrNotFound
	}
	if !bytes.Equal(r.points.Key(), key) {
		return nil, pbl.ErrNotFound
	}
	return r.points.ValueAndErr()
}

func (r *reader) saw(key []byte) {
	if r.watch != nil {
		r.watched = append(r.watched, r.watch(key))
	}
}

func (r *reader) Get(key []byte) (value []byte, err error) {
	err = r.Peek(key, func(v []byte) error {
		value = append([]byte{}, v...)
		return nil
	})
	return value, err
}

func (r *reader) Peek(key []byte, fn func([]byte) error) error {
	r.saw(key)
	if r.first && !r.busy {
		v, err := r.point(key)
		if err != nil {
			return r.readError(err)
		}
		r.busy = true
		defer func() { r.busy = false }()
		return fn(v)
	}
	r.first = true
	v, done, err := r.from.Get(key)
	if err != nil {
		return r.readError(err)
	}
	return errors.Join(fn(v), done.Close())
}

func (r *reader) readError(err error) error {
	if errors.Is(err, pbl.ErrNotFound) {
		return kv.ErrNotFound
	}
	return fmt.Errorf("read from store: %w", damaged(r.dir, err))
}

func (r *reader) Has(key []byte) (bool, error) {
	err := r.Peek(key, func([]byte) error { return nil })
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (r *reader) Scan(rg kv.Range, o kv.ScanOptions) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		low := rg.From
		if len(low) == 0 || low[0] == 0 {
			low = []byte{1} // keys below are the store's own
		}
		if rg.To != nil && bytes.Compare(low, rg.To) >= 0 {
			return
		}
		it, err := r.scanner(low, rg.To)
		if err != nil {
			yield(kv.Pair{}, fmt.Errorf("scan store: %w", damaged(r.dir, err)))
			return
		}
		defer r.giveBack(it)
		step, ok := it.Next, false
		if o.Reverse {
			step, ok = it.Prev, it.Last()
		} else {
			ok = it.First()
		}
		for n := 1; ok; n++ {
			p := kv.Pair{Key: it.Key()}
			r.saw(p.Key)
			if n%256 == 0 && r.ctx.Err() != nil {
				yield(kv.Pair{}, r.ctx.Err())
				return
			}
			if !o.KeysOnly {
				if p.Value, err = it.ValueAndErr(); err != nil {
					yield(kv.Pair{}, fmt.Errorf("scan store: read value: %w", damaged(r.dir, err)))
					return
				}
			}
			if !yield(p, nil) {
				return
			}
			ok = step()
		}
		if err := it.Error(); err != nil {
			yield(kv.Pair{}, fmt.Errorf("scan store: %w", damaged(r.dir, err)))
		}
	}
}

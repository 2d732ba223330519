package pebble

import (
	"bytes"
	"context"
	"math/big"

	pbl "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage"

	"github.com/skerry-sync/skerry/kv"
)

// reads is the file of a table. Asked to, it keeps what it has read, errors too: a disk that fails
// may take seconds for each block to say so.
type reads struct {
	objstorage.Readable
	kept  map[span]read // nil if nothing is to be kept
	asked int           // how often something was to be read
	done  int           // how often the file was
}

type span struct{ at, length int64 }

type read struct {
	content []byte
	err     error
}

// ReadAt fills p with what is at an offset of the file.
func (r *reads) ReadAt(ctx context.Context, p []byte, at int64) error {
	r.asked++
	where := span{at, int64(len(p))}
	if k, ok := r.kept[where]; ok {
		copy(p, k.content)
		return k.err
	}
	r.done++
	err := r.Readable.ReadAt(ctx, p, at)
	if r.kept != nil {
		r.kept[where] = read{bytes.Clone(p), err}
	}
	return err
}

// NewReadHandle returns a handle that reads nothing ahead.
func (r *reads) NewReadHandle(objstorage.ReadBeforeSize) objstorage.ReadHandle {
	h := objstorage.MakeNoopReadHandle(r)
	return &h
}

// advance goes on to the next version, past what is damaged, and reports whether there is one.
func (v *salvage) advance(s *source) bool {
	if s.table == nil {
		if len(s.log) == 0 {
			return false
		}
		s.at, s.log = s.log[0], s.log[1:]
		return true
	}
	step := toNext
	if !s.begun {
		step = toFirst
	}
	ok, err := s.step(step, nil)
	for err != nil {
		var from, next []byte
		if s.begun {
			from = append(bytes.Clone(s.at.key), 0)
		}
		damage := v.note(s.name, err)
		next, ok, err = s.skip(from)
		damage.Lost = []kv.Range{{From: from, To: next}}
	}
	if !ok {
		s.close()
	}
	s.begun = true
	return ok
}

// direction is where a step goes.
type direction int

const (
	toFirst direction = iota
	toNext
	toPrevious
	toKey // the first version of it or of a later key
)

// seekOr calls step or, without one, seek. Only Pebble can name the type of what they return.
func seekOr[T any, F ~uint8](step func() T, seek func([]byte, F) T, from []byte) T {
	if step == nil {
		return seek(from, 0)
	}
	return step()
}

// step takes another version and reports whether there is one.
func (s *source) step(to direction, key []byte) (ok bool, err error) {
	defer caught(s.name, &err)
	step := s.table.Next
	switch to {
	case toFirst:
		step = s.table.First
	case toPrevious:
		step = s.table.Prev
	case toKey:
		step = nil
	}
	found := seekOr(step, s.table.SeekGE, key)
	if found == nil {
		return false, s.table.Error()
	}
	value, _, err := found.Value(nil)
	if err != nil {
		return false, err
	}
	deleted := true
	if k := found.Kind(); k == pbl.InternalKeyKindSet || k == pbl.InternalKeyKindSetWithDelete {
		deleted = false
	}
	s.at = version{bytes.Clone(found.K.UserKey), bytes.Clone(value), uint64(found.SeqNum()), deleted}
	return true, nil
}

// skip finds, by halving, the first key after from at which the table can be read again. No block
// is read twice for that.
func (s *source) skip(from []byte) (next []byte, ok bool, err error) {
	s.reads.kept = map[span]read{}
	defer func() { s.reads.kept = nil }()
	length := len(from) + 32
	number := func(key []byte) *big.Int {
		return new(big.Int).SetBytes(append(bytes.Clone(key), make([]byte, length-len(key))...))
	}
	low, high := number(from), new(big.Int).SetBytes(bytes.Repeat([]byte{0xff}, length))
	next = high.FillBytes(make([]byte, length))
	last := s.at
	for step := new(big.Int); ; {
		step.Sub(high, low)
		if step.Cmp(big.NewInt(1)) <= 0 {
			break
		}
		middle := new(big.Int).Add(low, step.Rsh(step, 1))
		at := middle.FillBytes(make([]byte, length))
		found, err := s.step(toKey, at)
		if err != nil {
			low = middle
			continue
		}
		high, next = middle, at
		if !found || !s.toStart() {
			continue
		}
		// A newer version of the same key may be in what is damaged: then the next key is the one.
		start := s.at.key
		if _, err := s.step(toKey, start); err == nil {
			next = start
			break
		}
	}
	if ok, err = s.step(toKey, next); err != nil {
		s.at = last
		return nil, false, nil // to the end
	}
	if !ok {
		next = nil
	}
	return next, ok, nil
}

// toStart goes back to the first version in the present block, and reports whether what is before
// it cannot be read. If it can, the present version is one that is no longer in the block.
func (s *source) toStart() bool {
	for asked := s.reads.asked; s.reads.asked == asked; {
		if ok, err := s.step(toPrevious, nil); err != nil || !ok {
			return err != nil
		}
	}
	return false
}

package pebble

import (
	"context"

	pbl "github.com/cockroachdb/pebble/v2"

	"github.com/skerry-sync/skerry/kv"
)

// batch collects changes and writes them as they become many, asking for free space again after
// every checkEvery bytes.
type batch struct {
	ctx     context.Context
	s       *Store
	b       *pbl.Batch
	changed []uint64
	pending int
	content bool // has been checked for
}

const checkEvery = 8 << 20

func (b *batch) check(isContent bool) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	b.pending = 0
	return b.s.checkSpace(needOf(b.ctx, isContent))
}

func (b *batch) Set(key, value []byte) error {
	if err := kv.CheckSizes(key, value); err != nil {
		return err
	}
	if b.pending += len(key) + len(value); b.pending > checkEvery || len(value) >= contentSize &&
		!b.content {
		b.content = b.content || len(value) >= contentSize
		if err := b.check(b.content); err != nil {
			return err
		}
	}
	b.changed = append(b.changed, b.s.oracle.hash(key))
	if err := b.b.Set(key, value, nil); err != nil {
		return err
	}
	return b.flushIfFull()
}

func (b *batch) Delete(key []byte) error {
	if err := kv.CheckSizes(key, nil); err != nil {
		return err
	}
	if b.pending += len(key) + 64; b.pending > checkEvery {
		if err := b.check(false); err != nil {
			return err
		}
	}
	b.changed = append(b.changed, b.s.oracle.hash(key))
	if err := b.b.Delete(key, nil); err != nil {
		return err
	}
	return b.flushIfFull()
}

func (b *batch) flushIfFull() error {
	if b.b.Len() < batchSize {
		return nil
	}
	if err := b.flush(); err != nil {
		return err
	}
	b.b.Reset()
	b.changed = nil // the oracle keeps what it was given
	return nil
}

func (b *batch) flush() error {
	if b.b.Empty() {
		return nil
	}
	b.s.oracle.commits.Lock()
	defer b.s.oracle.commits.Unlock()
	if err := b.s.apply(b.b); err != nil {
		return err
	}
	b.s.oracle.committed(b.changed, 0, false)
	return nil
}

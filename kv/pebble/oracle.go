package pebble

import (
	"hash/maphash"
	"sync"
)

// oracle finds out whether what a transaction read was changed before it committed. It remembers,
// for each key that was written while some transaction was under way, when that was; keys are known
// by a hash, so that a collision costs one more run and nothing else.
type oracle struct {
	seed    maphash.Seed
	commits sync.Mutex // held while a transaction is checked and applied; guards written and history
	written map[uint64]uint64
	history []commit // in the order of time

	mu     sync.Mutex // held for moments only
	now    uint64     // counts commits
	active map[uint64]int
}

const manyKeys = 1 << 16

type commit struct {
	time uint64
	keys []uint64
}

func newOracle() *oracle {
	return &oracle{seed: maphash.MakeSeed(), written: map[uint64]uint64{}, active: map[uint64]int{}}
}

func (o *oracle) hash(key []byte) uint64 { return maphash.Bytes(o.seed, key) }

// begin returns the time at which a transaction starts. What it reads from a snapshot taken
// afterwards is at least as new.
func (o *oracle) begin() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.active[o.now]++
	return o.now
}

func (o *oracle) end(start uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.active[start]--; o.active[start] == 0 {
		delete(o.active, start)
	}
}

// changed reports whether one of the keys was written after a time. The caller holds commits.
func (o *oracle) changed(keys []uint64, since uint64) bool {
	for _, k := range keys {
		if o.written[k] > since {
			return true
		}
	}
	return false
}

// committed notes the keys of a batch that was just applied by a transaction that began at start; a
// write without a transaction has none. The caller holds commits.
func (o *oracle) committed(keys []uint64, start uint64, transaction bool) {
	o.mu.Lock()
	o.now++
	now, oldest, others := o.now, o.now, 0
	for at, n := range o.active {
		if transaction && at == start {
			n--
		}
		if n > 0 {
			oldest, others = min(oldest, at), others+n
		}
	}
	o.mu.Unlock()
	// Who begins from now on sees this commit; only those under way must know of it.
	if others == 0 {
		if len(o.written) > manyKeys {
			o.written = map[uint64]uint64{} // a map does not shrink
		}
		clear(o.written)
		o.history = nil
		return
	}
	drop := 0
	for ; drop < len(o.history) && o.history[drop].time <= oldest; drop++ {
		for _, k := range o.history[drop].keys {
			if o.written[k] == o.history[drop].time {
				delete(o.written, k)
			}
		}
	}
	o.history = append(o.history[drop:], commit{now, keys})
	for _, k := range keys {
		o.written[k] = now
	}
}

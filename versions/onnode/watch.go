package onnode

import (
	"context"
	"slices"
	"sync"

	"github.com/skerry-sync/skerry/node"
)

// Watch is the keys of items that may have changed since it was begun. It has no goroutine of its
// own: the Set's tells it. Its methods may be called at the same time.
type Watch struct {
	of *watches

	mu     sync.Mutex
	keys   [][]byte // in the order in which they changed, each once
	known  map[string]bool
	size   int // bytes of all keys
	missed bool
	ended  bool
	told   chan struct{} // has one if there is something for Next
}

const (
	// maxChanged is how many keys wait for Next, and maxChangedBytes how many bytes they have.
	maxChanged      = 1 << 13
	maxChangedBytes = 1 << 20
)

// Watch begins to watch: no change from now on is missed, whether it is made here, also by another
// user of the Set, or comes from peers; nor what comes to be here later, or is taken away by a
// revocation. A key may be told although its item is as it was, among them those of all items, a
// while after the Set was opened. Whoever wants all there is reads All after Watch.
//
// The Watch should be closed, and ends with the Set and the node. It returns node.ErrClosed.
func (s *Set) Watch(ctx context.Context) (*Watch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &Watch{of: &s.watches, known: map[string]bool{}, told: make(chan struct{}, 1)}
	return w, s.watches.add(w)
}

// Next waits until something has changed, and returns the keys of all that has since it returned
// last, each once. missed says that Next was called too rarely, and that there were more, which are
// known no longer: all items are to be looked at again. It returns ctx's error when that ends, and
// node.ErrClosed when the Watch, the Set or the node has been closed and nothing is left to tell.
func (w *Watch) Next(ctx context.Context) (keys [][]byte, missed bool, err error) {
	for {
		w.mu.Lock()
		keys, missed = w.keys, w.missed
		w.keys, w.size, w.missed = nil, 0, false
		clear(w.known)
		ended := w.ended
		w.mu.Unlock()
		switch {
		case len(keys) > 0 || missed:
			return keys, missed, nil
		case ended:
			w.wake() // another that waits
			return nil, false, node.ErrClosed
		}
		select {
		case <-w.told:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() {
	w.of.remove(w)
	w.end()
}

// tell adds keys; if there are too many, none is kept.
func (w *Watch) tell(keys [][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		if w.missed {
			break // of all items, each has its part in that
		}
		if w.known[string(k)] {
			continue
		}
		if len(w.keys) == maxChanged || w.size+len(k) > maxChangedBytes {
			w.loseLocked()
			break
		}
		w.keys, w.size = append(w.keys, slices.Clone(k)), w.size+len(k)
		w.known[string(k)] = true
	}
	w.wake()
}

// lose forgets all keys: there were more.
func (w *Watch) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loseLocked()
	w.wake()
}

func (w *Watch) loseLocked() {
	w.keys, w.size, w.missed = nil, 0, true
	clear(w.known)
}

func (w *Watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.wake()
}

func (w *Watch) wake() {
	select {
	case w.told <- struct{}{}:
	default:
	}
}

// watches are those of one Set.
type watches struct {
	mu    sync.Mutex
	all   map[*Watch]bool
	ended bool
}

func (x *watches) add(w *Watch) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return node.ErrClosed
	}
	if x.all == nil {
		x.all = map[*Watch]bool{}
	}
	x.all[w] = true
	return nil
}

func (x *watches) remove(w *Watch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.all, w)
}

// tell tells all of keys, without those that are no items'.
func (x *watches) tell(keys [][]byte) {
	keys = slices.DeleteFunc(slices.Clone(keys), func(k []byte) bool {
		return len(k) > 0 && k[0] == 0
	})
	if len(keys) == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for w := range x.all {
		w.tell(keys)
	}
}

// lose tells all that there were changes whose keys are not known.
func (x *watches) lose() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for w := range x.all {
		w.lose()
	}
}

// end ends all, and those that would be begun.
func (x *watches) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = true
	for w := range x.all {
		w.end()
	}
	clear(x.all)
}

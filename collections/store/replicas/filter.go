package replicas

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/replica"
)

// filter knows of most keys under which nothing is that nothing is there, so that a document which
// is written for the first time need not be looked for: a Bloom filter (Bloom, "Space/time
// trade-offs in hash coding with allowable errors", 1970) in layers, of which each has room for
// twice as many keys as the one before, with a byte for a key. It excludes nothing until all keys
// of the replica have been added.
type filter struct {
	mu     sync.Mutex
	seed   maphash.Seed
	layers [][]uint64
	room   int    // for how many keys the last layer still has room
	whole  bool   // all keys have been added
	asked  uint64 // how often adding all has been asked for

	wanted chan struct{} // holds one when adding all has been asked for
}

const (
	firstLayer  = 1 << 15 // keys
	maxLayers   = 9       // 16 MiB together, for 16 million keys; with more, nothing is excluded
	bitsOfKey   = 8
	probesOfKey = 4 // of an absent key of a full layer, one in 40 is not excluded
)

func newFilter() *filter {
	f := &filter{seed: maphash.MakeSeed(), wanted: make(chan struct{}, 1)}
	f.miss()
	return f
}

// excludes reports that there is nothing under a key, not even a tombstone.
func (f *filter) excludes(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.whole && !f.has(maphash.String(f.seed, key))
}

func (f *filter) has(h uint64) bool {
layers:
	for _, l := range f.layers {
		for i := range uint64(probesOfKey) {
			if word, bit := probe(l, h, i); l[word]&bit == 0 {
				continue layers
			}
		}
		return true
	}
	return false
}

// probe returns where the ith bit of a key is in a layer, whose length is a power of two.
func probe(l []uint64, h, i uint64) (word, bit uint64) {
	at := h + i*(h>>32|1)
	return at >> 6 & uint64(len(l)-1), 1 << (at & 63)
}

// add tells that something is, or will be, under a key.
func (f *filter) add(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := maphash.String(f.seed, key)
	if f.has(h) {
		return
	}
	if f.room == 0 {
		if len(f.layers) == maxLayers {
			f.whole = false
			return
		}
		f.room = firstLayer << len(f.layers)
		f.layers = append(f.layers, make([]uint64, f.room*bitsOfKey/64))
	}
	last := f.layers[len(f.layers)-1]
	for i := range uint64(probesOfKey) {
		word, bit := probe(last, h, i)
		last[word] |= bit
	}
	f.room--
}

// isFull reports that there are too many keys.
func (f *filter) isFull() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.room == 0 && len(f.layers) == maxLayers
}

// miss tells that keys may have come which were not added.
func (f *filter) miss() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.whole = false
	f.asked++
	select {
	case f.wanted <- struct{}{}:
	default:
	}
}

// complete tells that all keys have been added that were there when adding all was asked for the
// given time.
func (f *filter) complete(asked uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.whole = f.asked == asked && !(f.room == 0 && len(f.layers) == maxLayers)
}

func (f *filter) times() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// fill adds all keys to the filter whenever that is asked for, with long enough pauses that it is
// no burden.
func (s *Store) fill(ctx context.Context) {
	for {
		select {
		case <-s.filter.wanted:
		case <-ctx.Done():
			return
		}
		if s.filter.isFull() {
			return
		}
		began := time.Now()
		asked := s.filter.times()
		err := s.addAll(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // reads, which tell somebody, fail as well
			s.filter.miss()
		default:
			s.filter.complete(asked)
		}
		select {
		case <-time.After(max(time.Second, 20*time.Since(began))):
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) addAll(ctx context.Context) error {
	for _, kind := range []string{docs, files} {
		for it, err := range s.plain.Entries(ctx, replica.Query{Prefix: []byte(kind), Tombstones: true}) {
			if err != nil {
				return err
			}
			if s.filter.add(string(it.Key[len(kind):])); s.filter.isFull() {
				return nil
			}
		}
	}
	return nil
}

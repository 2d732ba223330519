package replica

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/skerry-sync/skerry/internal/fault"
)

const (
	// batchSize is the number of signatures verified together; more gains little.
	batchSize = 1024
	// worthwhile is the number below which verifying one by one is as fast.
	worthwhile = 4
	// maxAuthorKeys is the number of authors whose keys are kept ready: each takes about 1.5 KiB.
	maxAuthorKeys = 1024
)

// verifyAll returns the entries whose signatures are right, in their order, and the error of the
// first that is not. It verifies in batches, on all cores; by the rules of ZIP-215, the outcome for
// each entry is that of Entry.Verify.
func (s *Store) verifyAll(entries []Entry) ([]Entry, error) {
	right := make([]bool, len(entries))
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	cores := make(chan struct{}, runtime.GOMAXPROCS(0))
	size := batchSize
	if len(entries) < cap(cores)*batchSize { // shared out evenly
		size = max(64, (len(entries)+cap(cores)-1)/cap(cores))
	}
	for from := 0; from < len(entries); from += size {
		to := min(from+size, len(entries))
		if to == len(entries) { // the last, or the only one, in this goroutine
			s.verifyBatch(entries[from:to], right[from:to])
			break
		}
		cores <- struct{}{}
		wg.Go(func() {
			defer func() { <-cores }()
			err := fault.Call(func() error {
				s.verifyBatch(entries[from:to], right[from:to])
				return nil
			})
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	var first error
	good := make([]Entry, 0, len(entries))
	for i := range entries {
		if right[i] {
			good = append(good, entries[i])
		} else if first == nil {
			first = entries[i].failed(ErrBadSignature)
		}
	}
	return good, first
}

// verifyBatch notes which signatures are right: all of a batch that passes; a batch that fails is
// halved until the wrong ones are found.
func (s *Store) verifyBatch(entries []Entry, right []bool) {
	if len(entries) < worthwhile {
		for i := range entries {
			right[i] = entries[i].Verify() == nil
		}
		return
	}
	batch := s.authorKeys.Batch(len(entries))
	var signed []byte
	for i := range entries {
		e := &entries[i]
		signed = e.signedBytes(signed[:0])
		batch.Add(e.Author, signed, e.Signature)
	}
	if batch.Verify() {
		for i := range right {
			right[i] = true
		}
		return
	}
	half := len(entries) / 2
	s.verifyBatch(entries[:half], right[:half])
	s.verifyBatch(entries[half:], right[half:])
}

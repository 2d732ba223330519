package blobs

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/kv"
)

// ReadTiny returns the content of some blobs, each in its place: of those that are kept as records,
// as complete blobs of at most InlineSize bytes are unless they are referenced. It returns nil for
// others, and for those that are not here: Reader says which. Many cost much less than a Reader
// each. What is returned was verified when it was stored.
func (s *Store) ReadTiny(ctx context.Context, all []Hash) ([][]byte, error) {
	if s.hold != nil {
		for _, h := range all {
			s.Touch(h)
		}
	}
	order := make([]int, len(all)) // that of the store, where neighbours are read together
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(all[a][:], all[b][:]) })
	content := make([][]byte, len(all))
	var g errgroup.Group
	for part := range slices.Chunk(order, max(readTogether, len(order)/runtime.GOMAXPROCS(0)+1)) {
		g.Go(func() error { return s.readTiny(ctx, all, content, part) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, b := range content {
		s.read.Add(uint64(len(b)))
	}
	return content, nil
}

// readTogether is how many records one goroutine reads at least.
const readTogether = 64

// readTiny reads some records, in the order of their keys.
func (s *Store) readTiny(ctx context.Context, all []Hash, content [][]byte, order []int) error {
	return s.kv.View(ctx, func(r kv.Reader) error {
		key := make([]byte, 0, len(keyInline)+HashSize)
		for n, i := range order {
			if n%ctxEvery == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			b, err := r.Get(append(append(key[:0], keyInline...), all[i][:]...))
			switch {
			case err == nil:
				content[i] = b
			case !errors.Is(err, kv.ErrNotFound):
				return err
			}
		}
		return nil
	})
}

// ctxEvery is after how many records readTiny looks whether its context has ended.
const ctxEvery = 256

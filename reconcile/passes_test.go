package reconcile

import (
	"bufio"
	"context"
	"iter"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// A peer that asks, in a few bytes, for what nobody has offered it does not have this side read the
// whole set again and again.
func TestQuestionsForNothingEnd(t *testing.T) {
	const items, asked = 10_000, 2000
	set := newMemorySet(numbered(items))
	var looked atomic.Uint64
	cfg := set.config(false)
	cfg.Set = Scanned(func(ctx context.Context, r Range) iter.Seq2[Item, error] {
		return func(yield func(Item, error) bool) {
			for it, err := range set.items(ctx, r) {
				looked.Add(1)
				if !yield(it, err) {
					return
				}
			}
		}
	})
	var qs []question
	for range asked {
		qs = append(qs, question{kind: kindSend, ids: []shortID{1}})
	}
	says := appendFrame(nil, frameRanges, rangesPayload(1, 0, qs...))
	says = append(says, appendFrame(nil, frameDone, nil)...)
	t.Logf("%d bytes", len(says))
	ours, theirs := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = theirs.Write(says[:len(says)-2])
		b := make([]byte, 1<<16)
		for {
			if _, err := theirs.Read(b); err != nil {
				return
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := Run(ctx, bufio.NewReader(ours), ours, func() { ours.Close() }, cfg)
		ours.Close()
		ended <- err
	}()
	err := <-ended
	wg.Wait()
	t.Logf("%d items looked at", looked.Load())
	var broke *ProtocolError
	require.ErrorAs(t, err, &broke)
	require.Less(t, looked.Load(), uint64(freePasses+2*(passesEach+2)*items))
}

package session

import (
	"context"
	"io"
	"iter"

	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/reconcile"
)

// bill counts what a session that a peer began costs this node, and has the session wait if that is
// too much (see [limits.Limiter.Worked]). A few bytes ask for a look at each item of a set, and a
// session that has ended can be begun again at once.
//
// A session uses its Set and writes in one goroutine, so nothing is locked. The bill is settled
// before each use of the Set, since nothing may wait while the store is being read.
type bill struct {
	limits *limits.Limiter
	s      link.Stream
	halfs  int    // half units of work that are not settled
	sent   uint64 // bytes that can still pay for work
}

const (
	// halfsOfLookup and halfsOfItem are the half units of a lookup, and of an item that is one of
	// many in a row.
	halfsOfLookup = 2
	halfsOfItem   = 1
	// settledHalfs is how much may wait to be settled.
	settledHalfs = 2048
	// mostPaid bounds the bytes that pay for work that comes after them: items wait in a frame
	// before they are sent, so some are sent before, and some after, the work that found them.
	mostPaid = 4 << 20
)

// of returns a set of which each use is counted, or set itself if this node has begun the session.
func (b *bill) of(set reconcile.Set) reconcile.Set {
	if link.VisitOf(b.s) == nil {
		return set
	}
	return billed{set, b}
}

// payingBy returns w, and has what is written to it pay.
func (b *bill) payingBy(w io.Writer) io.Writer { return paying{w, b} }

type paying struct {
	io.Writer
	b *bill
}

func (p paying) Write(x []byte) (n int, err error) {
	n, err = p.Writer.Write(x)
	p.b.sent = min(p.b.sent+uint64(n), mostPaid)
	return n, err
}

// settle waits if what has been counted is too much.
func (b *bill) settle(ctx context.Context) error {
	const bytesOfHalf = limits.YieldOfUnit / 2
	paid := min(b.sent/bytesOfHalf, uint64(b.halfs))
	b.sent -= paid * bytesOfHalf
	b.halfs -= int(paid)
	if b.halfs < 2 {
		return nil
	}
	// Of a wait that was cut short nothing has been counted: who leaves has not paid.
	if err := b.limits.Worked(ctx, b.s, b.halfs/2); err != nil {
		return err
	}
	b.halfs %= 2
	return nil
}

// spend settles what has been counted before, and counts some more.
func (b *bill) spend(ctx context.Context, halfs int) error {
	if b.halfs += halfs; b.halfs < settledHalfs {
		return nil
	}
	return b.settle(ctx)
}

// billed is a set of which each use is counted.
type billed struct {
	reconcile.Set
	b *bill
}

func (s billed) Summaries(ctx context.Context, bounds [][]byte) ([]reconcile.Summary, error) {
	if err := s.b.spend(ctx, halfsOfLookup*len(bounds)); err != nil {
		return nil, err
	}
	return s.Set.Summaries(ctx, bounds)
}

func (s billed) Split(
	ctx context.Context, r reconcile.Range, k int,
) ([]reconcile.Part, error) {
	if err := s.b.spend(ctx, halfsOfLookup*k); err != nil {
		return nil, err
	}
	return s.Set.Split(ctx, r, k)
}

func (s billed) Items(ctx context.Context, r reconcile.Range) iter.Seq2[reconcile.Item, error] {
	return s.counted(ctx, halfsOfLookup, s.Set.Items(ctx, r))
}

func (s billed) Find(
	ctx context.Context, r reconcile.Range, elements []reconcile.Element,
) iter.Seq2[reconcile.Item, error] {
	return s.counted(ctx, halfsOfLookup*len(elements), s.Set.Find(ctx, r, elements))
}

// counted counts the items of a sequence, beside some half units before the first of them.
func (s billed) counted(
	ctx context.Context, first int, items iter.Seq2[reconcile.Item, error],
) iter.Seq2[reconcile.Item, error] {
	return func(yield func(reconcile.Item, error) bool) {
		if err := s.b.spend(ctx, first); err != nil {
			yield(reconcile.Item{}, err)
			return
		}
		for item, err := range items {
			s.b.halfs += halfsOfItem
			if !yield(item, err) {
				return
			}
		}
	}
}

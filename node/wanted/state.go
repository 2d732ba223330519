package wanted

import (
	"context"
	"errors"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/sealed"
	"github.com/skerry-sync/skerry/replica"
)

// State says how much of some content is here.
type State int

// The states of content. Refuted is content of a size that its hash does not have: it will never be
// here.
const (
	Missing State = iota
	Partial
	Complete
	Refuted
)

func (s State) String() string {
	return [...]string{"missing", "partial", "complete", "wrong size"}[s]
}

// State says how much is here of the content that an entry names by hash and size: the blob
// itself or, if that has another size, the chunks that it lists. What it reads is at most in
// proportion to size.
func (l *List) State(ctx context.Context, h blobs.Hash, size uint64) (State, error) {
	info, err := l.blobs.Stat(ctx, h)
	switch {
	case errors.Is(err, blobs.ErrNotFound):
		return Missing, nil
	case err != nil:
		return Missing, err
	}
	switch v := content.Judge(info.Size, size); {
	case v == content.Refuted:
		return Refuted, nil
	case !info.Complete:
		return Partial, nil
	case v == content.Holds:
		return Complete, nil
	}
	total, state, err := l.chunksState(ctx, h)
	if err == nil && total != size && total > 0 {
		state = Refuted
	}
	return state, err
}

// chunksState says how much is here of the content of which h is the sequence, and its size in
// bytes. The state is Refuted if h is no such sequence, or one that lies about its chunks, and
// Partial with 0 bytes if that cannot be told yet, or only once what is damaged here has been
// fetched again.
func (l *List) chunksState(
	ctx context.Context, h blobs.Hash,
) (total uint64, state State, err error) {
	chunks, err := chunked.Open(ctx, l.blobs, h)
	_, damaged := errors.AsType[*blobs.DamageError](err)
	switch {
	case damaged, errors.Is(err, blobs.ErrIncomplete), errors.Is(err, blobs.ErrNotFound):
		return 0, Partial, nil // the list is still to come
	case errors.Is(err, chunked.ErrNotChunked), errors.Is(err, chunked.ErrBadList):
		return 0, Refuted, nil
	case err != nil:
		return 0, Missing, err
	}
	state = Complete
	err = chunks.Each(ctx, func(c chunked.Chunks) error {
		return l.blobs.Stats(ctx, c.Hashes, func(
			i int, info blobs.Info, known bool, _ func() (blobs.Ranges, error),
		) error {
			switch {
			case known && info.Size != c.Sizes[i]:
				state = Refuted
			case (!known || !info.Complete) && state == Complete:
				state = Partial
			}
			return nil
		})
	})
	return chunks.Size(), state, err
}

// States answers about the entries of one list, at about one time. Content in chunks that many
// entries name is looked at once. It is for one goroutine.
type States struct {
	l     *List
	seen  map[blobs.Hash]chunksSeen // what lists of chunks say: to find that, they are read
	sizes map[content.Claim]uint64  // of sealed content when it is opened; 0 if that cannot be told
}

type chunksSeen struct {
	total uint64
	state State
}

// States returns a States that has seen nothing.
func (l *List) States() *States { return &States{l: l} }

// Of says how much is here of the content of an entry, or that the size which the entry gives is
// wrong.
func (s *States) Of(ctx context.Context, e *replica.Entry) (State, error) {
	state, err := s.OfContent(ctx, e.Hash, e.Size)
	if err != nil || state == Complete || state == Refuted {
		return state, err
	}
	known := false
	err = s.l.kv.View(ctx, func(r kv.Reader) (err error) {
		known, err = r.Has(refutedKey(wantedKey(e)))
		return err
	})
	if known {
		state = Refuted
	}
	return state, err
}

// PlainSize is [sealed.Size] in the node's store, for entries of one replica.
func (s *States) PlainSize(
	ctx context.Context, p *replica.Plain, e *replica.Entry,
) (size uint64, ok bool, err error) {
	at := content.Claim{Hash: e.Hash, Size: e.Size}
	if size, known := s.sizes[at]; known {
		return size, size > 0, nil
	}
	size, ok, err = sealed.Size(ctx, s.l.blobs, p, e)
	if err != nil || e.Size < chunked.Threshold {
		return size, ok, err
	}
	if s.sizes == nil || len(s.sizes) == rememberStates {
		s.sizes = map[content.Claim]uint64{}
	}
	s.sizes[at] = size
	return size, ok, nil
}

// rememberStates bounds the states that are remembered; beyond it, all are forgotten.
const rememberStates = 1 << 14

// OfContent is [List.State].
func (s *States) OfContent(ctx context.Context, h blobs.Hash, size uint64) (State, error) {
	info, err := s.l.blobs.Stat(ctx, h)
	if err != nil || !info.Complete || content.Judge(info.Size, size) != content.MayHold {
		return s.l.State(ctx, h, size)
	}
	c, known := s.seen[h]
	if !known {
		if c.total, c.state, err = s.l.chunksState(ctx, h); err != nil {
			return c.state, err
		}
		if s.seen == nil || len(s.seen) == rememberStates {
			s.seen = map[blobs.Hash]chunksSeen{}
		}
		s.seen[h] = c
	}
	if c.total != size && c.total > 0 {
		return Refuted, nil
	}
	return c.state, nil
}

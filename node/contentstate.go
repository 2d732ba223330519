package node

import (
	"context"
	"errors"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// ContentState says how much of some content is here.
type ContentState int

// The states of content. ContentRefuted is content of a size that its hash does not have: it will never be here.
const (
	ContentMissing ContentState = iota
	ContentPartial
	ContentComplete
	ContentRefuted
)

func (s ContentState) String() string {
	return [...]string{"missing", "partial", "complete", "wrong size"}[s]
}

// ContentState says how much is here of the content that an entry names by hash and size: the blob itself or, if that has another size, the
// chunks that it lists. What it reads is at most in proportion to size.
func (n *Node) ContentState(ctx context.Context, h blobs.Hash, size uint64) (ContentState, error) {
	info, err := n.Blobs.Stat(ctx, h)
	switch {
	case errors.Is(err, blobs.ErrNotFound):
		return ContentMissing, nil
	case err != nil:
		return ContentMissing, err
	}
	switch judge(info.Size, size) {
	case refuted:
		return ContentRefuted, nil
	case holds:
		if info.Complete {
			return ContentComplete, nil
		}
		return ContentPartial, nil
	}
	chunks, err := chunked.Load(ctx, n.Blobs, h)
	switch {
	case errors.Is(err, blobs.ErrIncomplete), errors.Is(err, blobs.ErrNotFound):
		return ContentPartial, nil // the list is still to come
	case errors.Is(err, chunked.ErrNotChunked), errors.Is(err, chunked.ErrBadList), err == nil && chunks.Size() != size:
		return ContentRefuted, nil
	case err != nil:
		return ContentMissing, err
	}
	state := ContentComplete
	err = n.Blobs.Stats(ctx, chunks.Hashes, func(i int, info blobs.Info, known bool, _ func() (blobs.Ranges, error)) error {
		switch {
		case known && info.Size != chunks.Sizes[i]:
			state = ContentRefuted
		case (!known || !info.Complete) && state == ContentComplete:
			state = ContentPartial
		}
		return nil
	})
	return state, err
}

// ContentOf says how much is here of the content of an entry, or that the size which the entry gives is wrong.
func (n *Node) ContentOf(ctx context.Context, e *replica.Entry) (ContentState, error) {
	return n.ContentStates().Of(ctx, e)
}

// ContentStates answers about the entries of one list, at about one time. Content in chunks that many entries name is looked at once. It is
// for one goroutine.
func (n *Node) ContentStates() *ContentStates { return &ContentStates{contentStates{n: n}} }

// ContentStates is what ContentStates of a Node returns.
type ContentStates struct{ states contentStates }

// Of says how much is here of the content of an entry.
func (s *ContentStates) Of(ctx context.Context, e *replica.Entry) (ContentState, error) {
	state, err := s.states.of(ctx, e.Hash, e.Size)
	if err != nil || state == ContentComplete || state == ContentRefuted {
		return state, err
	}
	known := false
	err = s.states.n.kv.View(ctx, func(r kv.Reader) (err error) {
		known, err = r.Has(refutedKey(wantedKey(e)))
		return err
	})
	if known {
		state = ContentRefuted
	}
	return state, err
}

// PlainSize is PlainSize of the node, for entries of one replica.
func (s *ContentStates) PlainSize(ctx context.Context, p *replica.Plain, e *replica.Entry) (size uint64, ok bool, err error) {
	at := contentClaim{e.Hash, e.Size}
	if size, known := s.states.sizes[at]; known {
		return size, size > 0, nil
	}
	size, ok, err = s.states.n.PlainSize(ctx, p, e)
	if err != nil || e.Size < chunked.Threshold {
		return size, ok, err
	}
	if s.states.sizes == nil || len(s.states.sizes) == rememberStates {
		s.states.sizes = map[contentClaim]uint64{}
	}
	s.states.sizes[at] = size
	return size, ok, nil
}

// contentStates remembers the states of content that may be in chunks: to find them, lists of chunks are read.
type contentStates struct {
	n     *Node
	seen  map[contentClaim]ContentState
	sizes map[contentClaim]uint64 // of sealed content when it is opened; 0 if that cannot be told
}

type contentClaim struct {
	hash blobs.Hash
	size uint64
}

// rememberStates bounds the states that are remembered; beyond it, all are forgotten.
const rememberStates = 1 << 14

func (s *contentStates) of(ctx context.Context, h blobs.Hash, size uint64) (ContentState, error) {
	if size < chunked.Threshold {
		return s.n.ContentState(ctx, h, size)
	}
	at := contentClaim{h, size}
	state, known := s.seen[at]
	if known {
		return state, nil
	}
	state, err := s.n.ContentState(ctx, h, size)
	if err != nil {
		return state, err
	}
	if s.seen == nil || len(s.seen) == rememberStates {
		s.seen = map[contentClaim]ContentState{}
	}
	s.seen[at] = state
	return state, nil
}

// wrongSize is the error for an entry whose claim is refuted.
func (n *Node) wrongSize(ctx context.Context, e *replica.Entry) error {
	proved := uint64(0)
	err := n.kv.View(ctx, func(r kv.Reader) error {
		info, err := blobs.StatIn(r, e.Hash)
		if err == nil || !errors.Is(err, blobs.ErrNotFound) {
			proved = info.Size
			return err
		}
		return r.Peek(refutedKey(wantedKey(e)), func(v []byte) error {
			w, err := parseClaim(kv.Pair{Key: refutedKey(wantedKey(e)), Value: v})
			proved = w.proved
			return err
		})
	})
	if err != nil {
		return err
	}
	return &SizeError{e.Hash, e.Size, proved}
}

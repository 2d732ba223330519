package node

import (
	"context"
	"errors"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/replica"
)

// ContentState says how much of some content is here.
type ContentState int

// The states of content. ContentRefuted is content of a size that its hash does not have: it will
// never be here.
const (
	ContentMissing ContentState = iota
	ContentPartial
	ContentComplete
	ContentRefuted
)

func (s ContentState) String() string {
	return [...]string{"missing", "partial", "complete", "wrong size"}[s]
}

// ContentState says how much is here of the content that an entry names by hash and size: the blob
// itself or, if that has another size, the chunks that it lists. What it reads is at most in
// proportion to size.
func (n *Node) ContentState(ctx context.Context, h blobs.Hash, size uint64) (ContentState, error) {
	info, err := n.Blobs.Stat(ctx, h)
	switch {
	case errors.Is(err, blobs.ErrNotFound):
		return ContentMissing, nil
	case err != nil:
		return ContentMissing, err
	}
	switch v := content.Judge(info.Size, size); {
	case v == content.Refuted:
		return ContentRefuted, nil
	case !info.Complete:
		return ContentPartial, nil
	case v == content.Holds:
		return ContentComplete, nil
	}
	total, state, err := n.chunksState(ctx, h)
	if err == nil && total != size && total > 0 {
		state = ContentRefuted
	}
	return state, err
}

// chunksState says how much is here of the content of which h is the sequence, and its size in
// bytes. The state is ContentRefuted if h is no such sequence, or one that lies about its chunks,
// and ContentPartial with 0 bytes if that cannot be told yet, or only once what is damaged here has
// been fetched again.
func (n *Node) chunksState(ctx context.Context, h blobs.Hash) (total uint64, state ContentState, err error) {
	chunks, err := chunked.Open(ctx, n.Blobs, h)
	_, damaged := errors.AsType[*blobs.DamageError](err)
	switch {
	case damaged, errors.Is(err, blobs.ErrIncomplete), errors.Is(err, blobs.ErrNotFound):
		return 0, ContentPartial, nil // the list is still to come
	case errors.Is(err, chunked.ErrNotChunked), errors.Is(err, chunked.ErrBadList):
		return 0, ContentRefuted, nil
	case err != nil:
		return 0, ContentMissing, err
	}
	state = ContentComplete
	err = chunks.Each(ctx, func(c chunked.Chunks) error {
		return n.Blobs.Stats(ctx, c.Hashes, func(i int, info blobs.Info, known bool, _ func() (blobs.Ranges, error)) error {
			switch {
			case known && info.Size != c.Sizes[i]:
				state = ContentRefuted
			case (!known || !info.Complete) && state == ContentComplete:
				state = ContentPartial
			}
			return nil
		})
	})
	return chunks.Size(), state, err
}

// ContentOf says how much is here of the content of an entry, or that the size which the entry
// gives is wrong.
func (n *Node) ContentOf(ctx context.Context, e *replica.Entry) (ContentState, error) {
	return n.ContentStates().Of(ctx, e)
}

// ContentStates answers about the entries of one list, at about one time. Content in chunks that
// many entries name is looked at once. It is for one goroutine.
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
	at := content.Claim{Hash: e.Hash, Size: e.Size}
	if size, known := s.states.sizes[at]; known {
		return size, size > 0, nil
	}
	size, ok, err = s.states.n.PlainSize(ctx, p, e)
	if err != nil || e.Size < chunked.Threshold {
		return size, ok, err
	}
	if s.states.sizes == nil || len(s.states.sizes) == rememberStates {
		s.states.sizes = map[content.Claim]uint64{}
	}
	s.states.sizes[at] = size
	return size, ok, nil
}

// contentStates remembers what lists of chunks say: to find that, they are read.
type contentStates struct {
	n     *Node
	seen  map[blobs.Hash]chunksSeen
	sizes map[content.Claim]uint64 // of sealed content when it is opened; 0 if that cannot be told
}

type chunksSeen struct {
	total uint64
	state ContentState
}

// rememberStates bounds the states that are remembered; beyond it, all are forgotten.
const rememberStates = 1 << 14

func (s *contentStates) of(ctx context.Context, h blobs.Hash, size uint64) (ContentState, error) {
	info, err := s.n.Blobs.Stat(ctx, h)
	if err != nil || !info.Complete || content.Judge(info.Size, size) != content.MayHold {
		return s.n.ContentState(ctx, h, size)
	}
	c, known := s.seen[h]
	if !known {
		if c.total, c.state, err = s.n.chunksState(ctx, h); err != nil {
			return c.state, err
		}
		if s.seen == nil || len(s.seen) == rememberStates {
			s.seen = map[blobs.Hash]chunksSeen{}
		}
		s.seen[h] = c
	}
	if c.total != size && c.total > 0 {
		return ContentRefuted, nil
	}
	return c.state, nil
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
	return &content.SizeError{Hash: e.Hash, Want: e.Size, Have: proved}
}

package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
)

// Want names a blob to fetch.
type Want struct {
	Hash blobs.Hash
	Size uint64 // as whoever names the blob claims; 0 if unknown
}

// SizeError reports a blob whose proved size is not the one that an entry or directory gives.
type SizeError struct {
	Hash       blobs.Hash
	Want, Have uint64
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("verification failed: blob %s has %d bytes, not %d as claimed", e.Hash.Short(), e.Have, e.Want)
}

// MissingError reports blobs that no provider had.
type MissingError struct {
	Hashes []blobs.Hash // the first ones
	Count  int
	Causes []error // why the providers that could not be asked could not be asked, or were dropped
}

func (e *MissingError) Error() string {
	s := fmt.Sprintf("no provider has blob %s", e.Hashes[0])
	if e.Count > 1 {
		s += fmt.Sprintf(" and %d more", e.Count-1)
	}
	for _, c := range e.Causes {
		s += "; " + c.Error()
	}
	return s
}

// Unwrap gives the causes, so that a caller can tell a lying provider or an unreachable one from a blob that is nowhere.
func (e *MissingError) Unwrap() []error { return e.Causes }

// Fetched counts what a fetch did.
type Fetched struct {
	Bytes     uint64    // of content, verified
	Providers []peer.ID // that gave some
}

// Fetch gets all wants that the store does not have, from one provider after another: what the first cannot give, or gives wrong, is asked
// of the next. What has been verified is kept, also if Fetch fails, and is not fetched again. progress, if not nil, is told the
// length of each verified piece. Returns a *MissingError if something is missing in the end.
func (n *Node) Fetch(ctx context.Context, wants []Want, providers []peer.AddrInfo, progress func(n int)) (Fetched, error) {
	var out Fetched
	var causes []error
	for _, p := range providers {
		missing, err := n.missing(ctx, wants)
		if err != nil {
			return out, err
		}
		if len(missing) == 0 {
			return out, nil
		}
		if n.net == nil {
			return out, ErrOffline
		}
		if err := n.net.Connect(ctx, p); err != nil {
			if ctx.Err() != nil {
				return out, ctx.Err()
			}
			causes = append(causes, err)
			continue
		}
		got, err := n.fetchFrom(ctx, p.ID, missing, progress)
		if out.Bytes += got; got > 0 {
			out.Providers = append(out.Providers, p.ID)
		}
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		var size *SizeError
		switch {
		case errors.As(err, &size), localFault(err):
			return out, err // no other provider can help
		case err != nil:
			n.log.Info("provider dropped", "peer", p.ID, "error", err)
			causes = append(causes, fmt.Errorf("peer %s: %w", p.ID, err))
		}
	}
	missing, err := n.missing(ctx, wants)
	if err != nil || len(missing) == 0 {
		return out, err
	}
	e := &MissingError{Count: len(missing), Causes: causes}
	for _, w := range missing[:min(len(missing), 8)] {
		e.Hashes = append(e.Hashes, w.Hash)
	}
	return out, e
}

// storeFault is a failure of this node's own store while it was receiving.
type storeFault struct{ err error }

func (e storeFault) Error() string { return e.err.Error() }
func (e storeFault) Unwrap() error { return e.err }

func localFault(err error) bool {
	var fault storeFault
	return errors.As(err, &fault)
}

// missing returns the wants that the store does not have whole, each once.
func (n *Node) missing(ctx context.Context, wants []Want) (out []Want, err error) {
	seen := make(map[blobs.Hash]bool, len(wants))
	for _, w := range wants {
		if seen[w.Hash] {
			continue
		}
		seen[w.Hash] = true
		has, err := n.Blobs.Has(ctx, w.Hash)
		if err != nil {
			return nil, err
		}
		if !has {
			out = append(out, w)
		}
	}
	return out, nil
}

// fetchFrom asks one connected peer for blobs, several requests one after the other, and returns the content bytes it gave. Blobs that
// the peer does not have are no error.
func (n *Node) fetchFrom(ctx context.Context, p peer.ID, wants []Want, progress func(int)) (got uint64, err error) {
	rc := n.Blobs.NewReceiver(ctx, func(_ blobs.Hash, k int) {
		got += uint64(k)
		if progress != nil {
			progress(k)
		}
	})
	for part := range slices.Chunk(wants, maxRequest/4) {
		if err = n.fetchPart(ctx, rc, p, part); err != nil {
			break
		}
	}
	if closeErr := rc.Close(); closeErr != nil {
		err = storeFault{closeErr}
	}
	return got, err
}

func (n *Node) fetchPart(ctx context.Context, rc *blobs.Receiver, p peer.ID, wants []Want) error {
	var reqs []blobRequest
	for _, w := range wants {
		q, err := n.wanted(ctx, w)
		if err != nil {
			return err
		}
		reqs = append(reqs, q)
	}
	s, r, err := n.request(ctx, p, reqs)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() }) // so that a read that waits for the peer ends
	defer stop()
	for i := range reqs {
		if err := n.receive(rc, r, &reqs[i], wants[i]); err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return errors.Join(err, ignoreReset(s))
		}
	}
	_ = s.Close() // everything has come; the provider may have closed before us, which some transports call an error
	return nil
}

// ignoreReset gives up a stream that is no longer of use; that this can fail is of no use either.
func ignoreReset(s Stream) error {
	_ = s.Reset()
	return nil
}

// wanted asks for what the store lacks of a blob.
func (n *Node) wanted(ctx context.Context, w Want) (blobRequest, error) {
	q := blobRequest{hash: w.Hash, proveSize: true, ranges: blobs.Everything}
	info, err := n.Blobs.Stat(ctx, w.Hash)
	if errors.Is(err, blobs.ErrNotFound) {
		return q, nil
	}
	if err != nil {
		return q, err
	}
	if w.Size != 0 && info.Size != w.Size {
		return q, &SizeError{w.Hash, w.Size, info.Size}
	}
	q.proveSize, q.size = false, info.Size
	present, err := n.Blobs.Present(ctx, w.Hash)
	if err != nil {
		return q, err
	}
	q.ranges = q.ranges.Without(present)
	if len(q.ranges) > blobs.MaxWireRanges {
		q.ranges = q.ranges[:blobs.MaxWireRanges] // the next fetch asks for the rest
	}
	return q, nil
}

func (n *Node) receive(rc *blobs.Receiver, r *bufio.Reader, q *blobRequest, w Want) error {
	head, err := readAnswerHead(r)
	if err != nil {
		return fmt.Errorf("blob %s: %w", w.Hash.Short(), err)
	}
	if !head.here {
		return nil
	}
	if !q.proveSize {
		if head.size != q.size {
			return fmt.Errorf("blob %s: the peer claims %d bytes, it is known to have %d", w.Hash.Short(), head.size, q.size)
		}
		if len(head.ranges.Without(q.ranges)) > 0 {
			return fmt.Errorf("blob %s: the peer sends ranges that nobody asked for", w.Hash.Short())
		}
		return rc.Receive(r, w.Hash, head.size, head.ranges)
	}
	return rc.ReceiveNew(r, w.Hash, head.size, head.ranges, func() error {
		if w.Size != 0 && head.size != w.Size {
			return &SizeError{w.Hash, w.Size, head.size}
		}
		return nil
	})
}

// Stream fetches the whole blob h from one provider and writes it to w as it is verified, without storing it. It returns the size.
func (n *Node) Stream(ctx context.Context, h blobs.Hash, p peer.AddrInfo, w io.WriterAt) (uint64, error) {
	if n.net == nil {
		return 0, ErrOffline
	}
	if err := n.net.Connect(ctx, p); err != nil {
		return 0, err
	}
	s, r, err := n.request(ctx, p.ID, []blobRequest{{hash: h, ranges: blobs.Everything}})
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	head, err := readAnswerHead(r)
	if err == nil && !head.here {
		err = &MissingError{Hashes: []blobs.Hash{h}, Count: 1}
	}
	if err == nil {
		err = blobs.Decode(r, h, head.size, blobs.Everything, w)
	}
	if err != nil {
		return 0, errors.Join(err, ignoreReset(s))
	}
	_ = s.Close() // likewise
	return head.size, nil
}

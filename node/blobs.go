package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/skerry-sync/skerry/blobs"
)

const (
	idleTimeout = 30 * time.Second
	blobBuffer  = 256 << 10 // of an answer that is being written
	readBuffer  = 4 << 10   // of one that is being read: content passes it by
)

// serveBlobs answers the requests of one stream.
func (n *Node) serveBlobs(s Stream) {
	leave, err := n.limits.of(s.Remote()).admit(s.Remote())
	if err == nil {
		err = n.answerBlobs(n.ctx, s)
		leave()
	}
	if err != nil {
		n.log.Debug("serving blobs", "peer", s.Remote(), "error", err)
		_ = s.Reset() // ends it for the peer, too; it may be gone
		return
	}
	_ = s.Close() // the peer has everything
}

func (n *Node) answerBlobs(ctx context.Context, s Stream) error {
	p := within(s, idleTimeout)
	r := bufio.NewReader(p)
	out := n.limits.upload(s.Remote())
	for {
		background, reqs, err := readRequests(r)
		if errors.Is(err, io.EOF) {
			return s.CloseWrite()
		}
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(limitedWriter{ctx, p, out, background, &n.counters.contentSent}, blobBuffer)
		for i := range reqs {
			if err := n.serveOne(ctx, s, w, &reqs[i], background); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

// serveOne answers one item. Only so many are worked on at a time; what somebody waits for goes first.
func (n *Node) serveOne(ctx context.Context, s Stream, w *bufio.Writer, q *blobRequest, background bool) error {
	n.handing.begin()
	defer n.handing.end()
	for _, g := range []*gate{n.limits.of(s.Remote()).serving, n.serving} {
		leave, err := g.enter(ctx, background)
		if err != nil {
			return err
		}
		defer leave()
	}
	if _, err := n.answerBlob(ctx, w, q, 0); err != nil || q.children == nil {
		return err
	}
	return n.answerChildren(ctx, w, q)
}

// answerBlob answers for one blob, of which it returns how many bytes it sent; of one that is larger than limit, it tells only the size.
func (n *Node) answerBlob(ctx context.Context, w *bufio.Writer, q *blobRequest, limit uint64) (sent uint64, err error) {
	head := answerHead{status: statusNotHere}
	e, err := n.Blobs.Encoder(ctx, q.hash)
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return 0, err
	}
	var last blobs.Ranges
	if err == nil {
		last = lastGroup(e.Info.Size)
		switch {
		case limit > 0 && e.Info.Size > limit:
			head = answerHead{status: statusLarger, size: e.Info.Size}
		case q.proveSize && len(last.Without(e.Present)) > 0:
		default:
			head = answerHead{statusHere, e.Info.Size, q.ranges.Intersect(e.Present)}
			if q.proveSize {
				head.ranges = head.ranges.Without(last)
			}
			head.ranges = head.ranges[:min(len(head.ranges), blobs.MaxWireRanges)]
		}
	}
	b, err := head.append(nil)
	if err != nil {
		return 0, err
	}
	if _, err := w.Write(b); err != nil || head.status != statusHere || q.describe {
		return 0, err
	}
	if q.proveSize {
		if err := e.Encode(w, last); err != nil {
			return 0, err
		}
		sent = last.Count()
	}
	if len(head.ranges) == 0 {
		return sent, nil
	}
	return sent + head.ranges.Count(), e.Encode(w, head.ranges)
}

// answerChildren answers for the children of a sequence; there are none if it is not here whole, or is no sequence.
func (n *Node) answerChildren(ctx context.Context, w *bufio.Writer, q *blobRequest) error {
	c, count := q.children, uint64(0)
	list, err := n.Blobs.Reader(ctx, q.hash)
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return err
	}
	if err == nil {
		has, err := n.Blobs.Has(ctx, q.hash)
		if err != nil {
			return err
		}
		if size := uint64(list.Size()); has && size%blobs.HashSize == 0 && size <= blobs.MaxChildren*blobs.HashSize && size/blobs.HashSize > c.first {
			count = min(c.count, size/blobs.HashSize-c.first)
		}
	}
	if _, err := w.Write(binary.AppendUvarint(nil, count)); err != nil || count == 0 {
		return err
	}
	hashes := bufio.NewReaderSize(io.NewSectionReader(list, int64(c.first)*blobs.HashSize, int64(count)*blobs.HashSize), 32<<10)
	var total uint64
	for range count {
		if c.budget > 0 && total >= c.budget {
			return w.WriteByte(statusSpent)
		}
		child := blobRequest{proveSize: true, ranges: c.ranges}
		if _, err := io.ReadFull(hashes, child.hash[:]); err != nil {
			return err
		}
		sent, err := n.answerBlob(ctx, w, &child, c.limit)
		if err != nil {
			return err
		}
		total += sent
	}
	return nil
}

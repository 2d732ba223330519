package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"

	"github.com/skerry-sync/skerry/blobs"
)

const (
	idleTimeout = 30 * time.Second
	blobBuffer  = 256 << 10 // of an answer that is being written
	readBuffer  = 4 << 10   // of one that is being read: content passes it by
	// strangeBuffer is that of an answer to a stranger.
	strangeBuffer = 64 << 10
	// segmentsOfUnit is how many segments of a partial blob are looked at for a unit of work.
	segmentsOfUnit = 16
	// childrenOfUnit is how many children of a sequence are told to a collection likewise.
	childrenOfUnit = 1024
)

// serveBlobs answers the requests of one stream.
func (n *Node) serveBlobs(s link.Stream) {
	if err := n.answerBlobs(n.ctx, s); err != nil {
		n.log.Debug("serving blobs", "peer", s.Remote(), "error", err)
		_ = s.Reset() // ends it for the peer, too; it may be gone
		return
	}
	_ = s.Close() // the peer has everything
}

// answerBlobs reads one request after the other, each within requestTime, and answers it to a peer
// that reads steadily.
func (n *Node) answerBlobs(ctx context.Context, s link.Stream) error {
	v := link.VisitOf(s)
	p := new(link.Patient)
	*p = link.Within(s, idleTimeout)
	r := bufio.NewReader(p)
	for {
		*p = p.EndingIn(0)
		if _, err := r.Peek(1); errors.Is(err, io.EOF) {
			return s.CloseWrite()
		} else if err != nil {
			return err
		}
		*p = p.EndingIn(requestTime)
		background, reqs, held, err := readRequests(r, v)
		if err == nil {
			err = n.answerRequests(ctx, s, reqs, background)
		}
		v.Give(held)
		if err != nil {
			return err
		}
	}
}

// answering is the answer to one request.
type answering struct {
	n          *Node
	ctx        context.Context
	s          link.Stream
	to         io.Writer // the peer, at its pace
	background bool
	place      limits.Place
	w          *bufio.Writer
}

func (n *Node) answerRequests(ctx context.Context, s link.Stream, reqs []blobRequest, background bool) error {
	v, out := link.VisitOf(s), n.limits.Upload(s.Remote())
	size := blobBuffer
	if v.Stranger() {
		size = strangeBuffer
	}
	if err := v.Take(size); err != nil {
		return err
	}
	defer v.Give(size)
	a := &answering{n: n, ctx: ctx, s: s, background: background}
	paced := link.Within(giving{link.Uncounted(s), &n.handing}, idleTimeout).Paced()
	t := limits.Transfer{Limits: out, Background: background, Count: &n.counters.contentSent}
	a.to = t.Writer(ctx, paced)
	a.w = bufio.NewWriterSize(a, size)
	defer a.rest()
	for i := range reqs {
		if err := a.one(&reqs[i]); err != nil {
			return err
		}
	}
	a.rest()
	return a.w.Flush()
}

// work takes a place to work. Only so many answers are worked on at a time.
func (a *answering) work() (err error) {
	a.place, err = a.n.limits.Enter(a.ctx, a.s, a.background)
	return err
}

// rest gives the place back.
func (a *answering) rest() {
	a.place.Leave()
	a.place = limits.Place{}
}

// Write brings a part of the answer to the peer, and holds no place meanwhile. What is written is
// held until the peer has it.
func (a *answering) Write(b []byte) (int, error) {
	v, working := link.VisitOf(a.s), a.place.Held()
	a.rest()
	if err := v.Take(len(b)); err != nil {
		return 0, err
	}
	total, err := a.to.Write(b)
	if v.Give(len(b)); err == nil && working {
		err = a.work()
	}
	return total, err
}

// spent counts work, of which some has yielded bytes, and waits without a place if the peer has
// asked for much that yields little.
func (a *answering) spent(units int, yielded uint64) error {
	if units -= int(min(yielded/limits.YieldOfUnit, uint64(units))); units == 0 {
		return nil
	}
	working := a.place.Held()
	a.rest()
	err := a.n.limits.Worked(a.ctx, a.s, units)
	if err == nil && working {
		err = a.work()
	}
	return err
}

// one answers one item.
func (a *answering) one(q *blobRequest) error {
	if err := a.work(); err != nil {
		return err
	}
	defer a.rest()
	if _, err := a.n.answerBlob(a, q, 0); err != nil || q.children == nil {
		return err
	}
	return a.n.answerChildren(a, q)
}

// answerBlob answers for one blob, of which it returns how many bytes it sent; of one that is
// larger than limit, it tells only the size.
func (n *Node) answerBlob(a *answering, q *blobRequest, limit uint64) (sent uint64, err error) {
	// What is being sent is not collected. Each blob is held alone: of a sequence there are millions.
	ctx, release := n.Blobs.Hold(a.ctx)
	defer release()
	w, units := a.w, 1
	defer func() {
		if err == nil {
			err = a.spent(units, sent)
		}
	}()
	head := answerHead{status: statusNotHere}
	e, err := n.Blobs.Encoder(ctx, q.hash)
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return 0, err
	}
	var last blobs.Ranges
	if err == nil {
		last = lastGroup(e.Info.Size)
		if e.Info.Present < e.Info.Size {
			units += int(e.Info.Size/blobs.SegmentSize)/segmentsOfUnit + len(e.Present)
		}
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

// answerChildren answers for the children of a sequence; there are none if it is not here whole, or
// is no sequence.
func (n *Node) answerChildren(a *answering, q *blobRequest) error {
	ctx, release := n.Blobs.Hold(a.ctx)
	defer release()
	w := a.w
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
	if err := n.Blobs.TouchSequence(ctx, q.hash); err != nil {
		return err
	}
	if err := a.spent(int(count)/childrenOfUnit, 0); err != nil { // a collection looks at each
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
		sent, err := n.answerBlob(a, &child, c.limit)
		if err != nil {
			return err
		}
		total += sent
	}
	return nil
}

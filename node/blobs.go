package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
)

// The blob protocol. One stream carries one request, for up to 4,096 blobs, and its answers in the same order:
//
//	request   version u8 = 1, count varint, then for each blob:
//	            hash[32], flags u8 (1: prove the size first), ranges (byte ranges: see blobs.Ranges)
//	answer    for each blob: status u8 (0 here it is, 1 not here), and if it is here
//	            size varint, ranges that follow (wanted, and present at the provider)
//	            if the size is to be proved: the stream of the last chunk group
//	            the stream of the ranges, without the last chunk group if that came first
//
// The requester closes its side after the request, the provider after the answers. Neither waits more than idleTimeout for the other.
// See docs/protocol/blobs.md.
const (
	blobProtocol   = "/skerry/blobs/1"
	blobVersion    = 1
	maxRequest     = 4096
	flagProveSize  = 1
	statusHere     = 0
	statusNotHere  = 1
	idleTimeout    = 30 * time.Second
	blobBuffer     = 256 << 10
	maxBlobStreams = 64 // served at a time; more wait
)

// blobRequest asks for a part of one blob.
type blobRequest struct {
	hash      blobs.Hash
	proveSize bool
	ranges    blobs.Ranges
	size      uint64 // not sent: what the requester knows it to be, unless it is to be proved
}

func appendRequests(b []byte, reqs []blobRequest) ([]byte, error) {
	b = binary.AppendUvarint(append(b, blobVersion), uint64(len(reqs)))
	for _, r := range reqs {
		b = append(b, r.hash[:]...)
		flags := byte(0)
		if r.proveSize {
			flags = flagProveSize
		}
		var err error
		if b, err = r.ranges.AppendBinary(append(b, flags)); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func readRequests(r *bufio.Reader) ([]blobRequest, error) {
	version, err := r.ReadByte()
	if err != nil {
		return nil, fmt.Errorf("blob request: %w", err)
	}
	if version != blobVersion {
		return nil, fmt.Errorf("blob request of version %d, expected %d", version, blobVersion)
	}
	count, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, fmt.Errorf("blob request: %w", err)
	}
	if count == 0 || count > maxRequest {
		return nil, fmt.Errorf("blob request for %d blobs, at most %d", count, maxRequest)
	}
	reqs := make([]blobRequest, 0, count)
	total := 0
	for range count {
		var q blobRequest
		if _, err := io.ReadFull(r, q.hash[:]); err != nil {
			return nil, fmt.Errorf("blob request: %w", err)
		}
		flags, err := r.ReadByte()
		if err != nil {
			return nil, fmt.Errorf("blob request: %w", err)
		}
		if flags&^flagProveSize != 0 {
			return nil, fmt.Errorf("blob request with unknown flags %#x", flags)
		}
		q.proveSize = flags&flagProveSize != 0
		if q.ranges, err = blobs.ReadRanges(r); err != nil {
			return nil, fmt.Errorf("blob request: %w", err)
		}
		if total += len(q.ranges); total > 4*blobs.MaxWireRanges {
			return nil, fmt.Errorf("blob request with more than %d ranges", 4*blobs.MaxWireRanges)
		}
		reqs = append(reqs, q)
	}
	return reqs, nil
}

// answerHead is what comes before the streams of one blob.
type answerHead struct {
	here   bool
	size   uint64
	ranges blobs.Ranges
}

func (h answerHead) append(b []byte) ([]byte, error) {
	if !h.here {
		return append(b, statusNotHere), nil
	}
	return h.ranges.AppendBinary(binary.AppendUvarint(append(b, statusHere), h.size))
}

func readAnswerHead(r *bufio.Reader) (h answerHead, err error) {
	status, err := r.ReadByte()
	if err != nil {
		return h, noEOF(err)
	}
	switch status {
	case statusNotHere:
		return h, nil
	case statusHere:
	default:
		return h, fmt.Errorf("blob answer with unknown status %d", status)
	}
	h.here = true
	if h.size, err = binary.ReadUvarint(r); err != nil {
		return h, noEOF(err)
	}
	h.ranges, err = blobs.ReadRanges(r)
	return h, err
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// lastGroup is the byte range of the last chunk group of a blob; of an empty one, the position 0.
func lastGroup(size uint64) blobs.Ranges {
	return blobs.Ranges{{Start: (max(size, 1) - 1) / blobs.GroupSize * blobs.GroupSize, End: max(size, 1)}}
}

// serveBlobs answers one request.
func (n *Node) serveBlobs(s Stream) {
	err := n.answerBlobs(n.ctx, patient{s, idleTimeout})
	if err != nil {
		n.log.Debug("serving blobs", "peer", s.Remote(), "error", err)
		_ = s.Reset() // ends it for the peer, too; it may be gone
		return
	}
	_ = s.Close() // the peer has everything
}

func (n *Node) answerBlobs(ctx context.Context, s Stream) error {
	select {
	case n.serving <- struct{}{}:
		defer func() { <-n.serving }()
	case <-ctx.Done():
		return ctx.Err()
	}
	reqs, err := readRequests(bufio.NewReader(s))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(s, blobBuffer)
	for i := range reqs {
		if err := n.answerBlob(ctx, w, &reqs[i]); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return s.CloseWrite()
}

func (n *Node) answerBlob(ctx context.Context, w *bufio.Writer, q *blobRequest) error {
	var head answerHead
	present, err := n.Blobs.Present(ctx, q.hash)
	if err != nil {
		return err
	}
	info, err := n.Blobs.Stat(ctx, q.hash)
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return err
	}
	if err == nil {
		last := lastGroup(info.Size)
		if info.Complete {
			present = blobs.Everything
		}
		head = answerHead{here: true, size: info.Size, ranges: q.ranges.Intersect(present)}
		if q.proveSize {
			head.here = len(last.Without(present)) == 0
			head.ranges = head.ranges.Without(last)
		}
		head.ranges = head.ranges.Intersect(blobs.Ranges{{Start: 0, End: max(info.Size, 1)}})
	}
	b, err := head.append(nil)
	if err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil || !head.here {
		return err
	}
	if q.proveSize {
		if err := n.Blobs.Encode(ctx, w, q.hash, lastGroup(info.Size)); err != nil {
			return err
		}
	}
	if len(head.ranges) == 0 {
		return nil
	}
	return n.Blobs.Encode(ctx, w, q.hash, head.ranges)
}

// request sends a request and returns the stream, from which the answers can be read.
func (n *Node) request(ctx context.Context, p peer.ID, reqs []blobRequest) (Stream, *bufio.Reader, error) {
	b, err := appendRequests(nil, reqs)
	if err != nil {
		return nil, nil, err
	}
	raw, err := n.net.Open(ctx, p, blobProtocol)
	if err != nil {
		return nil, nil, err
	}
	s := patient{raw, idleTimeout}
	if _, err := io.Copy(s, bytes.NewReader(b)); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ask %s for blobs: %w", p, err), raw.Reset())
	}
	if err := s.CloseWrite(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ask %s for blobs: %w", p, err), raw.Reset())
	}
	return s, bufio.NewReaderSize(s, blobBuffer), nil
}

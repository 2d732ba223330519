package node

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/link"
)

// The blob protocol. A stream carries requests one behind the other, which may be sent before
// earlier ones are answered, and their answers in the same order:
//
//	request   version u8 = 2, flags u8 (1: background, nobody waits for it), count varint (1 to 4,096), then for each item:
//	            kind u8 (0 blob, 1 sequence), hash[32], flags u8 (1: prove the size first; 2: only say what is there, and send
//	            no streams), ranges (byte ranges: see blobs.Ranges)
//	            a sequence also: first child varint, number of children varint, limit and budget varints (bytes; 0 is none), ranges of
//	            each child
//	answer    for each item: the answer of the blob; for a sequence then the number of children that follow as a varint, and for each of them the
//	          answer of a blob of which the size is proved first
//	blob      status u8: 0 here it is, 1 not here, 2 larger than the limit, 3 no more children: the budget is spent
//	          if it is larger: size varint
//	          if it is here: size varint, ranges that follow (wanted, and present at the provider)
//	            if the size is to be proved: the stream of the last chunk group
//	            the stream of the ranges, without the last chunk group if that came first
//
// The requester closes its side after its last request. Neither waits more than idleTimeout for the
// other. See docs/protocol/blobs.md.
const (
	blobProtocol   = "/skerry/blobs/2"
	blobVersion    = 2
	maxRequest     = 4096
	flagBackground = 1
	kindBlob       = 0
	kindSequence   = 1
	flagProveSize  = 1
	flagDescribe   = 2
	statusHere     = 0
	statusNotHere  = 1
	statusLarger   = 2
	statusSpent    = 3
)

// blobRequest asks for a part of one blob, or of a sequence and its children.
type blobRequest struct {
	hash      blobs.Hash
	proveSize bool
	describe  bool
	ranges    blobs.Ranges
	children  *childRequest // nil for a blob
}

// childRequest asks for parts of the children of a sequence, each with its size proved first.
// Children that the provider does not have are answered so, and those larger than limit.
type childRequest struct {
	first, count uint64
	limit        uint64 // bytes; 0 is none
	budget       uint64 // bytes of blobs sent, after which no more children follow; 0 is none
	ranges       blobs.Ranges
}

func appendRequests(b []byte, background bool, reqs []blobRequest) ([]byte, error) {
	b = append(b, blobVersion, bit(background, flagBackground))
	b = binary.AppendUvarint(b, uint64(len(reqs)))
	for _, r := range reqs {
		b = append(b, bit(r.children != nil, kindSequence))
		b = append(b, r.hash[:]...)
		var err error
		if b, err = r.ranges.AppendBinary(append(b, bit(r.proveSize, flagProveSize)|bit(r.describe, flagDescribe))); err != nil {
			return nil, err
		}
		if c := r.children; c != nil {
			for _, x := range []uint64{c.first, c.count, c.limit, c.budget} {
				b = binary.AppendUvarint(b, x)
			}
			if b, err = c.ranges.AppendBinary(b); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

func bit(is bool, b byte) byte {
	if is {
		return b
	}
	return 0
}

// requestBytes is what one item of a request occupies in memory beside its ranges.
const requestBytes = 192

// readRequests reads one request. v counts its memory, which is held bytes also if there is an
// error. It returns io.EOF, and only then, if there is no request.
func readRequests(r *bufio.Reader, v *admission.Visit) (background bool, reqs []blobRequest, held int, err error) {
	version, err := r.ReadByte()
	if err != nil {
		return false, nil, 0, err
	}
	fail := func(err error) (bool, []blobRequest, int, error) {
		return false, nil, held, fmt.Errorf("blob request: %w", noEOF(err))
	}
	if version != blobVersion {
		return fail(fmt.Errorf("version %d, expected %d", version, blobVersion))
	}
	flags, err := r.ReadByte()
	if err != nil {
		return fail(err)
	}
	if flags&^flagBackground != 0 {
		return fail(fmt.Errorf("unknown flags %#x", flags))
	}
	count, err := binary.ReadUvarint(r)
	if err != nil {
		return fail(err)
	}
	if count == 0 || count > maxRequest {
		return fail(fmt.Errorf("for %d blobs, at most %d", count, maxRequest))
	}
	total := 0
	for range count {
		q, err := readRequest(r)
		if err != nil {
			return fail(err)
		}
		if total += len(q.ranges); q.children != nil {
			total += len(q.children.ranges)
		}
		if total > 4*blobs.MaxWireRanges {
			return fail(fmt.Errorf("more than %d ranges", 4*blobs.MaxWireRanges))
		}
		size := requestBytes + 16*len(q.ranges)
		if q.children != nil {
			size += 64 + 16*len(q.children.ranges)
		}
		if err := v.Take(size); err != nil {
			return fail(err)
		}
		held += size
		reqs = append(reqs, q)
	}
	return flags&flagBackground != 0, reqs, held, nil
}

func readRequest(r *bufio.Reader) (q blobRequest, err error) {
	kind, err := r.ReadByte()
	if err != nil {
		return q, err
	}
	if _, err := io.ReadFull(r, q.hash[:]); err != nil {
		return q, err
	}
	flags, err := r.ReadByte()
	if err != nil {
		return q, err
	}
	if kind > kindSequence || flags&^(flagProveSize|flagDescribe) != 0 {
		return q, fmt.Errorf("unknown kind %d or flags %#x", kind, flags)
	}
	q.proveSize, q.describe = flags&flagProveSize != 0, flags&flagDescribe != 0
	if q.ranges, err = blobs.ReadRanges(r); err != nil || kind == kindBlob {
		return q, err
	}
	c := new(childRequest)
	for _, x := range []*uint64{&c.first, &c.count, &c.limit, &c.budget} {
		if *x, err = binary.ReadUvarint(r); err != nil {
			return q, err
		}
	}
	if c.first > blobs.MaxChildren || c.count > blobs.MaxChildren {
		return q, fmt.Errorf("children %d and %d more, at most %d", c.first, c.count, blobs.MaxChildren)
	}
	q.children = c
	c.ranges, err = blobs.ReadRanges(r)
	return q, err
}

// answerHead is what comes before the streams of one blob.
type answerHead struct {
	status byte
	size   uint64
	ranges blobs.Ranges
}

func (h answerHead) append(b []byte) ([]byte, error) {
	b = append(b, h.status)
	if h.status == statusNotHere || h.status == statusSpent {
		return b, nil
	}
	if b = binary.AppendUvarint(b, h.size); h.status == statusLarger {
		return b, nil
	}
	return h.ranges.AppendBinary(b)
}

func readAnswerHead(r *bufio.Reader) (h answerHead, err error) {
	if h.status, err = r.ReadByte(); err != nil {
		return h, noEOF(err)
	}
	if h.status > statusSpent {
		return h, fmt.Errorf("blob answer with unknown status %d", h.status)
	}
	if h.status == statusNotHere || h.status == statusSpent {
		return h, nil
	}
	if h.size, err = binary.ReadUvarint(r); err != nil || h.status == statusLarger {
		return h, noEOF(err)
	}
	h.ranges, err = blobs.ReadRanges(r)
	return h, noEOF(err)
}

var noEOF = link.NoEOF

// lastGroup is the byte range of the last chunk group of a blob; of an empty one, the position 0.
func lastGroup(size uint64) blobs.Ranges {
	return blobs.Ranges{{Start: (max(size, 1) - 1) / blobs.GroupSize * blobs.GroupSize, End: max(size, 1)}}
}

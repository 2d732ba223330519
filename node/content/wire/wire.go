// Package wire is the format of the blob protocol: what is asked, and what comes before the
// verified streams of an answer.
//
// What belongs here: the bytes, and their bounds. What never belongs here: what is asked of whom,
// or what is answered.
package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/link"
)

// Protocol is the name of the blob protocol. A stream carries requests one behind the other, which
// may be sent before earlier ones are answered, and their answers in the same order:
//
//	request   version u8 = 2, flags u8 (1: background, nobody waits for it),
//	          count varint (1 to 4,096), then for each item:
//	            kind u8 (0 blob, 1 sequence), hash[32],
//	            flags u8 (1: prove the size first; 2: only say what is there, and send no streams),
//	            ranges (byte ranges: see blobs.Ranges)
//	            a sequence also: first child varint, number of children varint, limit and budget
//	            varints (bytes; 0 is none), ranges of each child
//	answer    for each item: the answer of the blob; for a sequence then the number of children
//	          that follow as a varint, and for each of them the answer of a blob of which the size
//	          is proved first
//	blob      status u8: 0 here it is, 1 not here, 2 larger than the limit,
//	            3 no more children: the budget is spent
//	          if it is larger: size varint
//	          if it is here: size varint, ranges that follow (wanted, and present at the provider)
//	            if the size is to be proved: the stream of the last chunk group
//	            the stream of the ranges, without the last chunk group if that came first
//
// The requester closes its side after its last request. Neither waits more than half a minute for
// the other. See docs/protocol/blobs.md.
const Protocol = "/skerry/blobs/2"

// MaxItems is how many items a request may have.
const MaxItems = 4096

const (
	version        = 2
	flagBackground = 1
	kindBlob       = 0
	kindSequence   = 1
	flagProveSize  = 1
	flagDescribe   = 2
)

// What the answer for a blob begins with.
const (
	StatusHere    = 0
	StatusNotHere = 1
	StatusLarger  = 2 // than the limit of the children
	StatusSpent   = 3 // the budget of the children
)

// Request asks for a part of one blob, or of a sequence and its children.
type Request struct {
	Hash      blobs.Hash
	ProveSize bool
	Describe  bool
	Ranges    blobs.Ranges
	Children  *Children // nil for a blob
}

// Children asks for parts of the children of a sequence, each with its size proved first.
// Children that the provider does not have are answered so, and those larger than Limit.
type Children struct {
	First, Count uint64
	Limit        uint64 // bytes; 0 is none
	Budget       uint64 // bytes of blobs sent, after which no more children follow; 0 is none
	Ranges       blobs.Ranges
}

// AppendRequests appends a request for some items.
func AppendRequests(b []byte, background bool, reqs []Request) ([]byte, error) {
	b = append(b, version, bit(background, flagBackground))
	b = binary.AppendUvarint(b, uint64(len(reqs)))
	for _, r := range reqs {
		b = append(b, bit(r.Children != nil, kindSequence))
		b = append(b, r.Hash[:]...)
		var err error
		b = append(b, bit(r.ProveSize, flagProveSize)|bit(r.Describe, flagDescribe))
		if b, err = r.Ranges.AppendBinary(b); err != nil {
			return nil, err
		}
		if c := r.Children; c != nil {
			for _, x := range []uint64{c.First, c.Count, c.Limit, c.Budget} {
				b = binary.AppendUvarint(b, x)
			}
			if b, err = c.Ranges.AppendBinary(b); err != nil {
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

// ReadRequests reads one request. v counts its memory, which is held bytes also if there is an
// error. It returns io.EOF, and only then, if there is no request.
func ReadRequests(
	r *bufio.Reader, v *admission.Visit,
) (background bool, reqs []Request, held int, err error) {
	got, err := r.ReadByte()
	if err != nil {
		return false, nil, 0, err
	}
	fail := func(err error) (bool, []Request, int, error) {
		return false, nil, held, fmt.Errorf("blob request: %w", link.NoEOF(err))
	}
	if got != version {
		return fail(fmt.Errorf("version %d, expected %d", got, version))
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
	if count == 0 || count > MaxItems {
		return fail(fmt.Errorf("for %d blobs, at most %d", count, MaxItems))
	}
	total := 0
	for range count {
		q, err := readRequest(r)
		if err != nil {
			return fail(err)
		}
		if total += len(q.Ranges); q.Children != nil {
			total += len(q.Children.Ranges)
		}
		if total > 4*blobs.MaxWireRanges {
			return fail(fmt.Errorf("more than %d ranges", 4*blobs.MaxWireRanges))
		}
		size := requestBytes + 16*len(q.Ranges)
		if q.Children != nil {
			size += 64 + 16*len(q.Children.Ranges)
		}
		if err := v.Take(size); err != nil {
			return fail(err)
		}
		held += size
		reqs = append(reqs, q)
	}
	return flags&flagBackground != 0, reqs, held, nil
}

func readRequest(r *bufio.Reader) (q Request, err error) {
	kind, err := r.ReadByte()
	if err != nil {
		return q, err
	}
	if _, err := io.ReadFull(r, q.Hash[:]); err != nil {
		return q, err
	}
	flags, err := r.ReadByte()
	if err != nil {
		return q, err
	}
	if kind > kindSequence || flags&^(flagProveSize|flagDescribe) != 0 {
		return q, fmt.Errorf("unknown kind %d or flags %#x", kind, flags)
	}
	q.ProveSize, q.Describe = flags&flagProveSize != 0, flags&flagDescribe != 0
	if q.Ranges, err = blobs.ReadRanges(r); err != nil || kind == kindBlob {
		return q, err
	}
	c := new(Children)
	for _, x := range []*uint64{&c.First, &c.Count, &c.Limit, &c.Budget} {
		if *x, err = binary.ReadUvarint(r); err != nil {
			return q, err
		}
	}
	if c.First > blobs.MaxChildren || c.Count > blobs.MaxChildren {
		return q, fmt.Errorf("children %d and %d more, at most %d", c.First, c.Count, blobs.MaxChildren)
	}
	q.Children = c
	c.Ranges, err = blobs.ReadRanges(r)
	return q, err
}

// Head is what comes before the streams of one blob.
type Head struct {
	Status byte
	Size   uint64
	Ranges blobs.Ranges
}

// Append appends it as it is sent.
func (h Head) Append(b []byte) ([]byte, error) {
	b = append(b, h.Status)
	if h.Status == StatusNotHere || h.Status == StatusSpent {
		return b, nil
	}
	if b = binary.AppendUvarint(b, h.Size); h.Status == StatusLarger {
		return b, nil
	}
	return h.Ranges.AppendBinary(b)
}

// ReadHead reads a Head.
func ReadHead(r *bufio.Reader) (h Head, err error) {
	if h.Status, err = r.ReadByte(); err != nil {
		return h, link.NoEOF(err)
	}
	if h.Status > StatusSpent {
		return h, fmt.Errorf("blob answer with unknown status %d", h.Status)
	}
	if h.Status == StatusNotHere || h.Status == StatusSpent {
		return h, nil
	}
	if h.Size, err = binary.ReadUvarint(r); err != nil || h.Status == StatusLarger {
		return h, link.NoEOF(err)
	}
	h.Ranges, err = blobs.ReadRanges(r)
	return h, link.NoEOF(err)
}

// LastGroup is the byte range of the last chunk group of a blob; of an empty one, the position 0.
func LastGroup(size uint64) blobs.Ranges {
	start := (max(size, 1) - 1) / blobs.GroupSize * blobs.GroupSize
	return blobs.Ranges{{Start: start, End: max(size, 1)}}
}

package reconcile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A session is two streams of frames, one each way. A frame is
//
//	type     u8
//	length   varint   of the payload, at most 524,288
//	payload
//
// and these are the payloads:
//
//	1 ranges   round varint      the longest chain of question and answer that led here; at most 256
//	           answered varint   how many questions of the peer this side has answered since its last ranges frame
//	           questions         until the end: kind u8, from bound, then by kind
//	             1 compare       n varint (1 to 256), how u8 (the number of sums, 0 to 8; 128 more for a strict one), then n parts, of
//	                             which each begins where the one before it ends: to bound, count varint, digest[8], sums: what the sender
//	                             has in the part
//	             2 offer         to bound, n varint (at most 4,096), n short ids[8]: all that the sender has in the range; the peer
//	                             sends the items that are not among them, and asks for those it lacks
//	             3 send          to bound, n varint (at most 4,096), n short ids[8]: the sender lacks these
//	             4 list          to bound: the sender wants an offer of the range
//	             5 fetch         n varint (at most 4,096), n elements[16]: the sender lacks these; from is empty
//	2 items    items until the end: length varint (at most 196,608), data
//	3 done     empty: the initiator has no open question; the responder answers with the same
//
// A bound is the number of its first bytes that it shares with the bound before it in the frame, as
// a varint, the number of further bytes as a varint, and these. Bounds start from the empty one; an
// empty "to" has no end. Short ids are u64 LE, sums as in Sketch. Each question obliges the peer to
// answer it, if only by counting it. A strict compare is answered after all items that came before
// it are stored, and without sketches, as are those that follow from it.
const (
	frameRanges = 1
	frameItems  = 2
	frameDone   = 3

	kindCompare = 1
	kindOffer   = 2
	kindSend    = 3
	kindList    = 4
	kindFetch   = 5

	maxFrame  = 512 << 10 // more than one question with two bounds and all ids that it may have
	maxRanges = maxFrame - 2*binary.MaxVarintLen64
	maxRounds = 256
	maxParts  = 256
	maxIDs    = 4096
	maxItem   = 192 << 10
	maxBound  = 160 << 10 // an escaped key of 65,535 bytes and an author
	strictBit = 128
)

// ProtocolError reports a peer that does not keep to the protocol.
type ProtocolError struct{ Reason string }

func (e *ProtocolError) Error() string { return "reconcile: peer broke the protocol: " + e.Reason }

func protocolErrorf(format string, args ...any) error {
	return &ProtocolError{fmt.Sprintf(format, args...)}
}

// question is one record of a ranges frame.
type question struct {
	kind     byte
	r        Range   // of a compare: all parts together
	parts    []claim // of a compare
	sums     int     // that each part has
	strict   bool
	ids      []shortID
	elements []Element
	round    int
}

// claim is what the sender of a compare has in a part.
type claim struct {
	to     []byte
	count  uint64
	digest [digestSize]byte
	sketch Sketch // the first sums
}

// bounds are those of the parts, from the first to the last.
func (q *question) bounds() [][]byte {
	b := make([][]byte, 1, len(q.parts)+1)
	b[0] = q.r.From
	for i := range q.parts {
		b = append(b, q.parts[i].to)
	}
	return b
}

// memory is about what the question occupies while it waits.
func (q *question) memory() int {
	n := 320 + len(q.r.From) + len(q.r.To) + 8*len(q.ids) + 16*len(q.elements)
	for i := range q.parts {
		n += q.parts[i].memory()
	}
	return n
}

func (c *claim) memory() int { return 192 + len(c.to) }

// appendQuestion appends a question to those of a frame of which the last bound is prev, and
// returns what is then the last one.
func appendQuestion(b, prev []byte, q *question) (_, last []byte) {
	b = append(b, q.kind)
	b = appendBound(b, &prev, q.r.From)
	if q.kind == kindCompare {
		b = binary.AppendUvarint(b, uint64(len(q.parts)))
		how := byte(q.sums)
		if q.strict {
			how |= strictBit
		}
		b = append(b, how)
		for i := range q.parts {
			p := &q.parts[i]
			b = appendBound(b, &prev, p.to)
			b = binary.AppendUvarint(b, p.count)
			b = append(b, p.digest[:]...)
			b = p.sketch.appendSums(b, q.sums)
		}
		return b, prev
	}
	if q.kind != kindFetch {
		b = appendBound(b, &prev, q.r.To)
	}
	switch q.kind {
	case kindOffer, kindSend:
		b = binary.AppendUvarint(b, uint64(len(q.ids)))
		for _, id := range q.ids {
			b = binary.LittleEndian.AppendUint64(b, uint64(id))
		}
	case kindFetch:
		b = binary.AppendUvarint(b, uint64(len(q.elements)))
		for _, e := range q.elements {
			b = append(b, e[:]...)
		}
	}
	return b, prev
}

func appendBound(b []byte, prev *[]byte, bound []byte) []byte {
	n := 0
	for n < len(*prev) && n < len(bound) && (*prev)[n] == bound[n] {
		n++
	}
	b = binary.AppendUvarint(b, uint64(n))
	b = binary.AppendUvarint(b, uint64(len(bound)-n))
	*prev = bound
	return append(b, bound[n:]...)
}

// rangesFrame is a parsed ranges frame.
type rangesFrame struct {
	round     int
	answered  uint64
	questions []question
}

// payload reads what a frame holds; after the first error it reads zeros.
type payload struct {
	b    []byte
	err  error
	keep func(n int) error // of parseRanges
	kept int               // of the question that is being read
}

func (p *payload) fail(format string, args ...any) {
	if p.err == nil {
		p.err = protocolErrorf(format, args...)
	}
	p.b = nil
}

func (p *payload) uvarint(limit uint64, what string) uint64 {
	x, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.fail("%s is cut short", what)
		return 0
	}
	if x > limit {
		p.fail("%s is %d, at most %d is allowed", what, x, limit)
		return 0
	}
	p.b = p.b[n:]
	return x
}

func (p *payload) bytes(n uint64, what string) []byte {
	if n > uint64(len(p.b)) {
		p.fail("%s is cut short", what)
		return nil
	}
	out := p.b[:n:n]
	p.b = p.b[n:]
	return out
}

func (p *payload) bound(prev *[]byte) []byte {
	shared := p.uvarint(maxBound, "bound")
	rest := p.uvarint(maxBound-shared, "bound")
	if shared > uint64(len(*prev)) {
		p.fail("bound shares %d bytes of %d", shared, len(*prev))
		return nil
	}
	suffix := p.bytes(rest, "bound")
	if shared+rest == 0 {
		*prev = nil
		return nil
	}
	out := append(append(make([]byte, 0, shared+rest), (*prev)[:shared]...), suffix...)
	*prev = out
	return out
}

// parseRanges reads a ranges frame. keep is told of the memory of each part and question before the
// next is read, and may end that with an error: bounds that share their beginning are much longer
// than the frame.
func parseRanges(b []byte, keep func(n int) error) (f rangesFrame, err error) {
	p := &payload{b: b, keep: keep}
	f.round = int(p.uvarint(maxRounds, "round"))
	f.answered = p.uvarint(1<<62, "answered")
	var prev []byte
	for len(p.b) > 0 && p.err == nil {
		q := question{round: f.round, kind: p.bytes(1, "kind")[0]}
		p.kept = 0
		q.r.From = p.bound(&prev)
		switch q.kind {
		case kindCompare:
			p.parts(&q, &prev)
		case kindOffer, kindSend:
			q.r.To = p.end(q.r.From, &prev)
			n := p.uvarint(maxIDs, "number of ids")
			ids := p.bytes(n*shortIDSize, "ids")
			for len(ids) > 0 {
				q.ids = append(q.ids, shortID(binary.LittleEndian.Uint64(ids)))
				ids = ids[shortIDSize:]
			}
		case kindList:
			q.r.To = p.end(q.r.From, &prev)
		case kindFetch:
			if len(q.r.From) > 0 {
				p.fail("a fetch with a bound")
			}
			n := p.uvarint(maxIDs, "number of elements")
			elements := p.bytes(n*uint64(len(Element{})), "elements")
			for len(elements) > 0 {
				q.elements = append(q.elements, Element(elements))
				elements = elements[len(Element{}):]
			}
		default:
			p.fail("question of unknown kind %d", q.kind)
		}
		if p.err == nil {
			p.err = keep(q.memory() - p.kept)
		}
		f.questions = append(f.questions, q)
	}
	return f, p.err
}

// end reads the bound where a range ends that begins at from.
func (p *payload) end(from []byte, prev *[]byte) []byte {
	to := p.bound(prev)
	if len(to) > 0 && string(from) >= string(to) {
		p.fail("a range ends before it begins")
	}
	return to
}

func (p *payload) parts(q *question, prev *[]byte) {
	n := p.uvarint(maxParts, "number of parts")
	if n == 0 {
		p.fail("a comparison of nothing")
		return
	}
	how := p.bytes(1, "number of sums")
	if p.err != nil {
		return
	}
	q.strict, q.sums = how[0]&strictBit != 0, int(how[0]&^strictBit)
	if q.sums > capacity || q.strict && q.sums > 0 {
		p.fail("a comparison by %d sums", q.sums)
	}
	from := q.r.From
	for i := range n {
		if p.err != nil {
			return
		}
		if i > 0 && len(from) == 0 {
			p.fail("a part behind the end")
		}
		c := claim{to: p.end(from, prev), count: p.uvarint(1<<62, "count")}
		copy(c.digest[:], p.bytes(digestSize, "digest"))
		c.sketch.setSums(p.bytes(uint64(q.sums)*sketchSumSize, "sums"))
		if p.err == nil {
			p.kept += c.memory()
			p.err = p.keep(c.memory())
		}
		q.parts = append(q.parts, c)
		from = c.to
	}
	q.r.To = from
}

// parseItems splits a frame into its items, which share its bytes. take counts the memory for their
// headers before it is taken.
func parseItems(b []byte, take func(n int) error) (items [][]byte, err error) {
	const header = 24 // bytes of a slice
	count := 0
	for p := (&payload{b: b}); len(p.b) > 0; count++ {
		if p.bytes(p.uvarint(maxItem, "item"), "item"); p.err != nil {
			return nil, p.err
		}
	}
	if err := take(count * header); err != nil {
		return nil, err
	}
	items = make([][]byte, 0, count)
	for p := (&payload{b: b}); len(p.b) > 0; {
		items = append(items, p.bytes(p.uvarint(maxItem, "item"), "item"))
	}
	return items, nil
}

// readHead reads what comes before a frame's payload of n bytes.
func readHead(r *bufio.Reader) (kind byte, n int, err error) {
	if kind, err = r.ReadByte(); err != nil {
		return 0, 0, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, 0, noEOF(err)
	}
	if size > maxFrame {
		return 0, 0, protocolErrorf("a frame of %d bytes, at most %d is allowed", size, maxFrame)
	}
	return kind, int(size), nil
}

// readPayload reads a frame's payload.
func readPayload(r *bufio.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, noEOF(err)
	}
	return b, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frameSize is the length of a frame with a payload of n bytes.
func frameSize(n int) int {
	size := 2 + n
	for x := n; x >= 0x80; x >>= 7 {
		size++
	}
	return size
}

func appendFrame(b []byte, kind byte, payload []byte) []byte {
	b = binary.AppendUvarint(append(b, kind), uint64(len(payload)))
	return append(b, payload...)
}

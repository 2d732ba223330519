package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/replica"
)

const magic = "skerry version 1\n"

// Bits of the flags.
const (
	flagCut   = 1 << 2 // above the two of the kind
	flagBatch = 1 << 3
	allFlags  = 1<<4 - 1
)

// Append appends the bytes of a record:
//
//	"skerry version 1\n"  17 bytes
//	length                of all that follows
//	flags                 u8: kind in the bits 0 and 1, 4 more ancestors were cut, 8 part of a batch
//	generation            u8
//	incarnation           8 bytes
//	counter, height, schema
//	own                   greatest counter of the same device in the context, 0 for none
//	devices               count; each: author tag 16 bytes, incarnation 8 bytes, counter; ascending
//	resolved              count; each: device, counter; ascending
//	content               size, hash 32 bytes; nothing for a deletion
//	ancestors             count; each: device, counter, height, time, hash 16 bytes, size plus 1 if
//	                      its content is kept, or 0; the newest first
//	batch                 only with flag 8: counter less that of the first part, parts
//
// The contents follow: the version's own, and those of the ancestors that are kept. Numbers are
// unsigned varints in their shortest form. A device is its place among devices, from 1, or 0 for
// that of the record. It returns ErrMalformed for a record that Parse would not read.
func (r *Record) Append(b []byte) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	body := r.appendBody(make([]byte, 0, 256))
	return append(appendNumbers(append(b, magic...), uint64(len(body))), body...), nil
}

// appendBody appends what follows the length.
func (r *Record) appendBody(b []byte) []byte {
	flags := byte(r.Kind)
	if r.Cut {
		flags |= flagCut
	}
	if r.Batch != nil {
		flags |= flagBatch
	}
	b = append(b, flags, r.Generation)
	b = append(b, r.Dot.Device.Incarnation[:]...)
	b = appendNumbers(b, r.Dot.Counter, r.Height, r.Schema, r.Context.Of(r.Dot.Device))
	others := slices.DeleteFunc(slices.Clone(r.Context), func(d Dot) bool {
		return d.Device == r.Dot.Device
	})
	b = appendNumbers(b, uint64(len(others)))
	for _, d := range others {
		b = append(append(b, d.Device.Author[:]...), d.Device.Incarnation[:]...)
		b = appendNumbers(b, d.Counter)
	}
	place := func(d Dot) uint64 {
		if d.Device == r.Dot.Device {
			return 0
		}
		at, _ := others.find(d.Device)
		return uint64(at) + 1
	}
	b = appendNumbers(b, uint64(len(r.Resolved)))
	for _, d := range r.Resolved {
		b = appendNumbers(b, place(d), d.Counter)
	}
	if r.Kind != Deletion {
		b = append(appendNumbers(b, r.Content.Size), r.Content.Hash[:]...)
	}
	b = appendNumbers(b, uint64(len(r.Ancestors)))
	for i := range r.Ancestors {
		a := &r.Ancestors[i]
		b = appendNumbers(b, place(a.Dot), a.Counter, a.Height, a.Time)
		b = append(b, a.Hash[:]...)
		kept := uint64(0)
		if a.Kept {
			kept = a.Size + 1
		}
		b = appendNumbers(b, kept)
	}
	if r.Batch != nil {
		b = appendNumbers(b, r.Dot.Counter-r.Batch.First, r.Batch.Parts)
	}
	return b
}

func appendNumbers(b []byte, all ...uint64) []byte {
	for _, n := range all {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// Length returns how many bytes the record has that b begins with; more is true if b must be longer
// to tell: MaxHead bytes always do. It returns ErrMalformed if no record begins so.
func Length(b []byte) (n int, more bool, err error) {
	if !bytes.HasPrefix(b, []byte(magic)) {
		if bytes.HasPrefix([]byte(magic), b) {
			return 0, true, nil
		}
		return 0, false, malformed("it does not begin with %q", magic)
	}
	body, size := binary.Uvarint(b[len(magic):])
	switch {
	case size == 0:
		return 0, true, nil
	case size < 0 || body > MaxRecord:
		return 0, false, malformed("a record of more than %d bytes", MaxRecord)
	}
	return len(magic) + size + int(body), false, nil
}

// MaxHead is how many bytes of a record tell its length.
const MaxHead = len(magic) + binary.MaxVarintLen64

// Parse reads the record of an entry by author. What it returns shares no memory with b. It
// returns ErrMalformed, also for a record that is not in the one form that Append gives it.
func Parse(b []byte, author replica.AuthorID) (*Record, error) {
	if len(b) > MaxRecord {
		return nil, malformed("%d bytes, at most %d", len(b), MaxRecord)
	}
	p := parser{b: b}
	r := p.record(TagOf(author))
	if p.err == nil && len(p.b) > 0 {
		p.fail("%d bytes too many", len(p.b))
	}
	if p.err != nil {
		return nil, p.err
	}
	return r, r.check()
}

// parser reads parts of a record. After an error, all that it reads is zero.
type parser struct {
	b   []byte
	err error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = malformed(format, args...)
	}
	p.b = nil
}

func (p *parser) bytes(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.fail("cut short")
		return make([]byte, min(n, 64)) // no part that is read at once is longer
	}
	out := p.b[:n:n]
	p.b = p.b[n:]
	return out
}

func (p *parser) byte() byte { return p.bytes(1)[0] }

func (p *parser) number() uint64 {
	n, size := binary.Uvarint(p.b)
	if size <= 0 || size > 1 && p.b[size-1] == 0 {
		p.fail("a number that is cut short, or not in its shortest form")
		return 0
	}
	p.b = p.b[size:]
	return n
}

// count reads how many things follow: at most so many, each of at least size bytes.
func (p *parser) count(what string, most, size int) int {
	n := p.number()
	if n > uint64(most) || n*uint64(size) > uint64(len(p.b)) {
		p.fail("%d %s", n, what)
		return 0
	}
	return int(n)
}

func (p *parser) record(author AuthorTag) *Record {
	if string(p.bytes(uint64(len(magic)))) != magic {
		p.fail("it does not begin with %q", magic)
	}
	if n := p.number(); p.err == nil && n != uint64(len(p.b)) {
		p.fail("%d bytes, and its length says %d", len(p.b), n)
	}
	f := p.byte()
	if f&^byte(allFlags) != 0 {
		p.fail("unknown flags %#x", f)
	}
	r := &Record{Kind: Kind(f & 3), Generation: p.byte(), Cut: f&flagCut != 0}
	r.Dot.Device = Device{author, Incarnation(p.bytes(8))}
	r.Dot.Counter, r.Height, r.Schema = p.number(), p.number(), p.number()
	own := Dot{r.Dot.Device, p.number()}
	n := p.count("devices", MaxDevices, 25)
	devices := make([]Device, 1, n+1)
	devices[0] = r.Dot.Device
	if n > 0 || own.Counter > 0 {
		r.Context = make(Vector, 0, n+1)
	}
	for range n {
		d := Dot{Device{AuthorTag(p.bytes(16)), Incarnation(p.bytes(8))}, p.number()}
		if d.Device == r.Dot.Device {
			p.fail("the record's device is among the others")
		}
		devices = append(devices, d.Device)
		r.Context = append(r.Context, d)
	}
	if own.Counter > 0 {
		at, _ := r.Context.find(own.Device) // if it is not in order, it is refused later
		r.Context = slices.Insert(r.Context, at, own)
	}
	dot := func() Dot {
		at := p.number()
		if at >= uint64(len(devices)) {
			p.fail("device %d of %d", at, len(devices))
			at = 0
		}
		return Dot{devices[at], p.number()}
	}
	for range p.count("resolved heads", MaxResolved, 2) {
		r.Resolved = append(r.Resolved, dot())
	}
	if r.Kind != Deletion {
		r.Content = Content{p.number(), Hash(p.bytes(32))}
	}
	for range p.count("ancestors", MaxAncestors, 21) {
		a := Ancestor{Dot: dot(), Height: p.number(), Time: p.number()}
		a.Hash = ShortHash(p.bytes(16))
		if kept := p.number(); kept > 0 {
			a.Kept, a.Size = true, kept-1
		}
		r.Ancestors = append(r.Ancestors, a)
	}
	if f&flagBatch != 0 {
		r.Batch = p.batch(r.Dot.Counter)
	}
	return r
}

func (p *parser) batch(counter uint64) *Batch {
	back := p.number()
	if back >= counter {
		p.fail("a batch that begins %d before version %d", back, counter)
		return nil
	}
	return &Batch{counter - back, p.number()}
}

// String describes a version for logs.
func (r *Record) String() string {
	return fmt.Sprintf("%s %s over %v", r.Kind, r.Dot, []Dot(r.Context))
}

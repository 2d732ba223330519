package record

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

const acknowledgementMagic = "skerry device 1\n"

// MaxName is the most bytes of a device's name.
const MaxName = 64

// Acknowledgement says what a device has seen, and what it is called.
type Acknowledgement struct {
	Incarnation Incarnation
	// Name is for people; empty if the device has none.
	Name string
	// Seen are the versions of other devices that the device has seen. It says the greatest counter
	// of each device: some with smaller ones may not have come.
	Seen Vector
}

// Append appends the bytes of an acknowledgement:
//
//	"skerry device 1\n"  16 bytes
//	incarnation          8 bytes
//	name                 length, UTF-8 of at most 64 bytes
//	seen                 count; each: author tag 16 bytes, incarnation 8 bytes, counter; ascending
//
// Numbers are unsigned varints in their shortest form. It returns ErrMalformed for one that
// ParseAcknowledgement would not read.
func (a *Acknowledgement) Append(b []byte) ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	b = append(append(b, acknowledgementMagic...), a.Incarnation[:]...)
	b = append(appendNumbers(b, uint64(len(a.Name))), a.Name...)
	b = appendNumbers(b, uint64(len(a.Seen)))
	for _, d := range a.Seen {
		b = append(append(b, d.Device.Author[:]...), d.Device.Incarnation[:]...)
		b = appendNumbers(b, d.Counter)
	}
	return b, nil
}

// ParseAcknowledgement reads what Append wrote, or returns ErrMalformed.
func ParseAcknowledgement(b []byte) (a Acknowledgement, err error) {
	p := parser{b: b}
	if string(p.bytes(uint64(len(acknowledgementMagic)))) != acknowledgementMagic {
		p.fail("it does not begin with %q", acknowledgementMagic)
	}
	a.Incarnation = Incarnation(p.bytes(8))
	a.Name = string(p.bytes(uint64(p.count("bytes of a name", MaxName, 1))))
	for range p.count("devices", MaxDevices, 25) {
		a.Seen = append(a.Seen,
			Dot{Device{AuthorTag(p.bytes(16)), Incarnation(p.bytes(8))}, p.number()})
	}
	if p.err == nil && len(p.b) > 0 {
		p.fail("%d bytes too many", len(p.b))
	}
	if p.err == nil {
		p.err = a.check()
	}
	if p.err != nil {
		return Acknowledgement{}, fmt.Errorf("acknowledgement: %w", p.err)
	}
	return a, nil
}

func (a *Acknowledgement) check() error {
	switch {
	case len(a.Name) > MaxName || !utf8.ValidString(a.Name):
		return malformed("a name of %d bytes that is too long, or not UTF-8", len(a.Name))
	case len(a.Seen) > MaxDevices:
		return malformed("%d devices, at most %d", len(a.Seen), MaxDevices)
	case !slices.IsSortedFunc(a.Seen, func(x, y Dot) int {
		return x.Device.Compare(y.Device)
	}):
		return malformed("devices that are not in order")
	}
	for i, d := range a.Seen {
		if d.Counter == 0 || d.Counter > MaxCounter || i > 0 && d.Device == a.Seen[i-1].Device {
			return malformed("counter %d of a device that is there twice, or not a counter", d.Counter)
		}
	}
	return nil
}

package project

import (
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/skerry-sync/skerry/internal/kind"
)

// MaxEncoded is the length of the longest message in bytes.
const MaxEncoded = 64 << 10

// ErrMalformed reports bytes that are not a message of their type.
var ErrMalformed = kind.New(kind.Verification, "malformed")

// fields appends the fields of a message in ascending order, leaving out those with the value that
// proto3 takes for granted.
type fields []byte

func (f *fields) text(n protowire.Number, s string) {
	if s != "" {
		*f = protowire.AppendString(protowire.AppendTag(*f, n, protowire.BytesType), s)
	}
}

func (f *fields) bytes(n protowire.Number, b []byte) {
	if len(b) > 0 {
		*f = protowire.AppendBytes(protowire.AppendTag(*f, n, protowire.BytesType), b)
	}
}

func (f *fields) number(n protowire.Number, x uint64) {
	if x != 0 {
		*f = protowire.AppendVarint(protowire.AppendTag(*f, n, protowire.VarintType), x)
	}
}

func (f *fields) time(n protowire.Number, t time.Time) {
	if !t.IsZero() {
		f.number(n, uint64(t.Unix()))
	}
}

// field is one of a message that is being read.
type field struct {
	number protowire.Number
	kind   protowire.Type
	value  []byte
}

// text returns the value of a field of type string; the error is kept for parse.
func (f *field) text() (string, error) {
	b, err := f.bytes()
	if err == nil && !utf8.Valid(b) {
		err = fmt.Errorf("field %d is not UTF-8", f.number)
	}
	return string(b), err
}

func (f *field) bytes() ([]byte, error) {
	if f.kind != protowire.BytesType {
		return nil, fmt.Errorf("field %d has another type", f.number)
	}
	b, n := protowire.ConsumeBytes(f.value)
	if n < 0 {
		return nil, protowire.ParseError(n)
	}
	return append([]byte(nil), b...), nil
}

func (f *field) uint() (uint64, error) {
	if f.kind != protowire.VarintType {
		return 0, fmt.Errorf("field %d has another type", f.number)
	}
	x, n := protowire.ConsumeVarint(f.value)
	if n < 0 {
		return 0, protowire.ParseError(n)
	}
	return x, nil
}

// seconds returns a time, at most as far from 1970 as that is from the birth of the first star.
func (f *field) seconds() (time.Time, error) {
	x, err := f.uint()
	if err == nil && x > 1<<40 {
		err = fmt.Errorf("field %d is no time", f.number)
	}
	return time.Unix(int64(x), 0).UTC(), err
}

// parse calls take for each field of b, and returns those that it does not know, for the message to
// be written again with them. take reports whether it knows the field.
func parse(b []byte, take func(f *field) (known bool, err error)) (unknown []byte, err error) {
	if len(b) > MaxEncoded {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(b), MaxEncoded)
	}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
		}
		m := protowire.ConsumeFieldValue(number, kind, b[n:])
		if m < 0 {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(m))
		}
		known, err := take(&field{number, kind, b[n : n+m]})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if !known {
			unknown = append(unknown, b[:n+m]...)
		}
		b = b[n+m:]
	}
	return unknown, nil
}

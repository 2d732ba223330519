package blobs

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A Range is the bytes, groups or other positions Start <= i < End.
type Range struct{ Start, End uint64 }

// Ranges is a set of positions: ascending ranges that are neither empty nor overlap nor touch. Its
// zero value is the empty set. Functions of this package that take byte ranges round them outwards
// to chunk groups.
type Ranges []Range

// Everything is the set of all positions.
var Everything = Ranges{{0, maxPosition}}

// maxPosition bounds positions, so that sums of two never overflow.
const maxPosition = 1 << 62

// MaxWireRanges is how many ranges an encoded set may have.
const MaxWireRanges = 4096

// NewRanges returns the union of rs, which may be in any order, overlap or be empty.
func NewRanges(rs ...Range) Ranges {
	rs = slices.DeleteFunc(slices.Clone(rs), func(r Range) bool { return r.Start >= r.End })
	slices.SortFunc(rs, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	var out Ranges
	for _, r := range rs {
		if n := len(out); n > 0 && r.Start <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Union returns the positions in a or b.
func (a Ranges) Union(b Ranges) Ranges { return NewRanges(append(slices.Clone(a), b...)...) }

// Intersect returns the positions in both a and b.
func (a Ranges) Intersect(b Ranges) Ranges {
	var out Ranges
	for i, j := 0, 0; i < len(a) && j < len(b); {
		r := Range{max(a[i].Start, b[j].Start), min(a[i].End, b[j].End)}
		if r.Start < r.End {
			out = append(out, r)
		}
		if a[i].End < b[j].End {
			i++
		} else {
			j++
		}
	}
	return out
}

// Without returns the positions in a but not in b.
func (a Ranges) Without(b Ranges) Ranges {
	var holes Ranges
	at := uint64(0)
	for _, r := range b {
		if at < r.Start {
			holes = append(holes, Range{at, r.Start})
		}
		at = r.End
	}
	if at < maxPosition {
		holes = append(holes, Range{at, maxPosition})
	}
	return a.Intersect(holes)
}

// Overlaps reports whether any position of r is in the set.
func (a Ranges) Overlaps(r Range) bool {
	i, _ := slices.BinarySearchFunc(a, r.Start, func(x Range, at uint64) int {
		if x.End <= at {
			return -1
		}
		return 1
	})
	return i < len(a) && a[i].Start < r.End && r.Start < r.End
}

// Count returns the number of positions in the set.
func (a Ranges) Count() (n uint64) {
	for _, r := range a {
		n += r.End - r.Start
	}
	return n
}

// First returns the n lowest positions in the set, or all, if it has fewer.
func (a Ranges) First(n uint64) Ranges {
	var out Ranges
	for _, r := range a {
		if n == 0 {
			break
		}
		r.End = r.Start + min(n, r.End-r.Start)
		out = append(out, r)
		n -= r.End - r.Start
	}
	return out
}

// Align rounds byte ranges outwards to chunk groups.
func (a Ranges) Align() Ranges {
	var out []Range
	for _, r := range a {
		r.Start = r.Start / GroupSize * GroupSize
		if r.End < maxPosition {
			r.End = (r.End + GroupSize - 1) / GroupSize * GroupSize
		}
		out = append(out, r)
	}
	return NewRanges(out...)
}

// groupsOf rounds byte ranges of a blob of size bytes outwards to its chunk groups. A blob of no
// bytes has one empty group, which every set that contains position 0 selects.
func (a Ranges) groupsOf(size uint64) Ranges {
	var out []Range
	for _, r := range a.Intersect(Ranges{{0, max(size, 1)}}) {
		out = append(out, Range{r.Start / GroupSize, (r.End + GroupSize - 1) / GroupSize})
	}
	return NewRanges(out...)
}

// bytesOf turns group ranges of a blob of size bytes into byte ranges.
func (a Ranges) bytesOf(size uint64) Ranges {
	var out Ranges
	for _, r := range a {
		if b := (Range{r.Start * GroupSize, min(r.End*GroupSize, size)}); b.Start < b.End {
			out = append(out, b)
		}
	}
	return out
}

// AppendBinary appends the wire form of a: the number of ranges, then for each the gap since the
// previous end and the length, all as varints. A length of 0 means "without end" and is the last.
func (a Ranges) AppendBinary(b []byte) ([]byte, error) {
	if len(a) > MaxWireRanges {
		return nil, fmt.Errorf("%d ranges: at most %d can be sent", len(a), MaxWireRanges)
	}
	b = binary.AppendUvarint(b, uint64(len(a)))
	at := uint64(0)
	for _, r := range a {
		b = binary.AppendUvarint(b, r.Start-at)
		if r.End == maxPosition {
			b = binary.AppendUvarint(b, 0)
		} else {
			b = binary.AppendUvarint(b, r.End-r.Start)
		}
		at = r.End
	}
	return b, nil
}

// ErrBadRanges reports the wire form of ranges that is malformed, or not the one AppendBinary
// makes.
var ErrBadRanges = errors.New("malformed ranges")

// ReadRanges reads the wire form.
func ReadRanges(r interface{ ReadByte() (byte, error) }) (Ranges, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRanges, err)
	}
	if n > MaxWireRanges {
		return nil, fmt.Errorf("%w: %d ranges, at most %d", ErrBadRanges, n, MaxWireRanges)
	}
	var out Ranges
	at := uint64(0)
	for i := range n {
		gap, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadRanges, err)
		}
		length, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadRanges, err)
		}
		if i > 0 && gap == 0 || gap >= maxPosition-at {
			return nil, fmt.Errorf("%w: range %d is out of order", ErrBadRanges, i)
		}
		x := Range{Start: at + gap, End: maxPosition}
		switch {
		case length == 0 && i != n-1:
			return nil, fmt.Errorf("%w: range %d has no end but is not the last", ErrBadRanges, i)
		case length >= maxPosition-x.Start:
			return nil, fmt.Errorf("%w: range %d is too long", ErrBadRanges, i)
		case length > 0:
			x.End = x.Start + length
		}
		out = append(out, x)
		at = x.End
	}
	return out, nil
}

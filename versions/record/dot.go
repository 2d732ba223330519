package record

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/replica"
)

// Device names a place that writes versions: an author, and the time that it has spent with one
// state of its data directory. Nobody can make versions of another device: a record does not say
// its author, the signed entry does, and to find a key pair whose public key begins as another's
// takes 2^128 tries.
type Device struct {
	Author      AuthorTag
	Incarnation Incarnation
}

// AuthorTag is the first half of an author's public key.
type AuthorTag [16]byte

// Incarnation is random. A device takes a new one when it first writes, and when its counter may
// have been used elsewhere, since its directory was copied or is an old one.
type Incarnation [8]byte

// TagOf returns the tag of an author.
func TagOf(a replica.AuthorID) AuthorTag { return AuthorTag(a[:16]) }

// Compare orders devices by their bytes.
func (d Device) Compare(o Device) int {
	return cmp.Or(bytes.Compare(d.Author[:], o.Author[:]),
		bytes.Compare(d.Incarnation[:], o.Incarnation[:]))
}

// String returns the beginning of both parts in hex.
func (d Device) String() string {
	return hex.EncodeToString(d.Author[:4]) + "." + hex.EncodeToString(d.Incarnation[:4])
}

// Dot names one version: the counter-th that a device has written in a replica, from 1.
type Dot struct {
	Device  Device
	Counter uint64
}

// Compare orders dots by device, then counter.
func (d Dot) Compare(o Dot) int {
	return cmp.Or(d.Device.Compare(o.Device), cmp.Compare(d.Counter, o.Counter))
}

// String returns the device and the counter.
func (d Dot) String() string { return fmt.Sprintf("%s:%d", d.Device, d.Counter) }

// Vector is a set of versions of one item: of each device, those up to a counter. It is sorted by
// device, and has one dot of each; no counter is 0.
type Vector []Dot

func (v Vector) find(d Device) (at int, found bool) {
	return slices.BinarySearchFunc(v, d, func(x Dot, d Device) int { return x.Device.Compare(d) })
}

// Of returns the greatest counter of a device, 0 for none.
func (v Vector) Of(d Device) uint64 {
	if at, ok := v.find(d); ok {
		return v[at].Counter
	}
	return 0
}

// Covers reports whether a version is in the set.
func (v Vector) Covers(d Dot) bool { return d.Counter != 0 && d.Counter <= v.Of(d.Device) }

// CoversAll reports whether all versions of o are in the set.
func (v Vector) CoversAll(o Vector) bool {
	return !slices.ContainsFunc(o, func(d Dot) bool { return !v.Covers(d) })
}

// Meets reports whether the two sets have a version in common.
func (v Vector) Meets(o Vector) bool {
	for len(v) > 0 && len(o) > 0 {
		switch c := v[0].Device.Compare(o[0].Device); {
		case c == 0:
			return true
		case c < 0:
			v = v[1:]
		default:
			o = o[1:]
		}
	}
	return false
}

// With returns the set with a version, and all of its device before it, added. v may be changed.
func (v Vector) With(d Dot) Vector {
	at, ok := v.find(d.Device)
	switch {
	case !ok:
		return slices.Insert(v, at, d)
	case v[at].Counter < d.Counter:
		v[at] = d
	}
	return v
}

// Union returns what is in one of two sets.
func (v Vector) Union(o Vector) Vector {
	if len(v) == 0 {
		return slices.Clone(o)
	}
	out := make(Vector, 0, len(v)+len(o))
	for len(v) > 0 && len(o) > 0 {
		switch c := v[0].Device.Compare(o[0].Device); {
		case c < 0:
			out, v = append(out, v[0]), v[1:]
		case c > 0:
			out, o = append(out, o[0]), o[1:]
		default:
			d := v[0]
			d.Counter = max(d.Counter, o[0].Counter)
			out, v, o = append(out, d), v[1:], o[1:]
		}
	}
	return append(append(out, v...), o...)
}

// perAuthor is how many incarnations of one author a vector keeps.
const perAuthor = 16

// Bounded returns the set without what no device needs, so that one author cannot make it grow
// without end by ever new incarnations: of each author, it keeps the device keep, and others up to
// perAuthor in all. A replica has one slot for each author of a key, so what is taken out can
// bring back nothing but an older version of the same author, at nodes that have not met the newer.
func (v Vector) Bounded(keep Device) Vector {
	out := make(Vector, 0, len(v))
	for at := 0; at < len(v); {
		end := at
		for end < len(v) && v[end].Device.Author == v[at].Device.Author {
			end++
		}
		room := perAuthor
		if v[at:end].Of(keep) > 0 {
			room--
		}
		for _, d := range v[at:end] {
			switch {
			case d.Device == keep:
				out = append(out, d)
			case room > 0:
				out, room = append(out, d), room-1
			}
		}
		at = end
	}
	return out
}

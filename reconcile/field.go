package reconcile

import (
	"encoding/binary"
)

// gf is an element of the field of 2^128 elements: polynomials over GF(2) modulo x^128 + x^7 + x^2
// + x + 1. Bit i of lo is the coefficient of x^i, that of hi of x^(64+i). The polynomial is that of
// GCM (NIST SP 800-38D), without its reversal of bits. Addition is XOR. Nothing here is secret, so
// nothing takes care to run in constant time.
type gf struct{ lo, hi uint64 }

func gfFrom(e Element) gf {
	return gf{binary.BigEndian.Uint64(e[8:]), binary.BigEndian.Uint64(e[:])}
}

func (a gf) element() (e Element) {
	binary.BigEndian.PutUint64(e[:], a.hi)
	binary.BigEndian.PutUint64(e[8:], a.lo)
	return e
}

func (a gf) plus(b gf) gf { return gf{a.lo ^ b.lo, a.hi ^ b.hi} }

func (a gf) isZero() bool { return a.lo|a.hi == 0 }

// double is a times x.
func (a gf) double() gf {
	return gf{a.lo<<1 ^ (a.hi>>63)*0x87, a.hi<<1 | a.lo>>63}
}

// gfTable holds the products of one element and all polynomials of degree below 4.
type gfTable [16]gf

func (a gf) table() (t gfTable) {
	t[1] = a
	for i := 2; i < 16; i += 2 {
		t[i] = t[i/2].double()
		t[i+1] = t[i].plus(a)
	}
	return t
}

// times is the product of b and the element of the table, four bits of b at a time.
func (t *gfTable) times(b gf) gf {
	r := t[b.hi>>60]
	for shift := 56; shift >= 0; shift -= 4 {
		r = r.times16().plus(t[b.hi>>shift&15])
	}
	for shift := 60; shift >= 0; shift -= 4 {
		r = r.times16().plus(t[b.lo>>shift&15])
	}
	return r
}

// times16 is a times x^4.
func (a gf) times16() gf {
	o := a.hi >> 60
	return gf{a.lo<<4 ^ o ^ o<<1 ^ o<<2 ^ o<<7, a.hi<<4 | a.lo>>60}
}

func (a gf) times(b gf) gf {
	t := a.table()
	return t.times(b)
}

// spread puts a zero bit above each bit of x.
func spread(x uint32) uint64 {
	v := uint64(x)
	v = (v | v<<16) & 0x0000ffff0000ffff
	v = (v | v<<8) & 0x00ff00ff00ff00ff
	v = (v | v<<4) & 0x0f0f0f0f0f0f0f0f
	v = (v | v<<2) & 0x3333333333333333
	return (v | v<<1) & 0x5555555555555555
}

func (a gf) squared() gf {
	r0, r1 := spread(uint32(a.lo)), spread(uint32(a.lo>>32))
	h0, h1 := spread(uint32(a.hi)), spread(uint32(a.hi>>32))
	// x^128 is x^7 + x^2 + x + 1, so the upper half h is folded in by shifts; what they push over the
	// top is folded in again.
	over := h1>>63 ^ h1>>62 ^ h1>>57
	r0 ^= h0 ^ h0<<1 ^ h0<<2 ^ h0<<7
	r1 ^= h1 ^ (h1<<1 | h0>>63) ^ (h1<<2 | h0>>62) ^ (h1<<7 | h0>>57)
	return gf{r0 ^ over ^ over<<1 ^ over<<2 ^ over<<7, r1}
}

// inverse is 1/a, or 0 for 0: a to the power 2^128-2.
func (a gf) inverse() gf {
	// u is a to the power 2^n - 1; n grows 1, 2, 3, 6, 7, 14, 15, …, 127.
	u, n := a, 1
	for n < 127 {
		v := u
		for range n {
			v = v.squared()
		}
		u, n = u.times(v), 2*n
		u, n = u.squared().times(a), n+1
	}
	return u.squared()
}

package reconcile

import (
	"encoding/binary"
	"math/rand/v2"
)

// Element stands for an item in a sketch: 16 bytes, not all zero, that differ for all items of a
// set, and by which its owner finds the item again.
type Element [16]byte

// capacity is the number of power sums that a sketch has. One less is the number of differences
// that it can show: the last one tells a right answer from chance, with a probability of 2^-128.
const capacity = 8

// Sketch is the sums of the odd powers 1, 3, …, 15 of a set's elements in the field of 2^128
// elements. The sum of two sketches is that of the elements that are in one set and not in the
// other, and as long as these are few, they follow from it: it is the syndrome of a binary BCH code
// (PinSketch; Dodis, Ostrovsky, Reyzin, Smith: "Fuzzy Extractors", SIAM J. Comput. 38, 2008,
// section 6.3).
//
// A sketch resists no one who chooses elements: sets with equal sketches are a matter of linear
// algebra. It may only suggest what differs; whether sets are equal is for their summaries to say.
type Sketch [capacity]gf

// toggle adds an element, or takes it out again.
func (s *Sketch) toggle(e Element) {
	a := gfFrom(e)
	a2 := a.squared()
	t := a2.squared().table() // two chains of products, which a processor can work on side by side
	x, y := a, a.times(a2)
	s[0], s[1] = s[0].plus(x), s[1].plus(y)
	for i := 2; i < capacity; i += 2 {
		x, y = t.times(x), t.times(y)
		s[i], s[i+1] = s[i].plus(x), s[i+1].plus(y)
	}
}

func (s *Sketch) merge(o *Sketch) {
	for i := range s {
		s[i] = s[i].plus(o[i])
	}
}

const sketchSumSize = 16

func (s *Sketch) appendSums(b []byte, n int) []byte {
	for _, x := range s[:n] {
		b = binary.LittleEndian.AppendUint64(b, x.lo)
		b = binary.LittleEndian.AppendUint64(b, x.hi)
	}
	return b
}

// setSums reads what appendSums wrote: the first len(b)/16 sums.
func (s *Sketch) setSums(b []byte) {
	for i := range len(b) / sketchSumSize {
		s[i] = gf{binary.LittleEndian.Uint64(b[16*i:]), binary.LittleEndian.Uint64(b[16*i+8:])}
	}
}

// decode returns the elements of a set, of which there must be fewer than n, from the first n sums.
// ok is false if there are more, or if the sums are those of no set.
func (s *Sketch) decode(n int) (elements []Element, ok bool) {
	// The sums of even powers are squares.
	sums := make([]gf, 2*n)
	for i := range sums {
		if p := i + 1; p%2 == 1 {
			sums[i] = s[p/2]
		} else {
			sums[i] = sums[p/2-1].squared()
		}
	}
	locator := massey(sums)
	d := len(locator) - 1
	if d >= n {
		return nil, false
	}
	// The locator is the product of 1 - e·z; reversed, its roots are the elements.
	p := make(poly, d+1)
	for i, c := range locator {
		p[d-i] = c
	}
	if p[0].isZero() {
		return nil, false
	}
	roots, ok := p.roots()
	if !ok {
		return nil, false
	}
	var again Sketch
	for _, r := range roots {
		e := r.element()
		again.toggle(e)
		elements = append(elements, e)
	}
	for i := range n {
		if again[i] != s[i] {
			return nil, false
		}
	}
	return elements, true
}

// massey returns the shortest linear recurrence of the sums, constant term 1 first (Massey,
// "Shift-register synthesis and BCH decoding", 1969).
func massey(sums []gf) poly {
	c, b := poly{{lo: 1}}, poly{{lo: 1}}
	length, shift, last := 0, 1, gf{lo: 1}
	for i := range sums {
		d := sums[i]
		for j := 1; j <= length && j < len(c); j++ {
			d = d.plus(c[j].times(sums[i-j]))
		}
		if d.isZero() {
			shift++
			continue
		}
		f := d.times(last.inverse())
		next := make(poly, max(len(c), len(b)+shift))
		copy(next, c)
		t := f.table()
		for j, x := range b {
			next[j+shift] = next[j+shift].plus(t.times(x))
		}
		if 2*length <= i {
			length, b, last, shift = i+1-length, c, d, 1
		} else {
			shift++
		}
		c = next
	}
	for len(c) > 1 && c[len(c)-1].isZero() {
		c = c[:len(c)-1]
	}
	if len(c)-1 != length {
		return make(poly, len(sums)+1) // not the sums of a set: too long for anybody
	}
	return c
}

// poly is a polynomial, the constant term first.
type poly []gf

// roots returns the roots of p, which must be monic, by Berlekamp's trace algorithm (Berlekamp,
// "Factoring polynomials over large finite fields", 1970). ok is false unless p is a product of
// different linear factors.
func (p poly) roots() (roots []gf, ok bool) {
	if len(p) == 1 {
		return nil, true
	}
	if len(p) > 2 {
		// x^(2^128) - x is the product of all linear factors.
		m := newModulus(p)
		x := make(poly, len(p)-1)
		x[1] = gf{lo: 1}
		y := x
		for range 128 {
			y = m.square(y)
		}
		for i := range y {
			if y[i] != x[i] {
				return nil, false
			}
		}
	}
	return p.split(nil)
}

func (p poly) split(roots []gf) ([]gf, bool) {
	if len(p) == 2 {
		return append(roots, p[0]), true
	}
	m := newModulus(p)
	const tries = 64 // each fails with a probability of at most one half
	for range tries {
		// The trace of b·z is 0 for one half of all z and 1 for the other.
		term := make(poly, len(p)-1)
		term[1] = gf{rand.Uint64(), rand.Uint64()}
		trace := make(poly, len(p)-1)
		for range 128 {
			for i := range trace {
				trace[i] = trace[i].plus(term[i])
			}
			term = m.square(term)
		}
		g := gcd(p, trace)
		if len(g) <= 1 || len(g) == len(p) {
			continue
		}
		roots, ok := g.split(roots)
		if !ok {
			return nil, false
		}
		return p.over(g).split(roots)
	}
	return nil, false
}

// modulus is a monic polynomial with tables of its coefficients.
type modulus []gfTable

func newModulus(p poly) modulus {
	m := make(modulus, len(p)-1)
	for i := range m {
		m[i] = p[i].table()
	}
	return m
}

// square is a squared modulo m; a has as many terms as m.
func (m modulus) square(a poly) poly {
	n := len(m)
	r := make(poly, 2*n)
	for i, c := range a {
		r[2*i] = c.squared()
	}
	for i := 2*n - 1; i >= n; i-- {
		if r[i].isZero() {
			continue
		}
		for j := range m {
			r[i-n+j] = r[i-n+j].plus(m[j].times(r[i]))
		}
	}
	return r[:n]
}

func (p poly) trim() poly {
	for len(p) > 0 && p[len(p)-1].isZero() {
		p = p[:len(p)-1]
	}
	return p
}

// rem returns p modulo q, which is not zero, and the quotient.
func (p poly) rem(q poly) (quotient, rest poly) {
	rest = append(poly(nil), p...)
	if len(p) < len(q) {
		return nil, rest.trim()
	}
	inv := q[len(q)-1].inverse()
	quotient = make(poly, len(p)-len(q)+1)
	for i := len(quotient) - 1; i >= 0; i-- {
		f := rest[i+len(q)-1].times(inv)
		quotient[i] = f
		if f.isZero() {
			continue
		}
		t := f.table()
		for j, c := range q {
			rest[i+j] = rest[i+j].plus(t.times(c))
		}
	}
	return quotient, rest.trim()
}

// gcd returns the monic greatest common divisor; p is not zero.
func gcd(p, q poly) poly {
	p, q = p.trim(), q.trim()
	for len(q) > 0 {
		_, r := p.rem(q)
		p, q = q, r
	}
	inv := p[len(p)-1].inverse().table()
	monic := make(poly, len(p))
	for i := range p {
		monic[i] = inv.times(p[i])
	}
	return monic
}

// over is p divided by q, which divides it.
func (p poly) over(q poly) poly {
	quotient, _ := p.rem(q)
	return quotient
}

package eth

import (
	"fmt"
	"math/big"
	"sync"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// Recoverer tells whether signatures are of the addresses that they are said to be of, and does so
// in less than half of the time for those that come again and again: of their public keys it keeps
// multiples, by which a signature is verified instead of recovering the key from it. The result is
// the same. The zero value is ready; its methods may be called by several goroutines at once.
type Recoverer struct {
	mu      sync.Mutex
	tables  map[Address]*signer
	oldest  *signer // of those with tables, in a ring in which the latest used comes last
	counted map[Address]int
}

const (
	maxTables  = 192     // of about tableSize bytes each
	maxCounted = 1 << 14 // signers that have none
	// signatures after which a signer is given a table, which costs as much as to recover its key so
	// often
	worthIt = 8
)

// signer is one with a table.
type signer struct {
	address    Address
	table      *multiples
	next, prev *signer
}

// Verify returns ErrBadSignature unless the holder of an address has signed a digest, by the rules
// of Recover.
func (r *Recoverer) Verify(digest [32]byte, sig Signature, a Address) error {
	if t := r.tableOf(a); t != nil {
		return t.verify(digest, sig, a)
	}
	k, err := recoverKey(digest, sig)
	if err != nil {
		return err
	}
	if got := addressOf(k); got != a {
		return fmt.Errorf("%w: it is of %s, not of %s", ErrBadSignature, got, a)
	}
	r.count(a, k)
	return nil
}

func (r *Recoverer) tableOf(a Address) *multiples {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.tables[a]
	if s == nil {
		return nil
	}
	if s == r.oldest {
		r.oldest = s.next
	} else {
		s.unlink()
		s.linkBefore(r.oldest)
	}
	return s.table
}

func (s *signer) unlink() { s.prev.next, s.next.prev = s.next, s.prev }

func (s *signer) linkBefore(next *signer) {
	s.prev, s.next = next.prev, next
	s.prev.next, s.next.prev = s, s
}

// count notes a right signature, and makes a table if the signer has come often.
func (r *Recoverer) count(a Address, k *secp256k1.PublicKey) {
	r.mu.Lock()
	if r.counted == nil {
		r.counted = map[Address]int{}
	}
	for old := range r.counted {
		if len(r.counted) < maxCounted {
			break
		}
		delete(r.counted, old)
	}
	r.counted[a]++
	often := r.counted[a] >= worthIt
	if often {
		delete(r.counted, a) // others that come meanwhile do not make it, too
	}
	r.mu.Unlock()
	if !often {
		return
	}
	s := &signer{address: a, table: newMultiples(k)}
	s.next, s.prev = s, s
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tables == nil {
		r.tables = map[Address]*signer{}
	}
	if r.tables[a] != nil {
		return
	}
	if len(r.tables) >= maxTables {
		old := r.oldest
		r.oldest = old.next
		old.unlink()
		delete(r.tables, old.address)
	}
	if r.tables[a] = s; len(r.tables) == 1 {
		r.oldest = s
		return
	}
	s.linkBefore(r.oldest)
}

// Multiples of a point: for each of windows digits of a number in base 32, which are taken from -15
// to 16, the multiples 1 to 16 of the digit's place.
const (
	windowBits = 5
	windows    = 52 // of 260 bits: a carry comes out of the 256
	perWindow  = 1 << (windowBits - 1)
	tableSize  = windows * perWindow * 80
)

// affine is a point that is not the one at infinity.
type affine struct{ x, y secp256k1.FieldVal }

type multiples struct{ of [windows][perWindow]affine }

// newMultiples computes the table of a public key.
func newMultiples(k *secp256k1.PublicKey) *multiples {
	all := make([]secp256k1.JacobianPoint, windows*perWindow)
	var base secp256k1.JacobianPoint
	k.AsJacobian(&base)
	for w := range windows {
		row := all[w*perWindow:][:perWindow]
		row[0].Set(&base)
		for j := 1; j < perWindow; j++ {
			secp256k1.AddNonConst(&row[j-1], &base, &row[j])
		}
		secp256k1.DoubleNonConst(&row[perWindow-1], &base)
	}
	// All are made affine with one inversion (Montgomery's trick): none is at infinity, as the order
	// is a prime greater than any multiple of a place.
	products := make([]secp256k1.FieldVal, len(all))
	var product secp256k1.FieldVal
	product.SetInt(1)
	for i := range all {
		products[i].Set(&product)
		product.Mul(all[i].Z.Normalize())
	}
	product.Inverse()
	m := &multiples{}
	for i := len(all) - 1; i >= 0; i-- {
		p := &all[i]
		var z, zz secp256k1.FieldVal
		z.Mul2(&product, &products[i]) // 1/Z
		product.Mul(&p.Z)
		zz.SquareVal(&z)
		to := &m.of[i/perWindow][i%perWindow]
		to.x.Mul2(&p.X, &zz).Normalize()
		to.y.Mul2(&p.Y, zz.Mul(&z)).Normalize()
	}
	return m
}

// addMul adds a multiple of the point to sum.
func (m *multiples) addMul(k *secp256k1.ModNScalar, sum *secp256k1.JacobianPoint) {
	b := k.Bytes()
	var p secp256k1.JacobianPoint
	p.Z.SetInt(1)
	carry := 0
	for w := range windows {
		at := w * windowBits
		i := 31 - at/8
		bits := int(0)
		if i >= 0 {
			bits = int(b[i]) >> (at % 8)
			if i > 0 {
				bits |= int(b[i-1]) << (8 - at%8)
			}
		}
		d := bits&(1<<windowBits-1) + carry
		carry = 0
		if d > perWindow {
			d -= 1 << windowBits
			carry = 1
		}
		if d == 0 {
			continue
		}
		from := &m.of[w][max(d, -d)-1]
		p.X.Set(&from.x)
		if d > 0 {
			p.Y.Set(&from.y)
		} else {
			p.Y.NegateVal(&from.y, 1).Normalize()
		}
		secp256k1.AddNonConst(sum, &p, sum)
	}
}

// verify returns ErrBadSignature unless the point's holder has signed a digest. It checks what
// Recover does: the point R = (e/s)G + (r/s)Q, of which a signature has x and whether y is odd, is
// the one of this Q alone.
func (m *multiples) verify(digest [32]byte, sig Signature, a Address) error {
	r, s, odd, err := parts(sig)
	if err != nil {
		return err
	}
	var e, w secp256k1.ModNScalar
	e.SetByteSlice(digest[:])
	w.InverseValNonConst(&s)
	var u1, u2 secp256k1.ModNScalar
	u1.Mul2(&e, &w)
	u2.Mul2(&r, &w)
	var R secp256k1.JacobianPoint
	secp256k1.ScalarBaseMultNonConst(&u1, &R)
	m.addMul(&u2, &R)
	bad := func() error { return fmt.Errorf("%w: it is not of %s", ErrBadSignature, a) }
	if R.Z.Normalize().IsZero() || R.X.IsZero() && R.Y.IsZero() {
		return bad()
	}
	var x, z, zz secp256k1.FieldVal
	rBytes := r.Bytes()
	x.SetBytes(&rBytes)
	inverse(&z, &R.Z)
	zz.SquareVal(&z)
	if !R.X.Mul(&zz).Normalize().Equals(&x) || R.Y.Mul(zz.Mul(&z)).Normalize().IsOdd() != odd {
		return bad()
	}
	return nil
}

// inverse sets to 1/z, by the algorithm of Euclid, which takes a tenth of the time of a power.
func inverse(to, z *secp256k1.FieldVal) {
	var x big.Int
	x.ModInverse(x.SetBytes(z.Bytes()[:]), secp256k1.Params().P)
	var b [32]byte
	x.FillBytes(b[:])
	to.SetBytes(&b)
}

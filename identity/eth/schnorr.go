package eth

import (
	"crypto/sha256"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// VerifySchnorr reports whether sig is a signature by BIP-340 over digest, by the secp256k1 key
// whose x coordinate is x. Wallets of Nostr sign so.
func VerifySchnorr(x, digest [32]byte, sig [64]byte) bool {
	var px, r secp256k1.FieldVal
	var s secp256k1.ModNScalar
	if px.SetByteSlice(x[:]) || r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) {
		return false // not below the field's prime, or the order of the curve
	}
	var py secp256k1.FieldVal
	if !secp256k1.DecompressY(&px, false, &py) { // of the two points with this x, that of even y
		return false
	}
	py.Normalize()
	e := challenge(sig[:32], x[:], digest[:])
	// R = s⋅G - e⋅P
	var one secp256k1.FieldVal
	one.SetInt(1)
	p := secp256k1.MakeJacobianPoint(&px, &py, &one)
	var sg, ep, sum secp256k1.JacobianPoint
	secp256k1.ScalarBaseMultNonConst(&s, &sg)
	secp256k1.ScalarMultNonConst(e.Negate(), &p, &ep)
	secp256k1.AddNonConst(&sg, &ep, &sum)
	if (sum.X.IsZero() && sum.Y.IsZero()) || sum.Z.IsZero() { // the point at infinity
		return false
	}
	sum.ToAffine()
	return !sum.Y.IsOdd() && sum.X.Equals(&r)
}

// challenge is the tagged hash of its parts, modulo the order of the curve.
func challenge(parts ...[]byte) *secp256k1.ModNScalar {
	tag := sha256.Sum256([]byte("BIP0340/challenge"))
	h := sha256.New()
	for _, b := range append([][]byte{tag[:], tag[:]}, parts...) {
		_, _ = h.Write(b) // never fails
	}
	var e secp256k1.ModNScalar
	e.SetByteSlice(h.Sum(nil))
	return &e
}

package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Revocation is a statement that what an author writes from a time on does not count, and neither
// does what others write by grants that stem from the author's. The replica key makes it, or an
// author who has a delegable grant, which then is part of it. Its bytes:
//
//	"skerry revoke 1\n"  16 bytes
//	replica              32 bytes
//	author               32 bytes, who is revoked
//	issued               u64 big-endian, microseconds since 1970
//	from                 u64 big-endian, microseconds, inclusive; 0 for everything the author ever wrote
//	authority length     u16 big-endian, 0 for none
//	authority            a delegable grant of whoever revokes, whole; none for the replica key
//	signature            64 bytes, Ed25519 by the author of that grant, or by the replica key, over all the above
//
// See [Authority] for what it does.
type Revocation struct {
	Replica   ID
	Author    AuthorID
	Issued    uint64
	From      uint64
	Authority *Grant
	Signature [64]byte
}

const (
	revocationMagic = "skerry revoke 1\n"
	revocationFixed = len(revocationMagic) + 32 + 32 + 2*8 + 2
)

// ErrMalformedRevocation reports bytes that are not a revocation.
var ErrMalformedRevocation = errors.New("malformed revocation")

// Issuer returns the public key of whoever makes the revocation.
func (r *Revocation) Issuer() [32]byte {
	if r.Authority != nil {
		return r.Authority.Author
	}
	return r.Replica
}

// Sign fills in the signature.
func (r *Revocation) Sign(issuer SecretKey) { r.Signature = issuer.sign(r.signedBytes()) }

func (r *Revocation) signedBytes() []byte {
	b := append(make([]byte, 0, revocationFixed+64), revocationMagic...)
	b = append(b, r.Replica[:]...)
	b = append(b, r.Author[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Issued)
	b = binary.BigEndian.AppendUint64(b, r.From)
	var authority []byte
	if r.Authority != nil {
		authority = r.Authority.Bytes()
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(authority))), authority...)
}

// Bytes returns the signed bytes and the signature.
func (r *Revocation) Bytes() []byte { return append(r.signedBytes(), r.Signature[:]...) }

// ID is the BLAKE3 hash of the signed bytes.
func (r *Revocation) ID() [32]byte { return hashOf(r.signedBytes()) }

// ParseRevocation reads what Bytes wrote. It verifies nothing.
func ParseRevocation(b []byte) (r Revocation, err error) {
	if len(b) < revocationFixed+64 || string(b[:len(revocationMagic)]) != revocationMagic {
		return r, ErrMalformedRevocation
	}
	p := b[len(revocationMagic):]
	p = p[copy(r.Replica[:], p):]
	p = p[copy(r.Author[:], p):]
	r.Issued, r.From = binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])
	n := int(binary.BigEndian.Uint16(p[16:]))
	if p = p[18:]; len(p) != n+64 {
		return r, fmt.Errorf(
			"%w: %d bytes of authority and signature, expected %d", ErrMalformedRevocation, len(p), n+64,
		)
	}
	if n > 0 {
		g, err := ParseGrant(p[:n])
		if err != nil {
			return r, fmt.Errorf("%w: its authority: %w", ErrMalformedRevocation, err)
		}
		r.Authority = &g
	}
	copy(r.Signature[:], p[n:])
	return r, nil
}

// Verify returns ErrBadSignature unless the issuer has signed the revocation, ErrTooWide if the
// issuer had no right to make one, ErrOutOfTime if not at that time, and ErrWrongReplica if that
// right is for another replica.
func (r *Revocation) Verify() error { return verifiedGrants{}.revocation(r) }

func (v verifiedGrants) revocation(r *Revocation) error {
	g := r.Authority
	switch {
	case g == nil:
	case g.Replica != r.Replica:
		return fmt.Errorf("revocation of %s: %w", r.Author, ErrWrongReplica)
	case !g.Delegable:
		return fmt.Errorf("revocation of %s: %w", r.Author, ErrTooWide)
	case !g.covers(r.Issued):
		return fmt.Errorf("revocation of %s: %w", r.Author, ErrOutOfTime)
	}
	if !verify(r.Issuer(), r.signedBytes(), r.Signature) {
		return fmt.Errorf("revocation of %s: %w", r.Author, ErrBadSignature)
	}
	if g == nil {
		return nil
	}
	return v.above(g)
}

package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Grant is a statement that an author may write keys under a prefix, with timestamps between
// NotBefore and NotAfter. The replica key makes it, or an author whose own grant is delegable: that
// one is then part of it, so that a grant can be judged by itself. It is made once for an author;
// entries then carry one signature each. The bytes of a grant by the replica key that is not
// delegable:
//
//	"skerry grant 1\n"  15 bytes
//	replica             32 bytes
//	author              32 bytes
//	issued              u64 big-endian, microseconds since 1970
//	not before          u64 big-endian, microseconds, inclusive; 0 for no limit
//	not after           u64 big-endian, microseconds, inclusive; 2^64-1 for no limit
//	prefix length       u16 big-endian
//	prefix
//	signature           64 bytes, Ed25519 by the replica key over all the above
//
// All others begin with "skerry grant 2\n" and have before the signature:
//
//	delegable           u8, 1 or 0
//	parent length       u16 big-endian, 0 for none
//	parent              a delegable grant, whole
//
// and are signed by the author of the parent, or by the replica key if there is none. Their
// prefixes have at most [MaxDelegablePrefix] bytes, and a chain has at most [MaxChain] grants.
type Grant struct {
	Replica   ID
	Author    AuthorID
	Issued    uint64
	NotBefore uint64
	NotAfter  uint64
	Prefix    []byte
	Delegable bool
	Parent    *Grant // by which the issuer could make this one; nil if that was the replica key
	Signature [64]byte
}

const (
	grantMagic  = "skerry grant 1\n"
	grantMagic2 = "skerry grant 2\n"
	grantFixed  = len(grantMagic) + 32 + 32 + 3*8 + 2
	// Forever is the NotAfter of a grant that does not end.
	Forever = math.MaxUint64
	// MaxChain is how many grants may stand one above the other.
	MaxChain = 4
	// MaxDelegablePrefix is the length in bytes of the prefix of a grant that is delegable or has been
	// delegated.
	MaxDelegablePrefix = 1024
)

var (
	// ErrMalformedGrant reports bytes that are not a grant.
	ErrMalformedGrant = errors.New("malformed grant")
	// ErrTooWide reports a delegated grant that allows what the grant it stems from does not, or stems
	// from one that is not delegable.
	ErrTooWide = errors.New("the grant is wider than the one it stems from")
	// ErrOutOfTime reports a grant or revocation that a delegate issued before or after the time of
	// the grant by which it could make one.
	ErrOutOfTime = errors.New("issued outside of the time of the grant it stems from")
)

// NewGrant allows author to write everything, always.
func NewGrant(replica SecretKey, author AuthorID, issued uint64) Grant {
	g := Grant{Replica: replica.Replica(), Author: author, Issued: issued, NotAfter: Forever}
	g.Sign(replica)
	return g
}

// Sign fills in the signature: with the replica key, or with that of the parent's author if there
// is a parent.
func (g *Grant) Sign(issuer SecretKey) { g.Signature = issuer.sign(g.signedBytes()) }

// Issuer returns the public key of whoever makes the grant.
func (g *Grant) Issuer() [32]byte {
	if g.Parent != nil {
		return g.Parent.Author
	}
	return g.Replica
}

func (g *Grant) signedBytes() []byte {
	extended := g.Delegable || g.Parent != nil
	b := make([]byte, 0, grantFixed+len(g.Prefix)+64)
	if extended {
		b = append(b, grantMagic2...)
	} else {
		b = append(b, grantMagic...)
	}
	b = append(b, g.Replica[:]...)
	b = append(b, g.Author[:]...)
	for _, x := range []uint64{g.Issued, g.NotBefore, g.NotAfter} {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(g.Prefix)))
	b = append(b, g.Prefix...)
	if !extended {
		return b
	}
	if g.Delegable {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	var parent []byte
	if g.Parent != nil {
		parent = g.Parent.Bytes()
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(parent))), parent...)
}

// Bytes returns the signed bytes and the signature.
func (g *Grant) Bytes() []byte { return append(g.signedBytes(), g.Signature[:]...) }

// ID is the BLAKE3 hash of the signed bytes.
func (g *Grant) ID() [32]byte { return hashOf(g.signedBytes()) }

// ParseGrant reads what Bytes wrote. It verifies nothing.
func ParseGrant(b []byte) (Grant, error) { return parseGrant(b, MaxChain) }

func parseGrant(b []byte, chain int) (g Grant, err error) {
	if len(b) < grantFixed+64 {
		return g, ErrMalformedGrant
	}
	magic := string(b[:len(grantMagic)])
	if chain == 0 {
		return g, fmt.Errorf(
			"%w: more than %d grants stand one above the other", ErrMalformedGrant, MaxChain,
		)
	}
	p := b[len(grantMagic):]
	p = p[copy(g.Replica[:], p):]
	p = p[copy(g.Author[:], p):]
	for _, x := range []*uint64{&g.Issued, &g.NotBefore, &g.NotAfter} {
		*x, p = binary.BigEndian.Uint64(p), p[8:]
	}
	n := int(binary.BigEndian.Uint16(p))
	if p = p[2:]; len(p) < n+64 {
		return g, fmt.Errorf("%w: cut short in its prefix", ErrMalformedGrant)
	}
	g.Prefix, p = bytes.Clone(p[:n]), p[n:]
	switch magic {
	case grantMagic:
	case grantMagic2:
		if p, err = g.parseExtension(p, chain); err != nil {
			return g, err
		}
	default:
		return g, ErrMalformedGrant
	}
	if len(p) != 64 {
		return g, fmt.Errorf("%w: %d bytes of signature", ErrMalformedGrant, len(p))
	}
	copy(g.Signature[:], p)
	return g, nil
}

func (g *Grant) parseExtension(p []byte, chain int) (rest []byte, err error) {
	if len(g.Prefix) > MaxDelegablePrefix || len(p) < 3+64 || p[0] > 1 {
		return nil, ErrMalformedGrant
	}
	g.Delegable = p[0] == 1
	n := int(binary.BigEndian.Uint16(p[1:]))
	if p = p[3:]; len(p) < n+64 || n == 0 && !g.Delegable { // that one has another form
		return nil, ErrMalformedGrant
	}
	if n > 0 {
		parent, err := parseGrant(p[:n], chain-1)
		if err != nil {
			return nil, err
		}
		g.Parent = &parent
	}
	return p[n:], nil
}

// Verify returns ErrBadSignature unless the issuers have signed the grant and those it stems from,
// ErrTooWide if it allows more than one of these, ErrOutOfTime if it was issued at a time that one
// of these does not cover, and ErrWrongReplica if one is of another replica.
func (g *Grant) Verify() error { return verifiedGrants{}.grant(g) }

// verifiedGrants remembers grants that were found to be right, by the hash of their bytes, for
// statements that have their chains in common.
type verifiedGrants map[[32]byte]bool

func (v verifiedGrants) verify(st Statement) error {
	switch st := st.(type) {
	case *Grant:
		return v.grant(st)
	case *Revocation:
		return v.revocation(st)
	}
	return st.Verify()
}

// grant looks at what costs little first: somebody who floods is not worth a signature check.
func (v verifiedGrants) grant(g *Grant) error {
	p := g.Parent
	switch {
	case p == nil:
	case p.Replica != g.Replica:
		return fmt.Errorf("grant for %s: %w", g.Author, ErrWrongReplica)
	case !p.Delegable || !bytes.HasPrefix(g.Prefix, p.Prefix) || g.NotBefore < p.NotBefore ||
		g.NotAfter > p.NotAfter:
		return fmt.Errorf("grant for %s: %w", g.Author, ErrTooWide)
	case !p.covers(g.Issued):
		return fmt.Errorf("grant for %s: %w", g.Author, ErrOutOfTime)
	}
	if !verify(g.Issuer(), g.signedBytes(), g.Signature) {
		return fmt.Errorf("grant for %s: %w", g.Author, ErrBadSignature)
	}
	if p == nil {
		return nil
	}
	return v.above(p)
}

// above verifies a grant that others stem from, once.
func (v verifiedGrants) above(g *Grant) error {
	h := hashOf(g.Bytes())
	if v[h] {
		return nil
	}
	err := v.grant(g)
	if err == nil {
		v[h] = true
	}
	return err
}

// covers reports whether the author could use the grant at a time. The limits of a grant lie within
// those of the one above it.
func (g *Grant) covers(at uint64) bool { return g.NotBefore <= at && at <= g.NotAfter }

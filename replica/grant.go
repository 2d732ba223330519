package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"lukechampine.com/blake3"
)

// Grant is a statement signed by the replica key: this author may write keys under this prefix, with timestamps between NotBefore
// and NotAfter. It is made once for an author; entries then carry one signature each. Its bytes:
//
//	"skerry grant 1\n"  15 bytes
//	replica             32 bytes
//	author              32 bytes
//	issued              u64 big-endian, microseconds since 1970
//	not before          u64 big-endian, microseconds, inclusive; 0 for no limit
//	not after           u64 big-endian, microseconds, inclusive; 2^64-1 for no limit
//	prefix length       u16 big-endian
//	prefix
//
// followed by the replica key's Ed25519 signature over them, 64 bytes.
type Grant struct {
	Replica   ID
	Author    AuthorID
	Issued    uint64
	NotBefore uint64
	NotAfter  uint64
	Prefix    []byte
	Signature [64]byte
}

const (
	grantMagic = "skerry grant 1\n"
	grantFixed = len(grantMagic) + 32 + 32 + 3*8 + 2
	// Forever is the NotAfter of a grant that does not end.
	Forever = math.MaxUint64
)

// ErrMalformedGrant reports bytes that are not a grant.
var ErrMalformedGrant = errors.New("malformed grant")

// NewGrant allows author to write everything, always.
func NewGrant(replica SecretKey, author AuthorID, issued uint64) Grant {
	g := Grant{Replica: replica.Replica(), Author: author, Issued: issued, NotAfter: Forever}
	g.Sign(replica)
	return g
}

// Sign fills in the signature.
func (g *Grant) Sign(replica SecretKey) { g.Signature = replica.sign(g.signedBytes()) }

func (g *Grant) signedBytes() []byte {
	b := make([]byte, 0, grantFixed+len(g.Prefix)+64)
	b = append(b, grantMagic...)
	b = append(b, g.Replica[:]...)
	b = append(b, g.Author[:]...)
	for _, x := range []uint64{g.Issued, g.NotBefore, g.NotAfter} {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(g.Prefix)))
	return append(b, g.Prefix...)
}

// Bytes returns the signed bytes and the signature.
func (g *Grant) Bytes() []byte { return append(g.signedBytes(), g.Signature[:]...) }

// ID is the BLAKE3 hash of the signed bytes.
func (g *Grant) ID() [32]byte { return blake3.Sum256(g.signedBytes()) }

// ParseGrant reads what Bytes wrote. It does not verify the signature.
func ParseGrant(b []byte) (g Grant, err error) {
	if len(b) < grantFixed+64 || string(b[:len(grantMagic)]) != grantMagic {
		return g, ErrMalformedGrant
	}
	p := b[len(grantMagic):]
	p = p[copy(g.Replica[:], p):]
	p = p[copy(g.Author[:], p):]
	for _, x := range []*uint64{&g.Issued, &g.NotBefore, &g.NotAfter} {
		*x, p = binary.BigEndian.Uint64(p), p[8:]
	}
	n := int(binary.BigEndian.Uint16(p))
	if p = p[2:]; len(p) != n+64 {
		return g, fmt.Errorf("%w: %d bytes of prefix and signature, expected %d", ErrMalformedGrant, len(p), n+64)
	}
	g.Prefix = bytes.Clone(p[:n])
	copy(g.Signature[:], p[n:])
	return g, nil
}

// Verify returns ErrBadSignature unless the replica key signed the grant.
func (g *Grant) Verify() error {
	if !verify(g.Replica, g.signedBytes(), g.Signature) {
		return fmt.Errorf("grant for %s: %w", g.Author, ErrBadSignature)
	}
	return nil
}

// Allows reports whether the grant covers e. It depends on nothing but the two, so that all nodes agree.
func (g *Grant) Allows(e *Entry) bool {
	return g.Replica == e.Replica && g.Author == e.Author && bytes.HasPrefix(e.Key, g.Prefix) &&
		g.NotBefore <= e.Timestamp && e.Timestamp <= g.NotAfter
}

package seal

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/internal/edsig"
)

// Read keys travel in two forms. One is encrypted to an author:
//
//	ephemeral  32 bytes  X25519 public key, new each time
//	sealed     48 bytes  XChaCha20-Poly1305 of the read key, with a nonce of zeros
//
// under the BLAKE3 key, derived with the context "skerry 2026-11 wrapped key", of: the X25519
// secret that the ephemeral key shares with the author's key in its Montgomery form (RFC 7748; the
// secret half is that of RFC 8032), the ephemeral key, the author's Ed25519 key, and a context that
// says what the key is for.
//
// The other is encrypted with the read key of a later epoch, so that who has that one has those
// before it:
//
//	nonce   24 bytes  BLAKE3 of the older key, keyed with the newer key for "older key nonce"
//	sealed  48 bytes  XChaCha20-Poly1305 of the older key with the newer key for "older key"

const (
	wrapContext = "skerry 2026-11 wrapped key"
	sealedKey   = 32 + tagSize
	// WrappedSize is the length of a Wrapped key in bytes.
	WrappedSize = 32 + sealedKey
	// OlderSize is the length of an Older key in bytes.
	OlderSize = chacha20poly1305.NonceSizeX + sealedKey
)

type (
	// Wrapped is a read key that one author can open.
	Wrapped [WrappedSize]byte
	// Older is a read key that whoever has a newer one can open.
	Older [OlderSize]byte
)

// ErrNoRecipient reports an author whose id is not a point that keys can be encrypted to.
var ErrNoRecipient = errors.New("nothing can be encrypted to this author")

// Commitment names the key without giving it away: nobody can make another key with the same one.
func (k ReadKey) Commitment() [32]byte { return k.derive("commitment") }

// ChunkKey decides where content is cut, so that the lengths of chunks do not give it away.
func (k ReadKey) ChunkKey() [32]byte { return k.derive("chunk boundaries") }

// Wrap encrypts the key to an author with an Ed25519 key. context says what the key is for, and
// Unwrap must be told the same. It returns ErrNoRecipient.
func (k ReadKey) Wrap(author [32]byte, context []byte) (w Wrapped, err error) {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	return k.wrapWith(seed, author, context)
}

func (k ReadKey) wrapWith(seed, author [32]byte, context []byte) (w Wrapped, err error) {
	point, ok := edsig.X25519Public(author)
	if !ok {
		return w, ErrNoRecipient
	}
	ephemeral, err := ecdh.X25519().NewPrivateKey(seed[:])
	if err != nil {
		return w, err
	}
	to, err := ecdh.X25519().NewPublicKey(point[:])
	if err != nil {
		return w, fmt.Errorf("%w: %w", ErrNoRecipient, err)
	}
	shared, err := ephemeral.ECDH(to)
	if err != nil { // a point of small order
		return w, fmt.Errorf("%w: %w", ErrNoRecipient, err)
	}
	copy(w[:], ephemeral.PublicKey().Bytes())
	aead, err := chacha20poly1305.NewX(wrapKey(shared, w[:32], author, context))
	if err != nil {
		return w, err
	}
	var nonce [chacha20poly1305.NonceSizeX]byte // the key is used once
	aead.Seal(w[:32], nonce[:], k[:], nil)
	return w, nil
}

func wrapKey(shared, ephemeral []byte, author [32]byte, context []byte) []byte {
	src := append(append(append(append([]byte{}, shared...), ephemeral...), author[:]...), context...)
	out := make([]byte, chacha20poly1305.KeySize)
	blake3.DeriveKey(out, wrapContext, src)
	return out
}

// Unwrap opens a key with the Ed25519 seed of the author that it is encrypted to. It returns
// ErrSealed.
func Unwrap(w Wrapped, author [32]byte, context []byte) (k ReadKey, err error) {
	bad := fmt.Errorf("wrapped key %w", ErrSealed)
	scalar, public := edsig.X25519Secret(author)
	secret, err := ecdh.X25519().NewPrivateKey(scalar[:])
	if err != nil {
		return k, bad
	}
	ephemeral, err := ecdh.X25519().NewPublicKey(w[:32])
	if err != nil {
		return k, bad
	}
	shared, err := secret.ECDH(ephemeral)
	if err != nil {
		return k, bad
	}
	aead, err := chacha20poly1305.NewX(wrapKey(shared, w[:32], public, context))
	if err != nil {
		return k, err
	}
	var nonce [chacha20poly1305.NonceSizeX]byte
	open, err := aead.Open(nil, nonce[:], w[32:], nil)
	if err != nil {
		return k, bad
	}
	return ReadKey(open), nil
}

// SealOlder encrypts the key of an earlier epoch.
func (k ReadKey) SealOlder(older ReadKey) (o Older, err error) {
	copy(o[:], keyed(k.derive("older key nonce"), chacha20poly1305.NonceSizeX, older[:]))
	key := k.derive("older key")
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return o, err
	}
	aead.Seal(o[:chacha20poly1305.NonceSizeX], o[:chacha20poly1305.NonceSizeX], older[:], nil)
	return o, nil
}

// OpenOlder opens the key of an earlier epoch. It returns ErrSealed.
func (k ReadKey) OpenOlder(o Older) (older ReadKey, err error) {
	key := k.derive("older key")
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return older, err
	}
	open, err := aead.Open(nil, o[:chacha20poly1305.NonceSizeX], o[chacha20poly1305.NonceSizeX:], nil)
	if err != nil {
		return older, fmt.Errorf("older key %w", ErrSealed)
	}
	return ReadKey(open), nil
}

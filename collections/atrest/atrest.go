// Package atrest encrypts what collections keep, so that whoever sees a store, but not the server's
// secrets, reads nothing but the paths.
//
// What belongs here: the forms of what is encrypted, and the keys. What never belongs here: which
// collections are encrypted, and where the result lies.
//
// Start at Key. Two forms are read. The one that is written is
//
//  1. ‖ base64( key id[4] ‖ nonce[12] ‖ ciphertext ‖ tag[16] )
//
// with AES-256-GCM, a random nonce, and "skerry at rest 1\n" ‖ path as associated data, so that
// documents cannot take each other's places. The key id is the first bytes of SHA-256 of the key.
// The other form is that of OctoBot's sync server, base64( nonce[12] ‖ ciphertext ‖ tag[16] ),
// without associated data. Base64 is the standard's, with padding (RFC 4648).
package atrest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

var (
	// ErrSealed reports what no key opens: another secret, other bytes, or another path.
	ErrSealed = errors.New("it was encrypted with another secret, or has been changed")
	// ErrForm reports what is in neither form.
	ErrForm = errors.New("not in a form of what is encrypted")
)

// The infos of the keys of OctoBot's deployments.
const (
	InfoIdentity = "octobot-sync-user-data"
	InfoServer   = "octobot-sync-platform-data"
)

const (
	version   = "1."
	context   = "skerry at rest 1\n"
	keySize   = 32
	idSize    = 4
	nonceSize = 12
	tagSize   = 16
)

// Key is a key of one owner.
type Key struct {
	aead cipher.AEAD
	id   [idSize]byte
}

// NewKey derives a key: by HKDF with SHA-256 (RFC 5869) from a secret, a salt that tells owners
// apart, and an info that tells purposes apart, all as UTF-8.
func NewKey(secret, salt, info string) (*Key, error) {
	if secret == "" {
		return nil, errors.New("the secret for encryption is empty")
	}
	b, err := hkdf.Key(sha256.New, []byte(secret), []byte(salt), info, keySize)
	if err != nil {
		return nil, err
	}
	return newKey(b)
}

func newKey(b []byte) (*Key, error) {
	block, err := aes.NewCipher(b)
	if err != nil {
		return nil, err
	}
	k := &Key{}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	copy(k.id[:], sum[:])
	return k, nil
}

// Seal returns what is to be stored under a path.
func (k *Key) Seal(path string, plain []byte) []byte {
	b := make([]byte, idSize+nonceSize, idSize+nonceSize+len(plain)+tagSize)
	copy(b, k.id[:])
	_, _ = rand.Read(b[idSize:]) // never fails
	b = k.aead.Seal(b, b[idSize:idSize+nonceSize], plain, associated(path))
	return base64.StdEncoding.AppendEncode([]byte(version), b)
}

func associated(path string) []byte { return []byte(context + path) }

// IsSealed reports whether stored is in the form that Seal writes.
func IsSealed(stored []byte) bool { return bytes.HasPrefix(stored, []byte(version)) }

// Open returns what was stored under a path, in either form, by one of some keys: that of the
// present secret, and those of former ones. current is set if that was the first key and the form
// that is written. It returns ErrForm or ErrSealed.
func Open(path string, stored []byte, keys ...*Key) (plain []byte, current bool, err error) {
	own := IsSealed(stored)
	b, err := base64.StdEncoding.Strict().AppendDecode(nil, bytes.TrimPrefix(stored, []byte(version)))
	head := nonceSize
	if own {
		head += idSize
	}
	if err != nil || len(b) < head+tagSize {
		return nil, false, fmt.Errorf("%s: %w", path, ErrForm)
	}
	nonce, sealed := b[head-nonceSize:head], b[head:]
	for i, k := range keys {
		if own {
			if k.id != [idSize]byte(b) {
				continue
			}
			plain, err = k.aead.Open(nil, nonce, sealed, associated(path))
		} else {
			plain, err = k.aead.Open(nil, nonce, sealed, nil)
		}
		if err == nil {
			return plain, own && i == 0, nil
		}
	}
	return nil, false, fmt.Errorf("%s: %w", path, ErrSealed)
}

package project

import (
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/identity"
)

// SignedAsset is an asset with its author's signature, which anybody can verify without asking
// anybody.
type SignedAsset struct {
	Asset     Asset
	Signature identity.Signature
	Nonce     identity.Nonce // of the author's identity id
	unknown   []byte
}

// Sign signs an asset, whose author must be the identity of the key with the nonce. What is signed
// is the asset's content hash, the author and the time of creation.
func Sign(a Asset, key identity.Key, nonce identity.Nonce) (s SignedAsset, err error) {
	id := identity.IDOf(key.Public(), nonce)
	if a.Author != id.String() {
		return s, invalid(
			"signature", "the asset's author is %.70q, and the key's identity %s", a.Author, id,
		)
	}
	if err := a.Check(); err != nil {
		return s, err
	}
	sig, err := key.Sign(identity.SignAsset(id, a.Content, a.Created))
	return SignedAsset{Asset: a, Signature: sig, Nonce: nonce}, err
}

// Key returns the key of the signature's entry.
func (s *SignedAsset) Key() []byte { return []byte(SignaturePrefix + s.Asset.ID) }

// Verify returns ErrInvalid for an asset that is not right, and identity.ErrBadSignature unless the
// asset's author has signed it. A wallet may have signed a struct instead, on one of the chains
// given.
func (s *SignedAsset) Verify(chains ...uint64) error {
	if err := s.Asset.Check(); err != nil {
		return err
	}
	id, err := identity.ParseID(s.Asset.Author)
	if err != nil {
		return invalid("signature", "author: %v", err)
	}
	return s.Signature.Verify(
		identity.SignAsset(id, s.Asset.Content, s.Asset.Created), id, s.Nonce, chains...,
	)
}

// Marshal returns the message.
func (s *SignedAsset) Marshal() []byte {
	var sig, f fields
	sig.number(1, uint64(s.Signature.Kind))
	sig.bytes(2, s.Signature.Signature)
	sig.bytes(3, s.Signature.PublicKey[:])
	sig.text(4, s.Signature.Address)
	sig.bytes(5, s.Signature.AuthenticatorData)
	sig.bytes(6, s.Signature.ClientDataJSON)
	f.bytes(1, s.Asset.Marshal())
	f.bytes(2, sig)
	f.bytes(3, s.Nonce[:])
	return append(f, s.unknown...)
}

// ParseSignedAsset reads what Marshal wrote, or returns ErrMalformed. Whether it is right is for
// Verify to say. Unknown fields within the signature are not kept: nothing says what they would
// mean.
func ParseSignedAsset(b []byte) (s SignedAsset, err error) {
	s.unknown, err = parse(b, func(f *field) (known bool, err error) {
		if f.number < 1 || f.number > 3 {
			return false, nil
		}
		inner, err := f.bytes()
		if err != nil {
			return true, err
		}
		switch f.number {
		case 1:
			s.Asset, err = ParseAsset(inner)
		case 2:
			s.Signature, err = parseSignature(inner)
		case 3:
			if len(inner) != len(s.Nonce) {
				return true, fmt.Errorf("a nonce of %d bytes", len(inner))
			}
			s.Nonce = identity.Nonce(inner)
		}
		return true, err
	})
	return s, err
}

func parseSignature(b []byte) (s identity.Signature, err error) {
	_, err = parse(b, func(f *field) (known bool, err error) {
		switch f.number {
		case 1:
			var kind uint64
			if kind, err = f.uint(); err == nil && kind > 255 {
				err = errors.New("unknown kind of signer")
			}
			s.Kind = identity.Kind(kind)
		case 2:
			s.Signature, err = f.bytes()
		case 3:
			var key []byte
			if key, err = f.bytes(); err == nil && len(key) != len(s.PublicKey) {
				err = fmt.Errorf("a public key of %d bytes", len(key))
			}
			copy(s.PublicKey[:], key)
		case 4:
			s.Address, err = f.text()
		case 5:
			s.AuthenticatorData, err = f.bytes()
		case 6:
			s.ClientDataJSON, err = f.bytes()
		}
		return true, err
	})
	return s, err
}

package identity

import (
	"fmt"
	"math/big"

	"github.com/fxamacker/cbor/v2"
)

// coseKey is a COSE_Key (RFC 9052, section 7) of the one kind that passkeys of identities have.
type coseKey struct {
	Kty int64  `cbor:"1,keyasint"`
	Alg int64  `cbor:"3,keyasint"`
	Crv int64  `cbor:"-1,keyasint"`
	X   []byte `cbor:"-2,keyasint"`
	Y   []byte `cbor:"-3,keyasint"`
}

var coseMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxNestedLevels: 4, MaxMapPairs: 16,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}()

// PublicKeyFromCOSE returns the compressed form of the key that a passkey gives when it is made: P-256 with ES256 (kty 2, alg -7, crv 1, x and y of 32 bytes). It returns
// ErrBadPublicKey for all others.
func PublicKeyFromCOSE(b []byte) (PublicKey, error) {
	var k coseKey
	if err := coseMode.Unmarshal(b, &k); err != nil {
		return PublicKey{}, fmt.Errorf("%w: COSE: %w", ErrBadPublicKey, err)
	}
	if k.Kty != 2 || k.Alg != -7 || k.Crv != 1 || len(k.X) != 32 || len(k.Y) != 32 {
		return PublicKey{}, fmt.Errorf("%w: COSE key type %d, algorithm %d, curve %d with coordinates of %d and %d bytes: expected 2, -7, 1, 32 and 32", ErrBadPublicKey, k.Kty, k.Alg, k.Crv, len(k.X), len(k.Y))
	}
	public, err := p256Point(new(big.Int).SetBytes(k.X), new(big.Int).SetBytes(k.Y))
	if err != nil {
		return PublicKey{}, err
	}
	return compress(public), nil
}

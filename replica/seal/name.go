package seal

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20"

	"github.com/skerry-sync/skerry/internal/kind"
)

// A sealed name is
//
//	epoch       u32 big-endian
//	components  for each part of the name between slashes: siv[24], length u16 big-endian of what follows, sealed part
//
// A part is sealed with all before it as its tweak: padded with a length of 2 bytes and zeros to a
// multiple of 16, siv is the keyed BLAKE3 hash of the tweak and the padded part, and the sealed
// part is its XChaCha20 encryption with siv as the nonce. That is a synthetic initialization vector
// (RFC 5297): deterministic, and whoever opens it computes siv again. The tweak is the siv of the
// part before, or the epoch for the first.
//
// So names that begin with the same parts begin with the same bytes, and a prefix that ends with a
// slash is a prefix of sealed names. Whoever has no key sees how many parts a name has, which names
// have their first parts in common, and the length of each part to 16 bytes.
const (
	sivSize  = chacha20.NonceSizeX
	partHead = sivSize + 2
	partPad  = 16
	epochLen = 4
	// MaxName is the length of the longest name that can be sealed, in bytes; sealed it has at most
	// MaxSealedName.
	MaxName = 8 << 10
	// MaxParts is how many parts a name may have.
	MaxParts = 128
	// MaxSealedName is the length of the longest sealed name in bytes.
	MaxSealedName = epochLen + MaxParts*(partHead+2+partPad) + MaxName
)

// ErrName reports a name that cannot be sealed.
var ErrName = kind.New(kind.Usage, "name cannot be sealed")

// Names seals and opens names in one epoch.
type Names struct {
	epoch uint32
	mac   *keyedHash
	enc   [32]byte
}

// Names returns what seals names with the key in an epoch.
func (k ReadKey) Names(epoch uint32) *Names {
	return &Names{epoch, newKeyedHash(k.derive("names mac"), sivSize), k.derive("names encryption")}
}

// EpochOf returns the epoch in which a name was sealed.
func EpochOf(sealed []byte) (uint32, error) {
	if len(sealed) < epochLen+partHead+partPad {
		return 0, fmt.Errorf("name of %d bytes %w", len(sealed), ErrSealed)
	}
	return binary.BigEndian.Uint32(sealed), nil
}

// Seal seals a name. It returns ErrName for one that is too long or has too many parts.
func (n *Names) Seal(name []byte) ([]byte, error) {
	if len(name) > MaxName {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d", ErrName, len(name), MaxName)
	}
	parts := bytes.Count(name, []byte("/")) + 1
	if parts > MaxParts {
		return nil, fmt.Errorf(
			"%w: it has %d parts between slashes, at most %d", ErrName, parts, MaxParts,
		)
	}
	return n.seal(name), nil
}

// SealPrefix returns what the sealed names begin with whose names begin with prefix, which is empty
// or ends with a slash. The name without that slash begins so, too. It returns ErrName.
func (n *Names) SealPrefix(prefix []byte) ([]byte, error) {
	if len(prefix) == 0 {
		return binary.BigEndian.AppendUint32(nil, n.epoch), nil
	}
	whole, ok := bytes.CutSuffix(prefix, []byte("/"))
	if !ok {
		return nil, fmt.Errorf(
			"%w: %.64q is a prefix only of whole parts if it ends with a slash", ErrName, prefix,
		)
	}
	return n.Seal(whole)
}

func (n *Names) seal(name []byte) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 2*len(name)+64), n.epoch)
	tweak := bytes.Clone(b)
	for part := range bytes.SplitSeq(name, []byte("/")) {
		padded := binary.BigEndian.AppendUint16(nil, uint16(len(part)))
		padded = append(padded, part...)
		padded = append(padded, make([]byte, (partPad-len(padded)%partPad)%partPad)...)
		siv := n.siv(tweak, padded)
		b = append(b, siv...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(padded)))
		n.crypt(siv, padded)
		b = append(b, padded...)
		tweak = siv
	}
	return b
}

func (n *Names) siv(tweak, padded []byte) []byte {
	return n.mac.sum([]byte{byte(len(tweak))}, tweak, padded)
}

// crypt encrypts or decrypts b in place.
func (n *Names) crypt(siv, b []byte) {
	c, err := chacha20.NewUnauthenticatedCipher(n.enc[:], siv)
	if err != nil {
		panic(err) // the lengths are constants
	}
	c.XORKeyStream(b, b)
}

// Open opens a sealed name. It returns ErrSealed, also for one that Seal would not have sealed:
// what can be read can be written and deleted.
func (n *Names) Open(sealed []byte) (name []byte, err error) {
	bad := fmt.Errorf("name %w", ErrSealed)
	if epoch, err := EpochOf(sealed); err != nil || epoch != n.epoch {
		return nil, bad
	}
	tweak, rest := sealed[:epochLen], sealed[epochLen:]
	for parts := 0; len(rest) > 0; parts++ {
		if len(rest) < partHead+partPad || parts == MaxParts {
			return nil, bad
		}
		given, size := rest[:sivSize], int(binary.BigEndian.Uint16(rest[sivSize:]))
		if rest = rest[partHead:]; size == 0 || size%partPad != 0 || size > len(rest) {
			return nil, bad
		}
		padded := bytes.Clone(rest[:size])
		n.crypt(given, padded)
		if subtle.ConstantTimeCompare(n.siv(tweak, padded), given) != 1 {
			return nil, bad
		}
		length := int(binary.BigEndian.Uint16(padded))
		if (length+2+partPad-1)/partPad*partPad != size || bytes.ContainsRune(padded[2:2+length], '/') {
			return nil, bad
		}
		name = append(append(name, padded[2:2+length]...), '/')
		if len(name) > MaxName+1 {
			return nil, bad
		}
		tweak, rest = given, rest[size:]
	}
	return name[:len(name)-1], nil
}

package keyring

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/skerry-sync/skerry/collections/value"
)

// Sealer seals and opens documents for a recipient.
type Sealer struct {
	current int
	keys    map[int][]byte
}

// Open returns what seals and opens for the holder of a KEM key, with the keys that trusted adders
// have wrapped for it. min is the latest epoch that has been seen. It returns ErrUntrusted, or an
// error that is ErrRolledBack or ErrNotARecipient.
func (k *Keyring) Open(private *ecdh.PrivateKey, trusted []string, min int) (*Sealer, error) {
	if len(trusted) == 0 {
		return nil, ErrUntrusted
	}
	if k.Current < min {
		return nil, fmt.Errorf("%w: epoch %d, not %d", ErrRolledBack, k.Current, min)
	}
	me := hex.EncodeToString(private.PublicKey().Bytes())
	s := &Sealer{current: k.Current, keys: map[int][]byte{}}
	for n, epoch := range k.Epochs {
		var mine []Entry
		for _, e := range epoch.Entries {
			if e.Recipient == me {
				mine = append(mine, e)
			}
		}
		// two are one too many
		if len(mine) != 1 || !slices.Contains(trusted, mine[0].AddedBy) || !mine[0].Verify(n) {
			continue
		}
		if key, err := Unwrap(mine[0].Ephemeral, mine[0].Wrapped, private); err == nil &&
			len(key) == KeySize {
			s.keys[n] = key
		}
	}
	if s.keys[k.Current] == nil {
		return nil, fmt.Errorf("%w: epoch %d", ErrNotARecipient, k.Current)
	}
	return s, nil
}

func (s *Sealer) key(epoch int) ([]byte, error) {
	if k := s.keys[epoch]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("%w: epoch %d", ErrNotARecipient, epoch)
}

// Seal returns a document whose data is sealed.
func (s *Sealer) Seal(data *value.Object) (*value.Object, error) {
	b, err := seal(
		s.keys[s.current], nil, value.Append(nil, data), strconv.AppendInt(nil, int64(s.current), 10),
	)
	if err != nil {
		return nil, err
	}
	return value.NewObject(
		value.Member{Key: "_encrypted", Value: base64.StdEncoding.EncodeToString(b)},
		value.Member{Key: "_epoch", Value: float64(s.current)},
	), nil
}

// Open returns the data of a document. It returns an error that is ErrMalformed, ErrNotARecipient
// or ErrSealed.
func (s *Sealer) Open(sealed *value.Object) (*value.Object, error) {
	text, ok := sealed.String("_encrypted")
	if !ok {
		return nil, fmt.Errorf("%w: the document is not encrypted", ErrMalformed)
	}
	epoch := s.current
	if v, _ := sealed.Get("_epoch"); v != nil {
		f, ok := v.(float64)
		if !ok || f != math.Trunc(f) || math.Abs(f) > math.MaxInt32 {
			return nil, fmt.Errorf("%w: its epoch is no number", ErrMalformed)
		}
		epoch = int(f)
	}
	key, err := s.key(epoch)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no base64", ErrMalformed)
	}
	plain, err := open(key, b, strconv.AppendInt(nil, int64(epoch), 10))
	if err != nil {
		return nil, err
	}
	data, err := value.ParseObject(plain, value.MaxDepth)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return data, nil
}

// epochSize is the length of the epoch before sealed bytes.
const epochSize = 4

func aadOf(epoch uint32, place string) []byte {
	return []byte("starfish-blob:" + strconv.FormatUint(uint64(epoch), 10) + ":" + place)
}

// SealBytes seals the bytes of a file for a place, usually its storage path.
func (s *Sealer) SealBytes(b []byte, place string) ([]byte, error) {
	epoch := uint32(s.current)
	sealed, err := seal(s.keys[s.current], nil, b, aadOf(epoch, place))
	return append(
		[]byte{byte(epoch >> 24), byte(epoch >> 16), byte(epoch >> 8), byte(epoch)}, sealed...,
	), err
}

// OpenBytes opens what SealBytes has sealed for the same place. It returns an error that is
// ErrSealed or ErrNotARecipient.
func (s *Sealer) OpenBytes(b []byte, place string) ([]byte, error) {
	if len(b) < epochSize+ivSize {
		return nil, ErrSealed
	}
	epoch := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	key, err := s.key(int(epoch))
	if err != nil {
		return nil, err
	}
	return open(key, b[epochSize:], aadOf(epoch, place))
}

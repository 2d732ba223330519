// Package keyring is the end-to-end encryption of collections: documents are sealed with a key for
// each epoch, which a keyring, a document beside them, holds wrapped for each recipient.
//
// What belongs here: the forms of keyrings and sealed documents, as pure functions. What never
// belongs here: how they are brought to a server, which knows none of these keys. All forms are
// those of docs/protocol/starfish-v3.md, section 13; vectors are in testdata/starfish.
package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/value"
)

var (
	// ErrMalformed reports what is no keyring, or no sealed document.
	ErrMalformed = errors.New("malformed")
	// ErrNotARecipient reports that a keyring holds no usable key for a recipient in an epoch.
	ErrNotARecipient = errors.New("no key for this recipient from a trusted adder")
	// ErrRolledBack reports a keyring whose epoch is before one that has been seen.
	ErrRolledBack = errors.New("the keyring is older than one that has been seen")
	// ErrUntrusted reports that nobody was named whose entries count. The proof on an entry names its
	// own signer: without a list, a server could put in what it likes.
	ErrUntrusted = errors.New("name the public keys of those who may add recipients")
	// ErrPresent reports a recipient who has a key already.
	ErrPresent = errors.New("the recipient is in the keyring already")
	// ErrSealed reports what cannot be opened: it was changed, or sealed with another key or for
	// another place.
	ErrSealed = errors.New("cannot be opened")
)

const (
	// KeySize is the length of keys in bytes.
	KeySize = 32
	ivSize  = 12
	// wrapLabel is salt and info of the keys that wrap.
	wrapLabel = "starfish-wrap"
)

// Entry is the key of an epoch, wrapped for a recipient.
type Entry struct {
	Recipient string // X25519 public key, hex
	Ephemeral string // X25519 public key, hex
	Wrapped   string // base64 of the IV and what AES-256-GCM makes of the key
	AddedBy   string // Ed25519 public key, hex
	Signature string // by whom it was added
	AddedAt   int64  // Unix seconds
}

// Epoch is the time of one key.
type Epoch struct {
	Entries []Entry
	Created int64 // Unix seconds
}

// Keyring holds the keys of all epochs, wrapped.
type Keyring struct {
	Current int
	Epochs  map[int]Epoch
}

// seal encrypts with AES-256-GCM; the IV stands before what comes out.
func seal(key, iv, plain, aad []byte) ([]byte, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(b)
	if err != nil {
		return nil, err
	}
	if iv == nil {
		iv = make([]byte, ivSize)
		_, _ = rand.Read(iv) // never fails
	}
	return gcm.Seal(slices.Clip(iv), iv, plain, aad), nil
}

func open(key, sealed, aad []byte) ([]byte, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(b)
	if err != nil {
		return nil, err
	}
	if len(sealed) < ivSize {
		return nil, ErrSealed
	}
	plain, err := gcm.Open(nil, sealed[:ivSize], sealed[ivSize:], aad)
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// Wrap seals a key for the holder of an X25519 public key, in hex. It returns the ephemeral public
// key in hex, and base64. ephemeral and iv are random if nil.
func Wrap(
	key []byte, recipient string, ephemeral *ecdh.PrivateKey, iv []byte,
) (ephemeralKey, wrapped string, err error) {
	pub, err := hex.DecodeString(recipient)
	if err != nil {
		return "", "", fmt.Errorf("recipient %.80q: %w", recipient, err)
	}
	to, err := ecdh.X25519().NewPublicKey(pub)
	if err != nil {
		return "", "", fmt.Errorf("recipient %.80q: %w", recipient, err)
	}
	if ephemeral == nil {
		if ephemeral, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return "", "", err
		}
	}
	wrapping, err := wrappingKey(ephemeral, to)
	if err != nil {
		return "", "", err
	}
	sealed, err := seal(wrapping, iv, key, nil)
	public := hex.EncodeToString(ephemeral.PublicKey().Bytes())
	return public, base64.StdEncoding.EncodeToString(sealed), err
}

// Unwrap opens what Wrap has sealed. It returns ErrSealed.
func Unwrap(ephemeral, wrapped string, private *ecdh.PrivateKey) ([]byte, error) {
	pub, err := hex.DecodeString(ephemeral)
	if err != nil {
		return nil, ErrSealed
	}
	from, err := ecdh.X25519().NewPublicKey(pub)
	if err != nil {
		return nil, ErrSealed
	}
	wrapping, err := wrappingKey(private, from)
	if err != nil {
		return nil, ErrSealed
	}
	sealed, err := base64.StdEncoding.DecodeString(wrapped)
	if err != nil {
		return nil, ErrSealed
	}
	return open(wrapping, sealed, nil)
}

// wrappingKey returns an error if the other's key is of small order.
func wrappingKey(private *ecdh.PrivateKey, public *ecdh.PublicKey) ([]byte, error) {
	shared, err := private.ECDH(public)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, shared, []byte(wrapLabel), wrapLabel, KeySize)
}

// ParseKEM returns the X25519 private key with a seed in hex.
func ParseKEM(privateHex string) (*ecdh.PrivateKey, error) {
	b, err := hex.DecodeString(privateHex)
	if err != nil {
		return nil, errors.New("the private key is not in hex") // the text is secret
	}
	return ecdh.X25519().NewPrivateKey(b)
}

// signingInput is what the adder of an entry signs.
func (e *Entry) signingInput(epoch int) []byte {
	return value.AppendCanonical(
		nil,
		value.NewObject(
			value.Member{Key: "addedAt", Value: float64(e.AddedAt)},
			value.Member{Key: "addedBy", Value: e.AddedBy}, value.Member{Key: "ct", Value: e.Wrapped},
			value.Member{Key: "ephKem", Value: e.Ephemeral},
			value.Member{Key: "epoch", Value: float64(epoch)},
			value.Member{Key: "subKem", Value: e.Recipient},
		),
	)
}

// Verify reports whether whoever the entry names as its adder has signed it for an epoch.
func (e *Entry) Verify(epoch int) bool {
	return capcert.Verify(e.AddedBy, e.signingInput(epoch), e.Signature)
}

func entry(
	key []byte, epoch int, recipient string, adder capcert.Key, now int64,
) (e Entry, err error) {
	e = Entry{Recipient: recipient, AddedBy: adder.Public, AddedAt: now}
	if e.Ephemeral, e.Wrapped, err = Wrap(key, recipient, nil, nil); err == nil {
		e.Signature = adder.Sign(e.signingInput(epoch))
	}
	return e, err
}

// New returns a keyring with a new key for recipients, at a time in Unix seconds.
func New(adder capcert.Key, recipients []string, now int64) (*Keyring, error) {
	return (&Keyring{}).Rotate(adder, recipients, now)
}

// Rotate returns the keyring with a new epoch, whose key only recipients have. It returns an error
// that is ErrMalformed if no epoch can follow: a server can have made up the number of the last.
func (k *Keyring) Rotate(adder capcert.Key, recipients []string, now int64) (*Keyring, error) {
	if k.Current >= maxEpoch || len(k.Epochs) >= maxEpochs {
		return nil, fmt.Errorf("%w keyring: no epoch can follow %d", ErrMalformed, k.Current)
	}
	key := make([]byte, KeySize)
	_, _ = rand.Read(key)
	next := &Keyring{Current: k.Current + 1, Epochs: maps.Clone(k.Epochs)}
	if next.Epochs == nil {
		next.Epochs = map[int]Epoch{}
	}
	epoch := Epoch{Created: now}
	for _, r := range recipients {
		e, err := entry(key, next.Current, r, adder, now)
		if err != nil {
			return nil, err
		}
		epoch.Entries = append(epoch.Entries, e)
	}
	next.Epochs[next.Current] = epoch
	return next, nil
}

// Add returns the keyring with another recipient of the current epoch, whose key the adder has
// through sealer. It returns ErrPresent, or an error that is ErrNotARecipient.
func (k *Keyring) Add(
	adder capcert.Key, sealer *Sealer, recipient string, now int64,
) (*Keyring, error) {
	epoch := k.Epochs[k.Current]
	if slices.ContainsFunc(epoch.Entries, func(e Entry) bool { return e.Recipient == recipient }) {
		return nil, ErrPresent
	}
	key, err := sealer.key(k.Current)
	if err != nil {
		return nil, err
	}
	e, err := entry(key, k.Current, recipient, adder, now)
	if err != nil {
		return nil, err
	}
	next := &Keyring{Current: k.Current, Epochs: maps.Clone(k.Epochs)}
	epoch.Entries = append(slices.Clip(epoch.Entries), e)
	next.Epochs[k.Current] = epoch
	return next, nil
}

// Remove returns the keyring with a new epoch for the recipients of the current one that trusted
// adders have added, without some.
func (k *Keyring) Remove(adder capcert.Key, remove, trusted []string, now int64) (*Keyring, error) {
	all, err := k.Recipients(trusted)
	if err != nil {
		return nil, err
	}
	var retained []string
	for _, e := range all {
		if !slices.Contains(remove, e.Recipient) {
			retained = append(retained, e.Recipient)
		}
	}
	return k.Rotate(adder, retained, now)
}

// Recipients returns the entries of the current epoch that trusted adders have made. It returns
// ErrUntrusted.
func (k *Keyring) Recipients(trusted []string) (all []Entry, err error) {
	if len(trusted) == 0 {
		return nil, ErrUntrusted
	}
	for _, e := range k.Epochs[k.Current].Entries {
		if slices.Contains(trusted, e.AddedBy) && e.Verify(k.Current) {
			all = append(all, e)
		}
	}
	return all, nil
}

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

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
	"slices"
	"strings"

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

// spell returns the one spelling of a public key in hex, by which Sealers find their entries.
func spell(recipient string) string { return strings.ToLower(recipient) }

func entry(
	key []byte, epoch int, recipient string, adder capcert.Key, now int64,
) (e Entry, err error) {
	e = Entry{Recipient: recipient, AddedBy: adder.Public, AddedAt: now}
	if e.Ephemeral, e.Wrapped, err = Wrap(key, recipient, nil, nil); err == nil {
		e.Signature = adder.Sign(e.signingInput(epoch))
	}
	return e, err
}

// New returns a keyring with a new key for recipients, X25519 public keys in hex, at a time in Unix
// seconds. It returns an error that is ErrMalformed if they are more than an epoch has room for.
func New(adder capcert.Key, recipients []string, now int64) (*Keyring, error) {
	return (&Keyring{}).Rotate(adder, recipients, now)
}

// Rotate returns the keyring with a new epoch, whose key only recipients have; one who is named
// twice gets it once, as two entries would count for nothing. It returns an error that is
// ErrMalformed if no epoch can follow, as a server can have made up the number of the last, or if
// the recipients are more than an epoch has room for: nobody could read what came of it.
func (k *Keyring) Rotate(adder capcert.Key, recipients []string, now int64) (*Keyring, error) {
	if k.Current >= maxEpoch || len(k.Epochs) >= maxEpochs {
		return nil, fmt.Errorf("%w keyring: no epoch can follow %d", ErrMalformed, k.Current)
	}
	var once []string
	there := map[string]bool{}
	for _, r := range recipients {
		if r = spell(r); !there[r] {
			there[r] = true
			once = append(once, r)
		}
	}
	if len(once) > maxEntries {
		return nil, errNoRoom(k.Current + 1)
	}
	key := make([]byte, KeySize)
	_, _ = rand.Read(key)
	next := &Keyring{Current: k.Current + 1, Epochs: maps.Clone(k.Epochs)}
	if next.Epochs == nil {
		next.Epochs = map[int]Epoch{}
	}
	epoch := Epoch{Created: now}
	for _, r := range once {
		e, err := entry(key, next.Current, r, adder, now)
		if err != nil {
			return nil, err
		}
		epoch.Entries = append(epoch.Entries, e)
	}
	next.Epochs[next.Current] = epoch
	return next, nil
}

func errNoRoom(epoch int) error {
	return fmt.Errorf("%w keyring: epoch %d has room for %d recipients", ErrMalformed, epoch,
		maxEntries)
}

// Add returns the keyring with another recipient of the current epoch, whose key the adder has
// through sealer. It returns ErrPresent, or an error that is ErrNotARecipient, or ErrMalformed if
// the epoch has no room for another.
func (k *Keyring) Add(
	adder capcert.Key, sealer *Sealer, recipient string, now int64,
) (*Keyring, error) {
	epoch := k.Epochs[k.Current]
	recipient = spell(recipient)
	if slices.ContainsFunc(epoch.Entries, func(e Entry) bool { return e.Recipient == recipient }) {
		return nil, ErrPresent
	}
	if len(epoch.Entries) >= maxEntries {
		return nil, errNoRoom(k.Current)
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
// adders have added, without some. It returns an error that is ErrNotARecipient if nobody is left:
// a server can have emptied the current epoch, and nobody could read what came of the next.
func (k *Keyring) Remove(adder capcert.Key, remove, trusted []string, now int64) (*Keyring, error) {
	all, err := k.Recipients(trusted)
	if err != nil {
		return nil, err
	}
	gone := map[string]bool{}
	for _, r := range remove {
		gone[spell(r)] = true
	}
	var retained []string
	for _, e := range all {
		if !gone[spell(e.Recipient)] {
			retained = append(retained, e.Recipient)
		}
	}
	if len(retained) == 0 {
		return nil, fmt.Errorf("%w: nobody would be left after epoch %d", ErrNotARecipient, k.Current)
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

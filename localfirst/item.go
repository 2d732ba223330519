package localfirst

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/record"
)

const (
	// MaxKey is the most bytes of a key in a collection.
	MaxKey = 4096
	// MaxCollection is the most bytes of a collection's name.
	MaxCollection = 255
)

// ErrBadKey reports a key that is not UTF-8, or too long.
var ErrBadKey = kind.New(kind.Usage, "a key must be UTF-8 of at most 4096 bytes")

func checkKey(key string) error {
	if len(key) > MaxKey || !utf8.ValidString(key) {
		return fmt.Errorf("key %.64q: %w", key, ErrBadKey)
	}
	return nil
}

const itemContext = "github.com/skerry-sync/skerry localfirst 1 item"

// namer makes the keys of items in a replica.
type namer struct{ key [32]byte }

func newNamer(id replica.ID) (n namer) {
	blake3.DeriveKey(n.key[:], itemContext, id[:])
	return n
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").
	WithPadding(base32.NoPadding)

// of returns the key of an item in the replica: 52 characters, BLAKE3 of
//
//	length of the collection's name u16, name, key
//
// with a key that BLAKE3's key derivation makes of the replica's id, in base32. It is one part of a
// key, of one length, so that a host sees neither collections nor equal beginnings.
func (n namer) of(collection, key string) []byte {
	h := blake3.New(32, n.key[:])
	_, _ = h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(collection)))) // never fails
	_, _ = h.Write([]byte(collection))
	_, _ = h.Write([]byte(key))
	var sum [32]byte
	h.Sum(sum[:0])
	return base32Lower.AppendEncode(nil, sum[:])
}

const envelopeVersion = 1

// errEnvelope reports a content that is no item of this engine.
var errEnvelope = errors.New("not an item of a collection")

// appendEnvelope appends the content of an item:
//
//	version u8 = 1, length of the collection's name u8, name, length of the key u16, key, value
func appendEnvelope(b []byte, collection, key string, value []byte) []byte {
	b = append(b, envelopeVersion, byte(len(collection)))
	b = append(b, collection...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(key))), key...)
	return append(b, value...)
}

// maxEnvelope is how many bytes stand before the value at most.
const maxEnvelope = 2 + MaxCollection + 2 + MaxKey

// parseEnvelope reads the names of an item and where its value begins; b may end after that.
func parseEnvelope(b []byte) (collection, key string, value int, err error) {
	if len(b) < 2 || b[0] != envelopeVersion {
		return "", "", 0, errEnvelope
	}
	at := 2 + int(b[1])
	if len(b) < at+2 {
		return "", "", 0, errEnvelope
	}
	collection = string(b[2:at])
	n := int(binary.BigEndian.Uint16(b[at:]))
	at += 2
	if n > MaxKey || len(b) < at+n {
		return "", "", 0, errEnvelope
	}
	key = string(b[at : at+n])
	if !utf8.ValidString(key) || !utf8.ValidString(collection) {
		return "", "", 0, errEnvelope
	}
	return collection, key, at + n, nil
}

// open returns the value in an envelope that must be of an item.
func (n namer) open(b []byte, at []byte) (collection, key string, value []byte, err error) {
	collection, key, from, err := parseEnvelope(b)
	if err != nil {
		return "", "", nil, err
	}
	if !bytes.Equal(n.of(collection, key), at) {
		return "", "", nil, fmt.Errorf("%w: it is in the place of another", errEnvelope)
	}
	return collection, key, b[from:], nil
}

// itemState is what the engine remembers of an item.
type itemState struct {
	// Has says that the app's store held a value that others know; Base is the hash of that value, as
	// the codec encodes what the store gives back.
	Has  bool
	Base [32]byte
	// Scoped says that the key was in the scope when the item was last looked at.
	Scoped bool
	// Conflict says that the app's store holds one of several values that nobody has merged.
	Conflict bool
	// Shown is what was applied to the app's store.
	Shown versions.Shown
	// Intent is the hash of a content that may have been published.
	Intent record.Hash
	// Fault is what was wrong with the item, if it was left alone.
	Fault string
}

const (
	stateVersion  = 1
	stateHas      = 1
	stateScoped   = 2
	stateConflict = 4
)

var errState = errors.New("malformed record of an item")

// marshal returns the record of an item in the engine's store:
//
//	version u8 = 1, flags u8: 1 it has a base, 2 in scope, 4 conflict, base[32], intent[32],
//	length of the fault u16, fault, what was shown (package versions)
func (s *itemState) marshal() ([]byte, error) {
	flags := byte(0)
	for bit, on := range map[byte]bool{
		stateHas: s.Has, stateScoped: s.Scoped, stateConflict: s.Conflict,
	} {
		if on {
			flags |= bit
		}
	}
	b := append([]byte{stateVersion, flags}, s.Base[:]...)
	b = append(b, s.Intent[:]...)
	fault := s.Fault[:min(len(s.Fault), 1<<10)]
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(fault))), fault...)
	all, err := s.Shown.Append(b)
	if err == nil && len(all) > MaxRecord {
		// Others can make what was shown so large. An edit then stands beside all of it.
		var nothing versions.Shown
		return nothing.Append(b)
	}
	return all, err
}

const stateHead = 2 + 32 + 32 + 2

// baseOf reads of a record what an idle pass compares.
func baseOf(b []byte) (base [32]byte, flags byte, ok bool) {
	if len(b) < stateHead || b[0] != stateVersion {
		return base, 0, false
	}
	return [32]byte(b[2:]), b[1], true
}

func parseState(b []byte) (s itemState, err error) {
	if len(b) < stateHead || b[0] != stateVersion || b[1]&^(stateHas|stateScoped|stateConflict) != 0 {
		return s, errState
	}
	s.Has, s.Scoped, s.Conflict = b[1]&stateHas != 0, b[1]&stateScoped != 0, b[1]&stateConflict != 0
	b = b[2:]
	b = b[copy(s.Base[:], b):]
	b = b[copy(s.Intent[:], b):]
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; n > len(b) || n > 1<<10 {
		return s, errState
	}
	s.Fault, b = string(b[:n]), b[n:]
	s.Shown, err = versions.ParseShown(b)
	return s, err
}

// hashOf is how values in the app's store are known again.
func hashOf(value []byte) [32]byte { return blake3.Sum256(value) }

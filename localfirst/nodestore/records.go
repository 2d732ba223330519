package nodestore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/localfirst"
)

// Records in the node's store; integers are big-endian:
//
//	l n store[16]                             a store: version u8 = 1, u8: 1 if it is being dropped,
//	                                          its name
//	l r store[16] group[16] collection[16] k  a record: version u8 = 1, length of the rest of the key
//	                                          u16, rest, value
//
// store, group and collection are the first halves of the BLAKE3 hashes of the store's name, of
// the length of the kind in one byte, the kind and the namespace, and of the collection's name. k
// is the key if it has at most 1,024 bytes, and the rest is empty. Of a longer one, k is its
// first 1,024 bytes and its BLAKE3 hash, 32 bytes, and the rest is what follows on those.
const (
	keyStore  = "ln"
	keyRecord = "lr"

	recordVersion = 1
	hashSize      = 16
	cut           = 1024 // bytes of a key that stand in the key of a record
	beforeKey     = len(keyRecord) + 3*hashSize
)

// errMalformed reports a record that is damaged, or that a newer program wrote.
var errMalformed = errors.New("malformed record of an engine's store")

func half(b []byte) []byte {
	h := blake3.Sum256(b)
	return h[:hashSize]
}

func storeKey(name string) []byte { return append([]byte(keyStore), half([]byte(name))...) }

// entry is the record of a store.
type entry struct {
	name    string
	dropped bool
}

func (e entry) marshal() []byte {
	b := []byte{recordVersion, 0}
	if e.dropped {
		b[1] = 1
	}
	return append(b, e.name...)
}

func parseEntry(b []byte) (e entry, err error) {
	if len(b) < 2 || b[0] != recordVersion || b[1] > 1 || checkName(string(b[2:])) != nil {
		return e, errMalformed
	}
	return entry{string(b[2:]), b[1] == 1}, nil
}

// recordsOf is what the keys of all records of a store begin with.
func recordsOf(name string) []byte { return append([]byte(keyRecord), half([]byte(name))...) }

// appendGroup appends what the keys of a kind and namespace go on with.
func appendGroup(b []byte, k localfirst.Kind, namespace string) []byte {
	return append(b, half(append(append([]byte{byte(len(k))}, k...), namespace...))...)
}

func appendCollection(b []byte, collection string) []byte {
	return append(b, half([]byte(collection))...)
}

// appendKey appends what the key of a record ends with.
func appendKey(b []byte, key string) []byte {
	if len(key) <= cut {
		return append(b, key...)
	}
	h := blake3.Sum256([]byte(key))
	return append(append(b, key[:cut]...), h[:]...)
}

func marshalRecord(key string, value []byte) []byte {
	rest := key[min(len(key), cut):]
	b := make([]byte, 0, 3+len(rest)+len(value))
	b = append(b, recordVersion)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(rest))), rest...)
	return append(b, value...)
}

// parseRecord reads a record by its value, and what of its key follows on the hashes. value is a
// part of b.
func parseRecord(k, b []byte) (key string, value []byte, err error) {
	if len(b) < 3 || b[0] != recordVersion {
		return "", nil, fmt.Errorf("%w: its version or length", errMalformed)
	}
	n := int(binary.BigEndian.Uint16(b[1:]))
	b = b[3:]
	long := len(k) > cut
	switch {
	case len(b) < n, long != (n > 0), n > localfirst.MaxKey-cut:
		return "", nil, fmt.Errorf("%w: its key", errMalformed)
	case !long:
		return string(k), b, nil
	}
	full := append(append(make([]byte, 0, cut+n), k[:cut]...), b[:n]...)
	h := blake3.Sum256(full)
	if string(h[:]) != string(k[cut:]) {
		return "", nil, fmt.Errorf("%w: it is in the place of another", errMalformed)
	}
	return string(full), b[n:], nil
}

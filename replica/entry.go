package replica

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica/ids"
)

// MaxKey is the longest key of an entry in bytes.
const MaxKey = ids.MaxKey

// MaxAhead is how far an entry's timestamp may be ahead of the local clock.
const MaxAhead = 10 * time.Minute

// Entry says that an author gave a key the content of a blob. Its signed bytes, and nothing else is
// hashed or sent for it:
//
//	"skerry entry 1\n"  15 bytes
//	replica             32 bytes
//	author              32 bytes
//	timestamp           u64 big-endian, microseconds since 1970
//	size                u64 big-endian, bytes
//	hash                32 bytes, BLAKE3
//	key length          u16 big-endian
//	key
//
// followed by the author's Ed25519 signature over them, 64 bytes. An entry of size 0 and the empty
// hash is a tombstone.
type Entry struct {
	Replica   ID
	Author    AuthorID
	Timestamp uint64
	Size      uint64
	Hash      blobs.Hash
	Key       []byte
	Signature [64]byte
}

const (
	entryMagic = "skerry entry 1\n"
	entryFixed = len(entryMagic) + 32 + 32 + 8 + 8 + 32 + 2
)

var (
	// ErrMalformed reports bytes that are not an entry, or one that contradicts itself.
	ErrMalformed = errors.New("malformed entry")
	// ErrBadSignature reports an entry or grant that its author did not sign.
	ErrBadSignature = kind.New(kind.Verification, "bad signature")
	// ErrWrongReplica reports an entry or grant of another replica.
	ErrWrongReplica = errors.New("belongs to another replica")
	// ErrNotGranted reports an entry of an author whom no grant allows to write it.
	ErrNotGranted = errors.New("author has no grant for this key at this time")
	// ErrFuture reports an entry whose timestamp is too far ahead of the local clock: it may be
	// accepted later.
	ErrFuture = errors.New("timestamp is more than 10 minutes ahead of this node's clock")
	// ErrKeyTooLong reports a key over MaxKey bytes.
	ErrKeyTooLong = ids.ErrKeyTooLong
	// ErrEmptyValue reports an attempt to set a key to no bytes, which would be a tombstone.
	ErrEmptyValue = kind.New(kind.Usage, "an empty value marks a deletion: delete the key instead")
)

// EntryError reports what is wrong with one entry.
type EntryError struct {
	Key    []byte
	Author AuthorID
	Err    error
}

func (e *EntryError) Error() string {
	key := e.Key
	if len(key) > 64 {
		key = append(key[:64:64], "…"...)
	}
	return fmt.Sprintf("entry %q by %s: %v", key, e.Author.String()[:10], e.Err)
}

func (e *EntryError) Unwrap() error { return e.Err }

func (e *Entry) failed(err error) error { return &EntryError{e.Key, e.Author, err} }

// signedBytes appends the signed bytes.
func (e *Entry) signedBytes(b []byte) []byte {
	b = append(b, entryMagic...)
	b = append(b, e.Replica[:]...)
	b = append(b, e.Author[:]...)
	b = binary.BigEndian.AppendUint64(b, e.Timestamp)
	b = binary.BigEndian.AppendUint64(b, e.Size)
	b = append(b, e.Hash[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Key)))
	return append(b, e.Key...)
}

// AppendBinary appends the signed bytes and the signature.
func (e *Entry) AppendBinary(b []byte) ([]byte, error) {
	if len(e.Key) > MaxKey {
		return nil, ErrKeyTooLong
	}
	return append(e.signedBytes(b), e.Signature[:]...), nil
}

// ParseEntry reads what AppendBinary wrote. It does not verify the signature. The key is part of b.
func ParseEntry(b []byte) (e Entry, err error) {
	if len(b) < entryFixed+64 || string(b[:len(entryMagic)]) != entryMagic {
		return e, ErrMalformed
	}
	p := b[len(entryMagic):]
	p = p[copy(e.Replica[:], p):]
	p = p[copy(e.Author[:], p):]
	e.Timestamp, p = binary.BigEndian.Uint64(p), p[8:]
	e.Size, p = binary.BigEndian.Uint64(p), p[8:]
	p = p[copy(e.Hash[:], p):]
	n := int(binary.BigEndian.Uint16(p))
	if p = p[2:]; len(p) != n+64 {
		return e, fmt.Errorf("%w: %d bytes of key and signature, expected %d", ErrMalformed, len(p), n+64)
	}
	e.Key = p[:n:n]
	copy(e.Signature[:], p[n:])
	return e, e.check()
}

// check makes sure that the entry does not contradict itself.
func (e *Entry) check() error {
	if (e.Size == 0) != (e.Hash == blobs.EmptyHash) {
		return e.failed(fmt.Errorf("%w: size %d does not fit the hash", ErrMalformed, e.Size))
	}
	if e.Size > blobs.MaxSize {
		return e.failed(fmt.Errorf("%w: size %d is more than a blob may have", ErrMalformed, e.Size))
	}
	return nil
}

// ID is the BLAKE3 hash of the signed bytes.
func (e *Entry) ID() [32]byte {
	return hashOf(e.signedBytes(make([]byte, 0, entryFixed+len(e.Key))))
}

func hashOf(signed []byte) [32]byte { return blake3.Sum256(signed) }

// IsTombstone reports whether the entry marks a deletion.
func (e *Entry) IsTombstone() bool { return e.Size == 0 && e.Hash == blobs.EmptyHash }

// Time returns the timestamp.
func (e *Entry) Time() time.Time { return time.UnixMicro(int64(e.Timestamp)) }

// Sign fills in the author and the signature.
func (e *Entry) Sign(author SecretKey) {
	e.Author = author.Author()
	e.Signature = author.sign(e.signedBytes(nil))
}

// Verify returns ErrBadSignature unless the author signed the entry.
func (e *Entry) Verify() error {
	if !verify(e.Author, e.signedBytes(nil), e.Signature) {
		return e.failed(ErrBadSignature)
	}
	return nil
}

// CompareVersions is the order of the versions of one key, by all authors: by (timestamp, author,
// key, hash, size). The greatest one stands. Two entries of one replica are equal in this order
// exactly if their signed bytes are the same, so all nodes choose alike, whichever they meet first.
// The key is compared because one plain key has another sealed key in each epoch; these begin with
// the number of the epoch, and the later epoch stands.
func CompareVersions(a, b *Entry) int {
	return cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), bytes.Compare(a.Author[:], b.Author[:]),
		bytes.Compare(a.Key, b.Key), bytes.Compare(a.Hash[:], b.Hash[:]), cmp.Compare(a.Size, b.Size))
}

// replaces reports whether e takes the place of old, a version of the same key by the same author.
// Of two with the same signed bytes and different signatures, the one that is there stays.
func (e *Entry) replaces(old *Entry) bool { return CompareVersions(e, old) > 0 }

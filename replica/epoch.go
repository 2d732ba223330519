package replica

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/replica/seal"
)

// Epoch is a statement that names and content are sealed with another read key from now on. The
// replica key makes it. Its bytes:
//
//	"skerry epoch 1\n"  15 bytes
//	replica             32 bytes
//	number              u32 big-endian, from 1
//	issued              u64 big-endian, microseconds since 1970
//	commitment          32 bytes, of the read key
//	older               u8, 0 to MaxOlder, then so many read keys of the epoch before, 72 bytes each, under this one
//	signature           64 bytes, Ed25519 by the replica key over all the above
//
// Two nodes that have the replica key may begin an epoch with the same number. Then the one with
// the smaller commitment is the one to seal with, and both keys are good to open with: the next
// epoch takes both along.
type Epoch struct {
	Replica    ID
	Number     uint32
	Issued     uint64
	Commitment [32]byte
	Older      []seal.Older
	Signature  [64]byte
}

// WrappedKey is a statement that hands the read key of an epoch to one author. The replica key
// makes it. Its bytes:
//
//	"skerry key 1\n"  13 bytes, or "skerry key 2\n" by leave of a delegate
//	replica           32 bytes
//	author            32 bytes
//	epoch             u32 big-endian
//	issued            u64 big-endian, microseconds since 1970
//	commitment        32 bytes, of the read key
//	wrapped           80 bytes, see package seal; its context is "skerry key 1\n", replica, epoch and commitment
//	signature         64 bytes, Ed25519 by the replica key over all the above
type WrappedKey struct {
	Replica    ID
	Author     AuthorID
	Epoch      uint32
	Issued     uint64
	Commitment [32]byte
	Wrapped    seal.Wrapped
	// ByLeave says that the author reads only because a delegate lets it write. What the author was
	// handed otherwise no delegate can take away.
	ByLeave   bool
	Signature [64]byte
}

const (
	epochMagic   = "skerry epoch 1\n"
	epochFixed   = len(epochMagic) + 32 + 4 + 8 + 32 + 1
	wrappedMagic = "skerry key 1\n"
	byLeaveMagic = "skerry key 2\n"
	wrappedFixed = len(wrappedMagic) + 32 + 32 + 4 + 8 + 32 + seal.WrappedSize
	// MaxOlder is how many keys of the epoch before an epoch can take along.
	MaxOlder = 16
)

var (
	// ErrMalformedEpoch reports bytes that are not an epoch.
	ErrMalformedEpoch = errors.New("malformed epoch")
	// ErrMalformedKey reports bytes that are not a wrapped key.
	ErrMalformedKey = errors.New("malformed wrapped key")
)

// Sign fills in the signature.
func (e *Epoch) Sign(replica SecretKey) { e.Signature = replica.sign(e.signedBytes()) }

func (e *Epoch) signedBytes() []byte {
	b := append(make([]byte, 0, epochFixed+len(e.Older)*seal.OlderSize+64), epochMagic...)
	b = append(b, e.Replica[:]...)
	b = binary.BigEndian.AppendUint32(b, e.Number)
	b = binary.BigEndian.AppendUint64(b, e.Issued)
	b = append(b, e.Commitment[:]...)
	b = append(b, byte(len(e.Older)))
	for _, o := range e.Older {
		b = append(b, o[:]...)
	}
	return b
}

// Bytes returns the signed bytes and the signature.
func (e *Epoch) Bytes() []byte { return append(e.signedBytes(), e.Signature[:]...) }

// ID is the BLAKE3 hash of the signed bytes.
func (e *Epoch) ID() [32]byte { return hashOf(e.signedBytes()) }

// about gives the author of zeros, which nobody can be: an epoch is about all.
func (e *Epoch) about() (ID, AuthorID) { return e.Replica, AuthorID{} }

// Verify returns ErrBadSignature unless the replica key has signed the epoch.
func (e *Epoch) Verify() error {
	if !verify(e.Replica, e.signedBytes(), e.Signature) {
		return fmt.Errorf("epoch %d: %w", e.Number, ErrBadSignature)
	}
	return nil
}

// ParseEpoch reads what Bytes wrote. It verifies nothing.
func ParseEpoch(b []byte) (e Epoch, err error) {
	if len(b) < epochFixed+64 || string(b[:len(epochMagic)]) != epochMagic {
		return e, ErrMalformedEpoch
	}
	p := b[len(epochMagic):]
	p = p[copy(e.Replica[:], p):]
	e.Number, p = binary.BigEndian.Uint32(p), p[4:]
	e.Issued, p = binary.BigEndian.Uint64(p), p[8:]
	p = p[copy(e.Commitment[:], p):]
	n := int(p[0])
	if p = p[1:]; n > MaxOlder || e.Number == 0 || len(p) != n*seal.OlderSize+64 {
		return e, fmt.Errorf(
			"%w: number %d, %d older keys, %d bytes", ErrMalformedEpoch, e.Number, n, len(b),
		)
	}
	for range n {
		e.Older = append(e.Older, seal.Older(p))
		p = p[seal.OlderSize:]
	}
	copy(e.Signature[:], p)
	return e, nil
}

// before orders epochs: with the last one, names and content are sealed.
func (e EpochID) before(f EpochID) bool {
	return cmp.Or(cmp.Compare(e.Number, f.Number), bytes.Compare(f.Commitment[:], e.Commitment[:])) < 0
}

// Sign fills in the signature.
func (w *WrappedKey) Sign(replica SecretKey) { w.Signature = replica.sign(w.signedBytes()) }

func (w *WrappedKey) signedBytes() []byte {
	magic := wrappedMagic
	if w.ByLeave {
		magic = byLeaveMagic
	}
	b := append(make([]byte, 0, wrappedFixed+64), magic...)
	b = append(b, w.Replica[:]...)
	b = append(b, w.Author[:]...)
	b = binary.BigEndian.AppendUint32(b, w.Epoch)
	b = binary.BigEndian.AppendUint64(b, w.Issued)
	b = append(b, w.Commitment[:]...)
	return append(b, w.Wrapped[:]...)
}

// Bytes returns the signed bytes and the signature.
func (w *WrappedKey) Bytes() []byte { return append(w.signedBytes(), w.Signature[:]...) }

// ID is the BLAKE3 hash of the signed bytes.
func (w *WrappedKey) ID() [32]byte { return hashOf(w.signedBytes()) }

func (w *WrappedKey) about() (ID, AuthorID) { return w.Replica, w.Author }

// Verify returns ErrBadSignature unless the replica key has signed the statement.
func (w *WrappedKey) Verify() error {
	if !verify(w.Replica, w.signedBytes(), w.Signature) {
		return fmt.Errorf("read key for %s: %w", w.Author, ErrBadSignature)
	}
	return nil
}

// ParseWrappedKey reads what Bytes wrote. It verifies nothing.
func ParseWrappedKey(b []byte) (w WrappedKey, err error) {
	if len(b) != wrappedFixed+64 {
		return w, ErrMalformedKey
	}
	switch string(b[:len(wrappedMagic)]) {
	case wrappedMagic:
	case byLeaveMagic:
		w.ByLeave = true
	default:
		return w, ErrMalformedKey
	}
	p := b[len(wrappedMagic):]
	p = p[copy(w.Replica[:], p):]
	p = p[copy(w.Author[:], p):]
	w.Epoch, p = binary.BigEndian.Uint32(p), p[4:]
	w.Issued, p = binary.BigEndian.Uint64(p), p[8:]
	p = p[copy(w.Commitment[:], p):]
	p = p[copy(w.Wrapped[:], p):]
	copy(w.Signature[:], p)
	if w.Epoch == 0 {
		return w, ErrMalformedKey
	}
	return w, nil
}

// wrapContext is what a wrapped key is bound to.
func wrapContext(id ID, epoch uint32, commitment [32]byte) []byte {
	b := append([]byte(wrappedMagic), id[:]...)
	b = binary.BigEndian.AppendUint32(b, epoch)
	return append(b, commitment[:]...)
}

// wrapKey hands a read key to an author.
func wrapKey(
	replica SecretKey, author AuthorID, k EpochKey, issued uint64, byLeave bool,
) (*WrappedKey, error) {
	w := WrappedKey{
		Replica: replica.Replica(), Author: author, Epoch: k.Epoch, Issued: issued,
		Commitment: k.Key.Commitment(), ByLeave: byLeave,
	}
	wrapped, err := k.Key.Wrap(author, wrapContext(w.Replica, w.Epoch, w.Commitment))
	if err != nil {
		return nil, fmt.Errorf("read key for %s: %w", author, err)
	}
	w.Wrapped = wrapped
	w.Sign(replica)
	return &w, nil
}

// open returns the read key, for the author whose key is given. It returns seal.ErrSealed if it is
// not what the statement says.
func (w *WrappedKey) open(author SecretKey) (k EpochKey, err error) {
	k.Epoch = w.Epoch
	k.Key, err = seal.Unwrap(w.Wrapped, author.Seed(), wrapContext(w.Replica, w.Epoch, w.Commitment))
	if err == nil && k.Key.Commitment() != w.Commitment {
		err = seal.ErrSealed
	}
	return k, err
}

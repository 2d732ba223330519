package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/replica"
)

// A host may withhold entries of a vault, or show it as it was long ago. So that this is noticed,
// each device says in an entry of its own, its head, what it has written to the vault until when.
// The key is "/skerry/heads/" and the device's author id; the content is sealed with the catalogue
// key as the catalogue's entries are, but with the entry's key as associated data, and holds
//
//	version   u8 = 1
//	count     u32 big-endian: how many entries the author has in the vault, with tombstones, without the head
//	digest    32 bytes: BLAKE3 of the ids of these entries, in ascending order
//
// A head is about the time of its own entry. If an author has entries that are newer, the head that
// belongs to them has not come yet, and says nothing. Otherwise its count and digest must be those
// of the entries that are here.
const (
	headPrefix  = "/skerry/heads/"
	headVersion = 1
	headPlain   = 1 + 4 + 32
)

// Head is what an author says about its entries.
type Head struct {
	Count  uint32
	Digest [32]byte
}

// ErrNotHead reports an entry that is not a head.
var ErrNotHead = errors.New("not a head")

// HeadKey returns the key of an author's head.
func HeadKey(author replica.AuthorID) []byte { return []byte(headPrefix + author.String()) }

// HeadOf describes entries, given by their ids, in any order.
func HeadOf(ids [][32]byte) (h Head) {
	slices.SortFunc(ids, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	sum := blake3.New(32, nil)
	for i := range ids {
		_, _ = sum.Write(ids[i][:]) // never fails
	}
	h.Count = uint32(len(ids))
	sum.Sum(h.Digest[:0])
	return h
}

// Seal returns the content of an author's head.
func (h *Head) Seal(key CatalogueKey, author replica.AuthorID) ([]byte, error) {
	b := binary.BigEndian.AppendUint32([]byte{headVersion}, h.Count)
	return sealWith(key, append(b, h.Digest[:]...), HeadKey(author))
}

// OpenHead reads an author's head. It returns ErrSealed or ErrNotHead.
func OpenHead(key CatalogueKey, author replica.AuthorID, sealed []byte) (h Head, err error) {
	b, err := openWith(key, sealed, HeadKey(author))
	if err != nil {
		return h, fmt.Errorf("head of %s: %w", author, err)
	}
	if len(b) != headPlain || b[0] != headVersion {
		return h, fmt.Errorf("head of %s: %w: of an unknown form", author, ErrNotHead)
	}
	h.Count = binary.BigEndian.Uint32(b[1:])
	copy(h.Digest[:], b[5:])
	return h, nil
}

// Written is what is here of an author: its head and the other entries.
type Written struct {
	Author  replica.AuthorID
	Head    *Head      // nil if there is none
	HeadAt  uint64     // timestamp of the head's entry
	Entries [][32]byte // ids
	Newest  uint64     // timestamp of the newest of these
}

// Missing says what is missing of an author, or nothing if all is as its head says.
func (w *Written) Missing() string {
	short := w.Author.String()[:10]
	switch {
	case w.Head == nil && len(w.Entries) > 0:
		return fmt.Sprintf(
			"device %s has written %d entries, and what it says of them is missing: somebody withholds "+
				"it, or it has not come yet",
			short, len(w.Entries),
		)
	case w.Head == nil || w.Newest > w.HeadAt:
		return ""
	case HeadOf(slices.Clone(w.Entries)) == *w.Head:
		return ""
	}
	when := time.UnixMicro(int64(w.HeadAt)).Local().Format(time.DateTime)
	return fmt.Sprintf(
		"device %s had written %d entries by %s, and %d are here that are not all of these: somebody "+
			"withholds some or shows old ones, or they have not come yet",
		short, w.Head.Count, when, len(w.Entries),
	)
}

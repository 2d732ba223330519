// Package bundle is how a list of entries or statements is written, one after another: in a push, a
// message of gossip, and the answer to an invite.
//
//	count varint (at most 1,024), then each: length varint (at most 131,072), bytes; together at most
//	2 MiB
//
// What belongs here: the bytes of such a list and its limits. What never belongs here: what an item
// says, and the messages around a list.
package bundle

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/link"
)

// Limits of a list. A reader takes none that is beyond them.
const (
	// Max is how many items there are at most.
	Max = 1024
	// MaxItem is how long each may be.
	MaxItem = 128 << 10
	// MaxBytes is how long all of a list may be together.
	MaxBytes = 2 << 20
)

// Few returns the first of some items, as many as a receiver takes.
func Few(items [][]byte) [][]byte {
	total := 0
	for i, it := range items {
		if total += len(it); i == Max || total > MaxBytes {
			return items[:i]
		}
	}
	return items
}

// Append appends a list.
func Append(b []byte, items [][]byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(items)))
	for _, it := range items {
		b = append(binary.AppendUvarint(b, uint64(len(it))), it...)
	}
	return b
}

// itemBytes is what an item occupies in memory beside its bytes.
const itemBytes = 32

// Read reads items, whose memory v counts until the visit ends.
func Read(r *bufio.Reader, v *admission.Visit) ([][]byte, error) {
	count, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, link.NoEOF(err)
	}
	if count > Max {
		return nil, fmt.Errorf("push of %d items, at most %d", count, Max)
	}
	var items [][]byte
	var total uint64
	for range count {
		size, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, link.NoEOF(err)
		}
		if size > MaxItem {
			return nil, fmt.Errorf("push of an item of %d bytes, at most %d", size, MaxItem)
		}
		if total += size; total > MaxBytes {
			return nil, fmt.Errorf("push of more than %d bytes", MaxBytes)
		}
		if err := v.Take(int(size) + itemBytes); err != nil {
			return nil, err
		}
		it := make([]byte, size)
		if _, err := io.ReadFull(r, it); err != nil {
			return nil, link.NoEOF(err)
		}
		items = append(items, it)
	}
	return items, nil
}

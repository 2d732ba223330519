package blobs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/kv"
)

// Records of the store; all keys begin with 'b'. Integers in keys are big-endian, so that they
// sort.
//
//	b h hash[32]                  what is known of a blob, and where its content lies: see record
//	b i hash[32]                  the content of a blob of at most InlineSize bytes
//	b t id[8] level[1] index[4]   a block of parents in pre-order (64 bytes each, zero where unknown), of a blob in a file
//	b m id[8] index[4]            while a blob is partial: u32 LE, the groups of a segment that are there
//	b d id[8]                     the file and blocks under id are garbage: an import under way, or a deletion not yet finished
//	b u epoch[8] kind[1] n[8]     content written in an epoch to file (0) or pack (1) n, not known to be on stable storage: see Sync
//	b p name                      a pin: see pins.go
//	b v                           varint, the format of these records: 2
//	b b                           the run of the operating system in which the store was last open
//
// A blob lies in one of four places. A tiny one lies in the kv.Store. One of at most a segment lies
// in a pack: its parents in pre-order, then its content. A larger or partial one has a file of its
// own, under a random id, since a stream's hash is known only at its end: its content at its
// offsets, and nothing else. A referenced one lies in a file of the user's. A partial blob's size
// is always proved: its record is made only after the last group has been verified.
const (
	keyRecord   = "bh"
	keyInline   = "bi"
	keyTree     = "bt"
	keyMask     = "bm"
	keyGarbage  = "bd"
	keyUnsynced = "bu"
	keyPin      = "bp"
	keyFormat   = "bv"
	keyBoot     = "bb"

	formatVersion = 1
)

// InlineSize is the largest blob in bytes that is kept as a record.
const InlineSize = 1 << 10

// contentID names the file and the blocks of one blob.
type contentID = files.ID

// state of a blob in its record.
type state byte

const (
	stateInline     state = 0
	stateComplete   state = 1 // in a file of its own
	statePartial    state = 2 // likewise
	statePacked     state = 3
	stateReferenced state = 4
)

// record is the value under keyRecord: version u8 = 1, state u8, size varint, and then
//
//	complete     id u64 BE
//	partial      id u64 BE, number of groups present varint
//	packed       pack varint, offset varint; the length follows from the size
//	referenced   id u64 BE of its blocks, modification time in ns varint, path
type record struct {
	state  state
	size   uint64
	id     contentID
	have   uint64
	extent files.Extent
	ref    reference
}

// reference is where a blob lies that is not the store's own.
type reference struct {
	path     string
	modified time.Time
}

func (r record) marshal() []byte {
	b := binary.AppendUvarint([]byte{formatVersion, byte(r.state)}, r.size)
	switch r.state {
	case stateComplete, statePartial, stateReferenced:
		b = binary.BigEndian.AppendUint64(b, uint64(r.id))
	case statePacked:
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(r.extent.Pack)), r.extent.Offset)
	}
	switch r.state {
	case statePartial:
		b = binary.AppendUvarint(b, r.have)
	case stateReferenced:
		b = append(binary.AppendVarint(b, r.ref.modified.UnixNano()), r.ref.path...)
	}
	return b
}

var errMalformed = errors.New("blob store: malformed record")

func parseRecord(b []byte) (r record, err error) {
	if len(b) < 3 || b[0] != formatVersion || b[1] > byte(stateReferenced) {
		return r, errMalformed
	}
	r.state = state(b[1])
	b = b[2:]
	uvarint := func() uint64 {
		x, n := binary.Uvarint(b)
		if n <= 0 {
			err = errMalformed
			return 0
		}
		b = b[n:]
		return x
	}
	r.size = uvarint()
	switch r.state {
	case stateComplete, statePartial, stateReferenced:
		if len(b) < 8 {
			return r, errMalformed
		}
		r.id, b = contentID(binary.BigEndian.Uint64(b)), b[8:]
	case statePacked:
		r.extent.Pack, r.extent.Offset = files.Pack(uvarint()), uvarint()
		r.extent.Length = uint64(treeBytes(int(groupCount(r.size)))) + r.size
	}
	switch r.state {
	case statePartial:
		r.have = uvarint()
	case stateReferenced:
		ns, n := binary.Varint(b)
		if n <= 0 {
			return r, errMalformed
		}
		r.ref = reference{string(b[n:]), time.Unix(0, ns)}
		b = nil
	}
	if len(b) > 0 || r.size > MaxSize || r.state == statePacked && r.size > SegmentSize {
		err = errMalformed
	}
	return r, err
}

func recordKey(h Hash) []byte { return append([]byte(keyRecord), h[:]...) }
func inlineKey(h Hash) []byte { return append([]byte(keyInline), h[:]...) }
func idKey(kind string, id contentID) []byte {
	return binary.BigEndian.AppendUint64([]byte(kind), uint64(id))
}
func blockKey(id contentID, level int, index uint64) []byte {
	return binary.BigEndian.AppendUint32(append(idKey(keyTree, id), byte(level)), uint32(index))
}
func maskKey(id contentID, index uint64) []byte {
	return binary.BigEndian.AppendUint32(idKey(keyMask, id), uint32(index))
}

func getRecord(r kv.Reader, h Hash) (rec record, err error) {
	rec, found, err := findRecord(r, h)
	if err == nil && !found {
		return rec, fmt.Errorf("%w: %s", ErrNotFound, h)
	}
	return rec, err
}

// findRecord is getRecord for callers to whom a blob that is not there is nothing special.
func findRecord(r kv.Reader, h Hash) (rec record, found bool, err error) {
	err = r.Peek(recordKey(h), func(v []byte) (err error) {
		rec, err = parseRecord(v)
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		return record{}, false, nil
	}
	return rec, err == nil, err
}

// hasFile reports whether the blob has a file of its own in the store.
func (r record) hasFile() bool { return r.state == stateComplete || r.state == statePartial }

// hasBlocks reports whether there are records under r.id.
func (r record) hasBlocks() bool { return r.hasFile() || r.state == stateReferenced }

func (r record) info(h Hash) Info {
	i := Info{
		Hash: h, Size: r.size, Complete: r.state != statePartial, Present: r.size, Reference: r.ref.path,
		Modified: r.ref.modified,
	}
	if !i.Complete {
		i.Present = min(r.have*GroupSize, r.size)
	}
	return i
}

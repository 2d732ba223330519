package replicas

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
	"lukechampine.com/blake3"
)

// The file of a journal, version 1, begins with its head, twice, so that damage to one of them
// leaves the other:
//
//	magic     8 bytes: journalMagic
//	id        32 bytes, random, of this file
//	checksum  8 bytes: the first of the BLAKE3 hash of magic and id
//
// Records follow, each
//
//	mark      4 bytes: the first of the id
//	length    4 bytes, big-endian: of the payload, at most maxRecord
//	checksum  8 bytes, big-endian: XXH64 of the id, the length and the payload
//	payload   kind (1 byte: 1 what was put, 2 what was deleted); as uvarints the generation, the
//	          number of the record in it, from 1, and the number of the last one that was on the
//	          disk when this was added; the time (8 bytes, big-endian, in µs); the key and the
//	          media type, each with its length as a uvarint before it; and the bytes
//
// Behind damage, the next record is looked for by its mark. What is stored cannot pass for a
// record: whoever writes it does not know the id, with which mark and checksum begin. Numbers tell
// how many records are lost, and whether they had been acknowledged.
const (
	journalMagic = "SKCJRNL\x01"
	maxRecord    = 2 << 20
	markSize     = 4
	recordHead   = markSize + 4 + checksumSize
	checksumSize = 8
	oneHead      = len(journalMagic) + len(journalID{}) + checksumSize
	headSize     = 2 * int64(oneHead)
)

const (
	recordPut    = 1
	recordDelete = 2
)

// record is what a record of a journal says.
type record struct {
	kind      byte
	time      uint64 // µs, that the entry in the replica has
	key, kept string // kept is the media type
	body      []byte

	generation, number, durable uint64 // where it stands
}

// journalID is the id of a journal.
type journalID [32]byte

// form writes and reads the records of one journal. It is used by one goroutine at a time.
type form struct {
	id  journalID
	sum *xxhash.Digest
}

func newForm() *form {
	var id journalID
	_, _ = rand.Read(id[:]) // never fails
	return formOf(id)
}

func formOf(id journalID) *form { return &form{id: id, sum: xxhash.New()} }

// head returns what a journal begins with.
func (id journalID) head() []byte {
	b := append([]byte(journalMagic), id[:]...)
	sum := blake3.Sum256(b)
	b = append(b, sum[:checksumSize]...)
	return append(b, b...)
}

// parseHead returns the id in a head of which one half is whole.
func parseHead(b []byte) (id journalID, ok bool) {
	for at := 0; at+oneHead <= min(len(b), int(headSize)); at += oneHead {
		h := b[at : at+oneHead]
		text := h[:oneHead-checksumSize]
		sum := blake3.Sum256(text)
		if string(h[:len(journalMagic)]) == journalMagic &&
			bytes.Equal(sum[:checksumSize], h[len(text):]) {
			return journalID(text[len(journalMagic):]), true
		}
	}
	return id, false
}

// checksum is that of a record, whose length and payload are given.
func (f *form) checksum(length, payload []byte) [checksumSize]byte {
	f.sum.Reset()
	_, _ = f.sum.Write(f.id[:]) // never fails, as below
	_, _ = f.sum.Write(length)
	_, _ = f.sum.Write(payload)
	return [checksumSize]byte(binary.BigEndian.AppendUint64(nil, f.sum.Sum64()))
}

func (f *form) append(b []byte, r *record, generation, number, durable uint64) []byte {
	at := len(b)
	b = append(b, f.id[:markSize]...)
	b = append(b, make([]byte, recordHead-markSize)...)
	b = append(b, r.kind)
	for _, n := range []uint64{generation, number, durable} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.BigEndian.AppendUint64(b, r.time)
	b = append(binary.AppendUvarint(b, uint64(len(r.key))), r.key...)
	b = append(binary.AppendUvarint(b, uint64(len(r.kept))), r.kept...)
	b = append(b, r.body...)
	length := b[at+markSize : at+markSize+4]
	binary.BigEndian.PutUint32(length, uint32(len(b)-at-recordHead))
	sum := f.checksum(length, b[at+recordHead:])
	copy(b[at+markSize+4:], sum[:])
	return b
}

// parse reads the record at the beginning of b and returns its length, or 0 if there is none that
// is whole.
func (f *form) parse(b []byte) (r record, n int) {
	if len(b) < recordHead || !bytes.Equal(b[:markSize], f.id[:markSize]) {
		return r, 0
	}
	length := b[markSize : markSize+4]
	size := binary.BigEndian.Uint32(length)
	if size > maxRecord || size == 0 || int(size) > len(b)-recordHead {
		return r, 0
	}
	n = recordHead + int(size)
	p := b[recordHead:n]
	if f.checksum(length, p) != [checksumSize]byte(b[markSize+4:recordHead]) {
		return r, 0
	}
	r.kind, p = p[0], p[1:]
	for _, x := range []*uint64{&r.generation, &r.number, &r.durable} {
		var k int
		if *x, k = binary.Uvarint(p); k <= 0 {
			return r, 0
		}
		p = p[k:]
	}
	if len(p) < 8 || r.number == 0 {
		return r, 0
	}
	r.time, p = binary.BigEndian.Uint64(p), p[8:]
	if !r.parseRest(p) {
		return r, 0
	}
	return r, n
}

// parseRest reads the key and what follows it.
func (r *record) parseRest(p []byte) bool {
	text := func() (s string, ok bool) {
		l, k := binary.Uvarint(p)
		if k <= 0 || l > uint64(len(p)-k) {
			return "", false
		}
		s, p = string(p[k:k+int(l)]), p[k+int(l):]
		return s, true
	}
	var ok bool
	if r.key, ok = text(); ok {
		r.kept, ok = text()
	}
	if !ok || r.key == "" || r.kind != recordPut && r.kind != recordDelete {
		return false
	}
	r.body = append([]byte(nil), p...)
	return true
}

// contents is what a journal holds.
type contents struct {
	records []record
	lost    int // records that had been acknowledged and cannot be read; maybe there are more
	skipped int // bytes that cannot be read, before a record
	tail    int // bytes behind the last record, but for zeros at the end
	kept    string
}

// parseJournal reads the file of a journal, which is empty if there is none. It returns errJournal.
func parseJournal(b []byte) (c contents, err error) {
	if id, ok := parseHead(b); ok {
		c.parse(formOf(id), b[min(int64(len(b)), headSize):]) // the head is doubled; one half is enough
		return c, nil
	}
	if len(b) < len(journalMagic) ||
		len(b) < int(headSize) &&
			string(b[:len(journalMagic)]) == journalMagic { // before there was a record
		c.tail = len(bytes.TrimRight(b, "\x00"))
		return c, nil
	}
	return c, errJournal
}

// parse reads records, and looks behind damage for the next.
func (c *contents) parse(f *form, b []byte) {
	gap := 0 // bytes of damage before b
	for len(b) > 0 {
		r, n := f.parse(b)
		if n == 0 {
			// The next mark may be that of a record.
			next := bytes.Index(b[1:], f.id[:markSize])
			if next < 0 {
				break
			}
			gap += 1 + next
			b = b[1+next:]
			continue
		}
		b = b[n:]
		if !c.follows(&r) {
			gap += n
			continue
		}
		c.skipped += gap
		gap = 0
		c.records = append(c.records, r)
	}
	c.tail = gap + len(bytes.TrimRight(b, "\x00"))
	c.count()
}

// follows reports whether a record comes after those before it. One that does not is of before the
// journal was last emptied, which was not brought to the disk.
func (c *contents) follows(r *record) bool {
	if len(c.records) == 0 {
		return true
	}
	last := &c.records[len(c.records)-1]
	return r.generation > last.generation || r.generation == last.generation && r.number > last.number
}

// count finds out how many acknowledged records are missing.
func (c *contents) count() {
	if len(c.records) == 0 {
		return
	}
	// Of generations before the last, all is in the replica.
	last := c.records[len(c.records)-1]
	c.records = slices.DeleteFunc(c.records, func(r record) bool {
		return r.generation != last.generation
	})
	there, durable := 0, uint64(0)
	for _, r := range c.records {
		durable = max(durable, r.durable)
	}
	for _, r := range c.records {
		if r.number <= durable {
			there++
		}
	}
	c.lost = int(durable) - there
}

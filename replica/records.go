package replica

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/skerry-sync/skerry/kv"
)

// Records of the store; all keys begin with 'r'. Integers are big-endian. Each replica and, within
// it, each author has a number that is local to the store: what is written for every entry names
// them by it.
//
//	r r replica[32]                     a replica that this node holds: see Replica.marshal
//	r n name                            its id
//	r z                                 the next number of a replica, u32
//	r a author[32]                      an author's seed[32]
//	r d                                 the default author's id
//	r b replica author class u8 id[32]  a statement about the author; the class is 0 for those of the replica key, 1 for those of delegates
//	r y replica root kind u8 epoch[4]   the same statement of a delegate by its budget, the epoch of its prefix, and its rank[41]:
//	    rank                            the author; see delegated.go
//	r h replica[32]                     a random number, u64, that changes with the statements
//	r t replica[32] …                   the summary tree of the statements, if there are many: see statementset.go
//	r j replica[32] element[16]         likewise, a statement by its element: author[32] class u8, the second half of its id
//	r e replica[32] epoch[4] commit[8]  the read key[32] of an epoch, under the beginning of its commitment
//	r p replica[32]                     from when on entries may be void by a revocation: the key of a record by time, or the first 8 bytes of one
//	r o number[4] 00 order bytes        an entry: timestamp u64, size u64, hash, signature; see keyspace.go for
//	r o number[4] 01 space[16] order    keys over 512 bytes
//	r i number[4] timestamp[8] id[16]   the same entry by time: number of the author u32, key; id is the first half of the entry's
//	r w number[4] author[32]            an author with entries: number u32, entries u64, earliest and latest timestamp ever u64
//	r v number[4] author number[4]      its id
//	r s number[4] …                     the summary tree of the entries: see package tree
//	r c number[4]                       counts: entries u64, of these tombstones u64, authors u32
//	r l replica[32] number[4]           the replica has been left, its records are being deleted
const (
	keyReplica       = "rr"
	keyName          = "rn"
	keyNextNumber    = "rz"
	keyAuthor        = "ra"
	keyDefault       = "rd"
	keyStatement     = "rb"
	keyDelegated     = "ry"
	keyStatements    = "rh"
	keyStatementTree = "rt"
	keyStatementAt   = "rj"
	keyVoid          = "rp"
	keyReadKey       = "re"
	keyEntry         = "ro"
	keyByTime        = "ri"
	keyWriter        = "rw"
	keyWriterID      = "rv"
	keyTree          = "rs"
	keyCounts        = "rc"
	keyLeft          = "rl"
)

// perEntry are the kinds of records that lie under a replica's number.
var perEntry = []string{keyEntry, keyByTime, keyWriter, keyWriterID, keyTree, keyCounts}

// perReplica are the kinds of records that lie under a replica's id.
var perReplica = []string{
	keyStatementTree, keyStatementAt, keyStatement, keyDelegated, keyStatements, keyVoid, keyReadKey,
}

// number stands for a replica within the store.
type number uint32

func idKey(kind string, id ID) []byte { return append([]byte(kind), id[:]...) }

func numberKey(kind string, n number) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, 64), kind...), uint32(n))
}

var errBadRecord = errors.New("replica store: malformed record")

// Flags of a replica's record.
const (
	flagEncrypted = 1
	flagLeast     = 2 // an epoch is known
)

// marshal gives: version u8 = 1, flags u8, capability u8, created u64 µs, number u32, the epoch's
// number u32 and commitment[32] if one is known, seed[32] if the capability is Write, name.
func (r *Replica) marshal() []byte {
	flags := byte(0)
	if r.Encrypted {
		flags |= flagEncrypted
	}
	if r.Least.Number > 0 {
		flags |= flagLeast
	}
	b := []byte{1, flags, byte(r.Capability)}
	b = binary.BigEndian.AppendUint64(b, uint64(r.Created.UnixMicro()))
	b = binary.BigEndian.AppendUint32(b, uint32(r.number))
	if flags&flagLeast != 0 {
		b = binary.BigEndian.AppendUint32(b, r.Least.Number)
		b = append(b, r.Least.Commitment[:]...)
	}
	if r.Capability == Write {
		seed := r.Secret.Seed()
		b = append(b, seed[:]...)
	}
	return append(b, r.Name...)
}

func parseReplica(id ID, b []byte) (r Replica, err error) {
	if len(b) < 15 || b[0] != 1 || b[1]&^(flagEncrypted|flagLeast) != 0 {
		return r, errBadRecord
	}
	flags := b[1]
	r = Replica{
		ID: id, Capability: Capability(b[2]), Encrypted: flags&flagEncrypted != 0,
		Created: time.UnixMicro(int64(binary.BigEndian.Uint64(b[3:]))),
		number:  number(binary.BigEndian.Uint32(b[11:])),
	}
	b = b[15:]
	if flags&flagLeast != 0 {
		if len(b) < 36 {
			return r, errBadRecord
		}
		if r.Least = (EpochID{binary.BigEndian.Uint32(b), [32]byte(b[4:])}); r.Least.Number == 0 {
			return r, errBadRecord
		}
		b = b[36:]
	}
	if r.Capability == Write {
		if len(b) < 32 {
			return r, errBadRecord
		}
		r.Secret = secretKey([32]byte(b), id)
		b = b[32:]
	}
	r.Name = string(b)
	return r, nil
}

// nextNumber takes a number that no replica has had.
func nextNumber(tx kv.Txn) (number, error) {
	var n uint32
	err := tx.Peek([]byte(keyNextNumber), func(b []byte) error {
		if len(b) != 4 {
			return errBadRecord
		}
		n = binary.BigEndian.Uint32(b)
		return nil
	})
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return 0, err
	}
	if n++; n == 0 {
		return 0, errors.New("replica store: no numbers for replicas are left")
	}
	return number(n), tx.Set([]byte(keyNextNumber), binary.BigEndian.AppendUint32(nil, n))
}

// Counts are the numbers of a replica's entries.
type Counts struct {
	Entries    uint64 // without tombstones
	Tombstones uint64
}

// tally is a record of counts.
type tally struct {
	Counts
	authors uint32
}

func getTally(r kv.Reader, n number) (c tally, err error) {
	err = r.Peek(numberKey(keyCounts, n), func(b []byte) error {
		if len(b) != 20 {
			return errBadRecord
		}
		c = tally{
			Counts{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])},
			binary.BigEndian.Uint32(b[16:]),
		}
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		return c, nil
	}
	return c, err
}

func setTally(w kv.Writer, n number, c tally) error {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, c.Entries), c.Tombstones)
	return w.Set(numberKey(keyCounts, n), binary.BigEndian.AppendUint32(b, c.authors))
}

// writer is an author as the entries of one replica know it.
type writer struct {
	number      uint32
	entries     uint64
	first, last uint64 // timestamps, of entries that may have been replaced since
}

func writerKey(n number, author AuthorID) []byte {
	return append(numberKey(keyWriter, n), author[:]...)
}

func (w *writer) marshal() []byte {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, w.number), w.entries)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, w.first), w.last)
}

func parseWriter(b []byte) (w writer, err error) {
	if len(b) != 28 {
		return w, errBadRecord
	}
	return writer{
		binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:]), binary.BigEndian.Uint64(b[12:]),
		binary.BigEndian.Uint64(b[20:]),
	}, nil
}

// getWriter returns ErrNotFound for an author without entries.
func getWriter(r kv.Reader, n number, author AuthorID) (w writer, err error) {
	err = r.Peek(writerKey(n, author), func(b []byte) error {
		w, err = parseWriter(b)
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		return w, ErrNotFound
	}
	return w, err
}

func writerIDKey(n number, author uint32) []byte {
	return binary.BigEndian.AppendUint32(numberKey(keyWriterID, n), author)
}

// writerIDs finds authors by their numbers.
type writerIDs struct {
	rd    kv.Reader
	of    number
	known map[uint32]AuthorID
}

func (w *writerIDs) get(n uint32) (id AuthorID, err error) {
	if id, ok := w.known[n]; ok {
		return id, nil
	}
	err = w.rd.Peek(writerIDKey(w.of, n), func(b []byte) error {
		if len(b) != len(id) {
			return errBadRecord
		}
		id = AuthorID(b)
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		return id, errBadRecord
	}
	if err == nil {
		if w.known == nil {
			w.known = map[uint32]AuthorID{}
		}
		w.known[n] = id
	}
	return id, err
}

// marshalValue gives what is stored of an entry beside its key.
func (e *Entry) marshalValue() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 112), e.Timestamp)
	b = binary.BigEndian.AppendUint64(b, e.Size)
	b = append(b, e.Hash[:]...)
	return append(b, e.Signature[:]...)
}

func parseValue(id ID, key []byte, author AuthorID, b []byte) (Entry, error) {
	if len(b) != 112 {
		return Entry{}, errBadRecord
	}
	e := Entry{
		Replica: id, Author: author, Key: key, Timestamp: binary.BigEndian.Uint64(b),
		Size: binary.BigEndian.Uint64(b[8:]),
	}
	copy(e.Hash[:], b[16:])
	copy(e.Signature[:], b[48:])
	return e, nil
}

// getEntry returns ErrNotFound if there is none.
func getEntry(rd kv.Reader, r *Replica, key []byte, author AuthorID) (e Entry, err error) {
	at, _ := entryKey(r.number, key, author)
	err = rd.Peek(at, func(b []byte) error {
		e, err = parseValue(r.ID, key, author, b)
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		return e, ErrNotFound
	}
	return e, err
}

// timeKey is the key of an entry's record by time; entryID is its id.
func timeKey(n number, timestamp uint64, entryID *[32]byte) []byte {
	b := binary.BigEndian.AppendUint64(numberKey(keyByTime, n), timestamp)
	return append(b, entryID[:16]...)
}

package replicas

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/skerry-sync/skerry/internal/disk"
)

// A journal holds what has been acknowledged and is not in the replica yet, so that a write need not wait for that: what is in it is written to the replica
// in larger groups, and again after a crash. It is one file, which begins with journalMagic. Records follow, each
//
//	length    4 bytes, big-endian: of the payload, at most maxRecord
//	checksum  4 bytes: CRC-32C of the length and the payload
//	payload   kind (1 byte: 1 what was put, 2 what was deleted), the key and the media type, each with its length as a uvarint before it, and the bytes
//
// What follows the last record that is whole is what a crash has cut off, of which nobody was told that it is there; or zeros, room for further records,
// as writing into blocks that a file has already is made durable sooner.
type journal struct {
	name string
	file *os.File
	size int64 // of what is whole
	room int64 // of the file
}

const (
	journalMagic = "SKCJRNL\x01"
	maxRecord    = 2 << 20
	recordHead   = 8
)

// A journal of some size, which more records come to, is given as much room again, within bounds.
const (
	minRoom = 64 << 10
	maxRoom = 1 << 20
)

const (
	recordPut    = 1
	recordDelete = 2
)

// record is what a record of a journal says.
type record struct {
	kind      byte
	key, kept string // kept is the media type
	body      []byte
}

var (
	errJournal = errors.New("it is no journal of this version")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func (r *record) append(b []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = append(b, r.kind)
	b = append(binary.AppendUvarint(b, uint64(len(r.key))), r.key...)
	b = append(binary.AppendUvarint(b, uint64(len(r.kept))), r.kept...)
	b = append(b, r.body...)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-recordHead))
	binary.BigEndian.PutUint32(b[at+4:], checksum(b[at:]))
	return b
}

// checksum is that of a record, without the checksum in it.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, b[recordHead:])
}

// parseRecord reads the record at the beginning of b and returns its length, or 0 if there is none that is whole.
func parseRecord(b []byte) (r record, n int) {
	if len(b) < recordHead {
		return r, 0
	}
	size := binary.BigEndian.Uint32(b)
	if size > maxRecord || int(size) > len(b)-recordHead {
		return r, 0
	}
	n = recordHead + int(size)
	if binary.BigEndian.Uint32(b[4:]) != checksum(b[:n]) || size == 0 {
		return r, 0
	}
	p := b[recordHead:n]
	r.kind, p = p[0], p[1:]
	text := func() (s string, ok bool) {
		l, k := binary.Uvarint(p)
		if k <= 0 || l > uint64(len(p)-k) {
			return "", false
		}
		s, p = string(p[k:k+int(l)]), p[k+int(l):]
		return s, true
	}
	var ok, also bool
	r.key, ok = text()
	if ok {
		r.kept, also = text()
	}
	if !ok || !also || r.key == "" || r.kind != recordPut && r.kind != recordDelete {
		return r, 0
	}
	r.body = append([]byte(nil), p...)
	return r, n
}

// openJournals are the names of those that are open in this process: two would write over each other.
var openJournals sync.Map

// errOpen reports a journal that is open already.
var errOpen = errors.New("it is open already: only one store may be open in a replica")

// openJournal opens a journal, which it makes if there is none, and returns what is in it. cut is how many bytes behind the last whole record it has dropped.
func openJournal(name string) (j *journal, all []record, cut int, err error) {
	if _, there := openJournals.LoadOrStore(name, true); there {
		return nil, nil, 0, fmt.Errorf("journal %s: %w", name, errOpen)
	}
	defer func() {
		if err != nil {
			openJournals.Delete(name)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, nil, 0, err
	}
	b, err := os.ReadFile(name)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return nil, nil, 0, err
	}
	if len(b) >= len(journalMagic) && string(b[:len(journalMagic)]) != journalMagic {
		return nil, nil, 0, fmt.Errorf("journal %s: %w", name, errJournal)
	}
	j = &journal{name: name}
	if j.file, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, nil, 0, err
	}
	if len(b) >= len(journalMagic) {
		j.size = int64(len(journalMagic))
		for {
			r, n := parseRecord(b[j.size:])
			if n == 0 {
				break
			}
			all = append(all, r)
			j.size += int64(n)
		}
		cut = len(bytes.TrimRight(b[j.size:], "\x00"))
		err = j.truncate()
	} else {
		_, err = j.file.WriteAt([]byte(journalMagic), 0)
		j.size = int64(len(journalMagic))
		err = errors.Join(err, j.truncate(), disk.SyncDir(filepath.Dir(name)))
	}
	if err != nil {
		return nil, nil, 0, errors.Join(fmt.Errorf("journal %s: %w", name, err), j.file.Close())
	}
	return j, all, cut, nil
}

// truncate drops what is behind the last record.
func (j *journal) truncate() error {
	j.room = j.size
	return errors.Join(j.file.Truncate(j.size), j.file.Sync())
}

// add makes records durable.
func (j *journal) add(b []byte) error {
	size, sync := j.size+int64(len(b)), disk.SyncData
	_, err := j.file.WriteAt(b, j.size)
	if err == nil && size > j.room {
		sync = (*os.File).Sync
		if j.room = size; size >= minRoom {
			zeros := make([]byte, min(size, maxRoom))
			if _, none := j.file.WriteAt(zeros, size); none == nil {
				j.room += int64(len(zeros))
			} else { // as on a full disk: it goes without
				err = j.file.Truncate(size)
			}
		}
	}
	if err == nil {
		err = sync(j.file)
	}
	if err != nil { // what has been written is not there
		j.room = j.size
		return errors.Join(err, j.file.Truncate(j.size))
	}
	j.size = size
	return nil
}

// reset drops all records.
func (j *journal) reset() error {
	j.size = int64(len(journalMagic))
	j.room = j.size
	return j.file.Truncate(j.size)
}

func (j *journal) isEmpty() bool { return j.size == int64(len(journalMagic)) }

func (j *journal) close() error {
	openJournals.Delete(j.name)
	var err error
	if j.room > j.size {
		err = j.file.Truncate(j.size)
	}
	return errors.Join(err, j.file.Close())
}

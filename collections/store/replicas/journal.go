package replicas

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/skerry-sync/skerry/internal/disk"
)

// A journal holds what has been acknowledged and is not in the replica yet, so that a write need
// not wait for that: what is in it is written to the replica in larger groups, and again after a
// crash. It is one file in the form that record.go describes.
//
// What follows the last whole record is zeros, room for further records, as writing into blocks
// that a file has already is made durable sooner; or what a crash has cut off. Damage anywhere
// costs the records that it hits, and no others.
type journal struct {
	name string
	file *os.File
	form *form
	size int64 // of what is whole
	room int64 // of the file

	generation uint64 // grows when the journal is emptied
	number     uint64 // of the last record
	durable    uint64 // of the last record that is on the disk
	moved      bool   // the file has its name, of which it is not known whether that is durable
}

// A journal of some size, which more records come to, is given as much room again, within bounds.
const (
	minRoom = 64 << 10
	maxRoom = 1 << 20
)

var errJournal = errors.New("it is no journal of this version, or its beginning is damaged: " +
	"a newer skerry may read it; without the file the server starts, and what it held is lost")

// openJournals are the names of those that are open in this process: two would write over each
// other.
var openJournals sync.Map

// errOpen reports a journal that is open already.
var errOpen = errors.New("it is open already: only one store may be open in a replica")

// damagedSuffix is what the name of a damaged journal gets, which is kept.
const damagedSuffix = ".damaged"

// openJournal opens a journal, which it makes if there is none, and returns what is in it.
//
// The file is written anew, with an id of its own: what an earlier one has left on the disk behind
// its end is no record of this one. A damaged file is kept beside it.
func openJournal(name string) (j *journal, c contents, err error) {
	if _, there := openJournals.LoadOrStore(name, true); there {
		return nil, c, fmt.Errorf("journal %s: %w", name, errOpen)
	}
	defer func() {
		if err != nil {
			openJournals.Delete(name)
			err = fmt.Errorf("journal %s: %w", name, err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, c, err
	}
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, c, err
	}
	if c, err = parseJournal(b); err != nil {
		return nil, c, err
	}
	if c.skipped > 0 {
		if c.kept, err = keepDamaged(name); err != nil {
			return nil, c, err
		}
	}
	j = &journal{name: name, form: newForm()}
	if err := j.begin(c.records); err != nil {
		return nil, c, err
	}
	if err := j.settle(); err != nil {
		return nil, c, errors.Join(err, j.file.Close())
	}
	return j, c, nil
}

// keepDamaged gives a damaged journal a further name, which is returned.
func keepDamaged(name string) (kept string, err error) {
	for n := range 1000 {
		kept = fmt.Sprintf("%s%s%d", name, damagedSuffix, n)
		if err = os.Link(name, kept); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil { // as where there are no links
		b, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(kept, b, 0o600)
		}
		return kept, err
	}
	return kept, nil
}

// begin writes the file anew, with some records.
func (j *journal) begin(all []record) error {
	b := j.form.id.head()
	j.generation = 1
	for i := range all {
		b = j.append(b, &all[i])
	}
	f, err := os.OpenFile(j.name+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync()); err == nil {
		err = os.Rename(j.name+".new", j.name)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	j.file, j.size, j.durable, j.moved = f, int64(len(b)), j.number, true
	j.room = j.size
	return nil
}

// settle makes the file's name durable.
func (j *journal) settle() error {
	if !j.moved {
		return nil
	}
	err := disk.SyncDir(filepath.Dir(j.name))
	j.moved = err != nil
	return err
}

// rewrite drops all records but some. After an error, none is dropped.
func (j *journal) rewrite(all []record) error {
	anew := &journal{name: j.name, form: newForm()}
	if err := anew.begin(all); err != nil {
		return err
	}
	was := j.file
	*j = *anew
	return errors.Join(j.settle(), was.Close())
}

// append appends the next record to b.
func (j *journal) append(b []byte, r *record) []byte {
	j.number++
	return j.form.append(b, r, j.generation, j.number, j.durable)
}

// add makes records, which append has made, durable.
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
	if err == nil {
		err = j.settle()
	}
	if err != nil { // what has been written is not there
		j.room, j.number = j.size, j.durable
		return errors.Join(err, j.file.Truncate(j.size))
	}
	j.size, j.durable = size, j.number
	return nil
}

// reset drops all records.
func (j *journal) reset() error {
	j.size = headSize
	j.room = j.size
	j.generation, j.number, j.durable = j.generation+1, 0, 0
	return j.file.Truncate(j.size)
}

func (j *journal) isEmpty() bool { return j.size == headSize }

func (j *journal) close() error {
	openJournals.Delete(j.name)
	var err error
	if j.room > j.size {
		err = j.file.Truncate(j.size)
	}
	return errors.Join(err, j.file.Close())
}

// tell says what of a journal could not be read.
func (c *contents) tell(log *slog.Logger, replica string) {
	if c.lost > 0 {
		log.Error("the journal of collections is damaged: acknowledged writes are lost, "+
			"of documents that are not known; what stood behind them was recovered", "replica", replica,
			"lost", c.lost, "bytes", c.skipped, "recovered", len(c.records), "damaged", c.kept)
	} else if c.skipped > 0 {
		log.Warn("a part of the journal of collections was cut off, as by a loss of power; "+
			"it was of writes that nobody was told were done", "replica", replica, "bytes", c.skipped,
			"damaged", c.kept)
	}
	if c.tail > 0 {
		log.Warn("the end of the journal of collections cannot be read: "+
			"a loss of power cuts off writes that nobody was told were done; "+
			"if the disk is damaged, the last acknowledged writes may be among them",
			"replica", replica, "bytes", c.tail)
	}
}

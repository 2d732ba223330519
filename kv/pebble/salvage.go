package pebble

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	pbl "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/skerry-sync/skerry/kv"
)

// Salvaged is what Salvage has found.
type Salvaged struct {
	Records uint64 // copied
	Tables  int
	Damaged []DamagedFile
}

// DamagedFile is a file of which something could not be read.
type DamagedFile struct {
	File  string
	Cause string
	Lost  []kv.Range // keys that may have been in what could not be read; empty if that is not known
}

// Salvage copies every record that can be read from the store in the directory from, which nobody
// may have open, to a new store in the directory to, which must not exist. Tables and logs are read
// one by one, so that a damaged block costs the records in it and no others; of what it held, an
// older version may come to light. The damaged store keeps all its tables.
func Salvage(ctx context.Context, from, to string, opt Options) (out Salvaged, err error) {
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return out, errors.Join(fmt.Errorf("salvage: %s is there already", to), err)
	}
	v := &salvage{ctx: ctx, dir: from, clone: to + ".open", out: &out}
	defer func() { err = errors.Join(err, os.RemoveAll(v.clone)) }()
	defer v.close()
	if err := v.open(); err != nil {
		return out, fmt.Errorf("salvage store %s: %w", from, err)
	}
	s, err := Open(to, opt)
	if err != nil {
		return out, fmt.Errorf("salvage store %s: %w", from, err)
	}
	if err = s.Batch(ctx, v.copy); err == nil {
		err = s.Sync(ctx)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return out, fmt.Errorf("salvage store %s: %w", from, errors.Join(err, os.RemoveAll(to)))
	}
	return out, nil
}

type salvage struct {
	ctx context.Context
	dir string
	// a copy that Pebble may open: it deletes tables that a damaged MANIFEST does not name
	clone   string
	out     *Salvaged
	sources sourceHeap
	readers []*sstable.Reader
}

// open finds the tables that count, and the logs if Pebble cannot make tables of them.
func (v *salvage) open() error {
	levels, err := v.levels()
	var locked *kv.LockedError
	if errors.As(err, &locked) {
		return err
	}
	if err != nil {
		v.note(v.dir, err)
	}
	if levels == nil {
		return v.add(v.dir, func(kind string, n uint64, name string) {
			switch kind {
			case "sst":
				v.addTable(name, 0)
			case "log":
				v.addLog(name, n)
			}
		})
	}
	err = v.add(v.clone, func(kind string, n uint64, name string) {
		if level, live := levels[n]; live && kind == "sst" {
			v.addTable(name, level)
			delete(levels, n)
		}
	})
	for n := range levels {
		v.note(filepath.Join(v.dir, fmt.Sprintf("%06d.sst", n)), fs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	return v.add(v.dir, func(kind string, _ uint64, name string) {
		if _, err := os.Stat(filepath.Join(v.clone, filepath.Base(name))); kind == "sst" &&
			errors.Is(err, fs.ErrNotExist) {
			v.note(name, errors.New("the store does not know this table"))
			v.addTable(name, unknownTable)
		}
	})
}

// unknownTable is the level of a table that the store does not know: of a key that others have,
// what is in it does not count.
const unknownTable = 100

// add calls fn with the files of a directory whose names are a number and a kind.
func (v *salvage) add(dir string, fn func(kind string, n uint64, name string)) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		number, kind, _ := strings.Cut(f.Name(), ".")
		if n, err := strconv.ParseUint(number, 10, 64); err == nil {
			fn(kind, n, filepath.Join(dir, f.Name()))
		}
	}
	heap.Init(&v.sources)
	return nil
}

// copyStore makes the clone: tables are never written to, so they are linked.
func (v *salvage) copyStore() error {
	if err := errors.Join(os.RemoveAll(v.clone), os.Mkdir(v.clone, privateDir)); err != nil {
		return err
	}
	files, err := os.ReadDir(v.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		from, to := filepath.Join(v.dir, f.Name()), filepath.Join(v.clone, f.Name())
		if !f.Type().IsRegular() || f.Name() == "LOCK" {
			continue
		}
		if strings.HasSuffix(f.Name(), ".sst") && os.Link(from, to) == nil {
			continue
		}
		if err := vfs.Copy(vfs.Default, from, to); err != nil {
			return err
		}
	}
	return nil
}

// levels opens the store, which makes tables of its logs, and returns the level of each table; nil
// if it cannot be opened.
func (v *salvage) levels() (map[uint64]int, error) {
	lock, err := vfs.Default.Lock(filepath.Join(v.dir, "LOCK"))
	if isLocked(err) {
		return nil, &kv.LockedError{Dir: v.dir}
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := v.copyStore(); err != nil {
		return nil, err
	}
	o := options(newLogFS(privateFS{vfs.Default}))
	o.DisableAutomaticCompactions = true
	db, err := openDB(v.clone, o)
	if err != nil {
		return nil, err
	}
	all, err := db.SSTables()
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	out := map[uint64]int{}
	for level, tables := range all {
		for _, t := range tables {
			out[uint64(t.BackingSSTNum)] = level
		}
	}
	return out, nil
}

func (v *salvage) close() {
	for _, s := range v.sources {
		s.close()
	}
	for _, r := range v.readers {
		_ = r.Close() // it was only read
	}
}

func (v *salvage) note(file string, err error) *DamagedFile {
	cause, _, _ := strings.Cut(err.Error(), "\n")
	if filepath.Dir(file) == v.clone {
		file = filepath.Join(v.dir, filepath.Base(file))
	}
	v.out.Damaged = append(v.out.Damaged, DamagedFile{File: file, Cause: cause})
	return &v.out.Damaged[len(v.out.Damaged)-1]
}

func (v *salvage) addTable(name string, level int) {
	s, err := v.openTable(name, level)
	if err != nil {
		v.note(name, err)
		return
	}
	v.out.Tables++
	if v.advance(s) {
		v.sources = append(v.sources, s)
	}
}

func (v *salvage) openTable(name string, level int) (s *source, err error) {
	defer caught(name, &err)
	f, err := vfs.Default.Open(name)
	if err != nil {
		return nil, err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	o := options(vfs.Default)
	o.EnsureDefaults()
	file := &reads{Readable: readable}
	r, err := sstable.NewReader(v.ctx, file, o.MakeReaderOptions())
	if err != nil {
		return nil, errors.Join(err, readable.Close())
	}
	v.readers = append(v.readers, r)
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return nil, err
	}
	return &source{name: name, level: level, table: it, reads: file}, nil
}

// addLog reads the records of a log up to the first that is damaged: how the last log of a process
// that died ends, too.
func (v *salvage) addLog(name string, number uint64) {
	f, err := os.Open(name)
	if err != nil {
		v.note(name, err)
		return
	}
	defer f.Close()
	var all []version
	r := newLogReader(record.NewReader, f, number)
	for {
		next, err := r.Next()
		var b []byte
		if err == nil {
			b, err = io.ReadAll(next)
		}
		h, whole := batchrepr.ReadHeader(b)
		if err != nil || !whole {
			if !errors.Is(err, io.EOF) {
				v.note(name, errors.Join(errors.New("its end cannot be read"), err))
			}
			break
		}
		changes := batchrepr.Read(b)
		for seq := uint64(h.SeqNum); ; seq++ {
			kind, key, value, more, err := changes.Next()
			if err != nil || !more {
				break
			}
			deleted := kind != pbl.InternalKeyKindSet
			all = append(all, version{bytes.Clone(key), bytes.Clone(value), seq, deleted})
		}
	}
	slices.SortFunc(all, func(a, b version) int {
		return cmp.Or(bytes.Compare(a.key, b.key), cmp.Compare(b.seq, a.seq))
	})
	if s := (&source{name: name, level: -1, log: all}); v.advance(s) {
		v.sources = append(v.sources, s)
	}
}

// newLogReader makes a reader with a number of a type that only Pebble can name.
func newLogReader[N ~uint64](
	open func(io.Reader, N) *record.Reader, f io.Reader, number uint64,
) *record.Reader {
	return open(f, N(number))
}

// version is one version of a record.
type version struct {
	key, value []byte
	seq        uint64
	deleted    bool
}

// source is a table or a log, in the order of keys.
type source struct {
	name  string
	level int // -1 for a log
	table sstable.Iterator
	reads *reads // of the table
	log   []version
	at    version // the present one
	begun bool
}

func (s *source) close() {
	if s.table != nil {
		_ = s.table.Close() // says again what was noted
		s.table = nil
	}
}

// sourceHeap has the source with the smallest key first; of equal keys, that with the newest
// version.
type sourceHeap []*source

func (h sourceHeap) Len() int      { return len(h) }
func (h sourceHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h sourceHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if order := bytes.Compare(a.at.key, b.at.key); order != 0 {
		return order < 0
	}
	if (a.level == unknownTable) != (b.level == unknownTable) {
		return b.level == unknownTable
	}
	return cmp.Or(cmp.Compare(b.at.seq, a.at.seq), cmp.Compare(a.level, b.level)) < 0
}
func (h *sourceHeap) Push(x any) { *h = append(*h, x.(*source)) }
func (h *sourceHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// copy writes the newest version of each record.
func (v *salvage) copy(w kv.Writer) error {
	var last []byte
	for n := 0; len(v.sources) > 0; n++ {
		if n%1024 == 0 && v.ctx.Err() != nil {
			return v.ctx.Err()
		}
		s := v.sources[0]
		at := s.at
		if v.advance(s) {
			heap.Fix(&v.sources, 0)
		} else {
			heap.Pop(&v.sources)
		}
		if last != nil && bytes.Equal(at.key, last) {
			continue
		}
		last = at.key
		if at.deleted || len(at.key) == 0 || at.key[0] == 0 { // keys of the store itself are made anew
			continue
		}
		if err := w.Set(at.key, at.value); err != nil {
			return err
		}
		v.out.Records++
	}
	return nil
}

// Package files keeps content on disk in plain files: one for each large blob, and packs that many
// small blobs share.
//
// What belongs here: names and places of files, reading and writing at offsets, appending to packs,
// making writes durable, and refusing them while the disk is nearly full. What never belongs here:
// hashes, and what is worth keeping; package blobs knows that, and says what to remove.
//
// Content is written with pwrite(2) and read with pread(2), not mapped: a full disk is an error and
// not a signal, and the page cache does not count as memory of the process.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
)

// ID names a file of one large blob. It is chosen at random by whoever creates the file.
type ID uint64

// maxOpen is how many files are kept open between uses.
const maxOpen = 128

// Options tune a Store; the zero value is right for a node.
type Options struct {
	// Reserve is how many bytes must stay free on the file system. 0 means 256 MiB.
	Reserve uint64
	// Limit is how many bytes the files, and what Beside counts, may have together. 0 is no limit.
	Limit uint64
	// Beside reports how many bytes are taken by what else the limit is for; nil is none.
	Beside func() uint64
	// FreeBytes reports the bytes free on the file system of dir; nil asks the operating system. Tests
	// replace it.
	FreeBytes func(dir string) (uint64, error)
	// Fault, if set, is asked before each change of the disk ("create", "write", "sync", "remove"); an
	// error it returns is that of the operation. Tests inject failures by it.
	Fault func(op string) error
}

// Store is a directory of content files. Its methods may be called at the same time from many
// goroutines.
//
//	own/xx/xxxxxxxxxxxxxxxx   the file of an ID, in hex; xx are its first two digits
//	packs/xxxxxxxx            a pack, in hex
type Store struct {
	dir  string
	opt  Options
	used atomic.Int64 // bytes of all files; sparse ones count as what was written

	mu        sync.Mutex
	open      map[name]*handle
	clock     uint64 // counts uses, so that the longest unused file is the one to close
	dirty     map[name]bool
	dirtyDirs map[string]bool
	pack      Pack // the one that is appended to
	packSize  uint64
	closed    bool

	behind chan part // of files with much that is not on the disk yet
	done   chan struct{}

	syncing sync.Mutex // held by Sync, so that none returns while another still has its files in hand
}

// name is an ID or a Pack.
type name struct {
	pack bool
	n    uint64
}

func own(id ID) name       { return name{n: uint64(id)} }
func packName(p Pack) name { return name{pack: true, n: uint64(p)} }

type handle struct {
	f    *os.File
	refs int
	used uint64
	gone bool // removed: close when the last user is done

	mu        sync.Mutex
	unwritten int64 // bytes of part that were written
	part      part
}

// Open opens or creates the directory dir.
func Open(dir string, opt Options) (*Store, error) {
	if opt.Reserve == 0 {
		opt.Reserve = 256 << 20
	}
	if opt.FreeBytes == nil {
		opt.FreeBytes = disk.Free
	}
	if opt.Fault == nil {
		opt.Fault = func(string) error { return nil }
	}
	s := &Store{
		dir: dir, opt: opt, open: map[name]*handle{}, dirty: map[name]bool{},
		dirtyDirs: map[string]bool{},
	}
	for _, sub := range []string{"own", "packs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("content files: %w", err)
		}
	}
	packs, err := s.Packs()
	if err != nil {
		return nil, err
	}
	if n := len(packs); n > 0 {
		s.pack, s.packSize = packs[n-1].Pack, packs[n-1].Length
	}
	if err := s.Recount(); err != nil {
		return nil, err
	}
	s.behind, s.done = make(chan part, 16), make(chan struct{})
	go s.writeBehind()
	return s, nil
}

// Dir returns the directory.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(n name) string {
	if n.pack {
		return filepath.Join(s.dir, "packs", fmt.Sprintf("%08x", n.n))
	}
	digits := fmt.Sprintf("%016x", n.n)
	return filepath.Join(s.dir, "own", digits[:2], digits)
}

// LimitError reports a write refused because Options.Limit is reached.
type LimitError struct{ Used, Limit uint64 }

func (e *LimitError) Error() string {
	return fmt.Sprintf(
		"storage limit reached: content and records take %d MiB of %d MiB; remove some (skerry blob "+
			"rm, skerry blob gc), or raise the limit",
		e.Used>>20, e.Limit>>20,
	)
}

// CheckLimit returns a *LimitError if the files, and what Options.Beside counts, have reached their
// limit.
func (s *Store) CheckLimit() error {
	if s.opt.Limit == 0 {
		return nil
	}
	used := s.Used()
	if s.opt.Beside != nil {
		used += s.opt.Beside()
	}
	if used >= s.opt.Limit {
		return &LimitError{used, s.opt.Limit}
	}
	return nil
}

// Used returns how many bytes the files have together.
func (s *Store) Used() uint64 { return uint64(max(s.used.Load(), 0)) }

// CheckSpace returns a *kv.NoSpaceError if less than the reserve is free, and the error of
// CheckLimit.
func (s *Store) CheckSpace() error {
	if err := s.CheckLimit(); err != nil {
		return err
	}
	free, err := s.Free()
	if err != nil {
		return err
	}
	if free < s.opt.Reserve {
		return &kv.NoSpaceError{Dir: s.dir, Free: free, Reserve: s.opt.Reserve}
	}
	return nil
}

// Free returns how many bytes of the file system are left.
func (s *Store) Free() (uint64, error) { return s.FreeIn(s.dir) }

// FreeIn returns how many bytes are left of the file system of a directory, which may be another
// one.
func (s *Store) FreeIn(dir string) (uint64, error) {
	free, err := s.opt.FreeBytes(dir)
	if err != nil {
		return 0, fmt.Errorf("ask for free disk space of %s: %w", dir, err)
	}
	return free, nil
}

// Left returns how many bytes of content may come before CheckSpace fails, about.
func (s *Store) Left() (uint64, error) {
	free, err := s.Free()
	if err != nil {
		return 0, err
	}
	left := free - min(s.opt.Reserve, free)
	if s.opt.Limit == 0 {
		return left, nil
	}
	used := s.Used()
	if s.opt.Beside != nil {
		used += s.opt.Beside()
	}
	return min(left, s.opt.Limit-min(used, s.opt.Limit)), nil
}

// full turns the operating system's word for a full disk into the one of this program.
func (s *Store) full(err error) error {
	if !disk.IsFull(err) {
		return err
	}
	free, _ := s.opt.FreeBytes(s.dir) // only for the message
	return &kv.NoSpaceError{Dir: s.dir, Free: free, Reserve: s.opt.Reserve}
}

// Create makes the empty file of id, which must not exist.
func (s *Store) Create(id ID) error {
	if err := errors.Join(s.CheckSpace(), s.opt.Fault("create")); err != nil {
		return s.full(err)
	}
	n := own(id)
	path := s.path(n)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		}
	}
	if err != nil {
		return s.full(fmt.Errorf("create content file: %w", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.created(n, f)
	return nil
}

// mayBeTooLarge is the length in bytes from which Fits asks: every file system has files up to it.
const mayBeTooLarge = 1 << 30

// Fits reports whether the file of id, which is new and empty, can become size bytes long. It says
// nothing about room: most file systems give none to what is not written.
func (s *Store) Fits(id ID, size uint64) (bool, error) {
	if size < mayBeTooLarge {
		return true, nil
	}
	h, err := s.acquire(own(id))
	if err != nil {
		return false, fmt.Errorf("look how long a content file can be: %w", err)
	}
	defer s.release(h)
	err = h.f.Truncate(int64(size))
	if err := h.f.Truncate(0); err != nil {
		return false, fmt.Errorf("look how long a content file can be: %w", err)
	}
	// Where even the length takes room, a file that is longer than that cannot be, either.
	if disk.IsTooLarge(err) || disk.IsFull(err) {
		return false, nil
	}
	return true, nil // also if it cannot be told: whoever writes is told
}

// created notes a new open file. The caller holds mu.
func (s *Store) created(n name, f *os.File) *handle {
	h := &handle{f: f}
	s.open[n] = h
	s.dirty[n] = true
	s.dirtyDirs[filepath.Dir(s.path(n))] = true
	s.dirtyDirs[filepath.Dir(filepath.Dir(s.path(n)))] = true
	s.trim()
	return h
}

// acquire opens a file, or takes the open one. Every acquire needs a release.
func (s *Store) acquire(n name) (*handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, kv.ErrClosed
	}
	h := s.open[n]
	if h == nil {
		f, err := os.OpenFile(s.path(n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		h = &handle{f: f}
		s.open[n] = h
	}
	s.clock++
	h.refs++
	h.used = s.clock
	s.trim()
	return h, nil
}

// trim closes files that nobody uses, the longest unused first. The caller holds mu.
func (s *Store) trim() {
	for len(s.open) > maxOpen {
		var oldest name
		var found *handle
		for n, h := range s.open {
			if h.refs == 0 && (found == nil || h.used < found.used) {
				oldest, found = n, h
			}
		}
		if found == nil {
			return
		}
		delete(s.open, oldest)
		// what was written to it is with the system, and synced through a file opened anew
		_ = found.f.Close()
	}
}

func (s *Store) release(h *handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.refs--
	if h.gone && h.refs == 0 {
		_ = h.f.Close() // of a file that is no longer there
	}
}

func (s *Store) write(n name, p []byte, off uint64) error {
	if err := s.CheckSpace(); err != nil {
		return err
	}
	return s.put(n, p, off)
}

// put is write without a look at how much is left.
func (s *Store) put(n name, p []byte, off uint64) error {
	if err := s.opt.Fault("write"); err != nil {
		return s.full(err)
	}
	h, err := s.acquire(n)
	if err != nil {
		return fmt.Errorf("write content: %w", err)
	}
	defer s.release(h)
	written, err := h.f.WriteAt(p, int64(off))
	s.used.Add(int64(written))
	s.writeback(n, h, int64(off), int64(written))
	// After the write: a sync that began before it must leave the file dirty.
	s.mu.Lock()
	s.dirty[n] = true
	s.mu.Unlock()
	if err != nil {
		return s.full(fmt.Errorf("write content: %w", err))
	}
	return nil
}

// WriteAt writes p at off into the file of id. It returns fs.ErrNotExist if the file has been
// removed, and *kv.NoSpaceError if the disk is full; some of p may have been written then.
func (s *Store) WriteAt(id ID, p []byte, off uint64) error { return s.write(own(id), p, off) }

// A Reader reads one file at offsets, until it is closed.
type Reader struct {
	s *Store
	h *handle
}

// ReadAt implements io.ReaderAt.
func (r Reader) ReadAt(p []byte, off int64) (int, error) { return r.h.f.ReadAt(p, off) }

// Close gives the file back.
func (r Reader) Close() { r.s.release(r.h) }

// Reader opens the file of id; fs.ErrNotExist if it has been removed. It must be closed, and stays
// readable until then.
func (s *Store) Reader(id ID) (Reader, error) {
	h, err := s.acquire(own(id))
	return Reader{s, h}, err
}

// OpenFile opens the file of id by itself, for a copy that the operating system can do alone.
func (s *Store) OpenFile(id ID) (*os.File, error) { return os.Open(s.path(own(id))) }

func (s *Store) remove(n name) error {
	if err := s.opt.Fault("remove"); err != nil {
		return err
	}
	s.mu.Lock()
	if h := s.open[n]; h != nil {
		delete(s.open, n)
		h.gone = true
		if h.refs == 0 {
			_ = h.f.Close() // of a file that is going
		}
	}
	delete(s.dirty, n)
	s.mu.Unlock()
	if st, err := os.Stat(s.path(n)); err == nil {
		s.used.Add(-int64(allocated(st)))
	}
	if err := os.Remove(s.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove content: %w", err)
	}
	return nil
}

// Remove removes the file of id, if it is there. Readers that have it open go on.
func (s *Store) Remove(id ID) error { return s.remove(own(id)) }

// File describes a file of a blob.
type File struct {
	ID   ID
	Size uint64 // bytes that it takes
}

// Files lists the files of blobs, in no order. Those that come or go meanwhile may be in the list
// or not.
func (s *Store) Files() (out []File, err error) {
	err = filepath.WalkDir(
		filepath.Join(s.dir, "own"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			n, err := strconv.ParseUint(d.Name(), 16, 64)
			if err != nil || len(d.Name()) != 16 {
				return nil // not ours
			}
			st, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil {
				out = append(out, File{ID(n), allocated(st)})
			}
			return err
		},
	)
	if err != nil {
		return nil, fmt.Errorf("list content files: %w", err)
	}
	return out, nil
}

// Recount adds up anew how many bytes the files take.
func (s *Store) Recount() error {
	own, err := s.Files()
	if err != nil {
		return err
	}
	packs, err := s.Packs()
	if err != nil {
		return err
	}
	var n uint64
	for _, f := range own {
		n += f.Size
	}
	for _, p := range packs {
		n += p.Length
	}
	s.used.Store(int64(n))
	return nil
}

// Close closes all files. Nothing may be in use any more.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.behind)
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, h := range s.open {
		errs = append(errs, h.f.Close())
	}
	clear(s.open)
	return errors.Join(errs...)
}

// Package files keeps content on disk in plain files: one for each large blob, and packs that many small blobs share.
//
// What belongs here: names and places of files, reading and writing at offsets, appending to packs, making writes durable, and
// refusing them while the disk is nearly full. What never belongs here: hashes, and what is worth keeping; package blobs knows that,
// and says what to remove.
//
// Content is written with pwrite(2) and read with pread(2), not mapped: a full disk is an error and not a signal, and the page cache
// does not count as memory of the process.
package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/internal/diskspace"
	"github.com/skerry-sync/skerry/kv"
)

// ID names a file of one large blob. It is chosen at random by whoever creates the file.
type ID uint64

// Pack numbers a file that many small blobs share.
type Pack uint32

// Extent is a place in a pack.
type Extent struct {
	Pack   Pack
	Offset uint64
	Length uint64 // bytes
}

// PackSize is the length in bytes at which a pack is closed and the next one begun; the last extent may reach beyond it.
const PackSize = 64 << 20

// maxOpen is how many files are kept open between uses.
const maxOpen = 128

// Options tune a Store; the zero value is right for a node.
type Options struct {
	// Reserve is how many bytes must stay free on the file system. 0 means 256 MiB.
	Reserve uint64
	// Limit is how many bytes the files may have together. 0 is no limit.
	Limit uint64
	// FreeBytes reports the bytes free on the file system of dir; nil asks the operating system. Tests replace it.
	FreeBytes func(dir string) (uint64, error)
	// Fault, if set, is asked before each change of the disk ("create", "write", "sync", "remove"); an error it returns is that
	// of the operation. Tests inject failures by it.
	Fault func(op string) error
}

// Store is a directory of content files. Its methods may be called at the same time from many goroutines.
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

// writebackPiece is how much of a file is written before the system is asked to begin to bring it to the disk.
const writebackPiece = 16 << 20

// part is a part of a file with bytes that the disk has not been asked to take.
type part struct {
	name       name
	start, end int64
}

// writeback takes account of a write, and now and then has what was written to the file brought to the disk. If the disk is behind, that is left to
// the next Sync.
func (s *Store) writeback(n name, h *handle, off, length int64) {
	h.mu.Lock()
	if h.unwritten == 0 {
		h.part = part{n, off, off}
	}
	h.part.start, h.part.end = min(h.part.start, off), max(h.part.end, off+length)
	h.unwritten += length
	p := h.part
	if h.unwritten < writebackPiece {
		p.end = p.start
	} else {
		h.unwritten = 0
	}
	h.mu.Unlock()
	if p.start == p.end {
		return
	}
	select {
	case s.behind <- p:
	default:
	}
}

// writeBehind begins to bring files to the disk, until the store is closed. The system may make the caller wait, so it has a goroutine of its own.
func (s *Store) writeBehind() {
	defer close(s.done)
	for p := range s.behind {
		h, err := s.acquire(p.name)
		if err != nil {
			continue // removed, or closed
		}
		startWriteback(h.f, p.start, p.end-p.start)
		s.release(h)
	}
}

// Open opens or creates the directory dir.
func Open(dir string, opt Options) (*Store, error) {
	if opt.Reserve == 0 {
		opt.Reserve = 256 << 20
	}
	if opt.FreeBytes == nil {
		opt.FreeBytes = diskspace.Free
	}
	if opt.Fault == nil {
		opt.Fault = func(string) error { return nil }
	}
	s := &Store{dir: dir, opt: opt, open: map[name]*handle{}, dirty: map[name]bool{}, dirtyDirs: map[string]bool{}}
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

// LimitError reports a write refused because the files have reached Options.Limit.
type LimitError struct{ Used, Limit uint64 }

func (e *LimitError) Error() string {
	return fmt.Sprintf("storage limit reached: content takes %d MiB of %d MiB; remove some (skerry blob rm, skerry blob gc), or raise the limit",
		e.Used>>20, e.Limit>>20)
}

// Used returns how many bytes the files have together.
func (s *Store) Used() uint64 { return uint64(max(s.used.Load(), 0)) }

// CheckSpace returns a *kv.NoSpaceError if less than the reserve is free, and a *LimitError if the files have reached their limit.
func (s *Store) CheckSpace() error {
	if used := s.Used(); s.opt.Limit > 0 && used >= s.opt.Limit {
		return &LimitError{used, s.opt.Limit}
	}
	free, err := s.opt.FreeBytes(s.dir)
	if err != nil {
		return fmt.Errorf("ask for free disk space of %s: %w", s.dir, err)
	}
	if free < s.opt.Reserve {
		return &kv.NoSpaceError{Dir: s.dir, Free: free, Reserve: s.opt.Reserve}
	}
	return nil
}

// full turns the operating system's word for a full disk into the one of this program.
func (s *Store) full(err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
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
		_ = found.f.Close() // what was written to it is with the system, and synced through a file opened anew
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
	if err := errors.Join(s.CheckSpace(), s.opt.Fault("write")); err != nil {
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

// WriteAt writes p at off into the file of id. It returns fs.ErrNotExist if the file has been removed, and *kv.NoSpaceError if the disk
// is full; some of p may have been written then.
func (s *Store) WriteAt(id ID, p []byte, off uint64) error { return s.write(own(id), p, off) }

// Append writes the parts, one behind the other, to the current pack, and returns the place of each. They lie in the same pack.
func (s *Store) Append(parts [][]byte) ([]Extent, error) {
	total := 0
	for _, p := range parts {
		total += len(p)
	}
	at, err := s.reserve(uint64(total))
	if err != nil {
		return nil, err
	}
	out := make([]Extent, len(parts))
	start := at.Offset
	var small []byte // parts that go into one write
	flush := func() error {
		if len(small) == 0 {
			return nil
		}
		err := s.write(packName(at.Pack), small, start)
		start += uint64(len(small))
		small = small[:0]
		return err
	}
	for i, p := range parts {
		out[i] = Extent{Pack: at.Pack, Offset: at.Offset, Length: uint64(len(p))}
		at.Offset += uint64(len(p))
		if len(p) < joinBelow {
			small = append(small, p...)
			continue
		}
		if err = errors.Join(flush(), s.write(packName(at.Pack), p, start)); err != nil {
			return nil, err
		}
		start += uint64(len(p))
	}
	// After an error, what was reserved stays unused; the next compaction drops it.
	if err := flush(); err != nil {
		return nil, err
	}
	return out, nil
}

// joinBelow is the length in bytes below which a copy is cheaper than a write of its own.
const joinBelow = 32 << 10

// reserve gives out room in the current pack, or begins the next one.
func (s *Store) reserve(n uint64) (Extent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Extent{}, kv.ErrClosed
	}
	if s.pack == 0 || s.packSize >= PackSize {
		if err := s.nextPack(); err != nil {
			return Extent{}, err
		}
	}
	e := Extent{Pack: s.pack, Offset: s.packSize, Length: n}
	s.packSize += n
	return e, nil
}

// nextPack begins a pack. The caller holds mu.
func (s *Store) nextPack() error {
	if s.pack == math.MaxUint32 {
		return errors.New("content files: all pack numbers are used")
	}
	if err := s.opt.Fault("create"); err != nil {
		return s.full(err)
	}
	n := packName(s.pack + 1)
	f, err := os.OpenFile(s.path(n), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return s.full(fmt.Errorf("create pack: %w", err))
	}
	s.created(n, f)
	s.pack, s.packSize = s.pack+1, 0
	return nil
}

// Seal ends the current pack, so that nothing is appended to it or to any before it that is not being appended already, and returns the
// number from which on packs are left alone by whoever compacts.
func (s *Store) Seal() (next Pack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packSize = PackSize // full: the next append begins another
	return s.pack + 1
}

// A Reader reads one file at offsets, until it is closed.
type Reader struct {
	s *Store
	h *handle
}

// ReadAt implements io.ReaderAt.
func (r Reader) ReadAt(p []byte, off int64) (int, error) { return r.h.f.ReadAt(p, off) }

// Close gives the file back.
func (r Reader) Close() { r.s.release(r.h) }

// Reader opens the file of id; fs.ErrNotExist if it has been removed. It must be closed, and stays readable until then.
func (s *Store) Reader(id ID) (Reader, error) {
	h, err := s.acquire(own(id))
	return Reader{s, h}, err
}

// PackReader opens a pack likewise.
func (s *Store) PackReader(p Pack) (Reader, error) {
	h, err := s.acquire(packName(p))
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

// RemovePack removes a pack likewise. It must not be the current one.
func (s *Store) RemovePack(p Pack) error { return s.remove(packName(p)) }

// Sync returns when everything written before the call is on stable storage.
func (s *Store) Sync(ctx context.Context) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	dirty, dirs := s.dirty, s.dirtyDirs
	s.dirty, s.dirtyDirs = map[name]bool{}, map[string]bool{}
	s.mu.Unlock()
	err := s.syncAll(ctx, dirty, dirs)
	if err != nil { // they are as dirty as before
		s.mu.Lock()
		for n := range dirty {
			s.dirty[n] = true
		}
		for d := range dirs {
			s.dirtyDirs[d] = true
		}
		s.mu.Unlock()
		return fmt.Errorf("sync content: %w", s.full(err))
	}
	return nil
}

// MarkDirty makes the next Sync include files that an earlier process may have written to.
func (s *Store) MarkDirty(ids []ID, packs []Pack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.dirty[own(id)] = true
		s.dirtyDirs[filepath.Dir(s.path(own(id)))] = true
	}
	for _, p := range packs {
		s.dirty[packName(p)] = true
	}
	s.dirtyDirs[filepath.Join(s.dir, "own")], s.dirtyDirs[filepath.Join(s.dir, "packs")] = true, true
}

func (s *Store) syncAll(ctx context.Context, dirty map[name]bool, dirs map[string]bool) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8) // enough for the file system to join its commits
	for n := range dirty {
		g.Go(func() error {
			if err := errors.Join(ctx.Err(), s.opt.Fault("sync")); err != nil {
				return err
			}
			h, err := s.acquire(n)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed meanwhile
			}
			if err != nil {
				return err
			}
			defer s.release(h)
			return h.f.Sync()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// File describes a file of a blob.
type File struct {
	ID   ID
	Size uint64 // bytes that it takes
}

// Files lists the files of blobs, in no order. Those that come or go meanwhile may be in the list or not.
func (s *Store) Files() (out []File, err error) {
	err = filepath.WalkDir(filepath.Join(s.dir, "own"), func(path string, d fs.DirEntry, err error) error {
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
	})
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

// Packs lists the packs, in order, as extents of their whole length.
func (s *Store) Packs() (out []Extent, err error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "packs"))
	if err != nil {
		return nil, fmt.Errorf("list packs: %w", err)
	}
	for _, d := range entries {
		n, err := strconv.ParseUint(d.Name(), 16, 32)
		if err != nil || len(d.Name()) != 8 {
			continue // not ours
		}
		st, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list packs: %w", err)
		}
		out = append(out, Extent{Pack: Pack(n), Length: uint64(st.Size())})
	}
	slices.SortFunc(out, func(a, b Extent) int { return cmp.Compare(a.Pack, b.Pack) })
	return out, nil
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

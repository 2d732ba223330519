package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/internal/disk"
)

// writebackPiece is how much of a file is written before the system is asked to begin to bring it
// to the disk.
const writebackPiece = 16 << 20

// part is a part of a file with bytes that the disk has not been asked to take.
type part struct {
	name       name
	start, end int64
}

// writeback takes account of a write, and now and then has what was written to the file brought to
// the disk. If the disk is behind, that is left to the next Sync.
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

// writeBehind begins to bring files to the disk, until the store is closed. The system may make the
// caller wait, so it has a goroutine of its own.
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
		if err := disk.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

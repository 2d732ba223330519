package files

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/skerry-sync/skerry/kv"
)

// Pack numbers a file that many small blobs share.
type Pack uint32

// Extent is a place in a pack.
type Extent struct {
	Pack   Pack
	Offset uint64
	Length uint64 // bytes
}

// PackSize is the length in bytes at which a pack is closed and the next one begun; the last extent
// may reach beyond it.
const PackSize = 64 << 20

// Append writes the parts, one behind the other, to the current pack, and returns the place of
// each. They lie in the same pack.
func (s *Store) Append(parts [][]byte) ([]Extent, error) { return s.append(parts, s.write) }

// Move is Append for parts that are somewhere else in the files, and will be removed there: neither
// the reserve nor the limit keeps it from being written.
func (s *Store) Move(parts [][]byte) ([]Extent, error) { return s.append(parts, s.put) }

func (s *Store) append(parts [][]byte, write func(name, []byte, uint64) error) ([]Extent, error) {
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
		err := write(packName(at.Pack), small, start)
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
		if err = errors.Join(flush(), write(packName(at.Pack), p, start)); err != nil {
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

// Seal ends the current pack, so that nothing is appended to it or to any before it that is not
// being appended already, and returns the number from which on packs are left alone by whoever
// compacts.
func (s *Store) Seal() (next Pack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packSize = PackSize // full: the next append begins another
	return s.pack + 1
}

// PackReader opens a pack likewise.
func (s *Store) PackReader(p Pack) (Reader, error) {
	h, err := s.acquire(packName(p))
	return Reader{s, h}, err
}

// RemovePack removes a pack likewise. It must not be the current one.
func (s *Store) RemovePack(p Pack) error { return s.remove(packName(p)) }

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

package blobs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/kv"
)

// Packs of which more than a tenth is unused are written anew; the rest of the waste stays, so that
// not everything is copied for a little. So are short ones, as each collection leaves one, when
// there are many.
const (
	keptWaste   = 10
	shortPack   = files.PackSize / 8
	shortPacks  = 8
	compactStep = 1 << 18 // blobs whose places are held in memory at a time
)

func (c *collector) compact() error {
	c.s.writing.Lock() // so that all that was appended to the packs that are sealed has its record
	next := c.s.files.Seal()
	c.s.writing.Unlock()
	packs, err := c.s.files.Packs()
	if err != nil {
		return err
	}
	used := map[files.Pack]uint64{}
	err = c.s.kv.View(c.ctx, func(r kv.Reader) error {
		return eachRecord(r, func(_ Hash, rec record) error {
			if rec.state == statePacked {
				used[rec.extent.Pack] += rec.extent.Length
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	short := 0
	for _, p := range packs {
		if p.Length < shortPack {
			short++
		}
	}
	var sparse []files.Extent // packs to be emptied
	for _, p := range packs {
		if p.Pack < next && (used[p.Pack]*100 <= p.Length*(100-keptWaste) || short > shortPacks &&
			p.Length < shortPack) {
			sparse = append(sparse, p)
		}
	}
	// The emptiest first: they give the most for the room that it takes.
	slices.SortStableFunc(sparse, func(a, b files.Extent) int {
		return cmp.Compare(used[a.Pack], used[b.Pack])
	})
	for len(sparse) > 0 {
		n, err := c.fit(sparse, used)
		if err != nil {
			return err
		}
		if n == 0 {
			c.res.Postponed = true
			return nil
		}
		if err := c.empty(sparse[:n], used); err != nil {
			return err
		}
		sparse = sparse[n:]
	}
	return nil
}

// moveReserve is what must stay free while packs are written anew, in bytes: records and their log.
const moveReserve = 32 << 20

// fit returns how many of the packs, from the first on, can be written anew with the room that is
// there now: all of them, most often.
func (c *collector) fit(sparse []files.Extent, used map[files.Pack]uint64) (int, error) {
	free, err := c.s.files.Free()
	if err != nil {
		return 0, err
	}
	need := uint64(0)
	for i, p := range sparse {
		if used[p.Pack] == 0 {
			continue
		}
		if need += used[p.Pack]; free < moveReserve || free-moveReserve < need {
			return i, nil
		}
	}
	return len(sparse), nil
}

// empty moves what is in use out of packs, and removes them. Packs that cannot be read stay.
func (c *collector) empty(packs []files.Extent, used map[files.Pack]uint64) error {
	sparse := map[files.Pack]bool{}
	for _, p := range packs {
		sparse[p.Pack] = true
	}
	for more := !c.o.DryRun; more; {
		var err error
		if more, err = c.moveSome(sparse); err != nil {
			return err
		}
	}
	if !c.o.DryRun { // the copies must be durable before the originals go
		if err := c.s.Sync(c.ctx); err != nil {
			return err
		}
	}
	for _, p := range packs {
		if !sparse[p.Pack] {
			continue
		}
		c.res.Freed += p.Length - min(used[p.Pack], p.Length)
		c.res.Moved += used[p.Pack]
		if c.o.DryRun {
			continue
		}
		if err := c.s.files.RemovePack(p.Pack); err != nil {
			return err
		}
	}
	return nil
}

// placed is a packed blob and where it lies.
type placed struct {
	hash Hash
	rec  record
}

// moveSome moves blobs out of sparse packs, and reports whether there may be more. A pack that
// cannot be read stays as it is: it leaves sparse, and its error goes to c.unread.
func (c *collector) moveSome(sparse map[files.Pack]bool) (more bool, err error) {
	var found []placed
	errFull := errors.New("full")
	err = c.s.kv.View(c.ctx, func(r kv.Reader) error {
		return eachRecord(r, func(h Hash, rec record) error {
			if rec.state == statePacked && sparse[rec.extent.Pack] {
				if found = append(found, placed{h, rec}); len(found) == compactStep {
					return errFull
				}
			}
			return nil
		})
	})
	if more = errors.Is(err, errFull); err != nil && !more {
		return false, err
	}
	slices.SortFunc(found, func(a, b placed) int {
		return cmp.Or(
			cmp.Compare(a.rec.extent.Pack, b.rec.extent.Pack),
			cmp.Compare(a.rec.extent.Offset, b.rec.extent.Offset),
		)
	})
	for len(found) > 0 {
		n, bytes := 0, uint64(0)
		for n < len(found) && n < importerBlobs && (n == 0 ||
			bytes+found[n].rec.extent.Length <= importerBytes) {
			bytes += found[n].rec.extent.Length
			n++
		}
		var damaged *unreadError
		if err := c.move(found[:n]); errors.As(err, &damaged) {
			delete(sparse, damaged.pack)
			c.unread = errors.Join(c.unread, damaged)
			found = slices.DeleteFunc(found, func(b placed) bool {
				return b.rec.extent.Pack == damaged.pack
			})
			continue
		} else if err != nil {
			return false, err
		}
		c.o.Progress(CollectProgress{Doing: "compacting", Blobs: n, Bytes: bytes})
		found = found[n:]
	}
	return more, nil
}

// move copies some packed blobs to the current pack.
func (c *collector) move(some []placed) error {
	var parts [][]byte
	for _, b := range some {
		part, err := c.readExtent(b.rec.extent)
		if err != nil {
			return &unreadError{pack: b.rec.extent.Pack, err: err}
		}
		parts = append(parts, part)
	}
	c.s.writing.RLock()
	defer c.s.writing.RUnlock()
	extents, err := c.s.files.Move(parts)
	if err != nil {
		return err
	}
	return c.s.kv.Update(c.ctx, func(tx kv.Txn) error {
		for i, b := range some {
			rec, err := getRecord(tx, b.hash)
			if errors.Is(err, ErrNotFound) || err == nil && rec != b.rec {
				continue // deleted, or stored anew
			}
			if err != nil {
				return err
			}
			rec.extent = extents[i]
			if err := errors.Join(
				c.s.markUnsynced(tx, rec), tx.Set(recordKey(b.hash), rec.marshal()),
			); err != nil {
				return err
			}
		}
		return nil
	})
}

// unreadError reports a pack that could not be read whole.
type unreadError struct {
	pack files.Pack
	err  error
}

func (e *unreadError) Error() string {
	return fmt.Sprintf("pack %08x cannot be read, and stays as it is; skerry blob verify --repair "+
		"fetches what it lacks: %v", e.pack, e.err)
}

func (e *unreadError) Unwrap() error { return e.err }

func (c *collector) readExtent(e files.Extent) ([]byte, error) {
	r, err := c.s.files.PackReader(e.Pack)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, e.Length)
	if n, err := r.ReadAt(b, int64(e.Offset)); n < len(b) {
		return nil, fmt.Errorf("at byte %d: %w", e.Offset, err)
	}
	return b, nil
}

package blobs

import (
	"context"
	"errors"
	"slices"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/kv"
)

// smallBlob is a whole blob of at most a segment.
type smallBlob struct {
	hash Hash
	size uint64
	data []byte // its parents, then its content
}

// hashSmall makes a small blob of data, whose length is at most SegmentSize; buf must have room for
// it and its parents, and is kept.
func hashSmall(buf, data []byte) smallBlob {
	n := int(groupCount(uint64(len(data))))
	head := treeBytes(n)
	b := smallBlob{size: uint64(len(data)), data: append(buf[:head], data...)}
	var cvs [fanOut]Hash
	for i := range n {
		at := i * GroupSize
		cvs[i] = hashGroup(data[at:min(at+GroupSize, len(data))], uint64(i), n == 1)
	}
	b.hash = buildBlock(b.data[:head], cvs[:n], true)
	return b
}

// putSmall stores small blobs: their content in one piece, then their records in one transaction.
// Those that are there already are left out, unless over says that they are to be replaced.
func (s *Store) putSmall(ctx context.Context, all []smallBlob, over bool) error {
	if len(all) == 0 {
		return nil
	}
	for _, b := range all {
		s.Touch(b.hash)
	}
	// Some may be there. That costs less to find when they are recorded, unless their content would
	// have been written in vain.
	missing := all
	if !over && slices.ContainsFunc(all, func(b smallBlob) bool { return b.size > InlineSize }) {
		var err error
		if missing, err = s.missingSmall(ctx, all); err != nil || len(missing) == 0 {
			return err
		}
	}
	if err := s.files.CheckLimit(); err != nil { // those that are records pass no other check
		return err
	}
	var parts [][]byte
	for _, b := range missing {
		if b.size > InlineSize {
			parts = append(parts, b.data)
		}
	}
	s.writing.RLock()
	defer s.writing.RUnlock()
	var extents []files.Extent
	if len(parts) > 0 {
		var err error
		if extents, err = s.files.Append(parts); err != nil {
			return err
		}
	}
	var replaced []record
	err := s.kv.Update(ctx, func(tx kv.Txn) error {
		replaced = replaced[:0]
		next := extents
		for _, b := range missing {
			rec := record{state: stateInline, size: b.size}
			if b.size > InlineSize {
				rec.state, rec.extent, next = statePacked, next[0], next[1:]
			}
			old, stored, err := s.publishIn(tx, b.hash, rec, over)
			if err != nil {
				return err
			}
			if !stored {
				continue
			}
			if old.hasBlocks() {
				replaced = append(replaced, old)
			}
			if rec.state == stateInline {
				if err := tx.Set(inlineKey(b.hash), b.data); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, rec := range replaced {
		if err := s.reap(ctx, rec.id); err != nil {
			return err
		}
	}
	return nil
}

// missingSmall returns the blobs that are not in the store, each once.
func (s *Store) missingSmall(
	ctx context.Context, all []smallBlob,
) (missing []smallBlob, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		seen := make(map[Hash]bool, len(all))
		for _, b := range all {
			if seen[b.hash] {
				continue
			}
			seen[b.hash] = true
			rec, found, err := findRecord(r, b.hash)
			if err != nil {
				return err
			}
			if !found || !rec.standsBefore(record{state: statePacked}) {
				missing = append(missing, b)
			}
		}
		return nil
	})
	return missing, err
}

// standsBefore reports whether r makes storing the same blob as other needless: it is complete, and
// does not depend on a file of the user's, unless other does, too, and is not newer.
func (r record) standsBefore(other record) bool {
	switch r.state {
	case statePartial:
		return false
	case stateReferenced:
		return false // a copy is better, and a new reference replaces an old one
	}
	return true
}

// publishIn makes rec the record of h, unless what is there stands before it and rec is not to
// replace that, and returns the record that it replaced.
func (s *Store) publishIn(
	tx kv.Txn, h Hash, rec record, over bool,
) (old record, stored bool, err error) {
	old, found, err := findRecord(tx, h)
	switch {
	case err != nil:
		return old, false, err
	case !found:
	case !over && old.standsBefore(rec):
		return old, false, nil
	case old.hasBlocks():
		if err := tx.Set(idKey(keyGarbage, old.id), nil); err != nil {
			return old, false, err
		}
	}
	return old, true, errors.Join(s.markUnsynced(tx, rec), tx.Set(recordKey(h), rec.marshal()))
}

// An Importer stores many small pieces of content with little work for each: it collects them and
// writes them together. It serves one goroutine.
type Importer struct {
	s     *Store
	ctx   context.Context
	blobs []smallBlob
	bytes int
	buf   []byte // the memory of the blobs
}

const (
	importerBlobs = 1024
	importerBytes = 1 << 20
)

// NewImporter returns an importer that works until Flush.
func (s *Store) NewImporter(ctx context.Context) *Importer {
	return &Importer{s: s, ctx: ctx}
}

// Add takes data, of at most SegmentSize bytes, and returns its hash. It may be stored now or at
// the next Flush.
func (im *Importer) Add(data []byte) (Hash, error) {
	b, err := im.add(data, nil)
	return b.hash, err
}

// AddHashed is Add for data whose hash, h, the caller has from HashOf.
func (im *Importer) AddHashed(data []byte, h Hash) error {
	_, err := im.add(data, &h)
	return err
}

func (im *Importer) add(data []byte, known *Hash) (b smallBlob, err error) {
	need := treeBytes(int(groupCount(uint64(len(data))))) + len(data)
	if len(im.blobs) == importerBlobs || im.bytes+need > importerBytes {
		if err := im.Flush(); err != nil {
			return b, err
		}
	}
	if im.buf == nil {
		im.buf = make([]byte, importerBytes)
	}
	room := im.buf[im.bytes : im.bytes : im.bytes+need]
	if known != nil && len(data) <= GroupSize { // which has no parents
		b = smallBlob{hash: *known, size: uint64(len(data)), data: append(room, data...)}
	} else {
		b = hashSmall(room, data)
	}
	im.blobs = append(im.blobs, b)
	im.bytes += need
	return b, nil
}

// Reset forgets what was added and not flushed, and stores in another store, or under another hold,
// from now on.
func (im *Importer) Reset(ctx context.Context, s *Store) {
	im.s, im.ctx, im.blobs, im.bytes = s, ctx, im.blobs[:0], 0
}

// Flush stores what was added.
func (im *Importer) Flush() error {
	err := im.s.putSmall(im.ctx, im.blobs, false)
	im.blobs, im.bytes = im.blobs[:0], 0
	return err
}

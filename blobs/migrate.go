package blobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/kv"
)

// In format 1 all content lay in the kv.Store:
//
//	b h hash[32]                  version u8 = 1, state u8 (0 inline, 1 complete, 2 partial), size varint; unless inline: id u64 BE
//	b i hash[32]                  content of at most 16 KiB
//	b s id[8] 00 index[4]         a segment: mask u32 LE, parents, groups that are there, back to back
//	b s id[8] level[1] index[4]   a block of parents above the segments
//	b m id[8] index[4]            masks, as now
const keySegmentV1 = "bs"

// migrate brings a store of format 1 into the present one, blob by blob, so that it can be cut short and goes on at the next Open.
func (s *Store) migrate(ctx context.Context) error {
	format := uint64(0)
	err := s.kv.View(ctx, func(r kv.Reader) error {
		return r.Peek([]byte(keyFormat), func(v []byte) error {
			var n int
			if format, n = binary.Uvarint(v); n <= 0 {
				return errMalformed
			}
			return nil
		})
	})
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	if format > formatVersion {
		return &kv.VersionError{Dir: s.files.Dir(), Have: int(format), Max: formatVersion}
	}
	if format == formatVersion {
		return nil
	}
	var old []Hash
	err = s.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keyRecord)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Value) > 0 && p.Value[0] == 1 {
				old = append(old, Hash(p.Key[len(keyRecord):]))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, h := range old {
		if err := s.migrateBlob(ctx, h); err != nil {
			return fmt.Errorf("migrate blob %s from format 1: %w", h.Short(), err)
		}
	}
	if len(old) > 0 {
		if err := s.pinMigrated(ctx, old); err != nil {
			return err
		}
		// The copies must be durable before the originals go.
		if err := s.Sync(ctx); err != nil {
			return err
		}
		if err := s.deleteAll(ctx, []byte(keySegmentV1)); err != nil {
			return err
		}
	}
	return s.kv.Update(ctx, func(tx kv.Txn) error {
		return tx.Set([]byte(keyFormat), binary.AppendUvarint(nil, formatVersion))
	})
}

// migratedPin is the name of the pin that keeps what was in a store of format 1. That had no pins, and nothing was ever collected.
const migratedPin = "from before pins"

// pinMigrated keeps blobs as the children of one sequence; of more than a sequence can have, as those of several.
func (s *Store) pinMigrated(ctx context.Context, all []Hash) error {
	for part := range slices.Chunk(all, MaxChildren) {
		info, err := s.ImportBytes(ctx, Sequence(part).Bytes())
		if err == nil {
			_, err = s.PinNew(ctx, Pin{Name: migratedPin, Hash: info.Hash, Sequence: true})
		}
		if err != nil {
			return fmt.Errorf("pin what was there: %w", err)
		}
	}
	return nil
}

func parseRecordV1(b []byte) (rec record, err error) {
	if len(b) < 3 || b[0] != 1 || b[1] > byte(statePartial) {
		return rec, errMalformed
	}
	rec.state = state(b[1])
	size, n := binary.Uvarint(b[2:])
	if b = b[2+max(n, 0):]; n <= 0 || rec.state != stateInline && len(b) < 8 {
		return rec, errMalformed
	}
	if rec.size = size; rec.state != stateInline {
		rec.id = contentID(binary.BigEndian.Uint64(b))
	}
	return rec, nil
}

func (s *Store) migrateBlob(ctx context.Context, h Hash) error {
	var rec record
	var inline []byte
	err := s.kv.View(ctx, func(r kv.Reader) error {
		v, err := r.Get(recordKey(h))
		if err != nil {
			return err
		}
		if rec, err = parseRecordV1(v); err == nil && rec.state == stateInline {
			inline, err = r.Get(inlineKey(h))
		}
		return err
	})
	if err != nil {
		return err
	}
	s.writing.RLock()
	defer s.writing.RUnlock()
	if rec.state != stateInline {
		return s.migrateSegments(ctx, h, rec)
	}
	var extents []files.Extent
	if rec.size > InlineSize {
		rec.state = statePacked
		if extents, err = s.files.Append([][]byte{inline}); err != nil {
			return err
		}
		rec.extent = extents[0]
	}
	return s.kv.Update(ctx, func(tx kv.Txn) error {
		if rec.state == statePacked {
			if err := tx.Delete(inlineKey(h)); err != nil {
				return err
			}
		}
		return errors.Join(s.markUnsynced(tx, rec), tx.Set(recordKey(h), rec.marshal()))
	})
}

// migrateSegments gives a blob a file, under the id that it had.
func (s *Store) migrateSegments(ctx context.Context, h Hash, rec record) error {
	if err := s.files.Remove(rec.id); err != nil { // of a migration that was cut short
		return err
	}
	if err := s.files.Create(rec.id); err != nil {
		return err
	}
	g := newGeometry(rec.size)
	var have uint64
	prefix := idKey(keySegmentV1, rec.id)
	err := s.kv.View(ctx, func(r kv.Reader) error {
		return s.kv.Batch(ctx, func(w kv.Writer) error {
			for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
				if err != nil {
					return err
				}
				level, index := int(p.Key[len(prefix)]), uint64(binary.BigEndian.Uint32(p.Key[len(prefix)+1:]))
				tree := bytes.Clone(p.Value)
				if level == 0 {
					var n int
					if tree, n, err = s.migrateSegment(g, rec.id, index, p.Value); err != nil {
						return err
					}
					have += uint64(n)
				}
				if len(tree) > 0 {
					if err := w.Set(blockKey(rec.id, level, index), tree); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	rec.have = have
	if have == g.counts[0] {
		rec.state = stateComplete
	}
	return s.kv.Update(ctx, func(tx kv.Txn) error {
		return errors.Join(s.markUnsynced(tx, rec), tx.Set(recordKey(h), rec.marshal()))
	})
}

// migrateSegment writes the groups of a segment to their places in the file, and returns its tree and their number.
func (s *Store) migrateSegment(g geometry, id contentID, index uint64, v []byte) (tree []byte, count int, err error) {
	n := g.children(0, index)
	head := 4 + treeBytes(n)
	if len(v) < head {
		return nil, 0, errMalformed
	}
	mask := binary.LittleEndian.Uint32(v)
	tree, v = bytes.Clone(v[4:head]), v[head:]
	for i := range n {
		if mask>>i&1 == 0 {
			continue
		}
		group := index*fanOut + uint64(i)
		length := groupLen(g.size, group)
		if len(v) < length {
			return nil, 0, errMalformed
		}
		if err := s.files.WriteAt(id, v[:length], group*GroupSize); err != nil {
			return nil, 0, err
		}
		v = v[length:]
	}
	return tree, bits.OnesCount32(mask), nil
}

package versions

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// manifestPrefix is what the keys of manifests begin with. No item has such a key.
const manifestPrefix = "\x00batch."

// manifestKey returns the key of the manifest of the batch whose first part is d.
func manifestKey(d record.Dot) []byte {
	return fmt.Appendf(nil, "%s%s.%s.%016x", manifestPrefix, hex.EncodeToString(d.Device.Author[:]),
		hex.EncodeToString(d.Device.Incarnation[:]), d.Counter)
}

// parseManifestKey returns the first part of the batch whose manifest an author has under a key.
func parseManifestKey(key []byte, author replica.AuthorID) (first record.Dot, ok bool) {
	parts := strings.Split(strings.TrimPrefix(string(key), manifestPrefix), ".")
	if len(parts) != 3 || len(parts[1]) != 2*len(first.Device.Incarnation) {
		return first, false
	}
	incarnation, err := hex.DecodeString(parts[1])
	if err != nil {
		return first, false
	}
	first.Device.Author = record.TagOf(author)
	first.Device.Incarnation = record.Incarnation(incarnation)
	first.Counter, err = strconv.ParseUint(parts[2], 16, 64)
	return first, err == nil && bytes.Equal(manifestKey(first), key)
}

// becameWhole returns the keys of a batch if all of its parts are here and Arrived has not said so
// before: the parts that came earlier have waited for the last. While one is missing, nothing has
// changed.
func (s *Set) becameWhole(
	ctx context.Context, author replica.AuthorID, first record.Dot,
) ([][]byte, error) {
	if s.seen.isTold(first) {
		return nil, nil
	}
	whole, err := s.isWholeFrom(ctx, author, first)
	if !whole || err != nil {
		return nil, err
	}
	s.seen.noteTold(first)
	q := replica.Query{Key: manifestKey(first), Author: &author}
	for it, err := range s.cfg.Slots.Entries(ctx, q) {
		if err != nil {
			return nil, err
		}
		keys, err := s.manifest(ctx, &it.Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			return nil, nil
		}
		return keys, err
	}
	return nil, nil
}

// isWhole reports whether all versions of the batch of v are here, or what supersedes them. A
// version that is by itself is whole. So is one whose manifest its author has withdrawn.
func (s *Set) isWhole(ctx context.Context, v *plan.Version) (bool, error) {
	if v.Batch == nil || v.Batch.Parts == 1 {
		return true, nil
	}
	return s.isWholeFrom(ctx, v.Author, v.Batch.FirstOf(v.Dot))
}

// isWholeFrom is isWhole of the batch of an author that begins with the part first.
func (s *Set) isWholeFrom(
	ctx context.Context, author replica.AuthorID, first record.Dot,
) (bool, error) {
	known := s.seen.partsOf(first)
	if known == allParts {
		return true, nil
	}
	n, err := s.countParts(ctx, author, first, known)
	if err != nil {
		return false, fmt.Errorf("batch %s: %w", first, err)
	}
	if n != known {
		s.seen.noteParts(first, n)
	}
	return n == allParts, nil
}

// allParts is the number of parts of a batch that is whole.
const allParts = record.MaxParts + 1

// countParts returns how many parts of a batch have come, from the first on, or allParts; known is
// how many had before. What has come is not looked at again: whoever reads all items of a large
// batch that is still coming would otherwise look at each for each.
func (s *Set) countParts(
	ctx context.Context, author replica.AuthorID, first record.Dot, known int,
) (int, error) {
	q := replica.Query{Key: manifestKey(first), Author: &author, Tombstones: true}
	for it, err := range s.cfg.Slots.Entries(ctx, q) {
		if err != nil {
			return known, err
		}
		if it.Entry.IsTombstone() {
			return allParts, nil
		}
		keys, err := s.manifest(ctx, &it.Entry)
		switch {
		case errors.Is(err, plan.ErrMissing):
			return known, nil
		case errors.Is(err, record.ErrMalformed):
			return allParts, nil // nothing can be waited for
		case err != nil:
			return known, err
		}
		for i := known; i < len(keys); i++ {
			d := first
			d.Counter += uint64(i)
			has, err := s.has(ctx, keys[i], d)
			if !has || err != nil {
				return i, err
			}
		}
		return allParts, nil
	}
	return known, nil
}

// manifest returns the keys in a manifest, which must not be changed.
func (s *Set) manifest(ctx context.Context, e *replica.Entry) ([][]byte, error) {
	if keys, ok := s.seen.keysOf(e.Hash); ok {
		return keys, nil
	}
	c, err := s.cfg.Slots.Open(ctx, e)
	if err != nil {
		return nil, err
	}
	if c.Size() > record.MaxManifest {
		return nil, fmt.Errorf("%w: a manifest of %d bytes", record.ErrMalformed, c.Size())
	}
	b := make([]byte, c.Size())
	if err := readAt(c, b, 0); err != nil {
		return nil, err
	}
	keys, err := record.ParseManifest(b)
	if err == nil {
		s.seen.noteKeys(batchKeys{e.Hash, keys})
	}
	return keys, err
}

// has reports whether a version of a key is here, or one that supersedes it.
func (s *Set) has(ctx context.Context, key []byte, d record.Dot) (bool, error) {
	for it, err := range s.cfg.Slots.Entries(ctx, replica.Query{Key: key}) {
		if err != nil {
			return false, err
		}
		v, err := s.load(ctx, &it.Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			continue
		}
		if err != nil {
			return false, err
		}
		if v.Dot == d || v.Context.Covers(d) {
			return true, nil
		}
	}
	return false, nil
}

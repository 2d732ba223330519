package versions

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// Past is a version of an item, a head or a former one.
type Past struct {
	record.Dot
	Time    time.Time
	Size    uint64 // of the content in bytes, if it is kept
	Deleted bool
	Head    bool
	// Kept says that its content can be read, and restored.
	Kept bool

	height   uint64
	version  *plan.Version
	ancestor int
}

// History returns the versions of an item that are known: its heads, and the last versions that
// each of them supersedes, the newest first.
func (i *Item) History() []Past {
	seen := map[record.Dot]int{}
	var all []Past
	add := func(p Past) {
		at, ok := seen[p.Dot]
		switch {
		case !ok:
			seen[p.Dot] = len(all)
			all = append(all, p)
		case p.Head || p.Kept && !all[at].Kept && !all[at].Head:
			all[at] = p
		}
	}
	for _, h := range i.Heads {
		add(Past{
			Dot: h.Dot, Time: time.UnixMicro(int64(h.Time)), Size: h.Content.Size,
			Deleted: h.Kind == record.Deletion, Head: true, Kept: h.Kind != record.Deletion,
			height: h.Height, version: h, ancestor: -1,
		})
		for j := range h.Ancestors {
			a := &h.Ancestors[j]
			add(Past{
				Dot: a.Dot, Time: time.UnixMicro(int64(a.Time)), Size: a.Size,
				Deleted: a.Hash == record.ShortHash{}, Kept: a.Kept,
				height: a.Height, version: h, ancestor: j,
			})
		}
	}
	slices.SortFunc(all, func(a, b Past) int {
		return cmp.Or(cmp.Compare(b.height, a.height), b.Time.Compare(a.Time), a.Dot.Compare(b.Dot))
	})
	return all
}

// ErrNotKept reports a former version whose content is not kept.
var ErrNotKept = kind.New(kind.NotFound, "the content of that version is not kept")

// Past returns a version of an item by its dot. It returns ErrNotKept for one that is not known.
func (i *Item) Past(d record.Dot) (Past, error) {
	for _, p := range i.History() {
		if p.Dot == d {
			return p, nil
		}
	}
	return Past{}, fmt.Errorf("key %q: version %s: %w", i.Key, d, ErrNotKept)
}

// OpenPast opens the content of a version, as long as ctx lives. It returns ErrNotKept.
func (i *Item) OpenPast(ctx context.Context, p Past) (*io.SectionReader, error) {
	if !p.Kept {
		return nil, fmt.Errorf("key %q: version %s: %w", i.Key, p.Dot, ErrNotKept)
	}
	return i.set.Open(ctx, p.version, p.ancestor)
}

// Restore gives an item the content of one of its versions, in a version that supersedes all heads.
// It returns ErrNotKept.
func (s *Set) Restore(ctx context.Context, item *Item, p Past) error {
	in, err := item.OpenPast(ctx, p)
	if err != nil {
		return s.failed(err)
	}
	h := s.hashes.Hasher()
	if _, err := io.Copy(h, in); err != nil {
		return s.failed(err)
	}
	src := Source{Size: uint64(in.Size()), Open: func() (io.Reader, error) {
		return io.NewSectionReader(in, 0, in.Size()), nil
	}}
	h.Sum(src.Hash[:0])
	named := p.version.Content.Hash
	known := named[:]
	if p.ancestor >= 0 {
		short := p.version.Ancestors[p.ancestor].Hash
		known = short[:]
	}
	if !bytes.HasPrefix(src.Hash[:], known) {
		return s.failed(fmt.Errorf("key %q: version %s: %w", item.Key, p.Dot, ErrNotKept))
	}
	return s.Write(ctx, Edit{
		Item: item, Content: &src, Resolve: true, Schema: p.version.Schema,
	})
}

package review

import (
	"context"
	"fmt"
	"io"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/record"
)

// Decision is how a conflict ends. One of its fields is set.
type Decision struct {
	// Take chooses one of the heads, as Conflicts lists them.
	Take *Choice
	// Content is a content of a person's own. It is read twice.
	Content *io.SectionReader
	// Delete deletes the item.
	Delete bool
}

// Outcome is what a decision has come to.
type Outcome struct {
	// Took is the head that was chosen; nil for a content of one's own, and for a deletion.
	Took *Version
	// Size is that of what the item holds now, in bytes.
	Size    uint64
	Deleted bool
	// Over is how many heads the version supersedes that was written.
	Over int
}

// Resolve ends a conflict on all devices, by a version over all its heads. It returns
// ErrNoConflict, ErrNoVersion, versions.ErrNotKept, versions.ErrNoAuthor and
// replica.NotAllowedError.
func (s *Service) Resolve(
	ctx context.Context, r replica.Replica, key []byte, d Decision,
) (out Outcome, err error) {
	look, err := s.Show(ctx, r, key) // before the replica is opened as one that has versions
	if err != nil {
		return out, err
	}
	var took Version
	if d.Take != nil {
		if took, err = d.Take.of(look.Heads); err != nil {
			return out, about(r, key, err)
		}
		out.Took = &took
	}
	err = s.write(ctx, r, key, func(set *versions.Set, item *versions.Item) error {
		if item.Conflict == nil {
			return ErrNoConflict
		}
		out.Over = len(item.Heads)
		switch {
		case d.Delete, d.Take != nil && took.Deleted:
			out.Deleted = true
			return set.Write(ctx, versions.Edit{Item: item, Delete: true, Resolve: true})
		case d.Content != nil:
			src, err := sourceOf(r.ID, d.Content)
			if err != nil {
				return err
			}
			out.Size = src.Size
			return set.Write(ctx, versions.Edit{
				Item: item, Content: &src, Resolve: true, Schema: newestSchema(item),
			})
		}
		p, err := item.Past(took.past.Dot)
		if err != nil {
			return err
		}
		out.Size = p.Size
		return set.Restore(ctx, item, p)
	})
	return out, about(r, key, err)
}

// newestSchema returns the newest schema of an item's heads, which a person has had in view.
func newestSchema(item *versions.Item) (schema uint64) {
	for _, h := range item.Heads {
		schema = max(schema, h.Schema)
	}
	return schema
}

// sourceOf returns a source of what in reads, from its beginning.
func sourceOf(id replica.ID, in *io.SectionReader) (src versions.Source, err error) {
	h := record.Hasher(id)
	if _, err := io.Copy(h, io.NewSectionReader(in, 0, in.Size())); err != nil {
		return src, fmt.Errorf("read the content: %w", err)
	}
	src = versions.Source{Size: uint64(in.Size()), Open: func() (io.Reader, error) {
		return io.NewSectionReader(in, 0, in.Size()), nil
	}}
	h.Sum(src.Hash[:0])
	return src, nil
}

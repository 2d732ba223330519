package versions

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// Looked says what a device has shown of an item before; the zero value is for nothing.
type Looked struct {
	// Applied is all that was shown, and Hash its content's hash.
	Applied record.Vector
	Hash    record.Hash
	// Waited says that what is missing, or should have been merged by another device, has been waited
	// for: contents of ancestors, and the other parts of batches.
	Waited bool
}

// Item is what the versions of a key say together.
type Item struct {
	Key []byte
	*plan.Plan
	// Pending is how many versions are not all here yet; they are left out of the plan. So are
	// Malformed ones, which no device takes for versions.
	Pending, Malformed int

	set *Set
	all []*plan.Version // heads and others that are here
	own []blobs.Hash    // what the slots of this device's author hold
	// ownPending says that the content of one of them is not here: it would be overwritten unseen.
	ownPending bool
	unreadable error // of an item without heads
}

// Read returns the item of a key. An item without any version is Deleted.
func (s *Set) Read(ctx context.Context, key []byte, l Looked) (*Item, error) {
	items, err := s.ReadAll(ctx, [][]byte{key}, func([]byte) Looked { return l })
	if err != nil {
		return nil, err
	}
	return items[0], nil
}

// item makes the item of entries of one key; tiny are the contents of those that are at hand.
func (s *Set) item(ctx context.Context, of slotsOf, tiny [][]byte) (*Item, error) {
	s.mu.Lock()
	author := s.dev.Author
	s.mu.Unlock()
	key, entries, l := of.key, of.slots, of.looked
	item := &Item{Key: key, set: s}
	for i := range entries {
		if e := &entries[i].Entry; e.Author == author {
			item.own = append(item.own, e.Hash)
		}
	}
	entries, tiny, slots := newestFirst(entries, tiny)
	for it, err := range s.cfg.Slots.Displaced(ctx, key) {
		if err != nil {
			return nil, err
		}
		entries = append(entries, it)
	}
	contexts := map[blobs.Hash]record.Vector{} // by the content that says so: entries can share one
	for {
		item.Pending, item.Malformed = 0, 0
		var all []*plan.Version
		for i := range entries {
			e := &entries[i].Entry
			var content []byte
			if i < len(tiny) {
				content = tiny[i]
			}
			v, err := s.loadFrom(ctx, e, content)
			switch {
			case errors.Is(err, plan.ErrMissing):
				item.Pending++
				item.ownPending = item.ownPending || e.Author == author
				continue
			case errors.Is(err, record.ErrMalformed):
				item.Malformed++
				continue
			case err != nil:
				return nil, fmt.Errorf("key %q: %w", key, err)
			}
			if c, ok := contexts[e.Hash]; ok && slices.Equal(c, v.Context) {
				v.Context = c
			} else if !ok {
				contexts[e.Hash] = v.Context
			}
			if v.Displaced = i >= slots; v.Displaced {
				s.mu.Lock()
				over := s.namedBy(all, v)
				s.mu.Unlock()
				if over {
					continue
				}
			}
			// What this device's author wrote, it has seen, and would overwrite.
			whole := l.Waited || v.Displaced || v.Author == author
			if !whole {
				if whole, err = s.isWhole(ctx, v); err != nil {
					return nil, err
				}
			}
			if !whole {
				item.Pending++
				continue
			}
			all = append(all, v)
		}
		var err error
		item.Plan, err = plan.Make(all, plan.Options{
			Merge:          s.merger(ctx, key),
			DeletionStands: s.cfg.DeletionStands,
			Author:         record.TagOf(author),
			Applied:        l.Applied,
			AppliedHash:    l.Hash,
			GiveUp:         l.Waited,
		})
		if errors.Is(err, errFalse) { // what is false has been noted
			continue
		}
		if err == nil && len(item.Heads) == 0 {
			err = item.lookForUnreadable(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", key, err)
		}
		item.all = all
		return item, nil
	}
}

// newestFirst returns some entries of a key, with their contents, such that the newest of each
// author come first: so many as slots says.
func newestFirst(
	entries []replica.Item, tiny [][]byte,
) (sorted []replica.Item, contents [][]byte, slots int) {
	isOld := func(i int) bool {
		return i+1 < len(entries) && entries[i+1].Entry.Author == entries[i].Entry.Author
	}
	for i := range entries {
		if !isOld(i) {
			slots++
		}
	}
	if slots == len(entries) {
		return slices.Clip(entries), tiny, slots
	}
	for _, old := range []bool{false, true} {
		for i := range entries {
			if isOld(i) == old {
				sorted = append(sorted, entries[i])
				if len(tiny) > 0 {
					contents = append(contents, tiny[i])
				}
			}
		}
	}
	return sorted, contents, slots
}

// lookForUnreadable finds out whether an item of which nothing is shown may be there all the same.
func (i *Item) lookForUnreadable(ctx context.Context) error {
	err := i.set.cfg.Slots.Unreadable(ctx)
	if errors.Is(err, replica.ErrNoReadKey) {
		i.unreadable = err
		return nil
	}
	return err
}

// Deleted reports whether the item is not there: it was deleted, or never written. One of which
// nothing can be read, since its content or a read key is not here, is not Deleted.
func (i *Item) Deleted() bool {
	return i.Plan.Deleted() && (len(i.Heads) > 0 || i.Pending == 0 && i.unreadable == nil)
}

// readAtOnce is how much of an entry's content is read at once: more than most records.
const readAtOnce = 4 << 10

// load reads the version of an entry. It returns plan.ErrMissing and record.ErrMalformed.
func (s *Set) load(ctx context.Context, e *replica.Entry) (*plan.Version, error) {
	return s.loadFrom(ctx, e, nil)
}

// loadFrom is load with the entry's content, if that is at hand; else nil.
func (s *Set) loadFrom(
	ctx context.Context, e *replica.Entry, content []byte,
) (*plan.Version, error) {
	var c Content = bytes.NewReader(content)
	head := content
	if content == nil {
		var err error
		if c, err = s.cfg.Slots.Open(ctx, e); err != nil {
			return nil, err
		}
		head = make([]byte, min(readAtOnce, c.Size()))
		if err := readAt(c, head, 0); err != nil {
			return nil, err
		}
	}
	size := c.Size()
	n, more, err := record.Length(head)
	if err == nil && (more || int64(n) > size) {
		err = fmt.Errorf("%w: cut short", record.ErrMalformed)
	}
	if err != nil {
		return nil, err
	}
	if n > len(head) {
		head = make([]byte, n)
		if err := readAt(c, head, 0); err != nil {
			return nil, err
		}
	}
	r, err := record.Parse(head[:n], e.Author)
	if err != nil {
		return nil, err
	}
	if uint64(size-int64(n)) != r.Following() {
		return nil, fmt.Errorf("%w: %d bytes follow it, expected %d", record.ErrMalformed,
			size-int64(n), r.Following())
	}
	if r.Kind != record.Deletion {
		if here := head[n:]; uint64(len(here)) >= r.Content.Size { // it costs little to look
			if s.hashes.Of(here[:r.Content.Size]) != r.Content.Hash {
				return nil, fmt.Errorf("%w: %w", record.ErrMalformed, errFalse)
			}
		} else if s.seen.isFalse(falseClaim{r.Content.Hash, e.Hash}) {
			return nil, fmt.Errorf("%w: %w", record.ErrMalformed, errFalse)
		}
	}
	v := &plan.Version{Record: r, Author: e.Author, Time: e.Timestamp, Entry: e, At: int64(n)}
	if int64(len(head)) == size && len(head) <= readAtOnce { // entries can share a large one
		v.Whole = head
	}
	return v, nil
}

// stored opens what is stored for a version.
func (s *Set) stored(ctx context.Context, v *plan.Version) (Content, error) {
	if v.Whole != nil {
		return bytes.NewReader(v.Whole), nil
	}
	return s.cfg.Slots.Open(ctx, v.Entry)
}

func readAt(c Content, b []byte, off int64) error {
	n, err := c.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Open opens the content of a version, or of one of its ancestors, by its place; -1 is its own. It
// returns plan.ErrMissing if that is not kept, or not here. What it reads is not verified, unlike
// that of Bytes.
func (s *Set) Open(
	ctx context.Context, v *plan.Version, ancestor int,
) (*io.SectionReader, error) {
	if ancestor >= 0 && !v.Ancestors[ancestor].Kept {
		return nil, fmt.Errorf("version %s: %w", v.Ancestors[ancestor].Dot, plan.ErrMissing)
	}
	c, err := s.stored(ctx, v)
	if err != nil {
		return nil, err
	}
	offset, size := v.Place(ancestor)
	return io.NewSectionReader(c, v.At+int64(offset), int64(size)), nil
}

// Bytes returns the content of a version, or of an ancestor, of at most most bytes, verified. It
// returns plan.ErrMissing, and blobs.ErrTooLarge.
func (s *Set) Bytes(
	ctx context.Context, v *plan.Version, ancestor int, most uint64,
) ([]byte, error) {
	// What was read as a whole was verified then.
	if v.Whole != nil && ancestor < 0 && v.Kind != record.Deletion && v.Content.Size <= most {
		return bytes.Clone(v.Whole[v.At : v.At+int64(v.Content.Size)]), nil
	}
	r, err := s.Open(ctx, v, ancestor)
	if err != nil {
		return nil, err
	}
	if uint64(r.Size()) > most {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", blobs.ErrTooLarge, r.Size(), most)
	}
	b := make([]byte, r.Size())
	if err := readAt(r, b, 0); err != nil {
		return nil, err
	}
	h := s.hashes.Of(b)
	if ancestor < 0 && h != v.Content.Hash {
		s.seen.noteFalse(falseClaim{v.Content.Hash, v.Entry.Hash})
		return nil, errFalse
	}
	if ancestor >= 0 && h.Short() != v.Ancestors[ancestor].Hash {
		return nil, fmt.Errorf("version %s: %w: another content is kept for it",
			v.Ancestors[ancestor].Dot, plan.ErrMissing)
	}
	return b, nil
}

// Content returns what an item shows, of at most most bytes. It returns replica.ErrNotFound for one
// that is deleted, plan.ErrMissing, blobs.ErrTooLarge, and replica.ErrNoReadKey if nothing of it
// can be read.
func (i *Item) Content(ctx context.Context, most uint64) ([]byte, error) {
	switch {
	case i.Deleted():
		return nil, fmt.Errorf("key %q: %w", i.Key, replica.ErrNotFound)
	case len(i.Heads) == 0:
		return nil, fmt.Errorf("key %q: %w", i.Key, cmp.Or(i.unreadable, plan.ErrMissing))
	case i.Show.Merged != nil:
		b := i.Show.Merged.(merged).content
		if uint64(len(b)) > most {
			return nil, fmt.Errorf("key %q: %w: %d bytes, at most %d", i.Key, blobs.ErrTooLarge, len(b),
				most)
		}
		return b, nil
	}
	b, err := i.set.Bytes(ctx, i.Show.Version, i.Show.Ancestor, most)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", i.Key, err)
	}
	return b, nil
}

// Looked returns what to give to the next Read once this item is shown.
func (i *Item) Looked() Looked {
	l := Looked{Applied: plan.Vector(i.Basis)}
	switch {
	case i.Show.Merged != nil:
		l.Hash = i.Show.Merged.Hash()
	case i.Show.Version != nil:
		l.Hash = i.Show.Version.Content.Hash
	}
	return l
}

// merged is what a merge has given.
type merged struct {
	content []byte
	hash    record.Hash
}

// Hash implements plan.Merged.
func (m merged) Hash() record.Hash { return m.hash }

// merger returns how contents of a key are merged.
func (s *Set) merger(ctx context.Context, key []byte) plan.MergeFunc {
	if s.cfg.Merge == nil {
		return nil
	}
	read := func(side *plan.Side) ([]byte, error) {
		if side.Merged != nil {
			return side.Merged.(merged).content, nil
		}
		return s.Bytes(ctx, side.Version, side.Ancestor, s.cfg.MaxMerge)
	}
	return func(base *plan.Side, local, remote plan.Side) (plan.Merged, bool, error) {
		var b []byte
		var err error
		if base != nil {
			if b, err = read(base); b == nil && err == nil {
				b = []byte{}
			}
		}
		var l, r []byte
		if err == nil {
			l, err = read(&local)
		}
		if err == nil {
			r, err = read(&remote)
		}
		if errors.Is(err, blobs.ErrTooLarge) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		out, err := s.cfg.Merge(key, b, l, r)
		if err != nil {
			return nil, false, contentsError{err}
		}
		if uint64(len(out)) > s.cfg.MaxMerge {
			return nil, false, nil
		}
		return merged{out, s.hashes.Of(out)}, true, nil
	}
}

// contentsError says why contents cannot be merged.
type contentsError struct{ why error }

func (e contentsError) Error() string   { return e.why.Error() }
func (e contentsError) Unwrap() []error { return []error{plan.ErrContents, e.why} }

// following opens what follows the record of a version.
func (s *Set) following(ctx context.Context, v *plan.Version) (*io.SectionReader, error) {
	c, err := s.stored(ctx, v)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(c, v.At, int64(v.Following())), nil
}

func joined(b []byte, rest io.Reader) io.Reader { return io.MultiReader(bytes.NewReader(b), rest) }

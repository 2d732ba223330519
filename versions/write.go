package versions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// Source is a content to be written. Open is called at least once for each version that gets it.
type Source struct {
	Size uint64
	Hash record.Hash
	Open func() (io.Reader, error)
}

// SourceOf returns a source of bytes.
func (s *Set) SourceOf(b []byte) Source {
	return Source{
		Size: uint64(len(b)), Hash: s.hashes.Of(b),
		Open: func() (io.Reader, error) { return bytes.NewReader(b), nil },
	}
}

// Edit is one item that is given another content. Of Content and Delete one is given.
type Edit struct {
	Item    *Item // as it was read
	Content *Source
	Delete  bool
	Schema  uint64
	// Resolve has the edit supersede all heads, also those that are not shown: it ends a conflict.
	Resolve bool
	// Over, if not nil, is what the edit follows on, instead of what Item shows: what was shown when
	// the edit was made, which may be long ago. If this device has written since, and that is a head,
	// the edit stands beside it: another author of the device writes it, by itself.
	Over *Shown
}

// Write writes edits as a batch, all with one time, and returns when they are durable: other
// devices show all of them or none. Each supersedes what its item showed. It returns ErrStale for
// an item that this device has written since, and ErrPending; ErrNoAuthor or ErrRemoved if this
// device may not write; replica.ErrNoReadKey while the read key of the replica's present epoch is
// not here; and a *ClockError while this device's clock is wrong.
func (s *Set) Write(ctx context.Context, edits ...Edit) error {
	return s.writeEdits(ctx, edits, true)
}

// WriteEach writes edits that have nothing to do with each other, all with one time, as Write does
// each.
func (s *Set) WriteEach(ctx context.Context, edits ...Edit) error {
	return s.writeEdits(ctx, edits, false)
}

func (s *Set) writeEdits(ctx context.Context, edits []Edit, together bool) error {
	drafts := make([]draft, len(edits))
	for i := range edits {
		e := &edits[i]
		d := &drafts[i]
		d.item, d.content, d.schema, d.over = e.Item, e.Content, e.Schema, e.Item.Basis
		switch {
		case e.Delete == (e.Content != nil):
			return s.failed(fmt.Errorf("key %q: an edit has a content or deletes", e.Item.Key))
		case e.Delete:
			d.kind = record.Deletion
		case e.Resolve && len(e.Item.Heads) > 1:
			d.kind = record.Resolution
		}
		switch {
		case e.Resolve && e.Over != nil:
			return s.failed(fmt.Errorf("key %q: a resolution supersedes all heads", e.Item.Key))
		case e.Resolve:
			d.over = e.Item.Heads
		case e.Over != nil:
			d.over, d.shown = e.Over.basis, true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed(s.write(ctx, drafts, together))
}

// Set gives an item a content.
func (s *Set) Set(ctx context.Context, item *Item, content []byte) error {
	src := s.SourceOf(content)
	return s.Write(ctx, Edit{Item: item, Content: &src})
}

// Delete deletes an item. One that is not there stays as it is.
func (s *Set) Delete(ctx context.Context, item *Item) error {
	if item.Plan.Deleted() && len(item.Heads) < 2 {
		return nil
	}
	return s.Write(ctx, Edit{Item: item, Delete: true})
}

// Resolve ends a conflict with a content.
func (s *Set) Resolve(ctx context.Context, item *Item, content []byte) error {
	src := s.SourceOf(content)
	return s.Write(ctx, Edit{Item: item, Content: &src, Resolve: true})
}

// Settle reads an item and writes what its plan says is to be written: at once, if it is for this
// device to do, or after it has waited for another. After that, it also publishes heads that others
// cannot have. A device that may not write shows the same, and leaves the writing to others.
func (s *Set) Settle(ctx context.Context, key []byte, l Looked) (*Item, error) {
	item, err := s.Read(ctx, key, l)
	if err != nil {
		return nil, err
	}
	if !item.Plan.Write || !item.First && !l.Waited {
		if l.Waited && len(item.Heads) > 1 {
			if err := s.publishDisplaced(ctx, item); err != nil && !mayNotWrite(err) {
				return nil, s.failed(err)
			}
			return s.Read(ctx, key, l)
		}
		return item, nil
	}
	src := s.SourceOf(item.Show.Merged.(merged).content)
	s.mu.Lock()
	err = s.write(ctx, []draft{{
		item: item, content: &src, over: item.Heads, generation: item.Generation,
		schema: schemaOf(item.Heads),
	}}, false)
	s.mu.Unlock()
	switch {
	case mayNotWrite(err):
		return item, nil
	case err != nil:
		return nil, s.failed(err)
	}
	return s.Read(ctx, key, l)
}

// schemaOf returns the newest schema of some versions, which a merge of them has.
func schemaOf(heads []*plan.Version) (schema uint64) {
	for _, h := range heads {
		schema = max(schema, h.Schema)
	}
	return schema
}

// draft is a version that is about to be written.
type draft struct {
	item       *Item
	kind       record.Kind
	content    *Source // nil deletes
	over       []*plan.Version
	generation uint8
	schema     uint64
	shown      bool // over is what was shown at another time
}

// write writes drafts, as a batch if together. The caller holds the lock.
func (s *Set) write(ctx context.Context, drafts []draft, together bool) error {
	if len(drafts) == 0 {
		return nil
	}
	err := s.maySign()
	if err == nil {
		err = s.become(ctx)
	}
	if err != nil {
		return err
	}
	drafts, beside := s.besideOwn(drafts)
	for i := range beside {
		if err := s.writeBeside(ctx, &beside[i]); err != nil {
			return fmt.Errorf("key %q: %w", beside[i].item.Key, err)
		}
	}
	if len(drafts) == 0 {
		return nil
	}
	if err := s.checkOwn(ctx, drafts); err != nil {
		return err
	}
	used := uint64(0) // as others say
	for i := range drafts {
		drafts[i].over = s.withOwn(&drafts[i])
		used = max(used, plan.Vector(drafts[i].over).Of(s.device()))
	}
	if used >= s.next && s.next > 0 {
		if err := s.becomeAgain(ctx, nil); err != nil {
			return err
		}
	}
	keys := map[string]bool{}
	for i := range drafts {
		keys[string(drafts[i].item.Key)] = true
	}
	return s.putAnew(ctx, keys, func() error { return s.sign(ctx, drafts, together) })
}

// sign writes drafts whose slots may be taken.
func (s *Set) sign(ctx context.Context, drafts []draft, together bool) error {
	counter, err := s.reserve(ctx, uint64(len(drafts)))
	if err != nil {
		return err
	}
	values := make([]Value, 0, len(drafts)+1)
	var batch *record.Batch
	if together && len(drafts) > 1 {
		if len(drafts) > record.MaxParts {
			return fmt.Errorf("%d edits at once, at most %d", len(drafts), record.MaxParts)
		}
		batch = &record.Batch{First: counter, Parts: uint64(len(drafts))}
		keys := make([][]byte, len(drafts))
		for i := range drafts {
			keys[i] = drafts[i].item.Key
		}
		values = append(values, Value{
			manifestKey(record.Dot{Device: s.device(), Counter: counter}),
			bytes.NewReader(record.AppendManifest(nil, keys)),
			nil,
		})
	}
	seen := s.acks.seen()
	for i := range drafts {
		dot := record.Dot{Device: s.device(), Counter: counter + uint64(i)}
		stream, err := s.stream(ctx, &drafts[i], dot, batch, seen)
		if err != nil {
			return fmt.Errorf("key %q: %w", drafts[i].item.Key, err)
		}
		// What comes from elsewhere meanwhile is not overwritten unseen.
		values = append(values, Value{drafts[i].item.Key, stream, drafts[i].item.check})
	}
	return s.put(ctx, s.key, values)
}

// checkOwn returns ErrStale if this device has written an item since it was read: its slot would be
// overwritten.
func (s *Set) checkOwn(ctx context.Context, drafts []draft) error {
	if s.dev.Author == (replica.AuthorID{}) {
		return nil
	}
	keys := make([][]byte, len(drafts))
	for i := range drafts {
		keys[i] = drafts[i].item.Key
	}
	own, err := s.cfg.Slots.EntriesBy(ctx, s.dev.Author, keys)
	if err != nil {
		return err
	}
	for i, e := range own {
		if err := drafts[i].item.check(e); err != nil {
			return err
		}
	}
	return nil
}

// check returns ErrStale unless the item was read with the entry of this device, nil for none.
func (i *Item) check(own *replica.Entry) error {
	switch {
	case own == nil || own.IsTombstone():
		return nil
	case !slices.Contains(i.own, own.Hash):
		return fmt.Errorf("key %q: %w", i.Key, ErrStale)
	case i.ownPending:
		return fmt.Errorf("key %q: %w", i.Key, ErrPending)
	}
	return nil
}

// stream returns what is stored for a draft: its record, its content, and those that it keeps.
func (s *Set) stream(
	ctx context.Context, d *draft, dot record.Dot, batch *record.Batch, seen []record.Vector,
) (io.Reader, error) {
	left := s.cfg.MaxKept
	keeps := func(a record.Ancestor) bool {
		if a.Size > min(left, s.cfg.MaxMerge) {
			return false
		}
		left -= a.Size
		return true
	}
	r := plan.Over(d.over, dot.Device, seen, keeps)
	r.Dot, r.Kind, r.Generation, r.Schema, r.Batch = dot, d.kind, d.generation, d.schema, batch
	var parts []io.Reader
	small := false // what is small is read now: that costs less than a stream of it
	if d.content != nil {
		r.Content = record.Content{Size: d.content.Size, Hash: d.content.Hash}
		small = r.Content.Size <= readAtOnce
	}
	if d.content != nil && !small {
		in, err := d.content.Open()
		if err != nil {
			return nil, err
		}
		parts = append(parts, &verifying{in: in, want: r.Content, hash: s.hashes.Hasher()})
	}
	for i := range r.Ancestors {
		a := &r.Ancestors[i]
		if !a.Kept {
			continue
		}
		content, err := s.kept(ctx, append(slices.Clone(d.over), d.item.all...), a)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, errFalse) {
			a.Kept, a.Size = false, 0
			continue
		}
		if err != nil {
			return nil, err
		}
		parts = append(parts, bytes.NewReader(content))
	}
	b, err := r.Append(nil)
	if err != nil {
		return nil, err
	}
	if small {
		if b, err = s.appendContent(b, d.content); err != nil {
			return nil, err
		}
	}
	if len(parts) == 0 {
		return bytes.NewReader(b), nil
	}
	return io.MultiReader(append([]io.Reader{bytes.NewReader(b)}, parts...)...), nil
}

// appendContent appends a content to b, or returns ErrChanged if it is not what the source says.
func (s *Set) appendContent(b []byte, src *Source) ([]byte, error) {
	in, err := src.Open()
	if err != nil {
		return nil, err
	}
	at := len(b)
	b = append(b, make([]byte, src.Size+1)...) // one more, to see where it ends
	n, err := io.ReadFull(in, b[at:])
	b = b[:at+n]
	switch {
	case err == nil:
		return nil, ErrChanged
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, err
	case uint64(n) != src.Size || s.hashes.Of(b[at:]) != src.Hash:
		return nil, ErrChanged
	}
	return b, nil
}

// withOwn returns what a draft supersedes: what its item showed, and the head that is in the slot
// which it overwrites, if there is one.
func (s *Set) withOwn(d *draft) []*plan.Version {
	over := slices.Clone(d.over)
	for _, h := range d.item.Heads {
		if h.Author == s.dev.Author && slices.Contains(d.item.own, h.Entry.Hash) &&
			!slices.Contains(over, h) {
			over = append(over, h)
		}
	}
	return over
}

// kept returns the content of an ancestor from one of the versions that have it.
func (s *Set) kept(
	ctx context.Context, from []*plan.Version, a *record.Ancestor,
) ([]byte, error) {
	for _, v := range from {
		if v.Entry == nil {
			continue // it was shown once, and may be gone
		}
		if v.Dot == a.Dot && v.Content.Hash.Short() == a.Hash {
			b, err := s.Bytes(ctx, v, -1, s.cfg.MaxMerge)
			if !errors.Is(err, plan.ErrMissing) {
				return b, err
			}
			continue
		}
		i := slices.IndexFunc(v.Ancestors, func(x record.Ancestor) bool {
			return x.Dot == a.Dot && x.Hash == a.Hash && x.Kept
		})
		if i < 0 {
			continue
		}
		b, err := s.Bytes(ctx, v, i, s.cfg.MaxMerge)
		if !errors.Is(err, plan.ErrMissing) {
			return b, err
		}
	}
	return nil, plan.ErrMissing
}

// verifying makes sure that what it reads is what a record says.
type verifying struct {
	in   io.Reader
	want record.Content
	read uint64
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
}

// ErrChanged reports a content that is not the one whose hash was given.
var ErrChanged = errors.New("the content has changed while it was read")

// Read implements io.Reader.
func (v *verifying) Read(b []byte) (n int, err error) {
	n, err = v.in.Read(b)
	v.read += uint64(n)
	_, _ = v.hash.Write(b[:n]) // never fails
	if v.read > v.want.Size {
		return n, ErrChanged
	}
	if errors.Is(err, io.EOF) &&
		(v.read != v.want.Size || !bytes.Equal(v.hash.Sum(nil), v.want.Hash[:])) {
		return n, ErrChanged
	}
	return n, err
}

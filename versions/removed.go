package versions

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// ErrRemoved reports a write by a device whose author may not write any more: it has been revoked,
// or its grant is over. What nobody else has of what the device wrote, Unsent yields.
var ErrRemoved = kind.New(kind.NotAllowed,
	"this device may not write here any more: ask whoever let it for another grant")

// mayNotWrite reports whether an error says that this device may read, and not write, or not
// now.
func mayNotWrite(err error) bool {
	return errors.Is(err, ErrNoAuthor) || errors.Is(err, ErrRemoved) ||
		errors.Is(err, replica.ErrNoReadKey) || isClockWrong(err)
}

// Unsent is a version that this device has written, and that no other device is known to have taken
// up.
type Unsent struct {
	Key     []byte
	Time    time.Time
	Size    uint64 // of the content in bytes
	Deleted bool

	set     *Set
	version *plan.Version
}

// Open opens the content, as long as ctx lives. It returns replica.ErrNotFound for a deletion.
func (u *Unsent) Open(ctx context.Context) (*io.SectionReader, error) {
	if u.Deleted {
		return nil, u.set.failed(replica.ErrNotFound)
	}
	in, err := u.set.Open(ctx, u.version, -1)
	return in, u.set.failed(err)
}

// Unsent yields, in the order of keys, the versions that this device has written and that no other
// one has superseded, adopted, or written likewise: those of its slots, and those that a revocation
// of the device has made void. So they can be saved elsewhere. Of some of them, other devices may
// have a copy. Void versions are kept since the Set was first opened.
func (s *Set) Unsent(ctx context.Context) iter.Seq2[*Unsent, error] {
	return func(yield func(*Unsent, error) bool) {
		own, err := s.ownAndVoid(ctx)
		if err != nil {
			yield(nil, s.failed(err))
			return
		}
		for _, key := range slices.Sorted(maps.Keys(own)) {
			all, err := s.unsentOf(ctx, []byte(key), own[key])
			for _, v := range all {
				u := &Unsent{
					Key: []byte(key), Time: time.UnixMicro(int64(v.Time)), Size: v.Content.Size,
					Deleted: v.Kind == record.Deletion, set: s, version: v,
				}
				if !yield(u, nil) {
					return
				}
			}
			if err != nil {
				yield(nil, s.failed(err))
				return
			}
		}
	}
}

// ownAndVoid returns the entries in this device's slots, and those of it that are void, by keys.
func (s *Set) ownAndVoid(ctx context.Context) (map[string][]replica.Item, error) {
	own := map[string][]replica.Item{}
	add := func(it replica.Item) {
		if len(it.Key) == 0 || it.Key[0] != 0 {
			own[string(it.Key)] = append(own[string(it.Key)], it)
		}
	}
	for it, err := range s.written(ctx, replica.Query{}) {
		if err != nil {
			return nil, err
		}
		add(it)
	}
	for it, err := range s.cfg.Slots.Void(ctx) {
		if err != nil {
			return nil, err
		}
		add(it)
	}
	return own, nil
}

// unsentOf returns those versions of a key among some of this device that nothing follows on.
func (s *Set) unsentOf(
	ctx context.Context, key []byte, own []replica.Item,
) (all []*plan.Version, err error) {
	mine := map[[32]byte]bool{}
	for i := range own {
		v, err := s.load(ctx, &own[i].Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			continue
		}
		if err != nil {
			return nil, err
		}
		mine[v.Entry.ID()] = true
		all = append(all, v)
	}
	slots, err := s.slots(ctx, key)
	if err != nil {
		return nil, err
	}
	var others []*plan.Version
	for i := range slots {
		if mine[slots[i].Entry.ID()] {
			continue
		}
		w, err := s.load(ctx, &slots[i].Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			continue
		}
		if err != nil {
			return nil, err
		}
		others = append(others, w)
	}
	return slices.DeleteFunc(slices.Clone(all), func(v *plan.Version) bool {
		return slices.ContainsFunc(all, func(w *plan.Version) bool { return w.Supersedes(v) }) ||
			slices.ContainsFunc(others, func(w *plan.Version) bool { return hasTakenUp(w, v) })
	}), nil
}

// hasTakenUp reports whether whoever wrote w had v, or the same.
func hasTakenUp(w, v *plan.Version) bool {
	return w.Supersedes(v) || isCopy(w, v) || w.Content.Hash == v.Content.Hash &&
		(w.Kind == record.Deletion) == (v.Kind == record.Deletion)
}

// tidyVoid forgets what is void of this device and others have taken up.
func (s *Set) tidyVoid(ctx context.Context) error {
	void := map[string][]replica.Item{}
	for it, err := range s.cfg.Slots.Void(ctx) {
		if err != nil {
			return err
		}
		void[string(it.Key)] = append(void[string(it.Key)], it)
	}
	var forget []replica.Item
	for key, items := range void {
		all, err := s.unsentOf(ctx, []byte(key), items)
		if err != nil {
			return err
		}
		for _, it := range items {
			if !slices.ContainsFunc(all, func(v *plan.Version) bool {
				return v.Entry.ID() == it.Entry.ID()
			}) {
				forget = append(forget, it)
			}
		}
	}
	if len(forget) == 0 {
		return nil
	}
	return s.cfg.Slots.Forget(ctx, forget...)
}

// bringBack writes again what was void of this device's author and is allowed now, since the author
// was granted anew: the same versions, in their slots, which are empty. What others have superseded
// or adopted meanwhile is forgotten.
func (s *Set) bringBack(ctx context.Context) error {
	if s.dev.Author == (replica.AuthorID{}) || s.dev.Copied {
		return nil
	}
	var all []replica.Item
	for it, err := range s.cfg.Slots.Displaced(ctx, nil) {
		if err != nil {
			return err
		}
		if it.Entry.Author != s.dev.Author {
			continue
		}
		_, err := s.cfg.Slots.Entry(ctx, it.Key, s.dev.Author)
		switch {
		case errors.Is(err, replica.ErrNotFound): // whatever displaces another takes its slot
			all = append(all, it)
		case err != nil:
			return err
		}
	}
	var forget []replica.Item
	for i := range slices.Backward(all) { // the last of a key follows on the others, or stands beside
		it := &all[i]
		done, err := s.bringBackOne(ctx, it)
		if err != nil {
			return err
		}
		if done {
			forget = append(forget, *it)
		}
	}
	if len(forget) == 0 {
		return nil
	}
	return s.cfg.Slots.Forget(ctx, forget...)
}

// bringBackOne reports whether an entry need not be kept any more.
func (s *Set) bringBackOne(ctx context.Context, it *replica.Item) (done bool, err error) {
	if len(it.Key) > 0 && it.Key[0] != 0 {
		v, err := s.load(ctx, &it.Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if over, err := s.isSuperseded(ctx, it.Key, v); over || err != nil {
			return over, err
		}
	}
	c, err := s.cfg.Slots.Open(ctx, &it.Entry)
	if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	stream := io.NewSectionReader(c, 0, c.Size())
	err = s.put(ctx, s.key, []Value{{it.Key, stream, mayReplace(nil)}})
	if errors.Is(err, ErrStale) || mayNotWrite(err) {
		return false, nil
	}
	return err == nil, err
}

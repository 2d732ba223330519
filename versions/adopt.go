package versions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// A revocation takes entries from all devices, so their versions are gone, and what they superseded
// is a head again, if it is still in a slot. Whoever revokes keeps what there is by a version of
// its own over each head that is going to be void. Such a version names the head with its content:
// what others have written over the head meanwhile follows on the same, and stands.

// A MissingError reports versions that cannot be adopted, since they are not all here.
type MissingError struct {
	Versions int    // how many
	Key      []byte // of the first
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("the content of %d versions is not here, of %q first", e.Versions, e.Key)
}

// Kind implements kind.Of.
func (e *MissingError) Kind() kind.Kind { return kind.Unreachable }

// Adopt publishes each head that is going to be void as a version of this device over it, with its
// content, and returns how many there were. gone reports what will be void; it is called again and
// again for one entry. If some of that is not here, with all parts of its batch, Adopt returns a
// *MissingError and publishes nothing, or, with leave, leaves that out. Adopt may be called again:
// it adopts nothing twice. If this device's own author is among those that will be void, it must
// get another one first; see Renew.
func (s *Set) Adopt(
	ctx context.Context, gone func(e *replica.Entry) (bool, error), leave bool,
) (n int, err error) {
	a := adopting{s: s, gone: gone, leave: leave}
	keys, err := a.keys(ctx)
	if err == nil && !leave {
		err = a.requireAll(ctx, keys)
	}
	for i := 0; i < len(keys) && err == nil; i++ {
		var of int
		of, err = a.item(ctx, keys[i])
		n += of
	}
	return n, s.failed(err)
}

// Renew has the device write as another author from now on, who is new. What it has written stays
// that of the former one, as what another device has written.
func (s *Set) Renew(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.become(ctx); err != nil {
		return s.failed(err)
	}
	key, err := s.newKey(ctx)
	if err != nil {
		return s.failed(err)
	}
	dev := Device{Author: key.Author(), Incarnation: s.cfg.incarnate()}
	if err := s.cfg.State.Save(ctx, dev); err != nil {
		return s.failed(err)
	}
	s.key = key
	s.take(dev)
	return nil
}

// adopting is one call of Adopt.
type adopting struct {
	s       *Set
	gone    func(e *replica.Entry) (bool, error)
	leave   bool
	helpers []helper
}

// helper is an author that is made to publish what does not fit into this device's slot.
type helper struct {
	key  replica.SecretKey
	last record.Dot
}

// keys returns the keys of entries that are going to be void, in their order.
func (a *adopting) keys(ctx context.Context) (keys [][]byte, err error) {
	has := map[string]bool{}
	look := func(it *replica.Item) error {
		if has[string(it.Key)] || len(it.Key) > 0 && it.Key[0] == 0 {
			return nil
		}
		is, err := a.gone(&it.Entry)
		if is && err == nil {
			has[string(it.Key)] = true
			keys = append(keys, slices.Clone(it.Key))
		}
		return err
	}
	for it, err := range a.s.cfg.Slots.Entries(ctx, replica.Query{}) {
		if err == nil {
			err = look(&it)
		}
		if err != nil {
			return nil, err
		}
	}
	for it, err := range a.s.cfg.Slots.Displaced(ctx, nil) {
		if err == nil {
			err = look(&it)
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(keys, slices.Compare)
	return keys, nil
}

// found is what there is of a key.
type found struct {
	all     []*plan.Version
	gone    map[*plan.Version]bool // what is going to be void
	missing int                    // heads that are, and are not all here
}

// load loads the versions of a key.
func (a *adopting) load(ctx context.Context, key []byte) (*found, error) {
	f := &found{gone: map[*plan.Version]bool{}}
	slots, err := a.s.slots(ctx, key)
	if err != nil {
		return nil, err
	}
	entries, _, newest := newestFirst(slots, nil)
	for it, err := range a.s.cfg.Slots.Displaced(ctx, key) {
		if err != nil {
			return nil, err
		}
		entries = append(entries, it)
	}
	var known *over // of all, once something was displaced
	for i := range entries {
		is, err := a.gone(&entries[i].Entry)
		if err != nil {
			return nil, err
		}
		v, err := a.s.load(ctx, &entries[i].Entry)
		switch {
		case errors.Is(err, record.ErrMalformed):
			continue
		case errors.Is(err, plan.ErrMissing):
			if is {
				f.missing++
			}
			continue
		case err != nil:
			return nil, err
		}
		if v.Displaced = i >= newest; v.Displaced {
			if known == nil {
				known = overOf(f.all)
			}
			if a.s.isOver(known, v) {
				continue
			}
		}
		if !is && !v.Displaced && v.Author != a.s.dev.Author {
			// A part of a batch that does not come supersedes nothing.
			if whole, err := a.s.isWhole(ctx, v); err != nil {
				return nil, err
			} else if !whole {
				continue
			}
		}
		f.all, f.gone[v] = append(f.all, v), is
		if known != nil {
			known.add(v)
		}
	}
	return f, nil
}

// requireAll returns a *MissingError unless all that is to be adopted is here.
func (a *adopting) requireAll(ctx context.Context, keys [][]byte) error {
	var missing MissingError
	for _, key := range keys {
		a.s.mu.Lock()
		f, err := a.load(ctx, key)
		a.s.mu.Unlock()
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		for _, h := range plan.Heads(f.all) {
			if !f.gone[h] || h.Displaced {
				continue
			}
			whole, err := a.s.isWhole(ctx, h)
			if err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
			if !whole {
				f.missing++
			}
		}
		if f.missing > 0 && missing.Versions == 0 {
			missing.Key = key
		}
		missing.Versions += f.missing
	}
	if missing.Versions > 0 {
		return &missing
	}
	return nil
}

// item adopts the heads of a key.
func (a *adopting) item(ctx context.Context, key []byte) (n int, err error) {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	if err := a.s.become(ctx); err != nil {
		return 0, err
	}
again:
	f, err := a.load(ctx, key)
	if err != nil {
		return n, fmt.Errorf("key %q: %w", key, err)
	}
	helpers := 0
	for _, h := range plan.Heads(f.all) {
		if !f.gone[h] || f.isKept(h) {
			continue
		}
		helped, err := a.publish(ctx, key, f, h, helpers)
		switch {
		case errors.Is(err, ErrChanged): // its content is not what it says: it is no version
			a.s.seen.noteFalse(falseClaim{h.Content.Hash, h.Entry.Hash})
			goto again
		case errors.Is(err, ErrStale): // something has come meanwhile
			goto again
		case err != nil:
			return n, fmt.Errorf("key %q: %w", key, err)
		case helped:
			helpers++
		}
		n++
	}
	return n, nil
}

// isKept reports whether a version that stays has the content of h, and follows on it.
func (f *found) isKept(h *plan.Version) bool {
	return slices.ContainsFunc(f.all, func(w *plan.Version) bool {
		return w != h && !f.gone[w] && (isCopy(w, h) || w.Context.Covers(h.Dot) &&
			w.Content == h.Content && (w.Kind == record.Deletion) == (h.Kind == record.Deletion))
	})
}

// publish publishes a version over a head: as this device, unless that has something in its slot
// which the head does not supersede, or as a helper, of which used have been used for the key.
func (a *adopting) publish(
	ctx context.Context, key []byte, f *found, h *plan.Version, used int,
) (helped bool, err error) {
	s := a.s
	d := draft{
		item: &Item{Key: key, set: s, all: f.all}, kind: record.Value,
		over: []*plan.Version{h}, generation: h.Generation, schema: h.Schema,
	}
	if h.Kind == record.Deletion {
		d.kind = record.Deletion
	} else {
		d.content = &Source{Size: h.Content.Size, Hash: h.Content.Hash, Open: func() (io.Reader, error) {
			return s.Open(ctx, h, -1)
		}}
	}
	own, err := s.cfg.Slots.Entry(ctx, key, s.dev.Author)
	var known *replica.Entry
	switch {
	case err == nil:
		known = &own
		helped = !slices.ContainsFunc(f.all, func(u *plan.Version) bool {
			return !u.Displaced && u.Author == own.Author && u.Entry.Hash == own.Hash && h.Supersedes(u)
		})
	case !errors.Is(err, replica.ErrNotFound):
		return false, err
	}
	if helped {
		return true, a.publishAsHelper(ctx, key, &d, used)
	}
	// A copy may have used counters that this device has still before it.
	if h.Vector().Of(s.device()) >= s.next && s.next > 0 {
		if err := s.becomeAgain(ctx, nil); err != nil {
			return false, err
		}
	}
	counter, err := s.reserve(ctx, 1)
	if err != nil {
		return false, err
	}
	dot := record.Dot{Device: s.device(), Counter: counter}
	stream, err := s.stream(ctx, &d, dot, nil, s.acks.seen())
	if err != nil {
		return false, err
	}
	return false, s.put(ctx, s.key, []Value{{key, stream, mayReplace(known)}})
}

func (a *adopting) publishAsHelper(ctx context.Context, key []byte, d *draft, used int) error {
	s := a.s
	if used == len(a.helpers) {
		secret, err := s.newKey(ctx)
		if err != nil {
			return err
		}
		by := record.Device{Author: record.TagOf(secret.Author()), Incarnation: s.cfg.incarnate()}
		a.helpers = append(a.helpers, helper{secret, record.Dot{Device: by}})
	}
	as := &a.helpers[used]
	as.last.Counter++
	stream, err := s.stream(ctx, d, as.last, nil, s.acks.seen())
	if err != nil {
		return err
	}
	return s.put(ctx, as.key, []Value{{key, stream, mayReplace(nil)}})
}

// Author returns the author of this device; ok is false if it has written nothing yet.
func (s *Set) Author() (a replica.AuthorID, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dev.Author, s.dev.Author != (replica.AuthorID{})
}

// IsVersion reports whether an entry of some slots is a version. It returns plan.ErrMissing if its
// content is not here.
func IsVersion(ctx context.Context, slots Slots, e *replica.Entry) (bool, error) {
	s := &Set{cfg: Config{Slots: slots}, hashes: record.HashesOf(slots.ID())}
	_, err := s.load(ctx, e)
	if errors.Is(err, record.ErrMalformed) {
		return false, nil
	}
	return err == nil, s.failed(err)
}

package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
)

// Change is one key to be set by Write; the zero hash and size delete it.
type Change struct {
	Key  []byte
	Hash blobs.Hash
	Size uint64
	// Time is when it was decided, in µs, if not now: what others have written since stands. The
	// entry is later only if it must be, to replace what the author has written before.
	Time uint64
	// Check, if set, is given the entry that the change would replace, nil for none, and its error
	// keeps the change from being written. Nothing takes that entry's place in between.
	Check func(old *Entry) error

	after uint64 // the timestamp is later than this
}

// Write signs and stores changes to the replica id as author, all with one timestamp or later, and
// returns the entries. It returns a *NotAllowedError unless the node holds the replica's key or a
// grant covers the change, a *ClockError rather than sign what other nodes would refuse, and
// ErrEncrypted if the replica is encrypted: see WritePlain. Call Sync to make the entries durable.
func (s *Store) Write(
	ctx context.Context, id ID, author SecretKey, changes []Change,
) ([]Entry, error) {
	return s.write(ctx, id, author, changes, false)
}

// ErrEncrypted reports a write of names and content in plain to an encrypted replica.
var ErrEncrypted = errors.New("the replica is encrypted: nothing is written to it in plain")

// write is Write of changes that are sealed or not.
func (s *Store) write(
	ctx context.Context, id ID, author SecretKey, changes []Change, sealed bool,
) ([]Entry, error) {
	if author.IsZero() {
		return nil, errors.New("write to replica: there is no author's key")
	}
	for i := range changes {
		c := &changes[i]
		if len(c.Key) > MaxKey {
			return nil, fmt.Errorf("%w: it has %d", ErrKeyTooLong, len(c.Key))
		}
		if c.Size == 0 {
			c.Hash = blobs.EmptyHash
		}
	}
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	w := writing{s: s, id: id, author: author, sealed: sealed}
	for len(changes) > 0 {
		n := fitting(changes, s.atOnce.get(), func(c *Change) int { return len(c.Key) })
		if err := w.prepare(ctx, changes[:n]); err != nil {
			return w.done(), writeError(err)
		}
		changes = changes[n:]
	}
	err := w.wait()
	if err != nil {
		err = writeError(err)
	}
	return w.done(), err
}

// writeError says what failed. That it was a write, a *NotAllowedError says itself.
func writeError(err error) error {
	if _, ok := errors.AsType[*NotAllowedError](err); ok {
		return err
	}
	return fmt.Errorf("write to replica: %w", err)
}

// MayWrite returns the *NotAllowedError that Write would return now for changes of some keys.
func (s *Store) MayWrite(ctx context.Context, id ID, author AuthorID, keys ...[]byte) error {
	return s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		if r.Capability >= Write {
			return nil
		}
		here := map[AuthorID]*rights{}
		now := uint64(s.cfg.Now().UnixMicro())
		for _, k := range keys {
			ok, err := s.may(rd, id, here, &Entry{Replica: id, Author: author, Timestamp: now, Key: k}, true)
			if err != nil {
				return err
			}
			if !ok {
				return &NotAllowedError{
					Op: "write", Name: r.Name, Have: r.Capability, Need: Write, Author: author,
				}
			}
		}
		return nil
	})
}

// writing is one call of Write. While one batch of entries is stored, the next is signed.
type writing struct {
	s       *Store
	id      ID
	author  SecretKey
	sealed  bool
	stored  []Entry
	pending chan error // of the batch that is being stored, or nil
	batch   []Entry    // that one
}

// wait returns when no batch is being stored.
func (w *writing) wait() error {
	if w.pending == nil {
		return nil
	}
	err := <-w.pending
	w.pending = nil
	if err == nil {
		w.stored = append(w.stored, w.batch...)
	}
	return err
}

// done waits, and returns what has been stored.
func (w *writing) done() []Entry {
	_ = w.wait() // has been reported, or an earlier error has
	return w.stored
}

// prepare signs entries for some changes, waits for those before, and begins to store these.
func (w *writing) prepare(ctx context.Context, changes []Change) error {
	entries := make([]Entry, len(changes))
	clock := w.s.cfg.Now()
	now, limit := uint64(clock.UnixMicro()), aheadOf(clock)
	author := w.author.Author()
	latest := map[string]uint64{} // timestamps of this call, which may not be stored yet
	for i := range w.batch {
		latest[string(w.batch[i].Key)] = w.batch[i].Timestamp
	}
	err := w.s.view(ctx, w.id, func(rd kv.Reader, r *Replica) error {
		if r.Encrypted && !w.sealed {
			return fmt.Errorf("replica %s: %w", r.Name, ErrEncrypted)
		}
		for i, c := range changes {
			e := &entries[i]
			*e = Entry{
				Replica: w.id, Author: author, Timestamp: max(cmp.Or(c.Time, now), c.after+1), Size: c.Size,
				Hash: c.Hash, Key: c.Key,
			}
			// A writer's time never goes back, even if its clock does.
			old, err := getEntry(rd, r, c.Key, author)
			has := err == nil
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			if has {
				e.Timestamp = max(e.Timestamp, old.Timestamp+1)
			}
			if c.Check != nil {
				if err := c.check(&old, has); err != nil {
					return err
				}
			}
			if t, ok := latest[string(c.Key)]; ok {
				e.Timestamp = max(e.Timestamp, t+1)
			}
			if e.Timestamp > limit {
				return &ClockError{Name: r.Name, Key: c.Key, Last: micros(e.Timestamp - 1), Now: micros(now)}
			}
			latest[string(c.Key)] = e.Timestamp
		}
		return nil
	})
	if err != nil {
		return err
	}
	sign(entries, w.author)
	if err := w.wait(); err != nil {
		return err
	}
	w.batch, w.pending = entries, make(chan error, 1)
	if len(entries) == 1 { // most often the only one: not worth a goroutine
		w.pending <- w.s.storeWritten(ctx, w.id, w.author, entries)
		return nil
	}
	go func() { w.pending <- w.s.storeWritten(ctx, w.id, w.author, entries) }()
	return nil
}

func (c *Change) check(old *Entry, has bool) error {
	if !has {
		old = nil
	}
	return c.Check(old)
}

// sign fills in signatures, on all cores.
func sign(entries []Entry, author SecretKey) {
	const each = 64
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for len(entries) > each {
		some := entries[:each]
		entries = entries[each:]
		g.Go(func() error {
			for i := range some {
				some[i].Sign(author)
			}
			return nil
		})
	}
	for i := range entries {
		entries[i].Sign(author)
	}
	_ = g.Wait() // never fails
}

// storeWritten stores entries that this node has signed, and grants their author what it needs if
// this node holds the replica's key.
func (s *Store) storeWritten(ctx context.Context, id ID, author SecretKey, entries []Entry) error {
	stated := false
	tctx := ctx
	if !slices.ContainsFunc(entries, func(e Entry) bool { return !e.IsTombstone() }) {
		tctx = kv.ToMakeRoom(ctx)
	}
	err := s.kv.Update(tctx, func(tx kv.Txn) error {
		r, err := getReplica(tx, id)
		if err != nil {
			return err
		}
		p := s.putter(tx, &r)
		for i := range entries {
			e := &entries[i]
			if ok, err := p.granted(e); err != nil {
				return err
			} else if !ok {
				if r.Capability < Write {
					return &NotAllowedError{
						Op: "write", Name: r.Name, Have: r.Capability, Need: Write, Author: e.Author,
					}
				}
				if err := p.grantAll(e.Author, e.Timestamp); err != nil {
					return err
				}
			}
			if _, err := p.put(e); err != nil {
				return err
			}
		}
		if p.noRoom > 0 {
			return fmt.Errorf("write to replica %s: %w", id.Short(), ErrNoRoom)
		}
		stated = p.changed
		return p.finish(ctx)
	})
	if errors.Is(err, kv.ErrTooBig) && len(entries) > 1 {
		s.atOnce.tooBig(len(entries))
		half := len(entries) / 2
		if err := s.storeWritten(ctx, id, author, entries[:half]); err != nil {
			return err
		}
		return s.storeWritten(ctx, id, author, entries[half:])
	}
	if err != nil {
		return err
	}
	s.atOnce.fits()
	if stated {
		s.statementsChanged(id)
		if err := s.plantStatements(ctx, id); err != nil {
			return err
		}
	}
	s.prints.changed(id)
	s.events.publish(entries, Local, false)
	return nil
}

package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica/seal"
)

// Rotate begins a new epoch of an encrypted replica: names and content are sealed with a new read
// key from now on, which is handed to all authors who have been given the present one and have not
// been revoked, and to all who may write. Grants for a prefix are made anew, since prefixes are
// sealed, too. What was sealed before stays as it is. Tickets that were given away open nothing
// new. It returns a *NotAllowedError without the replica key, ErrNoReadKey, and an error if the
// replica is not encrypted.
func (s *Store) Rotate(ctx context.Context, id ID) (EpochKey, error) {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	return s.rotate(ctx, id)
}

// statedAtOnce is how many statements of a rotation are stored in one transaction: each can change
// a node of the summary tree, of some 2 KiB.
const statedAtOnce = 256

func (s *Store) rotate(ctx context.Context, id ID) (next EpochKey, err error) {
	var all []Statement
	err = s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		if !r.Encrypted {
			return fmt.Errorf("replica %s is not encrypted: it has no read key", r.Name)
		}
		if r.Capability < Write {
			return &NotAllowedError{
				Op: "change the read key of", Name: r.Name, Have: r.Capability, Need: Write,
			}
		}
		rot := rotation{s: s, rd: rd, r: r, now: uint64(s.cfg.Now().UnixMicro())}
		if err := rot.run(); err != nil {
			return err
		}
		next, all = rot.next, rot.made
		return nil
	})
	if err != nil {
		return next, fmt.Errorf("new epoch: %w", err)
	}
	// The epochs come last: until they are there, the new key counts for nothing, and if something
	// fails before, all have the old one still. One transaction could not hold the keys of many.
	last := func(st Statement) int {
		if _, is := st.(*Epoch); is {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b Statement) int { return last(a) - last(b) })
	for part := range slices.Chunk(all, statedAtOnce) {
		if err := s.state(ctx, id, part); err != nil { // also if there is no room
			return next, fmt.Errorf("new epoch: %w", err)
		}
	}
	return next, s.kv.Sync(ctx)
}

// RotateIfDue begins a new epoch if this node has the replica key and an author who has been given
// the present read key has been revoked since. It reports whether it did. If delegates alone have
// revoked, it waits until the epoch has stood for a while (see calm). RotateDeferred goes on then.
func (s *Store) RotateIfDue(ctx context.Context, id ID) (bool, error) {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	return s.rotateIfDue(ctx, id)
}

func (s *Store) rotateIfDue(ctx context.Context, id ID) (bool, error) {
	due, later, behind := false, false, false
	err := s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		due, later, behind = false, false, false
		if !r.Encrypted || r.Capability < Write {
			return nil
		}
		rot := rotation{s: s, rd: rd, r: r, now: uint64(s.cfg.Now().UnixMicro())}
		err := rot.load()
		if errors.Is(err, ErrNoReadKey) { // the epoch or its key comes later than the revocation
			behind = true
			return nil
		}
		if err != nil {
			return err
		}
		due, later, err = rot.due()
		return err
	})
	// What cannot be done now is tried again: else who was revoked would go on reading.
	again := err != nil && !errors.Is(err, ErrNotFound) || behind || later && !due
	s.deferred.set(id, again)
	if err != nil || !due {
		return false, err
	}
	if _, err = s.rotate(ctx, id); err != nil {
		s.deferred.set(id, true)
	}
	return err == nil, err
}

// due reports whether a new epoch should begin now or, for delegates, later.
func (rot *rotation) due() (now, later bool, err error) {
	for a := range rot.given {
		reads, err := rot.keeps(a)
		if err != nil {
			return false, false, err
		}
		if reads == notAny {
			now = now || rot.revoked(a, false)
			later = later || rot.revoked(a, true)
		}
	}
	return now || later && rot.since() >= rot.calm(), later, nil
}

// deferred are the replicas whose next epoch waits for the present one to have stood long enough.
type deferred struct {
	mu     sync.Mutex
	all    map[ID]bool
	looked bool // at all replicas, since the store was opened
}

func (d *deferred) set(id ID, waits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !waits {
		delete(d.all, id)
		return
	}
	if d.all == nil {
		d.all = map[ID]bool{}
	}
	d.all[id] = true
}

// some returns those that wait, and whether all replicas have to be looked at, which is so once.
func (d *deferred) some() (ids []ID, all bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all = !d.looked
	d.looked = true
	return slices.Collect(maps.Keys(d.all)), all
}

// RotateDeferred begins the epochs for which RotateIfDue has waited long enough. It returns the
// replicas that have a new one.
func (s *Store) RotateDeferred(ctx context.Context) (begun []ID, err error) {
	ids, all := s.deferred.some()
	if all {
		for r, listErr := range s.All(ctx) {
			if listErr != nil {
				return nil, listErr
			}
			if r.Encrypted && r.Capability == Write {
				ids = append(ids, r.ID)
			}
		}
	}
	for _, id := range ids {
		did, oneErr := s.RotateIfDue(ctx, id)
		if did {
			begun = append(begun, id)
		}
		if !errors.Is(oneErr, ErrNotFound) { // left meanwhile
			err = errors.Join(err, oneErr)
		}
	}
	return begun, err
}

// rotation makes the statements of a new epoch.
type rotation struct {
	s   *Store
	rd  kv.Reader
	r   *Replica
	now uint64

	all  statements
	none bool // no epoch counts yet: the old key came with the replica key
	old  EpochKey
	keys []EpochKey // of the epochs until now
	next EpochKey
	made []Statement

	x      *stated             // all, by authors
	given  map[AuthorID]uint64 // when the present key was last handed to each author who holds it
	own    map[AuthorID]bool   // who holds it in its own right
	looked int                 // at how many statements; for tests
}

func (rot *rotation) load() (err error) {
	if rot.all, err = statementsOf(rot.rd, rot.r.ID, nil); err != nil {
		return err
	}
	rot.none = len(counting(rot.all.epochs)) == 0
	if rot.old, rot.keys, err = readKeys(rot.rd, rot.r); err != nil {
		return err
	}
	if rot.none && rot.old.Epoch > 1 {
		return fmt.Errorf("replica %s: the epochs before epoch %d are not here: %w",
			rot.r.Name, rot.old.Epoch, ErrUnprovedKey)
	}
	rot.index(rot.r.ID)
	return nil
}

// index sorts what was read by authors, once: there can be as many authors as statements.
func (rot *rotation) index(id ID) {
	rot.x = newStatedOf(id, &rot.all)
	rot.given, rot.own = map[AuthorID]uint64{}, map[AuthorID]bool{}
	present := rot.old.Key.Commitment()
	for i := range rot.all.wrapped {
		if w := &rot.all.wrapped[i]; w.Commitment == present {
			rot.given[w.Author] = max(rot.given[w.Author], w.Issued)
			rot.own[w.Author] = rot.own[w.Author] || !w.ByLeave
		}
	}
}

// about returns what is stated of one class about an author.
func (rot *rotation) about(class byte, a AuthorID) statements {
	st := rot.x.known[class][a]
	rot.looked += len(st.grants) + len(st.revocations)
	return st
}

func (rot *rotation) run() error {
	if err := rot.load(); err != nil {
		return err
	}
	if rot.none { // epochs count from the first on
		first := &Epoch{
			Replica: rot.r.ID, Number: 1, Issued: rot.now, Commitment: rot.old.Key.Commitment(),
		}
		first.Sign(rot.r.Secret)
		rot.made = append(rot.made, first)
	}
	rot.next = EpochKey{rot.old.Epoch + 1, seal.NewReadKey()}
	e := &Epoch{
		Replica: rot.r.ID, Number: rot.next.Epoch, Issued: rot.now, Commitment: rot.next.Key.Commitment(),
	}
	for _, k := range rot.keys {
		if k.Epoch == rot.old.Epoch && len(e.Older) < MaxOlder {
			older, err := rot.next.Key.SealOlder(k.Key)
			if err != nil {
				return err
			}
			e.Older = append(e.Older, older)
		}
	}
	e.Sign(rot.r.Secret)
	rot.made = append(rot.made, e)
	authors := map[AuthorID]bool{AuthorID(rot.r.ID): true} // by which this node has the key, too
	for a := range rot.given {
		authors[a] = true
	}
	for i := range rot.all.grants {
		authors[rot.all.grants[i].Author] = true
	}
	sorted := slices.SortedFunc(maps.Keys(authors), func(a, b AuthorID) int {
		return bytes.Compare(a[:], b[:])
	})
	for _, a := range sorted {
		reads, err := rot.keeps(a)
		if err != nil {
			return err
		}
		if reads == notAny {
			continue
		}
		if err := rot.hand(a, reads == byLeave); err != nil {
			return err
		}
	}
	return nil
}

// reading says by what right an author is given the next key.
type reading int

const (
	notAny  reading = iota
	byLeave         // of a delegate, as long as what it has granted stands
	inRight         // of its own: the replica key has let it read or write
)

// revoked reports whether an author was revoked after being given the present key, by the replica
// key or, with delegates, by anybody whose revocation applies to any grant: a delegate cannot take
// the key from those to whom neither it nor anybody below it has granted anything.
func (rot *rotation) revoked(a AuthorID, delegates bool) bool {
	since := func(v Revocation) bool { return v.Issued >= rot.given[a] }
	direct := rot.about(classDirect, a)
	if slices.ContainsFunc(direct.revocations, since) {
		return true
	}
	if !delegates {
		return false
	}
	delegated := rot.about(classDelegated, a)
	return slices.ContainsFunc(delegated.revocations, func(v Revocation) bool {
		if !since(v) {
			return false
		}
		rot.looked += len(delegated.grants)
		// None applies to what the replica key has granted.
		return slices.ContainsFunc(delegated.grants, func(g Grant) bool { return v.appliesTo(&g) })
	})
}

// keeps says by what right an author is given the next key: of its own, if the replica key lets it
// write, or has let it read without ever letting it write, and has not revoked that; by leave, if a
// delegate lets it write. What delegates have stated about somebody who reads in its own right does
// not count: they can neither take that away nor give it.
func (rot *rotation) keeps(a AuthorID) (reading, error) {
	if a == AuthorID(rot.r.ID) { // the replica key
		return inRight, nil
	}
	now := func(class byte) (bool, error) {
		rot.about(class, a)
		may, err := rot.x.allows(class, a)
		return slices.ContainsFunc(may, func(s span) bool { return s.to >= rot.now }), err
	}
	if may, err := now(classDirect); may || err != nil {
		return inRight, err
	}
	wrote := len(rot.about(classDirect, a).grants) > 0
	if rot.own[a] && !wrote && !rot.revoked(a, false) {
		return inRight, nil
	}
	if may, err := now(classDelegated); may || err != nil {
		return byLeave, err
	}
	return notAny, nil
}

// hand gives the next key to an author, and makes the grants of the replica key anew that are for a
// prefix. Those of delegates their delegates make anew (see Renew): what the replica key grants, no
// revocation of the delegate ends, neither by it nor of it.
func (rot *rotation) hand(a AuthorID, byLeave bool) error {
	issued, err := issueTime(rot.rd, rot.r.ID, a, rot.r.ID, rot.now)
	if err != nil {
		return err
	}
	w, err := wrapKey(rot.r.Secret, a, rot.next, issued, byLeave)
	// whoever made up such an author cannot read, and keeps nobody else from it
	if errors.Is(err, seal.ErrNoRecipient) {
		return nil
	}
	if err != nil {
		return err
	}
	rot.made = append(rot.made, w)
	direct := rot.about(classDirect, a)
	for i := range direct.grants {
		g := &direct.grants[i]
		if len(g.Prefix) == 0 {
			continue
		}
		if epoch, err := seal.EpochOf(g.Prefix); err != nil || epoch != rot.old.Epoch {
			continue
		}
		valid, err := rot.x.decides(g)
		if err != nil {
			return err
		}
		prefix, ok := openPrefix(rot.keys, g.Prefix)
		if len(valid) == 0 || valid[0].to < rot.now || !ok {
			continue
		}
		sealed, err := rot.next.Key.Names(rot.next.Epoch).SealPrefix(prefix)
		if err != nil {
			return err
		}
		anew := Grant{
			Replica: rot.r.ID, Author: a, Issued: issued, NotBefore: g.NotBefore, NotAfter: valid[0].to,
			Prefix: sealed, Delegable: g.Delegable,
		}
		anew.Sign(rot.r.Secret)
		rot.made = append(rot.made, &anew)
	}
	return nil
}

// openPrefix opens the prefix of a grant, with any of some keys.
func openPrefix(keys []EpochKey, sealed []byte) (prefix []byte, ok bool) {
	if len(sealed) == 0 {
		return nil, true
	}
	for _, k := range keys {
		if name, err := k.Key.Names(k.Epoch).Open(sealed); err == nil {
			return append(name, '/'), true
		}
	}
	return nil, false
}

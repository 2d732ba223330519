package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
)

// ErrCannotGrant reports a grant or revocation that nobody whose key this node holds may make.
var ErrCannotGrant = kind.New(
	kind.NotAllowed,
	"this node holds neither the replica's key nor that of an author with a grant to delegate",
)

// Permission is what a grant is to allow.
type Permission struct {
	Prefix    []byte // of an encrypted replica in plain, and whole parts: it ends with a slash
	NotBefore uint64 // microseconds since 1970, inclusive
	NotAfter  uint64 // inclusive; 0 is as long as the issuer may: Forever for the replica key
	Delegable bool   // the author may grant others as much, or less
}

// grantAll has the replica key allow an author everything.
func (p *putter) grantAll(author AuthorID, now uint64) error {
	g := Grant{Replica: p.r.ID, Author: author, NotAfter: Forever}
	var err error
	if g.Issued, err = issueTime(p.tx, p.r.ID, author, p.r.ID, now); err != nil {
		return err
	}
	g.Sign(p.r.Secret)
	if err := errors.Join(
		p.tx.Set(statementKey(&g), g.Bytes()), touchStatements(p.tx, p.r.ID),
	); err != nil {
		return err
	}
	p.changed = true
	p.stated.note(statementKey(&g), true)
	direct, err := newStated(p.tx, p.r.ID).allows(classDirect, author)
	p.allows[author] = &rights{direct: direct}
	return err
}

// issueTime returns now, or a later time if the issuer has made statements about the author that
// were issued later: a grant after a revocation must not seem older than it. Other issuers'
// statements do not matter, and must not: a delegate could give them times that leave no room for
// later ones.
func issueTime(rd kv.Reader, id ID, author AuthorID, issuer [32]byte, now uint64) (uint64, error) {
	class := byte(classDelegated)
	if issuer == id {
		class = classDirect
	}
	st, err := newStated(rd, id).about(class, author)
	for i := range st.revocations {
		if r := &st.revocations[i]; r.Issuer() == issuer {
			now = max(now, r.Issued+1)
		}
	}
	for i := range st.grants {
		if g := &st.grants[i]; g.Issuer() == issuer {
			now = max(now, g.Issued+1)
		}
	}
	for i := range st.wrapped { // which only the replica key makes
		now = max(now, st.wrapped[i].Issued+1)
	}
	return now, err
}

// Grant lets an author write, and hands over the read key of an encrypted replica if this node has
// the replica key. It is made by the replica key, or by an author whose key this node holds and who
// may delegate that much. It returns ErrCannotGrant if there is none, ErrNotFound, and ErrNoReadKey
// and seal.ErrName for a prefix that cannot be sealed. The grant is durable when it returns.
func (s *Store) Grant(
	ctx context.Context, id ID, author AuthorID, may Permission,
) (g Grant, err error) {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	var key []Statement
	err = s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		if g, err = s.makeGrant(rd, r, author, may); err != nil {
			return err
		}
		key, err = s.keyFor(rd, r, author)
		return err
	})
	if err != nil {
		return g, fmt.Errorf("grant: %w", err)
	}
	if err := s.state(ctx, id, append([]Statement{&g}, key...)); err != nil {
		return g, fmt.Errorf("grant: %w", err)
	}
	return g, s.kv.Sync(ctx)
}

func (s *Store) makeGrant(
	rd kv.Reader, r *Replica, author AuthorID, may Permission,
) (g Grant, err error) {
	if may.NotAfter > 0 && may.NotBefore > may.NotAfter {
		return g, errors.New("the grant would end before it begins")
	}
	if r.Encrypted && len(may.Prefix) > 0 {
		now, _, err := readKeys(rd, r)
		if err != nil {
			return g, err
		}
		if may.Prefix, err = now.Key.Names(now.Epoch).SealPrefix(may.Prefix); err != nil {
			return g, err
		}
	}
	if len(may.Prefix) > MaxDelegablePrefix {
		return g, fmt.Errorf("a prefix of %d bytes: at most %d", len(may.Prefix), MaxDelegablePrefix)
	}
	g = Grant{
		Replica: r.ID, Author: author, NotBefore: may.NotBefore, NotAfter: may.NotAfter,
		Prefix: bytes.Clone(may.Prefix), Delegable: may.Delegable,
	}
	now := uint64(s.cfg.Now().UnixMicro())
	if r.Capability == Write {
		if g.NotAfter == 0 {
			g.NotAfter = Forever
		}
		g.Issued, err = issueTime(rd, r.ID, author, r.ID, now)
		g.Sign(r.Secret)
		return g, err
	}
	err = s.delegate(rd, r.ID, func(parent *Grant, key SecretKey) (bool, error) {
		g.Parent = parent
		issued, err := issueTime(rd, r.ID, author, parent.Author, now)
		if err != nil {
			return false, err
		}
		g.Issued = issued
		if may.NotBefore == 0 {
			g.NotBefore = parent.NotBefore
		}
		if may.NotAfter == 0 {
			g.NotAfter = parent.NotAfter
		}
		g.Sign(key)
		if g.Verify() != nil { // wider than that one
			return false, nil
		}
		_, err = ParseGrant(g.Bytes())
		return err == nil, nil // else the chain is too long
	})
	return g, err
}

// CanGrant returns nil if Grant could let somebody write that much now, or the error that it would
// return.
func (s *Store) CanGrant(ctx context.Context, id ID, may Permission) error {
	return s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		_, err := s.makeGrant(rd, r, AuthorID{}, may)
		return err
	})
}

// delegate tries the delegable grants of authors whose keys this node holds until use takes one, or
// returns ErrCannotGrant. It reads the statements about these authors, and no others.
func (s *Store) delegate(
	rd kv.Reader, id ID, use func(parent *Grant, key SecretKey) (bool, error),
) error {
	now := uint64(s.cfg.Now().UnixMicro())
	keys, err := authorKeys(rd)
	if err != nil {
		return err
	}
	x := newStated(rd, id)
	for _, key := range keys {
		for _, class := range []byte{classDirect, classDelegated} {
			about, err := x.about(class, key.Author())
			if err != nil {
				return err
			}
			for i := range about.grants {
				g := &about.grants[i]
				if !g.Delegable {
					continue
				}
				// A grant that is void or revoked by now would make nothing that counts.
				valid, err := x.decides(&about.grants[i])
				if err != nil {
					return err
				}
				at := min(max(now, g.NotBefore), g.NotAfter)
				if !valid.Allows(&Entry{Author: g.Author, Key: g.Prefix, Timestamp: at}) {
					continue
				}
				if ok, err := use(g, key); ok || err != nil {
					return err
				}
			}
		}
	}
	return ErrCannotGrant
}

// Revoke ends what an author may write, from a time on, in microseconds since 1970; 0 makes
// everything void that the author ever wrote. Entries that are void are dropped, here and by all
// who learn of it. It returns ErrCannotGrant, and ErrNotFound for a replica that is not here or an
// author about whom nothing was granted that this node could revoke. Of an encrypted replica, the
// revocation also takes the read key from the author, by a new epoch, if this node has the replica
// key; see Rotate. The revocation is durable when it returns.
func (s *Store) Revoke(
	ctx context.Context, id ID, author AuthorID, from uint64,
) (r Revocation, err error) {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	err = s.view(ctx, id, func(rd kv.Reader, held *Replica) error {
		r, err = s.makeRevocation(rd, held, author, from)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("revoke: %w", err)
	}
	if err := s.state(ctx, id, []Statement{&r}); err != nil {
		return r, fmt.Errorf("revoke: %w", err)
	}
	if _, err := s.rotateIfDue(ctx, id); err != nil {
		return r, fmt.Errorf("revoke: %w", err)
	}
	return r, s.kv.Sync(ctx)
}

// makeRevocation makes the revocation of an author as this node can; see Revoke.
func (s *Store) makeRevocation(
	rd kv.Reader, held *Replica, author AuthorID, from uint64,
) (r Revocation, err error) {
	st, err := statementsOf(rd, held.ID, &author)
	if err != nil {
		return r, err
	}
	if len(st.grants) == 0 && len(st.wrapped) == 0 {
		return r, fmt.Errorf("a grant for author %s: %w", author, ErrNotFound)
	}
	now := uint64(s.cfg.Now().UnixMicro())
	r = Revocation{Replica: held.ID, Author: author, From: from}
	if held.Capability == Write {
		r.Issued, err = issueTime(rd, held.ID, author, held.ID, now)
		r.Sign(held.Secret)
		return r, err
	}
	err = s.delegate(rd, held.ID, func(own *Grant, key SecretKey) (bool, error) {
		r.Authority = own
		if r.Issued, err = issueTime(rd, held.ID, author, own.Author, now); err != nil {
			return false, err
		}
		r.Sign(key)
		if r.Verify() != nil { // that grant has ended
			return false, nil
		}
		return slices.ContainsFunc(st.grants, func(g Grant) bool { return r.appliesTo(&g) }), nil
	})
	return r, err
}

package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/kv"
)

// ErrCannotGrant reports a grant or revocation that nobody whose key this node holds may make.
var ErrCannotGrant = errors.New("this node holds neither the replica's key nor that of an author with a grant to delegate")

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
	if g.Issued, err = issueTime(p.tx, p.r.ID, author, now); err != nil {
		return err
	}
	g.Sign(p.r.Secret)
	if err := errors.Join(p.tx.Set(statementKey(&g), g.Bytes()), touchStatements(p.tx, p.r.ID)); err != nil {
		return err
	}
	p.changed = true
	p.allows[author], err = authority(p.tx, p.r.ID, author)
	return err
}

// issueTime returns now, or a later time if the statements about an author were made later: a grant after a revocation must not seem older than it.
func issueTime(rd kv.Reader, id ID, author AuthorID, now uint64) (uint64, error) {
	st, err := statementsOf(rd, id, &author)
	for i := range st.revocations {
		now = max(now, st.revocations[i].Issued+1)
	}
	for i := range st.grants {
		now = max(now, st.grants[i].Issued+1)
	}
	for i := range st.wrapped {
		now = max(now, st.wrapped[i].Issued+1)
	}
	return now, err
}

// Grant lets an author write, and hands over the read key of an encrypted replica if this node has the replica key. It is made by the replica key, or by an author whose key this node holds and who may delegate that much. It returns
// ErrCannotGrant if there is none, ErrNotFound, and ErrNoReadKey and seal.ErrName for a prefix that cannot be sealed. The grant is durable when it returns.
func (s *Store) Grant(ctx context.Context, id ID, author AuthorID, may Permission) (g Grant, err error) {
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
	if _, err := s.storeStatements(ctx, id, append([]Statement{&g}, key...)); err != nil {
		return g, fmt.Errorf("grant: %w", err)
	}
	return g, s.kv.Sync(ctx)
}

func (s *Store) makeGrant(rd kv.Reader, r *Replica, author AuthorID, may Permission) (g Grant, err error) {
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
	g = Grant{Replica: r.ID, Author: author, NotBefore: may.NotBefore, NotAfter: may.NotAfter, Prefix: bytes.Clone(may.Prefix), Delegable: may.Delegable}
	if g.Issued, err = issueTime(rd, r.ID, author, uint64(s.cfg.Now().UnixMicro())); err != nil {
		return g, err
	}
	if r.Capability == Write {
		if g.NotAfter == 0 {
			g.NotAfter = Forever
		}
		g.Sign(r.Secret)
		return g, nil
	}
	err = s.delegate(rd, r.ID, func(parent *Grant, key SecretKey) bool {
		g.Parent = parent
		if may.NotBefore == 0 {
			g.NotBefore = parent.NotBefore
		}
		if may.NotAfter == 0 {
			g.NotAfter = parent.NotAfter
		}
		g.Sign(key)
		if g.Verify() != nil { // wider than that one
			return false
		}
		_, err := ParseGrant(g.Bytes()) // too long a chain
		return err == nil
	})
	return g, err
}

// CanGrant returns nil if Grant could let somebody write that much now, or the error that it would return.
func (s *Store) CanGrant(ctx context.Context, id ID, may Permission) error {
	return s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		_, err := s.makeGrant(rd, r, AuthorID{}, may)
		return err
	})
}

// delegate tries the delegable grants of authors whose keys this node holds until use takes one, or returns ErrCannotGrant.
func (s *Store) delegate(rd kv.Reader, id ID, use func(parent *Grant, key SecretKey) bool) error {
	all, err := statementsOf(rd, id, nil)
	if err != nil {
		return err
	}
	now := uint64(s.cfg.Now().UnixMicro())
	for i := range all.grants {
		g := &all.grants[i]
		if !g.Delegable {
			continue
		}
		key, err := authorKey(rd, g.Author)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		valid, err := authority(rd, id, g.Author)
		if err != nil {
			return err
		}
		// A grant that is revoked by now would make nothing that counts.
		if !valid.Allows(&Entry{Author: g.Author, Key: g.Prefix, Timestamp: min(max(now, g.NotBefore), g.NotAfter)}) {
			continue
		}
		if use(g, key) {
			return nil
		}
	}
	return ErrCannotGrant
}

// Revoke ends what an author may write, from a time on, in microseconds since 1970; 0 makes everything void that the author ever wrote. Entries that are void are
// dropped, here and by all who learn of it. It returns ErrCannotGrant, and ErrNotFound for a replica that is not here or an author about whom nothing was
// granted that this node could revoke. Of an encrypted replica, the revocation also takes the read key from the author, by a new epoch, if this node has the replica key; see Rotate. The
// revocation is durable when it returns.
func (s *Store) Revoke(ctx context.Context, id ID, author AuthorID, from uint64) (r Revocation, err error) {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	err = s.view(ctx, id, func(rd kv.Reader, held *Replica) error {
		st, err := statementsOf(rd, id, &author)
		if err != nil {
			return err
		}
		if len(st.grants) == 0 && len(st.wrapped) == 0 {
			return fmt.Errorf("a grant for author %s: %w", author, ErrNotFound)
		}
		r = Revocation{Replica: id, Author: author, From: from}
		if r.Issued, err = issueTime(rd, id, author, uint64(s.cfg.Now().UnixMicro())); err != nil {
			return err
		}
		if held.Capability == Write {
			r.Sign(held.Secret)
			return nil
		}
		return s.delegate(rd, id, func(own *Grant, key SecretKey) bool {
			r.Authority = own
			r.Sign(key)
			for i := range st.grants {
				if r.appliesTo(&st.grants[i]) {
					return true
				}
			}
			return false
		})
	})
	if err != nil {
		return r, fmt.Errorf("revoke: %w", err)
	}
	if _, err := s.storeStatements(ctx, id, []Statement{&r}); err != nil {
		return r, fmt.Errorf("revoke: %w", err)
	}
	if _, err := s.rotateIfDue(ctx, id); err != nil {
		return r, fmt.Errorf("revoke: %w", err)
	}
	return r, s.kv.Sync(ctx)
}

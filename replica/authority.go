package replica

import (
	"bytes"
	"context"
	"sync"

	"github.com/skerry-sync/skerry/kv"
)

// Authority is what the statements of a replica allow one author: a pure function of them, so that all nodes that have the same statements agree about every entry,
// whenever it comes.
//
// A grant allows an entry if replica and author are the same, the key begins with the prefix, the timestamp lies between the limits, and no revocation that applies to
// one of the grants in the chain is from that time or earlier. A revocation applies to a grant for the author whom it names
//
//   - if whoever made the grant made the revocation, too, and not before it: so the same authority can grant anew;
//   - or if whoever made the revocation stands above whoever made the grant in the chain: what the replica key has revoked, none of those whom it lets delegate can
//     bring back.
//
// Whom a revocation keeps out can still write entries with timestamps from before it. All nodes accept these, also late: to know that they are new one would have to trust
// somebody's clock, and nodes would not agree. A revocation from an earlier time, or from 0, leaves no room for that.
type Authority []span

// span is what one grant is still good for.
type span struct {
	prefix        []byte
	notBefore, to uint64 // inclusive
}

// Allows reports whether e, which is by the author, may be written.
func (a Authority) Allows(e *Entry) bool {
	for i := range a {
		s := &a[i]
		if s.notBefore <= e.Timestamp && e.Timestamp <= s.to && bytes.HasPrefix(e.Key, s.prefix) {
			return true
		}
	}
	return false
}

// authorityOf returns what grants of one author allow, given the revocations of those in their chains.
func authorityOf(grants []Grant, revocations func(AuthorID) ([]Revocation, error)) (a Authority, err error) {
	for i := range grants {
		s := span{grants[i].Prefix, grants[i].NotBefore, grants[i].NotAfter}
		void := false
		for g := &grants[i]; g != nil; g = g.Parent {
			rs, err := revocations(g.Author)
			if err != nil {
				return nil, err
			}
			for j := range rs {
				switch r := &rs[j]; {
				case !r.appliesTo(g):
				case r.From == 0:
					void = true
				default:
					s.to = min(s.to, r.From-1)
				}
			}
		}
		if !void && s.notBefore <= s.to {
			a = append(a, s)
		}
	}
	return a, nil
}

// GoodUntil returns the last time, in microseconds since 1970, at which a grant still allows anything, given the revocations in the store. It is before the grant's
// NotBefore, or 0, if that is never.
func (s *Store) GoodUntil(ctx context.Context, g *Grant) (until uint64, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		a, err := authorityOf([]Grant{*g}, revocationsIn(rd, g.Replica, map[AuthorID][]Revocation{}))
		for i := range a {
			until = a[i].to
		}
		return err
	})
	return until, err
}

// appliesTo reports whether the revocation ends the grant g; see Authority.
func (r *Revocation) appliesTo(g *Grant) bool {
	if g.Author != r.Author || g.Replica != r.Replica {
		return false
	}
	if r.Issuer() == g.Issuer() {
		return g.Issued <= r.Issued
	}
	for above := g.Parent; above != nil; above = above.Parent {
		if r.Issuer() == above.Issuer() {
			return true
		}
	}
	return false
}

// authorities remembers what authors of some replicas may write, as long as the statements stay the same.
type authorities struct {
	mu  sync.Mutex
	all map[ID]*knownAuthority
}

type knownAuthority struct {
	version uint64
	authors map[AuthorID]Authority
}

// Limits of what is remembered.
const (
	maxAuthorities = 1024 // replicas
	maxKnown       = 1024 // authors of each
)

func (k *authorities) get(id ID, version uint64, author AuthorID) (a Authority, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if of := k.all[id]; of != nil && of.version == version {
		a, ok = of.authors[author]
	}
	return a, ok
}

func (k *authorities) put(id ID, version uint64, author AuthorID, a Authority) {
	k.mu.Lock()
	defer k.mu.Unlock()
	of := k.all[id]
	if of == nil || of.version != version || len(of.authors) >= maxKnown {
		of = &knownAuthority{version, map[AuthorID]Authority{}}
		if k.all == nil || len(k.all) >= maxAuthorities {
			k.all = map[ID]*knownAuthority{}
		}
		k.all[id] = of
	}
	of.authors[author] = a
}

// forget is called for a replica that is left: statements of another time may come under the number 0 again.
func (k *authorities) forget(id ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.all, id)
}

// authority returns what the statements in the store allow an author.
func authority(rd kv.Reader, id ID, author AuthorID) (Authority, error) {
	st, err := statementsOf(rd, id, &author)
	if err != nil {
		return nil, err
	}
	return authorityOf(st.grants, revocationsIn(rd, id, map[AuthorID][]Revocation{author: st.revocations}))
}

// revocationsIn returns a function that finds the revocations of an author, and adds them to the known ones.
func revocationsIn(rd kv.Reader, id ID, known map[AuthorID][]Revocation) func(AuthorID) ([]Revocation, error) {
	return func(a AuthorID) ([]Revocation, error) {
		if rs, ok := known[a]; ok {
			return rs, nil
		}
		st, err := statementsOf(rd, id, &a)
		known[a] = st.revocations
		return st.revocations, err
	}
}

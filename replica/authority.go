package replica

import "bytes"

// Authority is what the statements of a replica allow one author: a pure function of them, so that
// all nodes that have the same statements agree about every entry, whenever it comes.
//
// A grant allows an entry if replica and author are the same, the key begins with the prefix, the
// timestamp lies between the limits, and no revocation that applies to one of the grants in the
// chain is from that time or earlier. A revocation applies to a grant for the author whom it names
//
//   - if whoever made the grant made the revocation, too, and not before it: so the same authority can grant anew;
//   - or if whoever made the revocation stands above whoever made the grant in the chain: what the replica key has revoked, none of those whom it lets delegate can
//     bring back.
//
// A grant that is void (see delegated.go) allows nothing, and a revocation that is void does
// nothing.
//
// Whom a revocation keeps out can still write entries with timestamps from before it. All nodes
// accept these, also late: to know that they are new one would have to trust somebody's clock, and
// nodes would not agree. A revocation from an earlier time, or from 0, leaves no room for that.
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

// authorityOf returns what grants of one author allow, given the revocations of those in their
// chains.
func authorityOf(
	grants []Grant, revocations func(AuthorID) ([]Revocation, error),
) (Authority, error) {
	return newDecider(revocations).authority(grants)
}

// decider finds what applies to grants. It asks for the revocations about each author once, and
// keeps them by who made them: of all that delegates have stated about an author, only what those
// above a grant have can end it.
type decider struct {
	revocations func(AuthorID) ([]Revocation, error)
	by          map[AuthorID]map[[32]byte][]Revocation
}

func newDecider(revocations func(AuthorID) ([]Revocation, error)) *decider {
	return &decider{revocations, map[AuthorID]map[[32]byte][]Revocation{}}
}

// about returns the revocations about an author, by their issuers.
func (d *decider) about(a AuthorID) (map[[32]byte][]Revocation, error) {
	if by, ok := d.by[a]; ok {
		return by, nil
	}
	all, err := d.revocations(a)
	if err != nil {
		return nil, err
	}
	by := map[[32]byte][]Revocation{}
	for i := range all {
		issuer := all[i].Issuer()
		by[issuer] = append(by[issuer], all[i])
	}
	d.by[a] = by
	return by, nil
}

// byOwner returns those that the replica key has made about an author.
func (d *decider) byOwner(a AuthorID, id ID) ([]Revocation, error) {
	by, err := d.about(a)
	return by[id], err
}

func (d *decider) authority(grants []Grant) (a Authority, err error) {
	for i := range grants {
		g := &grants[i]
		if isWeak(g.Author) {
			continue
		}
		s := span{g.Prefix, g.NotBefore, g.NotAfter}
		void, err := isVoid(g.Parent, g.Issued, func(a AuthorID) ([]Revocation, error) {
			return d.byOwner(a, g.Replica)
		})
		if err != nil {
			return nil, err
		}
		for h := g; h != nil && !void; h = h.Parent {
			if void, err = d.end(h, &s); err != nil {
				return nil, err
			}
		}
		if !void && s.notBefore <= s.to {
			a = append(a, s)
		}
	}
	return a, nil
}

// end shortens what a grant is good for by the revocations that apply to one in its chain. It
// reports whether one of them leaves nothing.
func (d *decider) end(g *Grant, s *span) (void bool, err error) {
	by, err := d.about(g.Author)
	if err != nil || len(by) == 0 {
		return false, err
	}
	for above := g; above != nil; above = above.Parent {
		rs := by[above.Issuer()]
		for i := range rs {
			switch r := &rs[i]; {
			case !r.appliesTo(g):
			case r.From == 0:
				return true, nil
			default:
				s.to = min(s.to, r.From-1)
			}
		}
	}
	return false, nil
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

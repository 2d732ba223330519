package replica

import "bytes"

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
// A grant that is void (see delegated.go) allows nothing, and a revocation that is void does nothing.
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
		void, err := isVoid(grants[i].Parent, grants[i].Issued, revocations)
		if err != nil {
			return nil, err
		}
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

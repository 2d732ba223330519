package access

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/collections/capcert"
)

const (
	// maxJudged is how many lists are looked at to make room for one.
	maxJudged = 256
	// strangerKept is how long a list is kept of an issuer who has remained a stranger since.
	strangerKept = 30 * 24 * time.Hour
)

// fits reports whether there is room for more issuers and bytes.
func (r *Revocations) fits(issuers, bytes int) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byIssuer)+issuers <= r.mostIssuers && r.bytes+bytes <= r.mostBytes
}

// held is what some lists take up.
type held struct{ issuers, bytes int }

func (h held) with(o held) held    { return held{h.issuers + o.issuers, h.bytes + o.bytes} }
func (h held) without(o held) held { return held{h.issuers - o.issuers, h.bytes - o.bytes} }

// newcomer is a list that room is made for.
type newcomer struct {
	issuer string
	Standing
	source string
	grows  held // by what it is more than the issuer's list before
	stored bool // it is in the store already, which loses nothing for it
}

// candidate is a list that may have to go.
type candidate struct {
	issuer string
	source string
	rank   Rank // as it was known last
	since  time.Time
	size   held
}

// place is where lists of a rank come from: a source, or a network.
type place struct {
	rank Rank
	name string
}

// room is what all lists take up, and who may be told to give some of it back.
type room struct {
	most, all held
	byRank    map[Rank]held
	bySource  map[place]held
	byNetwork map[place]held
	// candidates are those that are to go first first: of low ranks, of networks and sources of which
	// too much is kept, and of issuers who are not known for long.
	candidates []candidate
}

// room looks at the lists of all issuers who are not named, and of whom but one may give way.
func (r *Revocations) room(but string) *room {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m := &room{
		most:   held{r.mostIssuers, r.mostBytes},
		byRank: map[Rank]held{}, bySource: map[place]held{}, byNetwork: map[place]held{},
	}
	for issuer, x := range r.byIssuer {
		if x.rank == Named { // takes no room of others
			continue
		}
		c := candidate{issuer, x.source, x.rank, x.since, held{1, x.size}}
		m.count(c, held.with)
		if issuer != but {
			m.candidates = append(m.candidates, c)
		}
	}
	tooMuch := func(share, most float64) float64 {
		if share <= most {
			return 0
		}
		return share
	}
	network := func(c candidate) float64 { return tooMuch(m.share(m.byNetwork[c.network()]), ofNetwork) }
	source := func(c candidate) float64 { return tooMuch(m.share(m.bySource[c.from()]), ofSource) }
	slices.SortFunc(m.candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(network(b), network(a)),
			cmp.Compare(source(b), source(a)), b.since.Compare(a.since), cmp.Compare(a.issuer, b.issuer))
	})
	return m
}

func (m *room) count(c candidate, how func(held, held) held) {
	m.all = how(m.all, c.size)
	m.byRank[c.rank] = how(m.byRank[c.rank], c.size)
	m.bySource[c.from()] = how(m.bySource[c.from()], c.size)
	m.byNetwork[c.network()] = how(m.byNetwork[c.network()], c.size)
}

func (c candidate) from() place    { return place{c.rank, c.source} }
func (c candidate) network() place { return place{c.rank, Network(c.source)} }

// share is which part something is of all the room that there is.
func (m *room) share(h held) float64 {
	return max(float64(h.issuers)/float64(m.most.issuers), float64(h.bytes)/float64(m.most.bytes))
}

// fits reports whether there is room for n.
func (m *room) fits(n *newcomer) bool {
	all := m.all.with(n.grows)
	return all.issuers <= m.most.issuers && all.bytes <= m.most.bytes
}

// half is how much of the room owners may take from others. An issuer who was known before others stays
// beside them if no more than ofSource of the room is kept of its source, and ofNetwork of its
// network.
const half, ofSource, ofNetwork = 1. / 2, 1. / 64, 1. / 32

// gives reports whether a list has to go for another:
//
//   - Owners take from lower ranks until they have half of the room, and what they have beyond it
//     they give back to who was presented: it costs one push to own something. Who was presented takes
//     from strangers.
//   - Of equal ranks, those go of whose network more is kept than of the newcomer's, if no less is of
//     their address than of its.
//   - Of one network, those go of whose address more is kept.
//   - Whose issuer was known a day before another's stays beside it, unless too much is kept of its
//     network or address, and also takes from addresses of which less is kept. This tells apart those
//     behind one proxy.
func (m *room) gives(c candidate, n *newcomer) bool {
	switch {
	case c.rank == Named: // as it has turned out
		return false
	case n.Rank == Owner && c.rank < Owner:
		return m.share(m.byRank[Owner].with(n.grows)) <= half
	case c.rank == Owner && n.Rank < Owner:
		return n.Rank == Presented && m.share(m.byRank[Owner]) > half
	case c.rank != n.Rank:
		return c.rank < n.Rank
	}
	from, to := c.from(), place{n.Rank, n.source}
	around, about := c.network(), place{n.Rank, Network(n.source)}
	its, mine := m.share(m.bySource[from]), m.share(m.bySource[to].with(n.grows))
	theirs, ours := m.share(m.byNetwork[around]), m.share(m.byNetwork[about].with(n.grows))
	later := c.since.Sub(n.Since) >= old
	earlier := n.Since.Sub(c.since) >= old
	switch {
	case from == to:
		return later
	case around == about:
		return later || its > mine && (!earlier || its > ofSource)
	}
	return theirs > ours && (later || its >= mine) && (!earlier || theirs > ofNetwork)
}

// makeRoom removes lists for one, until there is room for it. It returns ErrTooManyIssuers, and
// removes nothing, if those that are kept matter as much. What the configuration names takes no
// room.
func (r *Revocations) makeRoom(ctx context.Context, n *newcomer) error {
	if n.Rank == Named || r.fits(n.grows.issuers, n.grows.bytes) {
		return nil
	}
	m := r.room(n.issuer)
	var leave []candidate
	judged := 0
	for _, c := range m.candidates {
		if m.fits(n) {
			break
		}
		if !m.gives(c, n) {
			continue
		}
		if judged++; judged > maxJudged {
			break
		}
		now, err := r.look(ctx, c.issuer)
		if err != nil {
			return err
		}
		if now.Rank != c.rank || now.Since.Before(c.since) { // it was judged by what was known before
			m.count(c, held.without)
			c.rank, c.since = now.Rank, now.Since
			if c.rank == Named {
				continue
			}
			m.count(c, held.with)
			if !m.gives(c, n) {
				continue
			}
		}
		m.count(c, held.without)
		leave = append(leave, c)
	}
	if !m.fits(n) {
		return ErrTooManyIssuers
	}
	for _, c := range leave {
		if err := r.drop(ctx, c.issuer, !n.stored); err != nil {
			return err
		}
	}
	return nil
}

// drop forgets the list of an issuer, and removes it from the store if that is asked for and this
// server is in charge of it; what another has brought, as to a replica, stays there.
func (r *Revocations) drop(ctx context.Context, issuer string, stored bool) error {
	r.mu.Lock()
	x := r.byIssuer[issuer]
	if x != nil {
		r.bytes -= x.size
		delete(r.byIssuer, issuer)
	}
	r.mu.Unlock()
	if r.store == nil || x == nil || !stored || !x.brought {
		return nil
	}
	keys, err := r.store.List(ctx, revocationsUnder+issuer, "", 1000)
	for _, k := range keys {
		if err == nil {
			err = r.store.Delete(ctx, k)
		}
	}
	if err == nil && r.notes != nil {
		err = r.notes.Delete(ctx, standingUnder+issuer)
	}
	if err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	return nil
}

// expire drops lists that protect nothing any more, of issuers who neither own anything nor are
// named by the configuration: those of certificates that are over, and those of strangers after
// some time.
func (r *Revocations) expire(ctx context.Context, now time.Time) error {
	var old []string
	r.mu.RLock()
	judge := r.judge
	for issuer, x := range r.byIssuer {
		if x.ends < now.Unix()-capcert.Skew || x.brought && now.Sub(x.looked) > strangerKept {
			old = append(old, issuer)
		}
	}
	r.mu.RUnlock()
	if judge == nil { // it is not known who matters
		return nil
	}
	for _, issuer := range old[:min(len(old), maxJudged)] {
		s, err := r.look(ctx, issuer)
		if err != nil {
			return err
		}
		r.mu.Lock()
		x := r.byIssuer[issuer]
		over := x != nil && x.ends < now.Unix()-capcert.Skew
		gone := x != nil && (over && s.Rank <= Presented || s.Rank == Stranger)
		if x != nil && !gone {
			x.looked = now // and is looked at again after as long
		}
		if gone && over {
			x.brought = true // it is over for every server
		}
		r.mu.Unlock()
		if gone {
			if err := r.drop(ctx, issuer, true); err != nil {
				return err
			}
		}
	}
	return nil
}

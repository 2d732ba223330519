package access

import (
	"cmp"
	"container/heap"
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

// fits reports whether there is room for more issuers and bytes, of whom is not named.
func (r *Revocations) fits(issuers, bytes int) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := r.all.with(held{issuers, bytes})
	return all.issuers <= r.mostIssuers && all.bytes <= r.mostBytes
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

	to *group // that it comes to; set by makeRoom
}

// group is what is kept of lists of a rank from a source, or from a network.
type group struct {
	held
	network *group // of a source
}

// candidate is a list that may have to go.
type candidate struct {
	issuer     string
	generation int64
	source     string
	rank       Rank // as it was known last
	since      time.Time
	size       held
	from       *group

	// tooMuch is which part of the room is kept of its network, and of its source, if that is too
	// much.
	tooMuch [2]float64
}

// place is where lists of a rank come from.
type place struct {
	rank Rank
	name string
}

// room is what all lists take up, of issuers who are not named, and who may be told to give some of
// it back. It is made anew for each list that there is no room for.
type room struct {
	most, all  held
	byRank     map[Rank]held
	bySource   map[place]*group
	byNetwork  map[place]*group
	candidates []candidate
}

// room looks at the lists of all issuers, of whom but one may give way.
func (r *Revocations) room(but string) *room {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m := &room{
		most:   held{r.mostIssuers, r.mostBytes},
		byRank: map[Rank]held{}, bySource: map[place]*group{}, byNetwork: map[place]*group{},
	}
	for issuer, x := range r.byIssuer {
		if x.rank == Named { // takes no room of others
			continue
		}
		c := candidate{
			issuer: issuer, generation: x.generation, source: x.source, rank: x.rank, since: x.since,
			size: held{1, x.size},
		}
		m.enter(&c)
		if issuer != but {
			m.candidates = append(m.candidates, c)
		}
	}
	return m
}

// group returns what is kept of lists of a rank from a source.
func (m *room) group(rank Rank, source string) *group {
	g := m.bySource[place{rank, source}]
	if g == nil {
		around := place{rank, Network(source)}
		if m.byNetwork[around] == nil {
			m.byNetwork[around] = &group{}
		}
		g = &group{network: m.byNetwork[around]}
		m.bySource[place{rank, source}] = g
	}
	return g
}

func (m *room) enter(c *candidate) {
	c.from = m.group(c.rank, c.source)
	m.count(c, held.with)
}

func (m *room) leave(c *candidate) { m.count(c, held.without) }

func (m *room) count(c *candidate, how func(held, held) held) {
	m.all = how(m.all, c.size)
	m.byRank[c.rank] = how(m.byRank[c.rank], c.size)
	c.from.held = how(c.from.held, c.size)
	c.from.network.held = how(c.from.network.held, c.size)
}

// share is which part something is of all the room that there is.
func (m *room) share(h held) float64 {
	return max(float64(h.issuers)/float64(m.most.issuers), float64(h.bytes)/float64(m.most.bytes))
}

// fits reports whether there is room for n.
func (m *room) fits(n *newcomer) bool {
	all := m.all.with(n.grows)
	return all.issuers <= m.most.issuers && all.bytes <= m.most.bytes
}

// turns are lists that can be evicted for another, the first to go first: of a low rank, of a
// network and a source of which too much is kept, of an issuer who is not known for long.
type turns []candidate

func (t turns) Len() int      { return len(t) }
func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t turns) Less(i, j int) bool {
	a, b := &t[i], &t[j]
	return cmp.Or(cmp.Compare(a.rank, b.rank), slices.Compare(b.tooMuch[:], a.tooMuch[:]),
		b.since.Compare(a.since), cmp.Compare(a.issuer, b.issuer)) < 0
}
func (t *turns) Push(x any) { *t = append(*t, x.(candidate)) }
func (t *turns) Pop() any {
	last := len(*t) - 1
	c := (*t)[last]
	*t = (*t)[:last]
	return c
}

// turns returns the lists that can be evicted for n.
func (m *room) turns(n *newcomer) *turns {
	t := turns(slices.DeleteFunc(m.candidates, func(c candidate) bool { return !m.gives(&c, n) }))
	for i := range t {
		for j, x := range []struct {
			of   held
			most float64
		}{{t[i].from.network.held, ofNetwork}, {t[i].from.held, ofSource}} {
			if share := m.share(x.of); share > x.most {
				t[i].tooMuch[j] = share
			}
		}
	}
	heap.Init(&t)
	return &t
}

// half is how much of the room owners may take from others. An issuer who was known before others
// stays beside them if no more than ofSource of the room is kept of its source, and ofNetwork of
// its network.
const half, ofSource, ofNetwork = 1. / 2, 1. / 64, 1. / 32

// gives reports whether a list has to go for another:
//
//   - Owners take from lower ranks until they have half of the room, and what they have beyond it
//     they give back to who was presented: it costs one push to own something. Who was presented
//     takes from strangers.
//   - Of equal ranks, those go of whose network more is kept than of the newcomer's, if no less is
//     of their address than of its.
//   - Of one network, those go of whose address more is kept.
//   - Whose issuer was known a day before another's stays beside it, unless too much is kept of its
//     network or address, and also takes from addresses of which less is kept. This tells apart
//     those behind one proxy.
func (m *room) gives(c *candidate, n *newcomer) bool {
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
	from, to := c.from, n.to
	its, mine := m.share(from.held), m.share(to.with(n.grows))
	theirs, ours := m.share(from.network.held), m.share(to.network.with(n.grows))
	later := c.since.Sub(n.Since) >= old
	earlier := n.Since.Sub(c.since) >= old
	switch {
	case from == to:
		return later
	case from.network == to.network:
		return later || its > mine && (!earlier || its > ofSource)
	}
	return theirs > ours && (later || its >= mine) && (!earlier || theirs > ofNetwork)
}

// leaving is a list that has to go for another, unless there is a later one of its issuer by then.
type leaving struct {
	issuer     string
	generation int64
}

// makeRoom returns the lists that have to go for one, until there is room for it. It
// returns ErrTooManyIssuers if those that are kept matter as much. What the configuration names
// takes no room. A list stays of which it cannot be found out how much it matters.
func (r *Revocations) makeRoom(ctx context.Context, n *newcomer) (leave []leaving, err error) {
	if n.Rank == Named || r.fits(n.grows.issuers, n.grows.bytes) {
		return nil, nil
	}
	m := r.room(n.issuer)
	n.to = m.group(n.Rank, n.source)
	all := m.turns(n)
	for judged := 0; all.Len() > 0 && !m.fits(n) && judged < maxJudged; judged++ {
		c := heap.Pop(all).(candidate)
		if !m.gives(&c, n) { // any more
			continue
		}
		now, bad := r.look(ctx, c.issuer)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if bad != nil {
			err = told(err, bad)
			continue
		}
		m.leave(&c)
		if now.Rank != c.rank || now.Since.Before(c.since) { // it was judged by what was known before
			c.rank, c.since = now.Rank, now.Since
			if c.rank == Named {
				continue
			}
			m.enter(&c)
			if !m.gives(&c, n) {
				continue
			}
			m.leave(&c)
		}
		leave = append(leave, leaving{c.issuer, c.generation})
	}
	switch {
	case m.fits(n):
		return leave, nil
	case err != nil:
		return nil, err
	}
	return nil, ErrTooManyIssuers
}

// forget takes a list from memory. It stays in the store, and is not read again for some time.
func (r *Revocations) forget(gone leaving) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.forgetLocked(gone); x != nil {
		r.leaveLocked(gone.issuer, x.generation)
	}
}

func (r *Revocations) forgetLocked(gone leaving) *revoked {
	x := r.byIssuer[gone.issuer]
	if x == nil || x.generation > gone.generation {
		return nil
	}
	r.count(x, held.without)
	delete(r.byIssuer, gone.issuer)
	return x
}

// drop forgets a list, and removes it from the store if this server is in charge of it; what
// another has brought, as to a replica, stays there. What fails is marked. A later list of the
// issuer, which has been accepted meanwhile, stays.
func (r *Revocations) drop(ctx context.Context, gone leaving) error {
	r.mu.Lock()
	x := r.forgetLocked(gone)
	removes := x != nil && x.brought && r.store != nil
	var m mark
	switch {
	case removes:
		m.gone = &note{since: x.since, presented: x.presented, rank: x.rank}
		m.until = x.generation
	case x != nil:
		r.leaveLocked(gone.issuer, x.generation)
	}
	r.mu.Unlock()
	if !removes {
		return nil
	}
	return r.settle(ctx, gone.issuer, m)
}

// remove removes the lists of an issuer from the store that m says, and the note. Of an owner a
// note stays, which tells since when it is known.
func (r *Revocations) remove(ctx context.Context, issuer string, m mark) error {
	if err := r.removeBelow(ctx, issuer, m.until+1); err != nil {
		return err
	}
	n := m.gone
	if r.notes == nil {
		return nil
	}
	if n.rank >= Owner {
		return r.putNote(ctx, issuer, n)
	}
	if err := r.notes.Delete(ctx, standingUnder+issuer); err != nil {
		return fmt.Errorf("note about a list of revocations: %w", err)
	}
	return nil
}

// expire drops lists that protect nothing any more, of issuers who neither own anything nor are
// named by the configuration: those of certificates that are over, and those of strangers after
// some time. One that cannot be looked at now does not keep the others.
func (r *Revocations) expire(ctx context.Context, now time.Time) (err error) {
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
	room := false
	for _, issuer := range old[:min(len(old), maxJudged)] {
		s, bad := r.look(ctx, issuer)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if bad != nil {
			err = told(err, bad)
			continue
		}
		r.mu.Lock()
		x := r.byIssuer[issuer]
		over := x != nil && x.ends < now.Unix()-capcert.Skew
		gone := x != nil && (over && s.Rank <= Presented || s.Rank == Stranger)
		if x != nil && !gone {
			x.looked = now // and is looked at again after as long
		}
		var generation int64
		if gone {
			generation = x.generation
			x.brought = x.brought || over // it is over for every server
		}
		r.mu.Unlock()
		if gone {
			room = true
			err = told(err, r.drop(ctx, leaving{issuer, generation}))
		}
	}
	if room { // for lists that there was none for
		r.mu.Lock()
		clear(r.left)
		r.mu.Unlock()
	}
	return err
}

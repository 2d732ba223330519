package replica

import (
	"context"
	"slices"
	"sync"

	"github.com/skerry-sync/skerry/kv"
)

// stated reads the statements of a replica, those about each author once, and those of the replica
// key apart from those of delegates.
type stated struct {
	rd    kv.Reader
	id    ID
	known [2]map[AuthorID]statements // by class
	whole bool                       // known has all there are

	decide [2]*decider // about grants of a class
}

func newStated(rd kv.Reader, id ID) *stated {
	x := &stated{rd: rd, id: id, known: [2]map[AuthorID]statements{{}, {}}}
	// About grants by the replica key only its own revocations decide.
	x.decide = [2]*decider{newDecider(x.direct), newDecider(x.revocations)}
	return x
}

// newStatedOf indexes all statements of a replica, which the caller has read.
func newStatedOf(id ID, all *statements) *stated {
	x := newStated(nil, id)
	x.whole = true
	add := func(st Statement, to func(*statements)) {
		_, a := st.about()
		known := x.known[classOf(st)]
		about := known[a]
		to(&about)
		known[a] = about
	}
	for _, g := range all.grants {
		add(&g, func(st *statements) { st.grants = append(st.grants, g) })
	}
	for _, r := range all.revocations {
		add(&r, func(st *statements) { st.revocations = append(st.revocations, r) })
	}
	for _, e := range all.epochs {
		add(&e, func(st *statements) { st.epochs = append(st.epochs, e) })
	}
	for _, w := range all.wrapped {
		add(&w, func(st *statements) { st.wrapped = append(st.wrapped, w) })
	}
	return x
}

// decides returns what one grant allows.
func (x *stated) decides(g *Grant) (Authority, error) {
	class := classDirect
	if g.Parent != nil {
		class = classDelegated
	}
	return x.decide[class].authority([]Grant{*g})
}

// about returns the statements of one class about an author.
func (x *stated) about(class byte, a AuthorID) (st statements, err error) {
	st, ok := x.known[class][a]
	if !ok && !x.whole {
		if st, err = scanStatements(
			x.rd, append(append(idKey(keyStatement, x.id), a[:]...), class),
		); err == nil {
			x.known[class][a] = st
		}
	}
	return st, err
}

// direct returns the revocations by the replica key about an author.
func (x *stated) direct(a AuthorID) ([]Revocation, error) {
	st, err := x.about(classDirect, a)
	return st.revocations, err
}

// revocations returns all revocations about an author that are not void.
func (x *stated) revocations(a AuthorID) ([]Revocation, error) {
	direct, err := x.direct(a)
	if err != nil {
		return nil, err
	}
	st, err := x.about(classDelegated, a)
	if err != nil {
		return nil, err
	}
	all := direct[:len(direct):len(direct)]
	for i := range st.revocations {
		r := &st.revocations[i]
		void, err := isVoid(r.Authority, r.Issued, x.direct)
		if err != nil {
			return nil, err
		}
		if !void {
			all = append(all, *r)
		}
	}
	return all, nil
}

// allows returns what the grants of one class allow an author. About those of the replica key only
// its own revocations decide.
func (x *stated) allows(class byte, a AuthorID) (Authority, error) {
	st, err := x.about(class, a)
	if err != nil {
		return nil, err
	}
	return x.decide[class].authority(st.grants)
}

// authority returns what the statements in the store allow an author.
func authority(rd kv.Reader, id ID, author AuthorID) (Authority, error) {
	return newStated(rd, id).authority(author)
}

// authority returns what all statements together allow an author.
func (x *stated) authority(author AuthorID) (Authority, error) {
	direct, err := x.allows(classDirect, author)
	if err != nil {
		return nil, err
	}
	delegated, err := x.allows(classDelegated, author)
	return append(direct, delegated...), err
}

// revocationsIn returns a function that finds the revocations of an author, and adds them to the
// known ones.
func revocationsIn(
	rd kv.Reader, id ID, known map[AuthorID][]Revocation,
) func(AuthorID) ([]Revocation, error) {
	x := newStated(rd, id)
	return func(a AuthorID) ([]Revocation, error) {
		if rs, ok := known[a]; ok {
			return rs, nil
		}
		rs, err := x.revocations(a)
		if err == nil {
			known[a] = rs
		}
		return rs, err
	}
}

// rights are what one author may write. What delegates have granted is read only if it is needed,
// so that none of them makes the replica key's own grants slow to find.
type rights struct {
	direct    Authority
	delegated Authority
	whole     bool // delegated is known
	// from are the other authors about whom statements were looked at: they stand above grants or
	// revocations of the author. many says that there are too many to remember.
	from []AuthorID
	many bool
}

// maxFrom is how many of these are remembered.
const maxFrom = 64

// follows reports whether statements about some authors can change the rights of one.
func (r *rights) follows(author AuthorID, changed map[AuthorID]bool) bool {
	return r.many || changed[author] ||
		slices.ContainsFunc(r.from, func(a AuthorID) bool { return changed[a] })
}

// lookedAt notes the authors about whom statements were read.
func (r *rights) lookedAt(x *stated, author AuthorID) {
	r.from = slices.Clip(r.from) // others may have it, too
	for _, known := range x.known {
		for a := range known {
			if a != author && !slices.Contains(r.from, a) && !r.many {
				r.from = append(r.from, a)
			}
			r.many = r.many || len(r.from) > maxFrom
		}
	}
	if r.many {
		r.from = nil
	}
}

// may reports whether the statements in the store allow e. It looks into what is known of its
// author in this transaction first, then into what the store remembers, and adds to both; to the
// latter only with remember.
func (s *Store) may(
	rd kv.Reader, id ID, here map[AuthorID]*rights, e *Entry, remember bool,
) (ok bool, err error) {
	r := here[e.Author]
	if r != nil && (r.direct.Allows(e) || r.whole) {
		return r.direct.Allows(e) || r.delegated.Allows(e), nil
	}
	version, err := statementsVersion(rd, id) // conflicts with whoever adds a statement
	if err != nil {
		return false, err
	}
	if r == nil {
		if known, ok := s.known.get(id, version, e.Author); ok {
			r = &known
		}
	}
	x := newStated(rd, id)
	changed := r == nil
	defer func() {
		if changed && err == nil {
			r.lookedAt(x, e.Author)
			if remember {
				s.known.put(id, version, e.Author, *r)
			}
		}
	}()
	if changed {
		r = &rights{}
		if r.direct, err = x.allows(classDirect, e.Author); err != nil {
			return false, err
		}
	}
	if !r.direct.Allows(e) && !r.whole {
		if r.delegated, err = x.allows(classDelegated, e.Author); err != nil {
			return false, err
		}
		r.whole, changed = true, true
	}
	here[e.Author] = r
	return r.direct.Allows(e) || r.delegated.Allows(e), nil
}

// authorities remembers what authors of some replicas may write, as long as the statements stay the
// same.
type authorities struct {
	mu  sync.Mutex
	all map[ID]*knownAuthority
}

type knownAuthority struct {
	version uint64
	authors map[AuthorID]rights
}

// Limits of what is remembered.
const (
	maxAuthorities = 1024 // replicas
	maxKnown       = 1024 // authors of each
)

func (k *authorities) get(id ID, version uint64, author AuthorID) (r rights, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if of := k.all[id]; of != nil && of.version == version {
		r, ok = of.authors[author]
	}
	return r, ok
}

func (k *authorities) put(id ID, version uint64, author AuthorID, r rights) {
	k.mu.Lock()
	defer k.mu.Unlock()
	of := k.all[id]
	if of == nil || of.version != version || len(of.authors) >= maxKnown {
		of = &knownAuthority{version, map[AuthorID]rights{}}
		if k.all == nil || len(k.all) >= maxAuthorities {
			k.all = map[ID]*knownAuthority{}
		}
		k.all[id] = of
	}
	of.authors[author] = r
}

// carry keeps what is remembered of a replica when statements about some authors have come or gone,
// as far as it does not follow from them.
func (k *authorities) carry(id ID, from, to uint64, changed map[AuthorID]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	of := k.all[id]
	if of == nil || of.version != from {
		return
	}
	for author, r := range of.authors {
		if r.follows(author, changed) {
			delete(of.authors, author)
		}
	}
	of.version = to
}

// forget is called for a replica that is left: statements of another time may come under the number
// 0 again.
func (k *authorities) forget(id ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.all, id)
}

// GrantState is a grant with the last time at which it still allows anything.
type GrantState struct {
	Grant
	// Until is in microseconds since 1970, inclusive. It is before the grant's NotBefore, or 0, if
	// the grant allows nothing.
	Until uint64
}

// GrantStates returns all grants of a replica, in the order of authors, with what is left of each,
// and all revocations. It reads each statement once.
func (s *Store) GrantStates(
	ctx context.Context, id ID,
) (grants []GrantState, revocations []Revocation, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		all, err := statementsOf(rd, id, nil)
		if err != nil {
			return err
		}
		// Those above stand above many grants; what is read of one author is of no use for the next.
		above := revocationsIn(rd, id, map[AuthorID][]Revocation{})
		grants, revocations = make([]GrantState, len(all.grants)), all.revocations
		var own *decider
		var last AuthorID
		for i := range all.grants {
			g := &all.grants[i]
			if own == nil || g.Author != last {
				x := newStated(rd, id)
				last = g.Author
				own = newDecider(func(a AuthorID) ([]Revocation, error) {
					if a == g.Author {
						return x.revocations(a)
					}
					return above(a)
				})
			}
			a, err := own.authority(all.grants[i : i+1])
			if err != nil {
				return err
			}
			grants[i].Grant = *g
			for _, span := range a {
				grants[i].Until = span.to
			}
		}
		return nil
	})
	return grants, revocations, err
}

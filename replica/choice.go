package replica

import (
	"context"
	"slices"

	"github.com/skerry-sync/skerry/kv"
)

// StatementsFor returns the encoded statements by which the store allows some entries: of each of
// their authors, what the replica key has stated; and where that does not do, one grant by a
// delegate for each entry, with what has been revoked in its chain.
func (s *Store) StatementsFor(
	ctx context.Context, id ID, entries []Entry,
) (items [][]byte, err error) {
	byAuthor := map[AuthorID][]*Entry{}
	for i := range entries {
		byAuthor[entries[i].Author] = append(byAuthor[entries[i].Author], &entries[i])
	}
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		c := choice{x: newStated(rd, id), seen: map[[32]byte]bool{}}
		for author, all := range byAuthor {
			if err := c.add(author, all); err != nil {
				return err
			}
		}
		items = c.items
		return nil
	})
	return items, err
}

// StatementsAbout returns the encoded statements that decide about an author: what the replica key
// has stated, and the grants by delegates that allow anything, with what has been revoked in their
// chains.
func (s *Store) StatementsAbout(
	ctx context.Context, id ID, author AuthorID,
) (items [][]byte, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		c := choice{x: newStated(rd, id), seen: map[[32]byte]bool{}}
		if err := c.takeDirect(author); err != nil {
			return err
		}
		st, err := c.x.about(classDelegated, author)
		if err != nil {
			return err
		}
		for i := range st.grants {
			a, err := c.x.decides(&st.grants[i])
			if err != nil {
				return err
			}
			if len(a) == 0 {
				continue
			}
			if err := c.takeChain(&st.grants[i]); err != nil {
				return err
			}
		}
		items = c.items
		return nil
	})
	return items, err
}

// choice collects statements to send.
type choice struct {
	x     *stated
	seen  map[[32]byte]bool // by id
	items [][]byte
}

func (c *choice) take(st Statement) {
	if id := st.ID(); !c.seen[id] {
		c.seen[id] = true
		c.items = append(c.items, st.Bytes())
	}
}

func (c *choice) takeDirect(author AuthorID) error {
	st, err := c.x.about(classDirect, author)
	for i := range st.grants {
		c.take(&st.grants[i])
	}
	for i := range st.revocations {
		c.take(&st.revocations[i])
	}
	return err
}

func (c *choice) add(author AuthorID, entries []*Entry) error {
	if err := c.takeDirect(author); err != nil {
		return err
	}
	direct, err := c.x.allows(classDirect, author)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e *Entry) bool { return direct.Allows(e) })
	if len(entries) == 0 {
		return nil
	}
	st, err := c.x.about(classDelegated, author)
	if err != nil {
		return err
	}
	for i := range st.grants {
		a, err := c.x.decides(&st.grants[i])
		if err != nil {
			return err
		}
		before := len(entries)
		entries = slices.DeleteFunc(entries, func(e *Entry) bool { return a.Allows(e) })
		if len(entries) == before {
			continue
		}
		if err := c.takeChain(&st.grants[i]); err != nil {
			return err
		}
	}
	return nil
}

// takeChain takes a grant, what the replica key has stated about the authors in its chain, and the
// revocations by delegates that apply to it or to those above it.
func (c *choice) takeChain(g *Grant) error {
	c.take(g)
	for ; g != nil; g = g.Parent {
		if err := c.takeDirect(g.Author); err != nil {
			return err
		}
		rs, err := c.x.revocations(g.Author)
		if err != nil {
			return err
		}
		for i := range rs {
			if rs[i].appliesTo(g) {
				c.take(&rs[i])
			}
		}
	}
	return nil
}

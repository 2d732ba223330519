package versions

import (
	"errors"
	"maps"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// revoke has the first device, which is the owner's, revoke the author of another: it adopts what
// that has written, or drops it. If it is a copy of that one itself, it takes another author first.
func (h *history) revoke(o *party) error {
	p, ctx := h.all[0], h.t.Context()
	a := o.set.dev.Author
	if o == p || a == (replica.AuthorID{}) || o.disk.removed {
		return nil
	}
	drop := h.rand.IntN(4) == 0
	h.tell("%s revokes %s, drops %v", p.name, o.name, drop)
	if !drop {
		if a == p.set.dev.Author {
			h.met["revocation of its own author"]++
			if err := p.set.Renew(ctx); err != nil {
				return err
			}
		}
		before := map[string]map[int]bool{}
		for _, key := range simKeys {
			before[key] = h.knows(key, p.atLast(key).Heads)
		}
		h.adopting = true
		n, err := p.set.Adopt(ctx, by(a), false)
		h.adopting = false
		if _, missing := errors.AsType[*MissingError](err); missing {
			h.met["adoption of what is missing"]++
			return nil
		}
		if err != nil {
			return err
		}
		h.met["adopted version"] += n
		if h.learn(p, a) {
			for _, key := range simKeys {
				after := h.knows(key, p.atLast(key).Heads)
				for id := range before[key] {
					require.True(h.t, after[id], "seed %d: %s of %s is lost", h.seed, h.every[id], key)
				}
			}
		}
	} else if a == p.set.dev.Author {
		return nil // it would be removed itself
	}
	h.learn(p, a)
	h.met["revocation"]++
	return nil
}

// learn has a device know that an author is revoked. What only that device had of the author's is
// gone, and all that it had if the author was its own.
func (h *history) learn(p *party, a replica.AuthorID) bool {
	if p.disk.revoked[a] {
		return false
	}
	before := h.alive()
	p.disk.revoke(a)
	if p.set.dev.Author == a {
		p.disk.removed = true
		h.met["removed device"]++
		h.tell("  %s is removed", p.name)
	}
	p.knew = map[string]map[record.Hash]bool{} // what is left may be less
	h.lost(before)
	return true
}

// lost notes what was alive and is not any more.
func (h *history) lost(before map[int]bool) {
	after := h.alive()
	for id := range before {
		if !after[id] {
			h.gone[id] = true
			h.tell("  %s is nowhere any more", h.every[id])
		}
	}
}

// adopted returns the edit that a record which adopts a version is.
func (h *history) adopted(key string, r *record.Record) *truth {
	look := func(d *disk, e *replica.Entry) *truth {
		if h.parse(d, e).Dot == r.Resolved[0] {
			return h.truths[keyOf(e, []byte(key))]
		}
		return nil
	}
	d := h.all[0].disk
	for at, e := range d.slots {
		if at.key == key {
			if t := look(d, &e); t != nil {
				return t
			}
		}
	}
	for _, it := range d.displaced {
		if string(it.Key) == key {
			if t := look(d, &it.Entry); t != nil {
				return t
			}
		}
	}
	return nil
}

// mayNotWrite reports whether a device could not write for it was removed.
func (p *party) mayNotWrite(err error) bool {
	if !mayNotWrite(err) {
		return false
	}
	require.True(p.h.t, p.disk.removed, "seed %d: %s: %v", p.h.seed, p.name, err)
	p.h.met["write of a removed device"]++
	return true
}

// requireUnsent requires that a removed device can give out all it wrote that is nowhere else.
func (p *party) requireUnsent(final map[string][]*plan.Version) {
	h := p.h
	given := map[string]map[int]bool{}
	for u, err := range p.set.Unsent(h.t.Context()) {
		h.require(err)
		if given[string(u.Key)] == nil {
			given[string(u.Key)] = map[int]bool{}
		}
		t := h.truths[keyOf(u.version.Entry, u.Key)]
		require.NotNil(h.t, t)
		maps.Copy(given[string(u.Key)], t.knew)
		h.met["unsent edit"]++
	}
	for _, it := range p.disk.void {
		t := h.truths[keyOf(&it.Entry, it.Key)]
		if t == nil || p.disk.content[it.Entry.Hash] == nil {
			continue
		}
		knew := h.knows(t.key, final[t.key])
		require.True(h.t, knew[t.id] || given[t.key][t.id] || h.contents(knew)[t.hash],
			"seed %d: %s does not give out %s of %s", h.seed, p.name, t, t.key)
	}
}

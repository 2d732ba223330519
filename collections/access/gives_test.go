package access

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Room is used up to the last issuer and the last byte.
func TestRoomToTheLast(t *testing.T) {
	for _, c := range []struct {
		issuers, bytes int
		fits           bool
	}{{2, 30, true}, {3, 30, false}, {2, 31, false}, {0, 0, true}} {
		r := &Revocations{
			all: held{2, 70}, mostIssuers: 4, mostBytes: 100,
		}
		require.Equal(t, c.fits, r.fits(c.issuers, c.bytes), c)
		m := &room{most: held{4, 100}, all: held{2, 70}}
		require.Equal(t, c.fits, m.fits(&newcomer{grows: held{c.issuers, c.bytes}}), c)
	}
	require.Equal(t, held{5, 77}, held{3, 70}.with(held{2, 7}))
	require.Equal(t, held{1, 63}, held{3, 70}.without(held{2, 7}))
}

// kept is how many issuers of a rank are kept from a source.
type kept struct {
	rank    Rank
	source  string
	issuers int
}

// roomOf has room for 640 issuers, of which 320 are half, 20 the part of a network and 10 that of a
// source.
func roomOf(all ...kept) *room {
	m := &room{
		most: held{640, 1 << 20}, byRank: map[Rank]held{},
		bySource: map[place]*group{}, byNetwork: map[place]*group{},
	}
	for _, k := range all {
		m.enter(&candidate{source: k.source, rank: k.rank, size: held{k.issuers, 0}})
	}
	return m
}

// Who gives way to whom, on both sides of each limit.
func TestGives(t *testing.T) {
	const (
		here  = "192.0.2.1"
		near  = "192.0.3.1" // of the same network
		there = "198.51.100.1"
	)
	owners := func(some ...int) (all []kept) {
		for i, n := range some {
			all = append(all, kept{Owner, []string{here, near, there}[i], n})
		}
		return all
	}
	for _, c := range []struct {
		name     string
		all      []kept
		its, new Rank          // of the list that may go, from here, and of the other; 0 is alike
		source   string        // of the newcomer, of one issuer
		later    time.Duration // by which the list's issuer is known later than the newcomer
		gives    bool
	}{
		{name: "named", its: Named, new: Named, source: there},
		{name: "owners take half", all: owners(319), its: Presented, new: Owner, gives: true},
		{name: "and no more", all: owners(320), its: Presented, new: Owner},
		{name: "owners have half", all: owners(320), its: Owner, new: Presented},
		{name: "and give back more", all: owners(321), its: Owner, new: Presented, gives: true},
		{name: "not to strangers", all: owners(321), its: Owner, new: Stranger},
		{name: "strangers to presented", its: Stranger, new: Presented, gives: true},
		{name: "presented to strangers", its: Presented, new: Stranger},

		{name: "a day later", all: owners(9), source: here, later: old, gives: true},
		{name: "less than a day", all: owners(9), source: here, later: old - 1},

		{name: "near, as much", all: owners(5, 4), source: near},
		{name: "near, more", all: owners(6, 4), source: near, gives: true},
		{name: "near, as much, later", all: owners(5, 4), source: near, later: old, gives: true},
		{name: "near, more, a day earlier", all: owners(6, 4), source: near, later: -old},
		{name: "near, more, not so early", all: owners(6, 4), source: near, later: 1 - old, gives: true},
		{name: "near, all of a source, earlier", all: owners(10), source: near, later: -old},
		{name: "near, too much, earlier", all: owners(11), source: near, later: -old, gives: true},

		{name: "there, as much of both", all: owners(5, 0, 4), source: there, later: old},
		{name: "there, of its address less", all: owners(4, 2, 4), source: there},
		{name: "there, of its address as much", all: owners(5, 1, 4), source: there, gives: true},
		{name: "there, less, later", all: owners(4, 2, 4), source: there, later: old, gives: true},
		{name: "there, all of a network, earlier", all: owners(9, 11), source: there, later: -old},
		{name: "there, too much, earlier", all: owners(9, 12), source: there, later: -old, gives: true},
	} {
		alike := []Rank{Stranger, Presented, Owner}
		if c.its != c.new || c.its == Named {
			alike = alike[:1]
		}
		for _, rank := range alike {
			its, other := c.its, c.new
			all := slices.Clone(c.all)
			if len(alike) > 1 { // of any rank, all are of the same
				its, other = rank, rank
				for i := range all {
					all[i].rank = rank
				}
			}
			m := roomOf(all...)
			now := time.Unix(1_700_000_000, 0)
			n := &newcomer{Standing: Standing{other, now}, source: c.source, grows: held{1, 1}}
			n.to = m.group(other, c.source)
			x := &candidate{source: here, rank: its, since: now.Add(c.later), from: m.group(its, here)}
			require.Equal(t, c.gives, m.gives(x, n), "%s: %d", c.name, its)
		}
	}
}

// What is too much of a source or of a network begins beyond its part, and is the first to go.
func TestTurns(t *testing.T) {
	turnsOf := func(here, near int) [2]float64 {
		m := roomOf(kept{Stranger, "192.0.2.1", here}, kept{Stranger, "192.0.3.1", near})
		m.candidates = []candidate{{source: "192.0.2.1", from: m.group(Stranger, "192.0.2.1")}}
		n := &newcomer{Standing: Standing{Rank: Presented}, source: "198.51.100.1"}
		n.to = m.group(n.Rank, n.source)
		all := *m.turns(n)
		require.Len(t, all, 1)
		require.False(t, all.Less(0, 0), "nothing is before itself")
		return all[0].tooMuch
	}
	require.Equal(t, [2]float64{}, turnsOf(10, 10))
	require.Equal(t, [2]float64{21. / 640, 0}, turnsOf(10, 11))
	require.Equal(t, [2]float64{0, 11. / 640}, turnsOf(11, 0))
	require.Equal(t, [2]float64{31. / 640, 31. / 640}, turnsOf(31, 0))
}

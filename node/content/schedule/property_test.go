package schedule

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/content/wire"
)

// fetched is a blob in a simulated fetch.
type fetched struct {
	want    Want
	size    uint64
	wanted  blobs.Ranges // within the size
	came    blobs.Ranges
	twice   blobs.Ranges // came more than once, beside the proof
	over    bool         // something of it has been taken over
	missing bool         // it was reported so
}

// giver is a provider in a simulated fetch.
type giver struct {
	src    *Source
	has    map[blobs.Hash]blobs.Ranges
	broken map[blobs.Hash]bool // cannot be read: the stream ends there
	lacks  map[blobs.Hash]bool // it has been asked for that, and did not give all
	flying []*Block
	item   int // of the first block: which one is answered next
	begun  bool
	left   blobs.Ranges // what is still to come of that item's answer
	ended  bool         // the network has ended its stream
	dead   bool
}

// sim is a fetch in which everything happens in a random order.
type sim struct {
	*world
	rng    *rand.Rand
	blobs  map[blobs.Hash]*fetched
	givers []*giver
	lead   *giver // may be nil

	exhausted int // how often it was
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{
		world: newWorld(t), rng: rand.New(rand.NewPCG(seed, 1)), blobs: map[blobs.Hash]*fetched{},
	}
	for i := range 1 + s.rng.IntN(4) {
		s.givers = append(s.givers, &giver{
			src: s.NewSource(peer.ID(fmt.Sprint(i))), has: map[blobs.Hash]blobs.Ranges{},
			broken: map[blobs.Hash]bool{}, lacks: map[blobs.Hash]bool{},
		})
	}
	if s.rng.IntN(2) == 0 {
		s.lead = s.givers[s.rng.IntN(len(s.givers))]
		s.Lead(s.lead.src)
	}
	return s
}

// someRanges returns parts of a blob that begin and end with segments.
func (s *sim) someRanges(size uint64) (out blobs.Ranges) {
	segments := int(size/blobs.SegmentSize) + 1
	for range 1 + s.rng.IntN(3) {
		from := s.rng.IntN(segments)
		to := from + 1 + s.rng.IntN(segments-from)
		out = out.Union(blobs.Ranges{{
			Start: uint64(from) * blobs.SegmentSize, End: min(uint64(to)*blobs.SegmentSize, size),
		}})
	}
	return slices.DeleteFunc(out, func(r blobs.Range) bool { return r.Start >= r.End })
}

// begin wants some more blobs.
func (s *sim) begin() {
	var needs []Need
	for range 1 + s.rng.IntN(12) {
		h := blobs.Hash{byte(len(s.blobs)), 1}
		most := []int{100, 100_000, 3 << 20, 40 << 20}[s.rng.IntN(4)]
		b := &fetched{size: 1 + uint64(s.rng.IntN(most)), want: Want{Hash: h}}
		all := blobs.Ranges{{Start: 0, End: b.size}}
		b.wanted = all
		if s.rng.IntN(2) == 0 {
			b.want.Size = b.size
		}
		x := Need{Missing: blobs.Everything}
		if s.rng.IntN(4) == 0 {
			b.want.Ranges = s.someRanges(b.size)
			b.wanted, x.Missing = b.want.Ranges, b.want.Ranges.Align()
		}
		if x.Want = b.want; s.rng.IntN(4) == 0 {
			x.Proved, x.Size, x.Missing = true, b.size, b.wanted
		}
		s.blobs[h] = b
		needs = append(needs, x)
		for _, g := range s.givers {
			switch s.rng.IntN(4) {
			case 0:
				g.has[h] = s.someRanges(b.size)
			case 1, 2:
				g.has[h] = all
			}
			g.broken[h] = s.rng.IntN(20) == 0
		}
	}
	s.Begin(needs)
}

// step has one provider do something.
func (s *sim) step(g *giver, calm bool) {
	switch {
	case g.dead:
	case g.ended || !calm && s.rng.IntN(60) == 0:
		g.dead = !g.ended && s.rng.IntN(2) == 0
		s.giveUpStream(g)
	case len(g.flying) < 2 && (len(g.flying) == 0 || s.rng.IntN(2) == 0):
		s.take(g)
	default:
		s.answer(g)
	}
}

// giveUpStream ends a stream, and gives back what was asked for on it.
func (s *sim) giveUpStream(g *giver) {
	cancelled := false
	for _, b := range g.flying {
		cancelled = s.GiveBack(b) || cancelled
	}
	require.False(s.t, g.ended && !cancelled, "a stream was ended for nothing")
	g.flying, g.item, g.begun, g.ended = nil, 0, false, false
}

func (s *sim) take(g *giver) {
	b := s.Take(context.Background(), g.src, 0)
	if b == nil {
		if len(g.flying) > 0 {
			s.answer(g)
		}
		return
	}
	for _, it := range b.Items {
		require.False(s.t, it.need.refused[g.src.id], "it has refused that")
		if b.over != nil {
			s.blobs[it.Want.Hash].over = true
		}
	}
	g.flying = append(g.flying, b)
	s.OnCancel(b, func() { g.ended = true })
}

// answer goes on with the answer to the first block.
func (s *sim) answer(g *giver) {
	b := g.flying[0]
	if g.item == len(b.Items) {
		g.flying, g.item = g.flying[1:], 0
		s.GiveBack(b)
		return
	}
	it := b.Items[g.item]
	q, x := &it.Request, s.blobs[it.Want.Hash]
	has, last := g.has[x.want.Hash], wire.LastGroup(x.size)
	if !g.begun {
		if len(has) == 0 || q.ProveSize && len(last.Without(has)) > 0 {
			g.item++
			g.lacks[x.want.Hash] = true
			s.Answered(b, it, true)
			return
		}
		if g.broken[x.want.Hash] && !b.cancelled {
			s.giveUpStream(g)
			g.lacks[x.want.Hash] = true
			s.Refuse(it, g.src)
			return
		}
		g.begun, g.left = true, q.Ranges.Intersect(has)
		if q.ProveSize {
			g.left = g.left.Without(last)
		}
		size, proved := s.Expect(it, g.left)
		require.True(s.t, !proved || size == x.size)
		if q.ProveSize {
			x.came = x.came.Union(last)
			s.Prove(it, x.size)
		}
		return
	}
	if some := g.left.First(uint64(1 + s.rng.IntN(4<<20))); len(some) > 0 {
		g.left = g.left.Without(some)
		x.twice = x.twice.Union(x.came.Without(last).Intersect(some))
		x.came = x.came.Union(some)
		s.Got(it, int(some.Count()))
		g.src.Came(int(some.Count()))
		return
	}
	g.begun = false
	g.item++
	asked := q.Ranges.Intersect(blobs.Ranges{{Start: 0, End: x.size}})
	if q.ProveSize {
		asked = asked.Without(last)
	}
	refused := len(asked.Without(has)) > 0
	g.lacks[x.want.Hash] = g.lacks[x.want.Hash] || refused
	s.Answered(b, it, refused)
}

// check looks at what must hold at any time.
func (s *sim) check() {
	owed := map[*need]blobs.Ranges{}
	for b := range s.blocks {
		for _, it := range b.Items {
			x := s.blobs[it.Want.Hash]
			if it.answered || b.cancelled || x.over {
				continue
			}
			left := it.owed()
			require.Empty(s.t, owed[it.need].Intersect(left), "two owe the same")
			owed[it.need] = owed[it.need].Union(left)
		}
	}
	open := 0
	queued := map[*need]bool{}
	for _, x := range slices.Concat(s.ready, s.first) {
		require.False(s.t, queued[x], "it is queued twice")
		queued[x] = true
	}
	under := map[*need]bool{}
	for b := range s.blocks {
		for _, it := range b.Items {
			under[it.need] = under[it.need] || !it.answered
		}
	}
	for _, x := range s.needs {
		if !x.done {
			open++
			require.True(s.t, queued[x] || under[x], "it is lost")
		}
	}
	require.Equal(s.t, s.Schedule.open, open)
	s.checkLead()
}

// checkLead looks whether the lead counts as exhausted if, and only if, it is asked for nothing and
// has not given any of what is missing when it was asked for it.
func (s *sim) checkLead() {
	exhausted := s.lead != nil && len(s.lead.flying) == 0 && s.Schedule.open > 0
	for h, x := range s.needs {
		exhausted = exhausted && (x.done || s.lead.lacks[h])
	}
	require.Equal(s.t, exhausted, s.State(nil).Exhausted)
	for h := range s.needs {
		if s.LeadLacks(h) != (s.lead != nil && s.lead.lacks[h]) {
			s.t.Fatal("it is not known what the lead lacks")
		}
	}
	if exhausted {
		s.exhausted++
	}
}

// finish lets providers go on until nothing more is to come.
func (s *sim) finish() {
	for range 100_000 {
		var alive []*Source
		for _, g := range s.givers {
			if !g.dead {
				alive = append(alive, g.src)
			}
		}
		switch now := s.State(alive); {
		case now.Open == 0:
			return
		case now.Hopeless:
			for _, h := range s.GiveUp() {
				require.False(s.t, s.blobs[h].missing)
				s.blobs[h].missing = true
			}
			continue
		}
		s.step(s.givers[s.rng.IntN(len(s.givers))], true)
		s.check()
	}
	s.t.Fatal("it does not end")
}

// In whatever order providers take, answer, refuse, fail, end at what they cannot read, take over
// and are cancelled, each blob comes, and no part of it twice unless it was taken over; or it is
// reported as missing, and then nobody who is left has all of it and can read it.
func TestEachBlobComesOrIsMissing(t *testing.T) {
	testkit.OneGoroutine(t)
	overs, missing, cancels, exhausted := 0, 0, 0, 0
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSim(t, seed)
			for range 2 {
				s.begin()
				for range s.rng.IntN(300) {
					g := s.givers[s.rng.IntN(len(s.givers))]
					if g.ended {
						cancels++
					}
					s.step(g, false)
					s.check()
					if s.rng.IntN(8) == 0 {
						s.now = s.now.Add(time.Duration(s.rng.IntN(int(2 * time.Second))))
					}
				}
				s.finish()
			}
			exhausted += s.exhausted
			for h, x := range s.blobs {
				lacks := x.wanted.Without(x.came)
				if x.over {
					overs++
				} else {
					require.Empty(t, x.twice)
				}
				if !x.missing {
					require.Empty(t, lacks)
					continue
				}
				missing++
				for _, g := range s.givers {
					if !g.dead && !g.broken[h] {
						all := blobs.Ranges{{Start: 0, End: x.size}}
						require.NotEmpty(t, all.Without(g.has[h]), "somebody has it")
					}
				}
			}
		})
	}
	require.Positive(t, overs)
	require.Positive(t, missing)
	require.Positive(t, cancels)
	require.Positive(t, exhausted)
}

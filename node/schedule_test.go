package node

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
)

func testSchedule(wants ...Want) (*schedule, func(id string) *provider) {
	s := newSchedule()
	f := &fetcher{sched: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range wants {
		s.add(&need{want: w, left: blobs.Everything, missing: blobs.Everything})
	}
	return s, func(id string) *provider { return &provider{f: f, info: peer.AddrInfo{ID: peer.ID(id)}} }
}

func (s *schedule) takeNow(p *provider) *block {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tryTake(p)
}

// What one provider does not have of a blob is asked of another: of a large one as soon as its size
// is proved, of a small one, whose proof is stored only with the rest of the answer, when the
// answer has ended.
func TestScheduleLeavesTheRestToOthers(t *testing.T) {
	for _, size := range []uint64{300_000, 20 << 20} {
		s, newProvider := testSchedule(Want{Hash: blobs.Hash{1}})
		a, b := newProvider("a"), newProvider("b")
		taken := s.takeNow(a)
		it := taken.items[0]
		require.True(t, it.req.proveSize)
		require.Nil(t, s.takeNow(b), "somebody is asking")
		it.expect = blobs.Ranges{{Start: 0, End: 16 << 10}}
		s.setProved(it, size)
		small := size <= blobs.SegmentSize
		other := s.takeNow(b)
		require.Equal(t, small, other == nil)
		it.got = 16 << 10
		s.answered(taken, it, true)
		s.giveBack(taken)
		if small {
			other = s.takeNow(b)
		}
		require.Nil(t, s.takeNow(a), "it has said that it does not have more")
		rest := other.items[0]
		require.False(t, rest.req.proveSize)
		require.EqualValues(t, 16<<10, rest.req.ranges[0].Start)
		for other != nil {
			for _, it := range other.items {
				it.expect, it.got = it.req.ranges, it.req.ranges.Count()
				s.answered(other, it, false)
			}
			s.giveBack(other)
			other = s.takeNow(b)
		}
		require.Zero(t, s.open)
		require.True(t, it.need.done)
	}
}

// What a provider gives back is the first that is taken again, in its old order, and nothing of it
// that has come.
func TestScheduleGivesBack(t *testing.T) {
	s, newProvider := testSchedule(Want{Hash: blobs.Hash{1}, Size: 1000}, Want{Hash: blobs.Hash{2}, Size: 1000}, Want{Hash: blobs.Hash{3}, Size: 1000})
	a, b := newProvider("a"), newProvider("b")
	taken := s.takeNow(a)
	require.Len(t, taken.items, 3)
	first := taken.items[0]
	first.expect = blobs.Ranges{}
	s.setProved(first, 1000)
	s.answered(taken, first, false)
	s.mu.Lock()
	s.add(&need{want: Want{Hash: blobs.Hash{4}, Size: 1}, left: blobs.Everything, missing: blobs.Everything})
	s.mu.Unlock()
	s.giveBack(taken)
	again := s.takeNow(b)
	var order []byte
	for _, it := range again.items {
		order = append(order, it.req.hash[0])
	}
	require.Equal(t, []byte{2, 3, 4}, order)
	require.False(t, s.hopeless([]*provider{a, b}))
}

// What a slow provider owes is taken over, with the proof where that has not come; once nothing of
// it is missing, its stream is ended.
func TestScheduleTakesOver(t *testing.T) {
	s, newProvider := testSchedule(Want{Hash: blobs.Hash{1}, Size: 1000})
	slow, fast := newProvider("slow"), newProvider("fast")
	taken := s.takeNow(slow)
	cancelled := false
	taken.cancel = func() { cancelled = true }
	over := func() *block {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.takeOver(fast)
	}
	require.Nil(t, over(), "not at once")
	taken.started = time.Now().Add(-time.Minute)
	again := over()
	require.NotNil(t, again)
	require.True(t, again.items[0].req.proveSize)
	require.Nil(t, over(), "once")
	again.items[0].expect = blobs.Ranges{}
	s.setProved(again.items[0], 1000)
	s.answered(again, again.items[0], false)
	require.Zero(t, s.open)
	require.True(t, cancelled)
}

// When all who are asked have said no, there is no hope.
func TestScheduleHopeless(t *testing.T) {
	s, newProvider := testSchedule(Want{Hash: blobs.Hash{1}})
	a, b := newProvider("a"), newProvider("b")
	for _, p := range []*provider{a, b} {
		require.False(t, s.hopeless([]*provider{a, b}))
		taken := s.takeNow(p)
		require.False(t, s.hopeless([]*provider{a, b}), "something is under way")
		s.answered(taken, taken.items[0], true)
		s.giveBack(taken)
	}
	require.True(t, s.hopeless([]*provider{a, b}))
	require.False(t, s.hopeless([]*provider{a, b, newProvider("c")}))
}

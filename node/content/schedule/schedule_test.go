package schedule

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
)

// world is a schedule with a clock of its own.
type world struct {
	*Schedule
	t   *testing.T
	now time.Time
}

func newWorld(t *testing.T, wants ...Want) *world {
	w := &world{t: t, now: time.Unix(1e9, 0)}
	w.Schedule = New(func() time.Time { return w.now })
	w.begin(wants...)
	return w
}

// begin has blobs fetched of which nothing is known.
func (w *world) begin(wants ...Want) {
	needs := make([]Need, len(wants))
	for i, x := range wants {
		needs[i] = Need{Want: x, Missing: blobs.Everything}
	}
	w.Begin(needs)
}

func (w *world) sources(names ...string) (out []*Source) {
	for _, name := range names {
		out = append(out, w.NewSource(peer.ID(name)))
	}
	return out
}

// takeNow takes what there is, without waiting.
func (w *world) takeNow(p *Source) *Block { return w.Take(w.t.Context(), p, 0) }

func (w *world) open() int { return w.State(nil).Open }

// What one provider does not have of a blob is asked of another: of a large one as soon as its size
// is proved, of a small one, whose proof is stored only with the rest of the answer, when the
// answer has ended.
func TestLeavesTheRestToOthers(t *testing.T) {
	for _, size := range []uint64{300_000, 20 << 20} {
		w := newWorld(t, Want{Hash: blobs.Hash{1}})
		both := w.sources("a", "b")
		a, b := both[0], both[1]
		taken := w.takeNow(a)
		it := taken.Items[0]
		require.True(t, it.Request.ProveSize)
		require.Nil(t, w.takeNow(b), "somebody is asking")
		w.Expect(it, blobs.Ranges{{Start: 0, End: 16 << 10}})
		w.Prove(it, size)
		small := size <= blobs.SegmentSize
		other := w.takeNow(b)
		require.Equal(t, small, other == nil)
		w.Got(it, 16<<10)
		w.Answered(taken, it, true)
		w.GiveBack(taken)
		if small {
			other = w.takeNow(b)
		}
		require.Nil(t, w.takeNow(a), "it has said that it does not have more")
		rest := other.Items[0]
		require.False(t, rest.Request.ProveSize)
		require.EqualValues(t, 16<<10, rest.Request.Ranges[0].Start)
		for other != nil {
			for _, it := range other.Items {
				w.Expect(it, it.Request.Ranges)
				w.Got(it, int(it.Request.Ranges.Count()))
				w.Answered(other, it, false)
			}
			w.GiveBack(other)
			other = w.takeNow(b)
		}
		require.Zero(t, w.open())
	}
}

// What a provider gives back is the first that is taken again, in its old order, and nothing of it
// that has come.
func TestGivesBack(t *testing.T) {
	var wants []Want
	for i := range 4 {
		wants = append(wants, Want{Hash: blobs.Hash{byte(i + 1)}, Size: firstBlock / 3})
	}
	w := newWorld(t, wants...)
	both := w.sources("a", "b")
	taken := w.takeNow(both[0])
	require.Len(t, taken.Items, 4)
	first := taken.Items[0]
	w.Expect(first, nil)
	w.Prove(first, 1000)
	w.Answered(taken, first, false)
	require.False(t, w.GiveBack(taken))
	again := w.takeNow(both[1])
	var order []byte
	for _, it := range again.Items {
		order = append(order, it.Request.Hash[0])
	}
	require.Equal(t, []byte{2, 3, 4}, order)
	require.False(t, w.State(both).Hopeless)
}

// What a slow provider owes is taken over, with the proof where that has not come; once nothing of
// it is missing, its stream is ended.
func TestTakesOver(t *testing.T) {
	w := newWorld(t, Want{Hash: blobs.Hash{1}, Size: 1000})
	both := w.sources("slow", "fast")
	taken := w.takeNow(both[0])
	cancelled := 0
	w.OnCancel(taken, func() { cancelled++ })
	require.Nil(t, w.takeNow(both[1]), "not at once")
	w.now = w.now.Add(time.Minute)
	again := w.takeNow(both[1])
	require.NotNil(t, again)
	require.True(t, again.Items[0].Request.ProveSize)
	require.Nil(t, w.takeNow(both[1]), "once")
	w.Expect(again.Items[0], nil)
	w.Prove(again.Items[0], 1000)
	w.Answered(again, again.Items[0], false)
	w.GiveBack(again)
	require.Zero(t, w.open())
	require.Equal(t, 1, cancelled)
	require.True(t, w.GiveBack(taken))

	// A stream that is opened late is ended at once.
	w.OnCancel(taken, func() { cancelled++ })
	require.Equal(t, 2, cancelled)
}

// Who has taken something over may fail, too. It can then be taken over again: the slow one could
// keep it for long.
func TestTakesOverAgain(t *testing.T) {
	w := newWorld(t)
	const size = 64 << 20
	all := blobs.Ranges{{Start: 0, End: size}}
	w.Begin([]Need{{
		Want: Want{Hash: blobs.Hash{1}}, Proved: true, Size: size, Missing: all.First(1 << 20),
	}})
	three := w.sources("slow", "failing", "third")
	slow := w.takeNow(three[0])
	require.NotNil(t, slow)
	w.now = w.now.Add(time.Minute)
	taken := w.takeNow(three[1])
	require.NotNil(t, taken)
	require.Nil(t, w.takeNow(three[2]), "it is under way twice")
	w.GiveBack(taken)
	again := w.takeNow(three[2])
	require.NotNil(t, again)
	require.Equal(t, slow.Items[0].Request.Ranges, again.Items[0].Request.Ranges)
}

// What one provider has brought is not asked of another, although its answer has not ended yet when
// that of a third does, which had less than it was asked for.
func TestWhatHasComeIsNotAskedAgain(t *testing.T) {
	w := newWorld(t, Want{Hash: blobs.Hash{1}})
	const size = 2 * blobs.SegmentSize
	three := w.sources("partial", "rest", "third")
	partial := w.takeNow(three[0])
	w.Expect(partial.Items[0], blobs.Ranges{{Start: blobs.SegmentSize, End: size}})
	w.Prove(partial.Items[0], size+1)
	rest := w.takeNow(three[1])
	require.Equal(t, blobs.Ranges{{End: blobs.SegmentSize}}, rest.Items[0].Request.Ranges)
	w.Expect(rest.Items[0], rest.Items[0].Request.Ranges)
	w.Got(rest.Items[0], blobs.SegmentSize)
	w.Got(partial.Items[0], blobs.SegmentSize)
	w.Answered(partial, partial.Items[0], true)
	w.GiveBack(partial)
	require.Nil(t, w.takeNow(three[2]))
	w.Answered(rest, rest.Items[0], false)
	w.GiveBack(rest)
	require.Zero(t, w.open())
}

// When all who are asked have said no, there is no hope.
func TestHopeless(t *testing.T) {
	w := newWorld(t, Want{Hash: blobs.Hash{1}})
	both := w.sources("a", "b")
	for _, p := range both {
		require.False(t, w.State(both).Hopeless)
		taken := w.takeNow(p)
		require.False(t, w.State(both).Hopeless, "something is under way")
		w.Answered(taken, taken.Items[0], true)
		w.GiveBack(taken)
	}
	require.True(t, w.State(both).Hopeless)
	require.False(t, w.State(append(both, w.sources("c")...)).Hopeless)
	require.Equal(t, []blobs.Hash{{1}}, w.GiveUp())
	require.Zero(t, w.open())
}

// A peer that sends what it is asked, but less and less, does not hold the children of a sequence
// back from another that would give them.
func TestTakesSlowChildrenOver(t *testing.T) {
	w := newWorld(t)
	both := w.sources("slow", "fast")
	w.Begin([]Need{{
		Want: Want{Hash: blobs.Hash{1}}, Missing: blobs.Everything, Children: SmallChildren(),
	}})
	taken := w.takeNow(both[0])
	it := taken.Items[0]
	require.NotNil(t, it.Request.Children)
	w.Expect(it, nil)
	w.Prove(it, 64)
	w.ExpectChildren(it, []blobs.Hash{{2}, {3}}, []bool{false, false})
	w.Answered(taken, it, false)
	require.True(t, w.ChildrenComing())
	w.begin(Want{Hash: blobs.Hash{3}, Size: 10})
	for range 2 * int(slowAfter/time.Second) { // a byte now and then, so that it is never idle
		if b := w.takeNow(both[1]); b != nil {
			require.Equal(t, blobs.Hash{3}, b.Items[0].Request.Hash)
			return
		}
		for range 2 {
			both[0].Came(1)
			w.now = w.now.Add(hedgeUnknown / 2)
		}
	}
	t.Fatal("the children wait for ever")
}

// Whoever waits for a change notices at once that the lead cannot give the last that is missing,
// and that others may have it makes no difference.
func TestNoticesThatTheLeadIsExhausted(t *testing.T) {
	w := newWorld(t, Want{Hash: blobs.Hash{1}, Size: 100_000})
	both := w.sources("a", "b")
	w.Lead(both[0])
	taken := w.takeNow(both[0])
	w.GiveBack(taken)
	changed := w.Changed()
	require.False(t, w.State(both).Exhausted)
	w.Refuse(taken.Items[0], both[0])
	select {
	case <-changed:
	default:
		t.Fatal("nobody is told")
	}
	now := w.State(both)
	require.True(t, now.Exhausted)
	require.False(t, now.Hopeless)
	require.True(t, w.LeadLacks(blobs.Hash{1}))
	w.begin(Want{Hash: blobs.Hash{2}})
	require.False(t, w.State(both).Exhausted, "something else is wanted")
	require.True(t, w.LeadLacks(blobs.Hash{1}))
}

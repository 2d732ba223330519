package versions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/kind"
)

// clocked returns a device whose clock is ahead of the lab's, by what ahead says.
func (l *lab) clocked(ahead *time.Duration) *device {
	d := newDisk(nil)
	d.time = func() uint64 { return l.time + uint64(ahead.Microseconds()) }
	d.now = func() uint64 { l.time++; return d.time() }
	return l.deviceOn(d)
}

// While most peers say that its clock is wrong, a device signs nothing, and makes no author; it
// still reads, and shows merges that others are left to write. When they say so no more, it writes.
func TestWrongClockSignsNothing(t *testing.T) {
	l := newLab(t)
	a, b, c := l.device(), l.device(), l.device()
	a.set("k", "a")
	l.sync()
	a.set("k", "ab")
	b.set("k", "ac")
	c.from(a)
	c.from(b)
	wrong := &ClockError{Ahead: -3 * time.Hour, Off: 2, Answered: 3}
	authors := l.author
	for _, d := range []*device{a, c} {
		d.disk.clock = Clock{Wrong: wrong}
		writes := d.disk.writes
		err := d.Set.Set(t.Context(), d.read("k"), []byte("z"))
		require.ErrorAs(t, err, new(*ClockError))
		require.Equal(t, kind.Conflict, kind.Of(err))
		require.ErrorContains(t, err, "3h0m0s ahead of that of 2 of 3 known peers")
		require.ErrorContains(t, err, "--trust-clock")
		require.ErrorAs(t, d.Renew(t.Context()), new(*ClockError))
		require.NoError(t, d.Acknowledge(t.Context()))
		if d == a {
			d.from(b)
		}
		require.Equal(t, "abc", d.textOf(d.settle("k")))
		require.Equal(t, writes, d.disk.writes)
	}
	require.Equal(t, authors, l.author, "an author was made")
	a.disk.clock = Clock{}
	a.set("k", "abcd")
	l.sync()
	l.requireAll("k", "abcd")
}

// A device that was copied, and whose clock is wrong, opens, reads, and takes its new author when
// the clock is right.
func TestCopiedWithWrongClock(t *testing.T) {
	l := newLab(t)
	a := l.device()
	a.set("k", "a")
	b := l.deviceOn(a.disk.copy())
	a.reopen()
	a.set("k", "ab")
	b.set("k", "ac")
	for at, e := range b.disk.slots {
		a.disk.take(at.key, e, b.disk.content[e.Hash])
	}
	a.disk.clock = Clock{Wrong: &ClockError{Ahead: time.Hour, Off: 2, Answered: 2}}
	_, err := a.Arrived(t.Context(), nil)
	require.ErrorAs(t, err, new(*ClockError))
	a.reopen()
	require.NotEqual(t, "…", a.text("k"))
	a.disk.clock = Clock{}
	l.sync()
	a.settle("k")
	l.sync()
	l.requireAll("k", "abc")
}

// A device whose clock was a year ahead for some writes goes on when it is right: it leaves the
// slots that are bound, under a new author, and what only those had is published again.
func TestBoundSlotsAreLeft(t *testing.T) {
	const year = 365 * 24 * time.Hour
	l := newLab(t)
	var ahead, none time.Duration
	a, b := l.clocked(&ahead), l.clocked(&none)
	a.set("k", "a")
	a.set("old", "o")
	l.sync()
	former, _ := a.Author()
	ahead = year
	a.set("k", "ab")
	a.set("l", "l")
	a.set("m", "m")
	ahead = 0
	l.sync()
	require.Equal(t, "a", b.text("k"), "b takes what is of the future")

	// Nobody has said that the clock is right: it may have gone back, and nothing is done about it.
	require.ErrorContains(t, a.Set.Set(t.Context(), a.read("k"), []byte("abc")), "ahead of this clock")
	now, _ := a.Author()
	require.Equal(t, former, now)

	a.disk.clock = Clock{Right: true}
	b.set("k", "ax")
	a.from(b)
	writes := a.disk.writes
	a.set("k", "abcx")
	require.Equal(t, writes+3, a.disk.writes, "more was published than what others cannot have")
	now, _ = a.Author()
	require.NotEqual(t, former, now)
	l.sync()
	l.requireAll("k", "abcx")
	l.requireAll("l", "l")
	l.requireAll("m", "m")
	l.requireAll("old", "o")
	a.set("l", "ln")
	b.set("old", "op")
	l.sync()
	l.requireAll("l", "ln")
	l.requireAll("old", "op")
	again, _ := a.Author()
	require.Equal(t, now, again)

	l.time += uint64(2 * year.Microseconds()) // what was of the future comes, and changes nothing
	l.sync()
	for _, d := range l.all {
		d.settle("k")
		d.settle("l")
	}
	l.sync()
	l.requireAll("k", "abcx")
	l.requireAll("l", "ln")
}

// A device that dies while it leaves its slots goes on where it was when it is opened again.
func TestDeathWhileLeavingSlots(t *testing.T) {
	for left := 1; ; left++ {
		l := newLab(t)
		var ahead, none time.Duration
		a, b := l.clocked(&ahead), l.clocked(&none)
		a.set("k", "a")
		l.sync()
		ahead = time.Hour
		a.set("k", "ab")
		a.set("l", "l")
		ahead = 0
		a.disk.clock = Clock{Right: true}
		a.disk.left = left
		err := a.Set.Set(t.Context(), a.read("k"), []byte("abc"))
		a.disk.left = 0
		a.reopen()
		if err != nil {
			require.ErrorIs(t, err, errDead)
			a.set("k", "abc")
		}
		l.sync()
		require.Equal(t, "abc", b.text("k"), "death after %d", left)
		require.Equal(t, "l", b.text("l"), "death after %d", left)
		if err == nil {
			require.Greater(t, left, 4)
			return
		}
	}
}

// What a device has seen is bound to a time, too, if it said so while its clock was ahead.
func TestBoundAcknowledgement(t *testing.T) {
	l := newLab(t)
	var ahead, none time.Duration
	a, b := l.clocked(&ahead), l.clocked(&none)
	a.set("k", "a")
	l.sync()
	b.set("k", "ab")
	l.sync()
	ahead = time.Hour
	require.NoError(t, a.Acknowledge(t.Context()))
	ahead = 0
	b.set("l", "l")
	l.sync()
	require.Empty(t, b.Devices())
	a.disk.clock = Clock{Right: true}
	require.NoError(t, a.Acknowledge(t.Context()))
	l.sync()
	require.Len(t, b.Devices(), 1)
	device, _ := a.Device()
	require.Equal(t, device.Incarnation, b.Devices()[0].Incarnation)
}

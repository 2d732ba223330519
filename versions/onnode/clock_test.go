package onnode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/clock"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

// A device whose clock was a year ahead for some writes has others take them when it is right, once
// a person says so.
func TestClockThatWasAhead(t *testing.T) {
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			a := newMachine(t, t.TempDir()).start(true).found(encrypted)
			a.write("k", "a")
			b := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
			eventually(t, "k", "a", b)
			a.ahead = 365 * 24 * time.Hour
			a.restart(false)
			a.write("k", "ab")
			a.write("l", "l")
			a.ahead = 0
			a.restart(true)
			former, _ := a.set.Author()
			err := a.set.Set.Set(t.Context(), a.read("k"), []byte("abc"))
			require.ErrorIs(t, err, replica.ErrFuture)
			a.trust = true
			a.restart(true)
			a.write("k", "abc")
			author, _ := a.set.Author()
			require.NotEqual(t, former, author)
			a.meet(b)
			eventually(t, "k", "abc", a, b)
			eventually(t, "l", "l", a, b)
			b.write("k", "abcd")
			eventually(t, "k", "abcd", a, b)
		})
	}
}

// While its clock is wrong, a device writes nothing and takes no author, and shows what comes.
func TestWrongClockWritesNothing(t *testing.T) {
	a := newMachine(t, t.TempDir()).start(true).found(false)
	a.write("k", "a")
	b := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
	b.set.Close()
	wrong := clockAs(clock.Judgement{Answered: 3, Off: 2, Ahead: time.Hour}, false)
	b.open(Options{Clock: func() versions.Clock { return wrong }})
	eventually(t, "k", "a", b)
	err := b.set.Set.Set(t.Context(), b.read("k"), []byte("ab"))
	require.ErrorAs(t, err, new(*versions.ClockError))
	_, is := b.set.Author()
	require.False(t, is)
	a.write("k", "abc")
	eventually(t, "k", "abc", b)
}

// Two peers of two, or three, stop a device from writing, unless a person insists; one does not.
func TestClockAs(t *testing.T) {
	off := clock.Judgement{Answered: 3, Off: 2, Agree: 1, Ahead: -time.Hour}
	require.Equal(t, versions.Clock{
		Wrong: &versions.ClockError{Ahead: -time.Hour, Off: 2, Answered: 3},
	}, clockAs(off, false))
	require.Equal(t, versions.Clock{Right: true}, clockAs(off, true))
	one := clock.Judgement{Answered: 1, Off: 1, Ahead: time.Hour}
	require.Equal(t, versions.Clock{}, clockAs(one, false))
	agrees := clock.Judgement{Answered: 1, Agree: 1}
	require.Equal(t, versions.Clock{Right: true}, clockAs(agrees, false))
}

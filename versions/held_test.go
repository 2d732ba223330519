package versions

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// pending returns the keys of what is pending.
func (d *device) pending() (keys []string) {
	for it, err := range d.Pending(d.l.t.Context()) {
		require.NoError(d.l.t, err)
		keys = append(keys, string(it.Key))
	}
	return keys
}

// ask has peers asked that hold what holds says.
func (d *device) ask(holds func(it replica.Item) bool) (asked []string) {
	_, err := d.AskHeld(d.l.t.Context(), func(
		_ context.Context, some []replica.Item,
	) (held []bool, _ error) {
		for _, it := range some {
			asked, held = append(asked, string(it.Key)), append(held, holds(it))
		}
		return held, nil
	})
	require.NoError(d.l.t, err)
	return asked
}

// What others hold is not pending any more, and not asked for again, also after a restart as far as
// nothing older is pending.
func TestAskHeld(t *testing.T) {
	l := newLab(t)
	a := l.device()
	require.Empty(t, a.pending())
	require.Empty(t, a.ask(nil))
	for _, key := range []string{"c", "b", "a"} {
		a.set(key, key)
	}
	require.Equal(t, []string{"c", "b", "a"}, a.pending(), "the oldest first")
	require.Equal(t, []string{"c", "b", "a"}, a.ask(func(it replica.Item) bool {
		return string(it.Key) != "b"
	}))
	require.Equal(t, []string{"b"}, a.pending())
	a.set("c", "d")
	none := func(replica.Item) bool { return false }
	every := func(replica.Item) bool { return true }
	require.Equal(t, []string{"b", "c"}, a.ask(none))
	a.reopen()
	require.Equal(t, []string{"b", "a", "c"}, a.ask(none),
		"what is after the oldest is asked for again")
	require.Equal(t, []string{"b", "a", "c"}, a.ask(every))
	require.Empty(t, a.pending())
	a.reopen()
	require.Empty(t, a.ask(none))
	broken := errors.New("no answer")
	a.set("d", "d")
	_, err := a.AskHeld(t.Context(), func(context.Context, []replica.Item) ([]bool, error) {
		return nil, broken
	})
	require.ErrorIs(t, err, broken)
	require.Equal(t, []string{"d"}, a.pending())
}

// What is written while peers are asked, or by a clock that has gone back, is pending.
func TestPendingWhenTheClockGoesBack(t *testing.T) {
	l := newLab(t)
	a := l.device()
	every := func(replica.Item) bool { return true }
	a.set("a", "a")
	a.ask(every)
	l.time -= 3_600_000_000
	a.set("b", "b")
	require.Equal(t, []string{"b"}, a.pending()[:1])
	a.reopen()
	require.Equal(t, "b", a.pending()[0])
	l.time += 3_600_000_000
	written := false
	a.ask(func(replica.Item) bool {
		if !written {
			written = true
			l.time -= 3_600_000_000
			a.set("c", "c")
		}
		return true
	})
	require.Equal(t, "c", a.pending()[0])
}

// However much was written, it is asked for in portions, and a batch's manifest with it.
func TestAskHeldOfMuch(t *testing.T) {
	l := newLab(t)
	a := l.device()
	var edits []Edit
	for i := range askedAtOnce + 10 {
		src := a.SourceOf([]byte("x"))
		edits = append(edits, Edit{Item: a.read(fmt.Sprintf("%04d", i)), Content: &src})
	}
	require.NoError(t, a.Write(t.Context(), edits...))
	var sizes []int
	pending, err := a.AskHeld(t.Context(), func(
		_ context.Context, some []replica.Item,
	) ([]bool, error) {
		sizes = append(sizes, len(some))
		return make([]bool, len(some)), nil
	})
	require.NoError(t, err)
	require.Equal(t, []int{askedAtOnce, 11}, sizes)
	require.Equal(t, askedAtOnce+11, pending)
	require.Len(t, a.pending(), askedAtOnce+10)
}

// Edits that are written each by itself are no batch.
func TestWriteEach(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	one, two := a.SourceOf([]byte("1")), a.SourceOf([]byte("2"))
	require.NoError(t, a.WriteEach(t.Context(),
		Edit{Item: a.read("one"), Content: &one}, Edit{Item: a.read("two"), Content: &two}))
	for at, e := range a.disk.slots {
		if at.key == "one" {
			b.disk.take(at.key, e, a.disk.content[e.Hash])
		}
	}
	require.Equal(t, "1", b.text("one"))
	require.Zero(t, b.read("one").Pending)
	require.Len(t, a.disk.slots, 2)
}

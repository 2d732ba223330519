package contacts

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/replica"
)

// Known peers have places that newcomers cannot take, and newcomers do not all run at once.
func TestPlaces(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s, id := NewSessions(), replica.ID{1}
		var leave []func()
		take := func(is holders.Standing) bool {
			end, ok := s.TryPlace(id, is)
			if ok {
				leave = append(leave, end)
			}
			return ok
		}
		require.True(t, take(holders.Newcomer))
		require.False(t, take(holders.Newcomer), "what the first brings, the second need not")
		require.True(t, take(holders.Known), "a known peer does not wait for a newcomer")
		require.False(t, take(holders.Known))
		time.Sleep(aside)
		require.True(t, take(holders.Newcomer))
		require.True(t, take(holders.Known))
		for range 10 {
			time.Sleep(aside)
			take(holders.Newcomer)
			take(holders.Known)
		}
		require.Equal(t, mostPlaces, s.places[id].taken)
		require.Len(t, leave, mostPlaces[holders.Newcomer]+mostPlaces[holders.Known])

		waits := make(chan func(), 1)
		go func() {
			end, err := s.Place(context.Background(), id, holders.Newcomer)
			require.NoError(t, err)
			waits <- end
		}()
		time.Sleep(time.Hour)
		require.Empty(t, waits)
		for _, end := range leave {
			end()
		}
		(<-waits)()
		require.Empty(t, s.places)
		ctx, cancel := context.WithCancel(context.Background())
		end, ok := s.TryPlace(id, holders.Known)
		require.True(t, ok)
		cancel()
		_, err := s.Place(ctx, id, holders.Known)
		require.ErrorIs(t, err, context.Canceled)
		end()
	})
}

// Known peers whose sessions last do not keep others from theirs.
func TestLongSessionsGiveTheirPlace(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s, id := NewSessions(), replica.ID{1}
		now := func() (p places) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.places[id] != nil {
				p = *s.places[id]
			}
			return p
		}
		var leave []func()
		for len(leave) < mostLong+mostPlaces[holders.Known] {
			time.Sleep(aside)
			if end, ok := s.TryPlace(id, holders.Known); ok {
				leave = append(leave, end)
			} else {
				require.Equal(t, mostPlaces[holders.Known], now().taken[holders.Known])
			}
		}
		time.Sleep(time.Hour)
		require.Equal(t, mostPlaces[holders.Known], now().taken[holders.Known])
		require.Equal(t, mostLong, now().long)
		_, ok := s.TryPlace(id, holders.Known)
		require.False(t, ok)
		for _, end := range leave {
			end()
		}
		require.Zero(t, now())
	})
}

// Of two sessions of one replica between two nodes, exactly one goes on, whichever began first.
func TestSessionsDoNotMeet(t *testing.T) {
	id := replica.ID{1}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a, b := NewSessions(), NewSessions() // of the nodes "a" and "b"
	endA, err := a.Begin(ctx, id, "b")
	require.NoError(t, err)
	endB, err := b.Begin(ctx, id, "a")
	require.NoError(t, err)
	_, ok := a.Accept(id, "b", "a")
	require.False(t, ok, "the one with the smaller id goes on with its own")
	endAtB, ok := b.Accept(id, "a", "b")
	require.True(t, ok)
	endB() // refused by a
	_, ok = b.Accept(id, "a", "b")
	require.False(t, ok, "one at a time")
	began := make(chan func())
	go func() {
		end, err := b.Begin(ctx, id, "a")
		require.NoError(t, err)
		began <- end
	}()
	select {
	case <-began:
		t.Fatal("b began while a's session ran")
	case <-time.After(10 * time.Millisecond):
	}
	endA()
	endAtB()
	(<-began)()

	end1, err := a.Begin(ctx, id, "c")
	require.NoError(t, err)
	end2, err := a.Begin(ctx, id, "d")
	require.NoError(t, err, "another peer does not wait")
	endE, ok := a.Accept(id, "e", "a")
	require.True(t, ok, "others may begin theirs")
	for _, end := range []func(){end1, end2, endE} {
		end()
	}
	require.Empty(t, a.running)
	require.Empty(t, a.places)
	require.Empty(t, b.running)
}

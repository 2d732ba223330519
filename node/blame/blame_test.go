package blame

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/replica"
)

func memory(t *testing.T) kv.Store {
	s, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func listIn(t *testing.T, s kv.Store, now *time.Time) *List {
	b, err := Load(t.Context(), s, func() time.Time { return *now }, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return b
}

func list(t *testing.T, now *time.Time) *List { return listIn(t, memory(t), now) }

func throwaway(i int) peer.ID { return peer.ID(fmt.Sprintf("crowd %05d", i)) }

// Who sent wrong content is asked last for a day, also after a restart; of crowds the last ones are
// remembered, in memory and in the store.
func TestLiesAreKept(t *testing.T) {
	testkit.OneGoroutine(t)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := memory(t)
	b := listIn(t, s, &now)
	require.False(t, b.Lied("liar"))
	b.Lie(t.Context(), "liar", errors.New("it lied"))
	b = listIn(t, s, &now)
	require.True(t, b.Lied("liar"))
	require.False(t, b.Lied("other"))
	require.False(t, b.Refused("liar"), "it may be of use for something else")
	now = now.Add(lieMemory)
	require.False(t, b.Lied("liar"))
	now = now.Add(time.Second)
	for i := range maxBlamed + 10 {
		now = now.Add(time.Millisecond)
		b.Lie(t.Context(), throwaway(i), errors.New("it lied"))
	}
	b = listIn(t, s, &now)
	require.Len(t, b.lies, maxBlamed)
	require.True(t, b.Lied(throwaway(maxBlamed+9)))
	require.NotContains(t, b.lies, peer.ID("liar"))
}

// Blame of throwaway identities is bounded, and that of the last ones stays.
func TestBlameIsBounded(t *testing.T) {
	testkit.OneGoroutine(t)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	b := list(t, &now)
	for i := range maxBlamed + 100 {
		now = now.Add(time.Millisecond)
		b.Rubbish(throwaway(i), context.Canceled)
	}
	require.LessOrEqual(t, len(b.rubbish), maxBlamed)
	require.True(t, b.Refused(throwaway(maxBlamed+99)))
}

// Offences are forgiven once there was a session of the same replica, and some time has passed; of
// crowds only the last ones are noted.
func TestOffences(t *testing.T) {
	testkit.OneGoroutine(t)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	b := list(t, &now)
	p, one, other := peer.ID("p"), replica.ID{1}, replica.ID{2}
	require.Equal(t, 1, b.Offended(p, one))
	require.Equal(t, 1, b.Offended(p, other))
	b.Agreed(p, other)
	now = now.Add(RefusedFor)
	require.Equal(t, 2, b.Offended(p, one), "it has not heard")
	require.Equal(t, 1, b.Offended(p, other))
	b.Agreed(p, one)
	require.Equal(t, 1, b.Offended(p, one), "it has, and the first is long ago")
	b.Agreed(p, one)
	require.Equal(t, 2, b.Offended(p, one), "too soon")

	now = now.Add(time.Second)
	for i := range 2 * maxBlamed {
		b.Offended(throwaway(i), one)
	}
	require.Len(t, b.offences, maxBlamed)
	require.Equal(t, 1, b.Offended(p, one), "pushed out")
}

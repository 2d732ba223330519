package invites

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// A service that New has not made refuses, and a node has one only.
func TestWithoutANode(t *testing.T) {
	_, err := New(nil)
	require.ErrorContains(t, err, "no node")
	ctx := t.Context()
	for _, s := range []*Service{nil, {}} {
		_, _, err := s.Make(ctx, replica.Replica{}, Invite{})
		require.ErrorIs(t, err, errNone)
		_, err = s.List(ctx)
		require.ErrorIs(t, err, errNone)
		require.ErrorIs(t, s.Revoke(ctx, [32]byte{}), errNone)
		_, err = s.Join(ctx, &ticket.Invite{}, "", nil, nil)
		require.ErrorIs(t, err, errNone)
		_, err = s.Pending(ctx)
		require.ErrorIs(t, err, errNone)
		require.ErrorIs(t, s.DropPending(ctx, [32]byte{}), errNone)
	}
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := offline(t, &now)
	_, err = New(s.n)
	require.ErrorContains(t, err, "already")
}

// Somebody who sends an invite a byte at a time is let go when the time for a request is over.
func TestDrippingRequestEnds(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := offline(t, &now)
	testkit.Bubble(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		began, done := time.Now(), make(chan struct{})
		go func() {
			defer close(done)
			_, err := ours.Write([]byte{version})
			for err == nil {
				time.Sleep(time.Second)
				_, err = ours.Write([]byte{0})
			}
		}()
		s.serve(t.Context(), oneSide{theirs, "joiner"})
		require.Equal(t, requestTime, time.Since(began))
		require.LessOrEqual(t, time.Since(began), 10*time.Second)
		require.NoError(t, ours.Close())
		<-done
	})
}

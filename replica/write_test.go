package replica

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Who writes to an encrypted replica as if it were none is refused, and nothing of it is stored.
func TestNothingIsWrittenInPlain(t *testing.T) {
	s := newStore(t, newClock())
	r, err := s.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	_, err = s.Write(bg, r.ID, testKey(1), []Change{change("diary/2026", "v")})
	require.ErrorIs(t, err, ErrEncrypted)
	counts, err := s.Counts(bg, r.ID)
	require.NoError(t, err)
	require.Zero(t, counts.Entries)
	plainWrite(t, s, r.ID, testKey(1), "diary/2026", "v")
}

// A key that is none signs nothing, and names nobody.
func TestZeroKeyRefuses(t *testing.T) {
	var none SecretKey
	require.Zero(t, none.Seed())
	require.Zero(t, none.Author())
	require.Zero(t, none.Sign([]byte("m")))
	require.False(t, none.Author().Verify([]byte("m"), none.Sign([]byte("m"))))
	s := newStore(t, newClock())
	r, err := s.Create(bg, "letters")
	require.NoError(t, err)
	_, err = s.Write(bg, r.ID, none, []Change{change("k", "v")})
	require.Error(t, err)
	counts, err := s.Counts(bg, r.ID)
	require.NoError(t, err)
	require.Zero(t, counts.Entries)
}

// Who waits for events learns that nothing comes any more, after what has come.
func TestSubscriptionsEnd(t *testing.T) {
	s := newStore(t, newClock())
	r, err := s.Create(bg, "letters")
	require.NoError(t, err)
	closed, open := s.Subscribe(r.ID), s.SubscribeAll()
	ended := make(chan error)
	go func() {
		_, _, err := closed.Next(bg)
		ended <- err
	}()
	closed.Close()
	closed.Close()
	require.ErrorIs(t, <-ended, ErrClosed)
	write(t, s, r.ID, testKey(1), "k", "v")
	s.Close()
	events, _, err := open.Next(bg)
	require.NoError(t, err)
	require.Len(t, events, 1)
	_, _, err = open.Next(bg)
	require.ErrorIs(t, err, ErrClosed)
	open.Close()
	_, _, err = s.Subscribe(r.ID).Next(bg)
	require.ErrorIs(t, err, ErrClosed)
}

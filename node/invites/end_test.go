package invites

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// What an invite lets write ends at one time for all who use it, however late; the invite is good
// no longer, and what it has given is not given again after that: not the read key either, which
// may be another by then.
func TestAnInviteThatEndsWhatItGives(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := offline(t, &now)
	ctx := t.Context()
	ends := now.Add(7 * 24 * time.Hour)
	r, err := s.n.CreateReplica(ctx, "r", true)
	require.NoError(t, err)
	for name, expires := range map[string]time.Time{
		"without an end": {}, "for longer": ends.Add(time.Hour), "for an hour": now.Add(time.Hour),
	} {
		v, _, err := s.Make(ctx, r, Invite{Mode: replica.Write, Until: ends, Expires: expires})
		require.NoError(t, err)
		require.False(t, v.Expires.IsZero() || v.Expires.After(ends), name)
	}
	for _, wrong := range []Invite{
		{Mode: replica.Write, Until: now}, {Mode: replica.Read, Until: ends},
		{Mode: replica.Sync, Until: ends},
	} {
		_, _, err := s.Make(ctx, r, wrong)
		require.Error(t, err)
	}
	_, tk, err := s.Make(ctx, r, Invite{Mode: replica.Write, Prefix: []byte("p/"), Until: ends})
	require.NoError(t, err)
	early, late := replica.NewSecretKey(), replica.NewSecretKey()
	_, err = s.redeem(ctx, tk.Secret, early.Author(), "early", nil)
	require.NoError(t, err)
	now = ends.Add(-time.Minute)
	given, err := s.redeem(ctx, tk.Secret, late.Author(), "late", nil)
	require.NoError(t, err)
	require.NotZero(t, given.ReadKey.Epoch)
	grants, err := s.n.Replicas().Grants(ctx, r.ID)
	require.NoError(t, err)
	require.Len(t, grants, 2)
	for _, g := range grants {
		require.EqualValues(t, ends.UnixMicro(), g.NotAfter)
	}
	now = ends.Add(time.Second)
	_, err = s.n.Rotate(ctx, r.ID)
	require.NoError(t, err)
	for _, author := range []replica.SecretKey{early, late, replica.NewSecretKey()} {
		_, err = s.redeem(ctx, tk.Secret, author.Author(), "again", nil)
		requireStatus(t, Expired, err)
	}
	// One who has used an invite whose grant has no end is given the same again, also when it is over.
	_, tk, err = s.Make(ctx, r, Invite{Mode: replica.Write, Expires: now.Add(time.Minute)})
	require.NoError(t, err)
	_, err = s.redeem(ctx, tk.Secret, early.Author(), "early", nil)
	require.NoError(t, err)
	now = now.Add(time.Hour)
	_, err = s.redeem(ctx, tk.Secret, early.Author(), "early", nil)
	require.NoError(t, err)
}

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

// A clock that goes forward and back by hours while the node runs lets nobody in again who was
// revoked, and makes no invite last longer.
func TestInvitesWhenTheClockSteps(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := offline(t, &now)
	ctx := t.Context()
	r, err := s.n.CreateReplica(ctx, "r", true)
	require.NoError(t, err)
	noon := now
	for _, mode := range []replica.Capability{replica.Read, replica.Write} {
		for _, x := range []struct{ taken, revoked time.Duration }{ // what the clock says, after noon
			{5 * time.Hour, 0}, {0, -5 * time.Hour}, {-5 * time.Hour, 0}, {0, 5 * time.Hour},
		} {
			now = noon
			_, tk, err := s.Make(ctx, r, Invite{Mode: mode, Expires: noon.Add(10 * time.Hour)})
			require.NoError(t, err)
			author := replica.NewSecretKey().Author()
			now = noon.Add(x.taken)
			given, err := s.redeem(ctx, tk.Secret, author, "node", nil)
			require.NoError(t, err)
			require.NotZero(t, given.ReadKey.Epoch)
			now = noon.Add(x.revoked)
			_, err = s.n.Revoke(ctx, r.ID, author, 0)
			require.NoError(t, err)
			for _, later := range []time.Duration{0, 6 * time.Hour} {
				now = noon.Add(later)
				given, err = s.redeem(ctx, tk.Secret, author, "node", nil)
				require.NoError(t, err)
				require.Zero(t, given.ReadKey.Epoch, "%s, %v", mode, x)
			}
			now = noon.Add(10 * time.Hour)
			_, err = s.redeem(ctx, tk.Secret, replica.NewSecretKey().Author(), "node", nil)
			requireStatus(t, Expired, err)
		}
	}
}

package node_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/doctor"
	"github.com/skerry-sync/skerry/node/doctor/report"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

// A clock that is an hour off is told to the person, as are other things that are not well.
func TestDiagnoseNetwork(t *testing.T) {
	a, _ := start(t, t.TempDir())
	hourAgo := func() time.Time { return time.Now().Add(-time.Hour) }
	late, _ := startConfigured(t, node.Config{Dir: t.TempDir(), Now: hourAgo},
		"/ip4/127.0.0.1/tcp/0")
	ctx := t.Context()
	find := func(n *node.Node, about string) report.Finding {
		all, err := doctor.Network(ctx, n)
		require.NoError(t, err)
		for _, f := range all {
			if f.About == about {
				return f
			}
		}
		t.Fatalf("nothing about %s", about)
		return report.Finding{}
	}
	require.Equal(t, report.Warn, find(a, "clock").Health, "nobody to compare with")
	require.Equal(t, report.Warn, find(a, "peers").Health)
	r, err := a.ReplicaStore().Create(ctx, "r")
	require.NoError(t, err)
	tk, err := a.Ticket(ctx, r, replica.Write)
	require.NoError(t, err)
	_, err = late.Join(ctx, tk, "")
	require.NoError(t, err, "sessions do not depend on the clock")
	f := find(late, "clock")
	require.Equal(t, report.Bad, f.Health)
	require.True(t, strings.HasPrefix(f.Text, "1h0m0s behind"), f.Text)
	require.NotEmpty(t, f.Advice)
	f = find(a, "clock")
	require.Equal(t, report.Bad, f.Health)
	require.True(t, strings.HasPrefix(f.Text, "1h0m0s ahead"), f.Text)
	require.Equal(t, report.Good, find(a, "peers").Health)
	require.Equal(t, report.Good, find(a, "addresses").Health)
	require.Equal(t, "not used", find(a, "hash table").Text)

	offline, err := node.Open(ctx, node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, offline.Close()) }()
	_, err = doctor.Network(ctx, offline)
	require.ErrorIs(t, err, link.ErrOffline)
}

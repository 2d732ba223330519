package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// A statement of a kind that this program does not know keeps none of the others out, and counts as
// one of those of which a peer may not send many alone.
func TestStatementsOfALaterVersion(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := offline(t, &now)
	r, err := n.Replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	g := replica.Grant{Replica: r.ID, Author: replica.NewSecretKey().Author(), NotAfter: replica.Forever}
	g.Sign(r.Secret)
	later := []byte("skerry wish 1\nwhatever it says")
	out, err := n.insertStatements(t.Context(), r.ID, [][]byte{later, g.Bytes(), later})
	require.NoError(t, err)
	require.Equal(t, replica.Stated{Added: 1, Refused: 2}, out)
	var w worthless
	require.NoError(t, w.add(out, 2))
	require.Error(t, w.add(replica.Stated{Refused: 1}, 2))
	_, err = n.insertStatements(t.Context(), r.ID, [][]byte{g.Bytes()[:40]})
	require.Error(t, err, "what is malformed is no later version")
}

// A peer that has not heard of a revocation may send what a replica keeps of some delegates in good
// faith, and a replica keeps as much again with each epoch.
func TestMoreMayBeRefusedWithEpochs(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := offline(t, &now)
	r, err := n.Replicas.CreateEncrypted(t.Context(), "r")
	require.NoError(t, err)
	most := func() int {
		most, err := n.mostRefused(t.Context(), r.ID)
		require.NoError(t, err)
		return most
	}
	before := most()
	for range 3 {
		_, err = n.Replicas.Rotate(t.Context(), r.ID)
		require.NoError(t, err)
	}
	require.GreaterOrEqual(t, most(), before+3*maxRefused)
	_, err = n.Replicas.Join(t.Context(), replica.Replica{ID: replica.NewSecretKey().Replica(),
		Name: "far", Capability: replica.Sync, Least: replica.EpochID{Number: 1 << 31}})
	require.NoError(t, err)
	far, err := n.Replicas.Resolve(t.Context(), "far")
	require.NoError(t, err)
	most64, err := n.mostRefused(t.Context(), far.ID)
	require.NoError(t, err)
	require.Equal(t, 65*maxRefused, most64, "whatever a ticket says")
}

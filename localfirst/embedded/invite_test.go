package embedded

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/replica"
)

// open opens the same collection in a namespace.
func (d *device) openIn(ns *localfirst.Namespace) *localfirst.MemoryValueBackend[string] {
	app := localfirst.NewMemoryValueBackend(equal)
	cfg := d.cfg
	cfg.Backend = app
	_, err := localfirst.OpenCollection(ns, "shared", cfg)
	require.NoError(d.t, err)
	return app
}

// Whoever is approved becomes a member; the two share values then, both ways.
func TestInvite(t *testing.T) {
	ctx := t.Context()
	alice, bob := newDevice(t, "alice").start(), newDevice(t, "bob").start()
	require.NotEqual(t, alice.ns.ID(), bob.ns.ID())
	shared, err := alice.engine.CreateSharedNamespace(ctx)
	require.NoError(t, err)
	values := alice.openIn(shared)
	require.NoError(t, values.Set(ctx, "k", "from alice"))
	alice.sync()

	invite, err := shared.CreateInvite(ctx, localfirst.NamespaceInviteOptions{})
	require.NoError(t, err)
	uri, err := localfirst.InviteURI(invite)
	require.NoError(t, err)
	require.NotContains(t, uri, shared.ID().String())
	scanned, err := localfirst.ParseInviteURI(uri)
	require.NoError(t, err)
	require.Equal(t, invite, scanned)
	require.NoError(t, bob.engine.SubmitJoinRequest(ctx, scanned,
		localfirst.NamespaceJoinRequestOptions{Name: "Bob's laptop"}))
	_, err = bob.engine.CheckJoin(ctx, scanned)
	require.ErrorIs(t, err, localfirst.ErrNotAnswered)
	_, err = bob.engine.JoinNamespace(ctx, shared.ID())
	require.ErrorIs(t, err, localfirst.ErrNoNamespace)

	requests, err := shared.JoinRequests(ctx)
	require.NoError(t, err)
	require.Len(t, requests, 1)
	require.Equal(t, "Bob's laptop", requests[0].Name)
	require.Equal(t, localfirst.JoinPending, requests[0].Answer)
	require.ErrorIs(t, shared.ApproveJoinRequest(ctx, invite,
		localfirst.JoinRequest{Author: replica.AuthorID{1}}), localfirst.ErrNoRequest)
	require.NoError(t, shared.ApproveJoinRequest(ctx, invite, requests[0]))
	id, err := bob.engine.CheckJoin(ctx, scanned)
	require.NoError(t, err)
	require.Equal(t, shared.ID(), id)
	joins, err := bob.engine.Joins(ctx)
	require.NoError(t, err)
	require.Empty(t, joins)

	bobs, err := bob.engine.JoinNamespace(ctx, id)
	require.NoError(t, err)
	theirs := bob.openIn(bobs)
	theirs.Want("k")
	bob.sync()
	v, err := theirs.Get(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, "from alice", v)
	require.NoError(t, theirs.Set(ctx, "k", "from alice and bob"))
	bob.sync()
	alice.sync()
	v, err = values.Get(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, "from alice and bob", v)
	requests, err = shared.JoinRequests(ctx)
	require.NoError(t, err)
	require.Equal(t, localfirst.JoinApproved, requests[0].Answer)
	require.NoError(t, shared.RevokeInvite(ctx, invite))
	requests, err = shared.JoinRequests(ctx)
	require.NoError(t, err)
	require.Empty(t, requests)
}

// A request and its answer lie at a node that cannot read either, and the two are never online
// together.
func TestInviteThroughAHost(t *testing.T) {
	ctx := t.Context()
	host := newDevice(t, "host").start()
	alice, bob := newDevice(t, "alice").start(), newDevice(t, "bob").start()
	shared, err := alice.engine.CreateSharedNamespace(ctx)
	require.NoError(t, err)
	id := shared.ID()
	invite, err := shared.CreateInvite(ctx, localfirst.NamespaceInviteOptions{})
	require.NoError(t, err)
	invites, err := shared.Invites(ctx)
	require.NoError(t, err)
	require.Equal(t, []localfirst.NamespaceInvite{invite}, invites)
	rs, err := alice.n.Replicas().List(ctx)
	require.NoError(t, err)
	for _, r := range rs { // the host keeps all
		tk, err := alice.n.Ticket(ctx, r, replica.Sync)
		require.NoError(t, err)
		_, err = host.n.Join(ctx, tk, "")
		require.NoError(t, err)
		require.NoError(t, alice.n.Remember(ctx, []replica.ID{r.ID}, peersOf(host)))
	}
	for _, a := range host.n.AllAddrs() {
		invite.Addrs = append(invite.Addrs, a.String()+"/p2p/"+host.n.ID().String())
	}
	alice.stop()
	require.NoError(t, bob.engine.SubmitJoinRequest(ctx, invite,
		localfirst.NamespaceJoinRequestOptions{}))
	bob.stop()

	alice.start()
	shared, err = alice.engine.JoinNamespace(ctx, id)
	require.NoError(t, err)
	requests, err := shared.JoinRequests(ctx)
	require.NoError(t, err)
	require.Len(t, requests, 1)
	require.NoError(t, shared.ApproveJoinRequest(ctx, invite, requests[0]))
	alice.sync()
	alice.stop()

	bob.start()
	joins, err := bob.engine.Joins(ctx)
	require.NoError(t, err)
	require.Len(t, joins, 1)
	got, err := bob.engine.CheckJoin(ctx, joins[0])
	require.NoError(t, err)
	require.Equal(t, id, got)
}

// Whoever has an invite can write on its board. That lets nobody answer for those who made it: who
// asks to join would give another's namespace what is meant for theirs.
func TestOnlyTheInviterAnswers(t *testing.T) {
	ctx := t.Context()
	alice, bob := newDevice(t, "alice").start(), newDevice(t, "bob").start()
	mallory := newDevice(t, "mallory").start()
	shared, err := alice.engine.CreateSharedNamespace(ctx)
	require.NoError(t, err)
	other, err := mallory.engine.CreateSharedNamespace(ctx)
	require.NoError(t, err)
	invite, err := shared.CreateInvite(ctx, localfirst.NamespaceInviteOptions{})
	require.NoError(t, err)
	require.NoError(t, bob.engine.SubmitJoinRequest(ctx, invite,
		localfirst.NamespaceJoinRequestOptions{Name: "Bob"}))
	requests, err := shared.JoinRequests(ctx)
	require.NoError(t, err)
	require.Len(t, requests, 1)

	require.ErrorIs(t, other.ApproveJoinRequest(ctx, invite, requests[0]), localfirst.ErrNotInviter)
	require.ErrorIs(t, other.DenyJoinRequest(ctx, invite, requests[0]), localfirst.ErrNotInviter)
	forged := invite
	forged.By, err = mallory.n.Authors().Default(ctx)
	require.NoError(t, err)
	require.NoError(t, other.DenyJoinRequest(ctx, forged, requests[0]))
	_, err = bob.engine.CheckJoin(ctx, invite)
	require.ErrorIs(t, err, localfirst.ErrNotAnswered)
	require.NoError(t, other.ApproveJoinRequest(ctx, forged, requests[0]))
	_, err = bob.engine.CheckJoin(ctx, invite)
	require.ErrorIs(t, err, localfirst.ErrNotAnswered)
	requests, err = shared.JoinRequests(ctx)
	require.NoError(t, err)
	require.Equal(t, localfirst.JoinPending, requests[0].Answer)

	require.NoError(t, shared.ApproveJoinRequest(ctx, invite, requests[0]))
	id, err := bob.engine.CheckJoin(ctx, invite)
	require.NoError(t, err)
	require.Equal(t, shared.ID(), id)
}

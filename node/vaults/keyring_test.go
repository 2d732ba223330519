package vaults_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/node/vaults"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/vault"
)

// An app on another device goes through all steps over the network, without ever
// having the key: it learns who the person is, syncs the vault by a ticket to read, opens the
// catalogue and joins the projects.
func TestAppOverTheNetwork(t *testing.T) {
	home, _ := start(t, t.TempDir())
	app, _ := start(t, t.TempDir())
	ctx := t.Context()
	const password = "pass"
	me, err := home.Vaults.Keyring().Add(ctx, vault.NewIdentity{Password: password})
	require.NoError(t, err)
	keys, err := home.Vaults.Keyring().Keys(ctx, me.ID, password)
	require.NoError(t, err)
	_, err = home.Vaults.OpenOwn(ctx, me, keys, nil)
	require.NoError(t, err)
	r, err := home.CreateReplica(ctx, "photos", true)
	require.NoError(t, err)

	at := infoOf(t, home)[0]
	open := func(decide func(asked vault.Asked)) (vaults.Vault, error) {
		return app.Vaults.Ask(
			ctx,
			vaults.Request{At: &at, Application: "example.org", Asked: decide},
		)
	}
	_, err = open(
		func(asked vault.Asked) { require.NoError(t, home.Vaults.Keyring().Deny(ctx, asked.Code)) },
	)
	require.ErrorIs(t, err, vault.ErrDenied)
	_, err = app.Vaults.Of(ctx, "")
	require.ErrorIs(t, err, vaults.ErrNone)

	v, err := open(func(asked vault.Asked) {
		all, err := home.Vaults.Keyring().Requests(ctx)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, app.ID().String(), all[0].Peer, "the node says who asks, not the app")
		require.Equal(t, "example.org", all[0].Application)
		require.NoError(t, home.Vaults.Keyring().Approve(ctx, asked.Code, identity.ID{}, password))
	})
	require.NoError(t, err)
	require.Equal(t, me, v.Identity)
	require.False(t, v.Own())
	require.Equal(t, replica.Read, v.Replica.Capability)
	c := settled(t, app, 1)
	require.Equal(t, "photos", c.Projects[0].Name)
	require.Equal(t, replica.Read, c.Projects[0].Restore)
	joined, err := app.Vaults.Join(ctx, &v, &c.Projects[0].Project, "")
	require.NoError(t, err)
	require.Equal(t, r.ID, joined.Replica.ID)
	require.Equal(t, replica.Read, joined.Replica.Capability)

	// It cannot write the vault, and has not what could.
	_, err = app.Vaults.Add(ctx, &v, joined.Replica, "")
	require.ErrorIs(t, err, vaults.ErrNotOwn)
	p, err := app.Replicas().Plain(ctx, v.Replica.ID)
	require.NoError(t, err)
	_, err = app.ReplicaOf(v.Replica.ID).Set(ctx, []byte("x"), []byte("y"))
	var no *replica.NotAllowedError
	require.ErrorAs(t, err, &no)
	it, err := p.LatestOf(ctx, vault.RestoreKeyOf(r.ID))
	require.NoError(t, err, "what devices restore from is there, and closed")
	sealed, err := app.OpenPlain(ctx, p, &it.Entry)
	require.NoError(t, err)
	b := make([]byte, sealed.Size())
	_, err = sealed.ReadAt(b, 0)
	require.NoError(t, err)
	_, err = vault.OpenRestore(vault.RestoreKey{}, it.Key, b)
	require.ErrorIs(t, err, vault.ErrSealed)

	// What is for the person is not for apps.
	_, err = app.Vaults.RemoteKeyring(at).Export(ctx, me.ID, password, vault.Mnemonic)
	require.ErrorIs(t, err, vault.ErrNotForApps)
	require.ErrorIs(
		t,
		app.Vaults.RemoteKeyring(at).Approve(ctx, "x", me.ID, password),
		vault.ErrNotForApps,
	)

	// Taken back: the vault's read key changes, and what is listed from then on is not for the app.
	own, err := home.Vaults.Of(ctx, "")
	require.NoError(t, err)
	_, err = home.Rotate(ctx, own.Replica.ID)
	require.NoError(t, err)
	_, err = home.CreateReplica(ctx, "later", false)
	require.NoError(t, err)
	require.Equal(t, []string{"later", "photos"}, names(catalogue(t, home)))
	eventually(t, "the app sees that there is more, and not what", func() bool {
		c := catalogue(t, app)
		return len(c.Faults) == 1 && len(c.Projects) == 1
	})

	// An app that gives up does not keep the request alive.
	cut, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = app.Vaults.Ask(cut, vaults.Request{At: &at, Application: "example.org"})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// A program on the keyring's own machine, with its own node.
func TestAppAtHome(t *testing.T) {
	home, _ := start(t, t.TempDir())
	ctx := t.Context()
	_, err := home.Vaults.Ask(ctx, vaults.Request{Application: "example.org"})
	require.ErrorIs(t, err, vault.ErrNoIdentity)
	me, err := home.Vaults.Keyring().Add(ctx, vault.NewIdentity{Password: "p"})
	require.NoError(t, err)
	keys, err := home.Vaults.Keyring().Keys(ctx, me.ID, "p")
	require.NoError(t, err)
	own, err := home.Vaults.OpenOwn(ctx, me, keys, nil)
	require.NoError(t, err)
	v, err := home.Vaults.Ask(
		ctx,
		vaults.Request{Application: "example.org", Identity: me.ID, Asked: func(asked vault.Asked) {
			require.NoError(t, home.Vaults.Keyring().Approve(ctx, asked.Code, identity.ID{}, "p"))
		}},
	)
	require.NoError(t, err)
	require.Equal(t, own.Replica.ID, v.Replica.ID)
	require.True(t, v.Own(), "this node knows more than an app")
}

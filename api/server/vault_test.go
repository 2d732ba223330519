package server

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/vaults"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/vault"
)

// An app on the same machine goes through the steps over the node's API, and can
// do nothing else with the keyring; which here is one that another process could serve.
func TestAppOverTheAPI(t *testing.T) {
	ctx := t.Context()
	socket := filepath.Join(t.TempDir(), "k.sock")
	l, err := ListenKeyring(vault.NewLocal(t.TempDir(), nil), socket, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	_, err = ListenKeyring(vault.NewLocal(t.TempDir(), nil), socket, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "already")

	n, err := skerry.Open(
		ctx, node.Config{Dir: t.TempDir()}, vault.Remote{Call: api.DialKeyring(l.Path)},
	)
	require.NoError(t, err)
	c, stop := Local(New(n, "test"))
	defer func() { require.NoError(t, stop()); require.NoError(t, n.Close()) }()
	k := vault.Remote{Call: c.CallKeyring}
	_, err = k.Ask(
		ctx, vault.App{}, vault.Ask{Application: "example.org", Challenge: make([]byte, 32)},
	)
	require.ErrorIs(t, err, vault.ErrNoIdentity)
	me, err := c.IdentityAdd(ctx, api.AddIdentityRequest{Kind: "passkey", Password: "p"})
	require.NoError(t, err)
	v, err := c.VaultInit(ctx, api.OpenVaultRequest{Password: "p"})
	require.NoError(t, err)
	require.Equal(t, me.Identity, v.Identity)
	made, err := c.ReplicaNew(ctx, api.NewReplicaRequest{Name: "photos", Encrypted: true})
	require.NoError(t, err)

	ch := vault.Challenge{Ask: vault.Ask{Application: "example.org", Challenge: make([]byte, 32)}}
	ch.Ask.Challenge[0] = 1
	asked, err := k.Ask(ctx, vault.App{Peer: "somebody else"}, ch.Ask) // 2
	require.NoError(t, err)
	require.Equal(t, ch.Ask.Code(vault.App{}), asked.Code, "an app cannot say who it is")
	all, err := c.VaultRequests(ctx)
	require.NoError(t, err)
	require.Len(t, all, 1)
	_, err = c.VaultApprove(ctx, api.DecideRequest{Request: asked.Code, Password: "wrong"})
	require.Equal(t, api.NotAllowed, api.AsError(err).Kind)
	_, err = c.VaultApprove(ctx, api.DecideRequest{Request: asked.Code, Password: "p"})
	require.NoError(t, err)
	a, err := k.Wait(ctx, vault.App{}, asked.Request)
	require.NoError(t, err)
	require.NoError(t, ch.Check(&a, time.Now())) // 1
	require.Equal(t, me.Identity, a.Identity)
	access, err := k.Access(ctx, vault.App{}, a.Session) // 3, 4
	require.NoError(t, err)
	require.Equal(t, v.ReplicaID, access.Replica)
	require.Empty(t, access.Ticket, "the node is offline")
	key, err := k.CatalogueKey(ctx, vault.App{}, a.Session) // 6
	require.NoError(t, err)

	// 5, 7: the app opens the vault with what it was given, in a store of its own; the node stands for
	// its hosts.
	p, err := n.Replicas().Plain(ctx, v.ReplicaID)
	require.NoError(t, err)
	found := 0
	for it, err := range p.Latest(ctx, replica.Query{Prefix: vault.Prefix()}) {
		require.NoError(t, err)
		r, err := n.OpenPlain(ctx, p, &it.Entry)
		require.NoError(t, err)
		sealed := make([]byte, r.Size())
		_, err = r.ReadAt(sealed, 0)
		require.NoError(t, err)
		project, err := vault.Open(key, it.Key, sealed)
		require.NoError(t, err)
		require.Equal(t, "photos", project.Name)
		require.Equal(t, made.ReplicaID, project.Replica)
		require.EqualValues(t, 1, project.ReadKey.Epoch)
		found++
	}
	require.Equal(t, 1, found)

	// The rest is for the person, whom the API's other operations serve.
	_, err = k.Keys(ctx, me.Identity, "p")
	require.ErrorIs(t, err, vault.ErrNotForApps)
	_, err = k.Export(ctx, me.Identity, "p", vault.Mnemonic)
	require.ErrorIs(t, err, vault.ErrNotForApps)
	_, err = k.Ask(ctx, vault.App{}, ch.Ask)
	require.ErrorIs(t, err, vault.ErrReplayed)
	asked, err = k.Ask(
		ctx, vault.App{},
		vault.Ask{Application: "example.org", Challenge: make([]byte, 40), Identity: identity.ID{1}},
	)
	require.NoError(t, err)
	_, err = c.VaultDeny(ctx, api.DecideRequest{Request: asked.Request})
	require.NoError(t, err)
	_, err = k.Wait(ctx, vault.App{}, asked.Request)
	require.ErrorIs(t, err, vault.ErrDenied)
}

// An app chooses its challenges until two of its requests have one code. The person is asked which
// is meant, and approves the one that was shown.
func TestRequestsOfOneCode(t *testing.T) {
	testkit.SeenElsewhere(t)
	ctx := t.Context()
	n, err := skerry.Open(ctx, node.Config{Dir: t.TempDir()}, vault.NewLocal(t.TempDir(), nil))
	require.NoError(t, err)
	c, stop := Local(New(n, "test"))
	defer func() { require.NoError(t, stop()); require.NoError(t, n.Close()) }()
	_, err = c.IdentityAdd(ctx, api.AddIdentityRequest{Kind: "passkey", Password: "p"})
	require.NoError(t, err)
	first := vault.Ask{Application: "photos.example", Challenge: make([]byte, 32)}
	second := vault.Ask{Application: "bank.example", Challenge: make([]byte, 32)}
	for i := uint64(0); second.Code(vault.App{}) != first.Code(vault.App{}); i++ {
		binary.BigEndian.PutUint64(second.Challenge, i)
	}
	k := vault.Remote{Call: c.CallKeyring}
	one, err := k.Ask(ctx, vault.App{}, first)
	require.NoError(t, err)
	shown, err := c.VaultRequest(ctx, api.DecideRequest{Request: one.Code})
	require.NoError(t, err)
	require.Equal(t, "photos.example", shown.Application)
	two, err := k.Ask(ctx, vault.App{}, second)
	require.NoError(t, err)
	require.Equal(t, one.Code, two.Code)
	which := api.DecideRequest{Request: one.Code, Password: "p"}
	_, approve := c.VaultApprove(ctx, which)
	_, deny := c.VaultDeny(ctx, which)
	_, show := c.VaultRequest(ctx, which)
	for _, err := range []error{approve, deny, show} {
		require.Equal(t, api.Usage, api.AsError(err).Kind)
	}
	d, err := c.VaultApprove(
		ctx, api.DecideRequest{Request: shown.Request, Password: "p"},
	)
	require.NoError(t, err)
	require.Equal(t, "photos.example", d.Application)
	d, err = c.VaultDeny(ctx, api.DecideRequest{Request: two.Code})
	require.NoError(t, err)
	require.Equal(t, "bank.example", d.Application)
}

func TestKindsOfKeyringErrors(t *testing.T) {
	for want, errs := range map[api.Kind][]error{
		api.NotAllowed:   {vault.ErrDenied, identity.ErrWrongPassword, vault.ErrReplayed, vaults.ErrNotOwn},
		api.NotFound:     {vault.ErrNoIdentity, vaults.ErrNone, vault.ErrNoRequest},
		api.Usage:        {vault.ErrWhichIdentity, identity.ErrNoPassword, identity.ErrBadMnemonic},
		api.Verification: {identity.ErrBadSignature, vault.ErrForeignAnswer, vault.ErrSealed},
	} {
		for _, err := range errs {
			require.Equal(t, want, api.AsError(err).Kind, err)
		}
	}
}

// A call that is too long is refused alike by a keyring of its own process and by the node's.
func TestCallThatIsTooLong(t *testing.T) {
	n, err := skerry.Open(
		t.Context(), node.Config{Dir: t.TempDir()}, vault.NewLocal(t.TempDir(), nil),
	)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	s := New(n, "test")
	for _, h := range []http.Handler{KeyringHandler(vault.NewLocal(t.TempDir(), nil)), s.mux} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(
			http.MethodPost, "/v1/keyring", bytes.NewReader(make([]byte, vault.MaxCall+1)),
		))
		require.Equal(t, http.StatusBadRequest, w.Code)
		var told api.Error
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &told), w.Body)
		require.Equal(t, api.Usage, told.Kind)
	}
}

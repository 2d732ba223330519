package wallet_test

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/collections/wallet"
	"github.com/skerry-sync/skerry/identity/eth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const text = `{"version": 1, "collections": [
	{"name": "settings", "storagePath": "platform/settings", "readRoles": ["user"], "writeRoles": ["user"], "encryption": "none", "maxBodyBytes": 1000},
	{"name": "mine", "storagePath": "users/{identity}/notes", "readRoles": ["self"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 1000}],
	"extensions": {"evm": {"chains": {"evm:8453": {}}}}}`

// primary is the server of a test.
type primary struct {
	*httptest.Server
	docs *document.Documents
	away atomic.Bool
	// redirect, if it is set, is where requests are sent instead.
	redirect atomic.Pointer[string]
}

func serve(t *testing.T) *primary {
	c, err := config.Parse([]byte(text))
	require.NoError(t, err)
	p := &primary{docs: document.In(store.NewMemory(), nil)}
	nonces, err := access.NewNonces(access.NonceOptions{Skew: evm.Window})
	require.NoError(t, err)
	h, err := collections.New(c, collections.Options{
		Documents: p.docs, Prefix: "/v1", MustIdentify: true, Log: slog.New(slog.DiscardHandler),
		Resolver: &evm.Verifier{Chains: func(id string) bool { return id == "evm:8453" }, Nonces: nonces},
	})
	require.NoError(t, err)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.away.Load() {
			panic(http.ErrAbortHandler)
		}
		if to := p.redirect.Load(); to != nil {
			http.Redirect(w, r, *to+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		h.ServeHTTP(w, r)
	}))
	p.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(p.Close)
	return p
}

func key(t *testing.T, b byte) eth.Key {
	k, err := eth.KeyFromSecret([32]byte{31: b})
	require.NoError(t, err)
	return k
}

func open(t *testing.T, o wallet.Options) *wallet.Client {
	hc := &http.Client{Transport: &http.Transport{}}
	o.HTTP = hc
	c, err := wallet.Open(t.Context(), o)
	require.NoError(t, err)
	c.Retries = -1
	t.Cleanup(func() {
		require.NoError(t, c.Close())
		hc.CloseIdleConnections()
	})
	return c
}

func object(n float64) *value.Object { return value.NewObject(value.Member{Key: "n", Value: n}) }

func replica(t *testing.T, dir string, mode config.WriteMode) *wallet.Replica {
	c, err := config.Parse([]byte(text))
	require.NoError(t, err)
	return &wallet.Replica{
		Config: c, Dir: dir, Mode: mode, Every: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	}
}

func TestClient(t *testing.T) {
	p := serve(t)
	for _, family := range []evm.Family{evm.OctoBot, evm.Starfish} {
		alice := open(t, wallet.Options{Key: key(t, 1), Server: p.URL, Family: family})
		mine := "users/" + alice.Address.String() + "/notes"
		was, err := alice.Pull(t.Context(), mine)
		require.NoError(t, err)
		_, err = alice.Push(t.Context(), mine, object(1), was.Hash, false)
		require.NoError(t, err)
		d, err := alice.Pull(t.Context(), mine)
		require.NoError(t, err)
		require.True(t, d.Verify(mine, alice.Address.String()))
		require.True(t, d.Verify(mine, alice.Address.Lower()))
		require.False(t, d.Verify(mine, key(t, 2).Address().String()))
		_, err = open(t, wallet.Options{Key: key(t, 2), Server: p.URL + "/v1/"}).Pull(t.Context(), mine)
		var status *client.StatusError
		require.ErrorAs(t, err, &status)
		require.Equal(t, http.StatusForbidden, status.Status)
		require.Error(t, alice.Sync(t.Context(), "settings"), "there is no replica")
	}
	_, err := wallet.Open(t.Context(), wallet.Options{Key: key(t, 1), Server: "nowhere"})
	require.ErrorContains(t, err, "not the URL of a server")
}

// A signature says nothing of the server that it is for, and so it is not carried to another.
func TestRedirects(t *testing.T) {
	p, other := serve(t), serve(t)
	alice := open(t, wallet.Options{Key: key(t, 1), Server: p.URL})
	p.redirect.Store(&other.URL)
	_, err := alice.Pull(t.Context(), "platform/settings")
	require.ErrorContains(t, err, "not redirected to another server")
}

// What is written at the replica comes to the server and the other way round, also after a time in
// which the server was away; what the replica has of its own stays there.
func TestReplica(t *testing.T) {
	p := serve(t)
	dir := filepath.Join(t.TempDir(), "data")
	alice := open(t, wallet.Options{Key: key(t, 1), Server: p.URL, Replica: replica(t, dir, "")})
	require.NotEqual(t, p.URL+"/v1", alice.Base)
	require.Len(t, alice.Local, 1)
	require.ErrorContains(t, alice.Local[0], "storagePath has parameters")
	at := func() string {
		d, err := p.docs.Get(t.Context(), "platform/settings")
		require.NoError(t, err)
		if d == nil {
			return ""
		}
		return string(d.Text())
	}
	w, err := alice.Push(t.Context(), "platform/settings", object(1), "", false)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return at() == `{"n":1}` }, 10*time.Second, 5*time.Millisecond)
	d, err := p.docs.Get(t.Context(), "platform/settings")
	require.NoError(t, err)
	require.Equal(t, alice.Address.String(), d.Author.Key)

	p.away.Store(true)
	_, err = alice.Push(t.Context(), "platform/settings", object(2), w.Hash, false)
	require.NoError(t, err, "the replica answers while the server is away")
	got, err := alice.Pull(t.Context(), "platform/settings")
	require.NoError(t, err)
	require.Equal(t, `{"n":2}`, string(value.Append(nil, got.Data)))
	p.away.Store(false)
	require.Eventually(t, func() bool { return at() == `{"n":2}` }, 10*time.Second, 5*time.Millisecond)

	bob := open(t, wallet.Options{Key: key(t, 2), Server: p.URL})
	was, err := bob.Pull(t.Context(), "platform/settings")
	require.NoError(t, err)
	_, err = bob.Push(t.Context(), "platform/settings", object(3), was.Hash, false)
	require.NoError(t, err)
	require.NoError(t, alice.Sync(t.Context(), "settings"))
	got, err = alice.Pull(t.Context(), "platform/settings")
	require.NoError(t, err)
	require.Equal(t, `{"n":3}`, string(value.Append(nil, got.Data)))
	require.True(
		t, got.Verify("platform/settings", bob.Address.String()), "whose signature has come along",
	)

	mine := "users/" + alice.Address.String() + "/notes"
	_, err = alice.Push(t.Context(), mine, object(5), "", false)
	require.NoError(t, err)
	require.NoError(t, alice.Close())
	again := open(t, wallet.Options{Key: key(t, 1), Server: p.URL, Replica: replica(t, dir, "")})
	got, err = again.Pull(t.Context(), mine)
	require.NoError(t, err)
	require.Equal(t, `{"n":5}`, string(value.Append(nil, got.Data)))
	d, err = p.docs.Get(t.Context(), mine)
	require.NoError(t, err)
	require.Nil(t, d)
}

// In push_through, a push is the caller's own at the server, too.
func TestPushThrough(t *testing.T) {
	p := serve(t)
	r := replica(t, t.TempDir(), config.PushThrough)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.Listen = l.Addr().String()
	_, err = wallet.Open(t.Context(), wallet.Options{Key: key(t, 1), Server: p.URL, Replica: r})
	require.ErrorContains(t, err, "local replica: listen tcp")
	require.NoError(t, l.Close())
	alice := open(t, wallet.Options{Key: key(t, 1), Server: p.URL, Replica: r})
	// another wallet uses the same replica
	bob := open(t, wallet.Options{Key: key(t, 2), Server: alice.Base})
	_, err = bob.Push(t.Context(), "platform/settings", object(1), "", false)
	require.NoError(t, err)
	d, err := p.docs.Get(t.Context(), "platform/settings")
	require.NoError(t, err)
	require.Equal(t, bob.Address.String(), d.Author.Key)
	_, err = bob.Push(t.Context(), "platform/settings", object(2), "", false)
	require.ErrorIs(t, err, client.ErrConflict)
	p.away.Store(true)
	_, err = bob.Push(t.Context(), "platform/settings", object(2), d.Hash, false)
	var status *client.StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, http.StatusBadGateway, status.Status)
}

// A configuration is that of the server: the rules and the lists that it asks for are the server's,
// and the replica of an app makes neither from the few documents that it has.
func TestConfigurationOfTheServer(t *testing.T) {
	p := serve(t)
	c, err := config.Parse([]byte(`{"version": 1, "collections": [
		{"name": "posts", "storagePath": "posts/{id}", "readRoles": ["user"],
		 "writeRoles": ["user"], "encryption": "none", "maxBodyBytes": 1000},
		{"name": "list", "storagePath": "lists/{id}", "readRoles": ["user"],
		 "writeRoles": ["user"], "encryption": "none", "maxBodyBytes": 1000}],
		"extensions": {"evm": {"chains": {"evm:8453": {}}}, "rules": {},
			"projections": [{"source": "posts", "target": "lists/{id}"}]}}`))
	require.NoError(t, err)
	alice := open(t, wallet.Options{Key: key(t, 1), Server: p.URL, Replica: &wallet.Replica{
		Config: c, Store: store.NewMemory(), Every: time.Hour,
		Log: slog.New(slog.DiscardHandler),
	}})
	_, err = alice.Push(t.Context(), "posts/1", object(1), "", false)
	require.NoError(t, err)
	list, err := alice.Pull(t.Context(), "lists/1")
	require.NoError(t, err)
	require.Equal(t, "{}", string(value.Append(nil, list.Data)))
}

func TestNoKey(t *testing.T) {
	_, err := wallet.Open(t.Context(), wallet.Options{Server: "http://127.0.0.1:1"})
	require.ErrorContains(t, err, "needs Key")
}

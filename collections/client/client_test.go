package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/keyring"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const collectionsJSON = `{"version": 1, "collections": [
	{"name": "mine", "storagePath": "users/{identity}/{id}", "readRoles": ["self"], "writeRoles": ["self"], "maxBodyBytes": 65536, "listable": true},
	{"name": "team", "storagePath": "team/{id}", "readRoles": ["cap:read:team", "cap:read:*"], "writeRoles": ["cap:write:team", "cap:write:*"], "encryption": "delegated", "maxBodyBytes": 65536},
	{"name": "log", "storagePath": "log/{id}", "readRoles": ["cap:read:*"], "writeRoles": ["cap:write:*"], "maxBodyBytes": 65536, "appendOnly": true},
	{"name": "posts", "storagePath": "posts/{id}", "readRoles": ["cap:read:*", "cap:read:posts"], "writeRoles": ["cap:write:*"], "maxBodyBytes": 65536},
	{"name": "files", "storagePath": "files/{identity}/{id}", "readRoles": ["self"], "writeRoles": ["self"], "maxBodyBytes": 65536, "allowedMimeTypes": ["image/*"]}],
	"namespaces": {"n": {"collections": [{"name": "mine", "storagePath": "n/{identity}", "readRoles": ["self"], "writeRoles": ["self"], "maxBodyBytes": 65536}]}}}`

// server is a server of collections, before which something may stand.
type server struct {
	*httptest.Server
	// returns whether it has answered
	before atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
}

func serve(t *testing.T) *server {
	c, err := config.Parse([]byte(collectionsJSON))
	require.NoError(t, err)
	nonces, err := access.NewNonces(access.NonceOptions{})
	require.NoError(t, err)
	revocations, err := access.NewRevocations(t.Context(), nil, nil)
	require.NoError(t, err)
	h, err := collections.New(
		c,
		collections.Options{
			Documents: document.In(store.NewMemory(), nil), Prefix: "/v1", Revocations: revocations,
			Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
			Resolver: &access.Caps{Nonces: nonces, Revocations: revocations},
		},
	)
	require.NoError(t, err)
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := s.before.Load(); f == nil || !(*f)(w, r) {
			h.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

type person struct {
	*pairing.Device
	id   string
	cert *capcert.Cert
}

var roots sync.Map // by passphrase: they cost time

func newPerson(t *testing.T, passphrase string) *person {
	d, ok := roots.Load(passphrase)
	if !ok {
		made, err := pairing.Root(passphrase)
		require.NoError(t, err)
		d, _ = roots.LoadOrStore(passphrase, made)
	}
	p := &person{Device: d.(*pairing.Device)}
	var err error
	p.id, err = capcert.UserID(p.Key.Public)
	require.NoError(t, err)
	p.cert, err = pairing.RootCert(p.Device, time.Now().Unix())
	require.NoError(t, err)
	return p
}

func (s *server) as(cert *capcert.Cert, key capcert.Key) *client.Client {
	return &client.Client{
		Base: s.URL + "/v1", Backoff: time.Millisecond, HTTP: s.Client(),
		Credentials: func() client.Credentials {
			return client.Credentials{Cert: cert, Key: key}
		},
	}
}

func object(t *testing.T, text string) *value.Object {
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	require.NoError(t, err)
	return o
}

func text(o *value.Object) string { return string(value.AppendCanonical(nil, o)) }

func TestDocuments(t *testing.T) {
	s := serve(t)
	alice := newPerson(t, "alice")
	c := s.as(alice.cert, alice.Key)
	ctx := t.Context()
	path := "users/" + alice.id + "/a"
	d, err := c.Pull(ctx, path)
	require.NoError(t, err)
	require.Empty(t, d.Hash)
	w, err := c.Push(ctx, path, object(t, `{"a":1}`), "", true)
	require.NoError(t, err)
	_, err = c.Push(ctx, path, object(t, `{"a":2}`), "", false)
	require.ErrorIs(t, err, client.ErrConflict)
	d, err = c.Pull(ctx, path)
	require.NoError(t, err)
	require.Equal(t, w.Hash, d.Hash)
	require.True(t, d.Verify(path, alice.Key.Public))
	require.False(t, d.Verify(path+"x", ""))
	items, more, err := c.List(ctx, "users/"+alice.id, "", 5)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, items)
	require.False(t, more)
	var status *client.StatusError
	_, err = c.Pull(ctx, "users/0123/a")
	require.ErrorAs(t, err, &status)
	require.Equal(t, http.StatusForbidden, status.Status)
	require.Equal(t, "Forbidden", status.Reason)
	_, err = c.Pull(ctx, "nowhere/x")
	require.ErrorAs(t, err, &status)
	require.Equal(t, http.StatusNotFound, status.Status)
	n := *c
	n.Namespace = "n"
	_, err = n.Push(ctx, "n/"+alice.id, object(t, `{}`), "", false)
	require.NoError(t, err)

	hash, err := c.PushFile(ctx, "files/"+alice.id+"/f", []byte("picture"), "image/png")
	require.NoError(t, err)
	f, err := c.PullFile(ctx, "files/"+alice.id+"/f")
	require.NoError(t, err)
	require.Equal(t, &client.File{Bytes: []byte("picture"), Type: "image/png", Hash: hash}, f)
}

// Two who change a document at the same time merge; who resolves as it likes does.
func TestSync(t *testing.T) {
	s := serve(t)
	alice := newPerson(t, "alice")
	c := s.as(alice.cert, alice.Key)
	ctx := t.Context()
	path := "users/" + alice.id + "/doc"
	one, two := &client.Sync{
		Client: c, Path: path, Sign: true, Author: alice.Key.Public,
	}, &client.Sync{Client: c, Path: path, Sign: true}
	require.NoError(t, one.Push(ctx, object(t, `{"a":1,"b":{"x":1}}`)))
	_, err := two.Pull(ctx)
	require.NoError(t, err)
	require.NoError(t, one.Push(ctx, object(t, `{"a":2,"b":{"x":1}}`)))
	require.NoError(t, two.Push(ctx, object(t, `{"a":3,"b":{"x":1,"y":2}}`)))
	got, err := one.Pull(ctx)
	require.NoError(t, err)
	require.Equal(t, `{"a":2,"b":{"x":1,"y":2}}`, text(got), "what is there stands")
	two.Resolve = func(ours, _ *value.Object) (*value.Object, error) { return ours, nil }
	require.NoError(t, one.Update(ctx, func(d *value.Object) *value.Object {
		d = d.Clone()
		d.Set("a", 9.0)
		return d
	}))
	require.NoError(t, two.Push(ctx, object(t, `{"a":0}`)))
	got, err = one.Pull(ctx)
	require.NoError(t, err)
	require.Equal(t, `{"a":0}`, text(got))
	require.Equal(t, got, one.Data())
	_, err = c.Push(ctx, path, object(t, `{}`), mustPull(t, c, path).Hash, false)
	require.NoError(t, err)
	_, err = one.Pull(ctx)
	require.ErrorIs(t, err, client.ErrNotProved)
	stubborn := errors.New("not like this")
	two.Resolve = func(_, _ *value.Object) (*value.Object, error) { return nil, stubborn }
	require.ErrorIs(t, two.Push(ctx, object(t, `{}`)), stubborn)

	var wg sync.WaitGroup
	for i := range 4 { // each changes a field of its own
		wg.Go(func() {
			m := &client.Sync{Client: c, Path: path + "-many", Retries: 20}
			if err := m.Update(ctx, func(d *value.Object) *value.Object {
				d = d.Clone()
				d.Set(fmt.Sprint("f", i), 1.0)
				return d
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, `{"f0":1,"f1":1,"f2":1,"f3":1}`, text(mustPull(t, c, path+"-many").Data))
}

func mustPull(t *testing.T, c *client.Client, path string) *client.Document {
	d, err := c.Pull(t.Context(), path)
	require.NoError(t, err)
	return d
}

// A server that fails is asked again, for as long as it says; one that refuses is not.
func TestRetries(t *testing.T) {
	s := serve(t)
	alice := newPerson(t, "alice")
	c := s.as(alice.cert, alice.Key)
	ctx := t.Context()
	path := "users/" + alice.id + "/a"
	asked := 0
	fails := func(times, status int) {
		asked = 0
		f := func(w http.ResponseWriter, _ *http.Request) bool {
			if asked++; asked <= times {
				w.WriteHeader(status)
				return true
			}
			return false
		}
		s.before.Store(&f)
	}
	fails(3, http.StatusServiceUnavailable)
	_, err := c.Push(ctx, path, object(t, `{}`), "", false)
	require.NoError(t, err)
	require.Equal(t, 4, asked)
	fails(9, http.StatusBadGateway)
	var status *client.StatusError
	_, err = c.Pull(ctx, path)
	require.ErrorAs(t, err, &status)
	require.Equal(t, 4, asked)
	fails(1, http.StatusForbidden)
	_, err = c.Pull(ctx, path)
	require.ErrorAs(t, err, &status)
	require.Equal(t, 1, asked)
	fails(1, http.StatusServiceUnavailable)
	_, err = c.Append(ctx, "log/a", object(t, `{}`), 0)
	require.ErrorAs(t, err, &status, "it may have been appended")
	require.Equal(t, 1, asked)
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	fails(99, http.StatusServiceUnavailable)
	slow := *c
	slow.Backoff = time.Minute
	_, err = slow.Pull(short, path)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestLog(t *testing.T) {
	s := serve(t)
	alice := newPerson(t, "alice")
	c := s.as(alice.cert, alice.Key)
	ctx := t.Context()
	var at []int64
	for i := range 5 {
		w, err := c.Append(ctx, "log/a", object(t, fmt.Sprintf(`{"i":%d}`, i)), 0)
		require.NoError(t, err)
		at = append(at, w.Time)
	}
	for _, x := range []struct {
		p    client.Part
		from int
	}{
		{client.Part{}, 0}, {client.Part{After: at[1]}, 2}, {client.Part{Last: 2}, 3},
		{client.Part{After: at[0], Last: 1}, 4},
	} {
		got, err := c.PullLog(ctx, "log/a", "", x.p)
		require.NoError(t, err)
		require.Len(t, got, 5-x.from)
		require.Equal(t, at[x.from], got[0].Time)
		require.True(t, got[0].Verify("log/a", alice.Key.Public))
		require.False(t, got[0].Verify("log/b", alice.Key.Public))
	}
	_, err := c.Append(ctx, "log/a", object(t, `{}`), at[0])
	var status *client.StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, http.StatusConflict, status.Status)
	require.Equal(t, "non_monotonic_timestamp", status.Reason)
}

// A keyring gives two the key of a collection; who is removed cannot open what is written from then
// on.
func TestKeyring(t *testing.T) {
	s := serve(t)
	alice, bob := newPerson(t, "alice"), newPerson(t, "bob")
	ctx := t.Context()
	c := s.as(alice.cert, alice.Key)
	ring := &client.Keyring{
		Client: c, Path: "team/_keyring", Adder: alice.Key, Trusted: []string{alice.Key.Public},
	}
	open := func(p *person) (*keyring.Sealer, error) {
		k, _, err := ring.Get(ctx)
		require.NoError(t, err)
		return k.Open(p.KEM, ring.Trusted, 1)
	}
	k, _, err := ring.Get(ctx)
	require.NoError(t, err)
	require.Nil(t, k)
	require.ErrorIs(t, ring.Remove(ctx, "x"), client.ErrNoKeyring)
	require.NoError(t, ring.Create(ctx, alice.KEMPublic()))
	require.ErrorIs(t, ring.Create(ctx, alice.KEMPublic()), keyring.ErrPresent)
	sealer, err := open(alice)
	require.NoError(t, err)
	require.NoError(t, ring.Add(ctx, sealer, bob.KEMPublic()))
	require.ErrorIs(t, ring.Add(ctx, sealer, bob.KEMPublic()), keyring.ErrPresent)
	cert, err := capcert.MintMember(
		alice.Key, bob.Subject(), "team", capcert.WriterScope("team"),
		pairing.Terms(time.Now().Unix(), 60),
	)
	require.NoError(t, err)
	b := s.as(cert, bob.Key)
	bobs, err := open(bob)
	require.NoError(t, err)
	theirs := &client.Sync{Client: b, Path: "team/plan", Sealer: bobs}
	require.NoError(t, theirs.Push(ctx, object(t, `{"secret":1}`)))
	require.NotContains(t, text(mustPull(t, c, "team/plan").Data), "secret")
	ours := &client.Sync{Client: c, Path: "team/plan", Sealer: sealer}
	got, err := ours.Pull(ctx)
	require.NoError(t, err)
	require.Equal(t, `{"secret":1}`, text(got))
	require.NoError(t, ring.Remove(ctx, bob.KEMPublic()))
	_, err = open(bob)
	require.ErrorIs(t, err, keyring.ErrNotARecipient)
	ours.Sealer, err = open(alice)
	require.NoError(t, err)
	require.NoError(t, ours.Push(ctx, object(t, `{"secret":2}`)))
	_, err = theirs.Pull(ctx)
	require.ErrorIs(t, err, keyring.ErrNotARecipient)
}

// A link lets anybody in who signs with a key, until it is revoked.
func TestAudienceAndRevocation(t *testing.T) {
	s := serve(t)
	alice := newPerson(t, "alice")
	ctx := t.Context()
	c := s.as(alice.cert, alice.Key)
	_, err := c.Push(ctx, "posts/a", object(t, `{"x":1}`), "", false)
	require.NoError(t, err)
	link, err := capcert.MintAudience(
		alice.Key, "posts", capcert.ReaderScope("posts"), nil, pairing.Terms(time.Now().Unix(), 60),
	)
	require.NoError(t, err)
	guest, err := pairing.NewDevice()
	require.NoError(t, err)
	g := s.as(link, guest.Key)
	require.Equal(t, `{"x":1}`, text(mustPull(t, g, "posts/a").Data))
	l, err := capcert.SignRevocations(
		alice.Key, 1, []capcert.Revoked{{Nonce: link.Nonce, Expires: link.Expires}}, nil,
	)
	require.NoError(t, err)
	require.NoError(t, c.Revoke(ctx, l))
	_, err = g.Pull(ctx, "posts/a")
	var status *client.StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, http.StatusUnauthorized, status.Status)
	require.Error(t, c.Revoke(ctx, l), "it is there already")
}

// A proxy that compresses makes the ETag of a file weak; it is the file's hash all the same.
func TestHashOfFileBehindProxy(t *testing.T) {
	for _, tag := range []string{`"abc"`, `W/"abc"`} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", tag)
			fmt.Fprint(w, "content")
		}))
		f, err := (&client.Client{Base: s.URL}).PullFile(t.Context(), "files/a")
		s.Close()
		require.NoError(t, err)
		require.Equal(t, "abc", f.Hash)
	}
}

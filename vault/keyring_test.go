package vault

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
)

const password = "correct horse"

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)} }

// both returns a keyring, and the same one through calls and replies as the person's own programs
// have it.
func both(l *Local) map[string]Keyring {
	return map[string]Keyring{
		"local": l,
		"remote": Remote{func(ctx context.Context, msg []byte) ([]byte, error) {
			return Serve(ctx, l, msg), nil
		}},
	}
}

// asApp returns a keyring as an app at a peer has it.
func asApp(k Keyring, peer string) Keyring {
	return Remote{func(ctx context.Context, msg []byte) ([]byte, error) {
		return ServeApp(ctx, k, App{Peer: peer}, msg, func(error) {}), nil
	}}
}

func TestKeysInAKeyring(t *testing.T) {
	ctx := t.Context()
	for name, k := range both(newLocal(filepath.Join(t.TempDir(), "keys"), nil)) {
		all, err := k.Identities(ctx)
		require.NoError(t, err)
		require.Empty(t, all, name)
	}
	dir := t.TempDir()
	l := newLocal(dir, nil)
	for name, k := range both(l) {
		_, err := k.Add(ctx, NewIdentity{})
		require.ErrorIs(t, err, identity.ErrNoPassword, name)
		_, err = k.Add(ctx, NewIdentity{Mnemonic: "one two three", Password: password})
		require.ErrorIs(t, err, identity.ErrBadMnemonic, name)
		_, err = k.Add(ctx, NewIdentity{Keystore: []byte("{}"), Password: password})
		require.ErrorIs(t, err, identity.ErrBadKeystore, name)
		for _, kind := range []identity.Kind{identity.Wallet, identity.Passkey} {
			i, err := k.Add(ctx, NewIdentity{Kind: kind, Password: password})
			require.NoError(t, err)
			require.Equal(t, kind, i.Kind)
			require.Equal(t, i.ID, identity.IDOf(i.Public, i.Nonce))

			words, err := k.Export(ctx, i.ID, password, Mnemonic)
			require.NoError(t, err)
			_, err = k.Add(ctx, NewIdentity{Kind: kind, Mnemonic: words, Password: "another"})
			require.ErrorIs(t, err, ErrIdentityExists, "the same words are the same identity")
			_, err = k.Export(ctx, i.ID, "wrong", Mnemonic)
			require.ErrorIs(t, err, identity.ErrWrongPassword)
			_, err = k.Keys(ctx, i.ID, "wrong")
			require.ErrorIs(t, err, identity.ErrWrongPassword)
			_, err = k.Export(ctx, i.ID, password, "poem")
			require.ErrorContains(t, err, "unknown form")

			keys, err := k.Keys(ctx, i.ID, password)
			require.NoError(t, err)
			key, err := identity.KeyFromMnemonic(kind, words)
			require.NoError(t, err)
			want, err := Derive(key)
			require.NoError(t, err)
			require.Equal(t, want, keys)

			file, err := k.Export(ctx, i.ID, password, Keystore)
			require.NoError(t, err)
			elsewhere := newLocal(t.TempDir(), nil)
			moved, err := elsewhere.Add(
				ctx, NewIdentity{Keystore: []byte(file), KeystorePassword: password, Password: "new one"},
			)
			require.NoError(t, err)
			require.Equal(t, i, moved)
			st, err := os.Stat(filepath.Join(dir, i.ID.String()+".json"))
			require.NoError(t, err)
			require.EqualValues(t, 0o600, st.Mode().Perm())
			secret := key.Secret()
			b, err := os.ReadFile(filepath.Join(dir, i.ID.String()+".json"))
			require.NoError(t, err)
			require.NotContains(t, strings.ToLower(string(b)), hex.EncodeToString(secret[:4]))

			for _, what := range []ToSign{
				{Seed: &identity.SeedAsk{Request: identity.SeedStatus, Seed: "12D3seed"}, At: 5},
				{Invite: &identity.InviteAsk{
					Wallet: "0x" + strings.Repeat("1", 40), Invite: strings.Repeat("ab", 32), Inviter: "12D3i",
					Device: "12D3d", Author: "a",
				}, At: 7},
			} {
				s, err := k.Sign(ctx, i.ID, what, password)
				require.NoError(t, err)
				m, err := what.Message(i.ID)
				require.NoError(t, err)
				require.NoError(t, s.Signature.Verify(m, i.ID, s.Nonce))
				_, err = k.Sign(ctx, i.ID, what, "wrong")
				require.ErrorIs(t, err, identity.ErrWrongPassword)
			}
			_, err = k.Sign(
				ctx, i.ID, ToSign{Seed: &identity.SeedAsk{Request: identity.SeedUnregister, Seed: "12D3seed"}},
				password,
			)
			require.ErrorIs(t, err, ErrBadAsk)
			for _, none := range []ToSign{
				{}, {Invite: &identity.InviteAsk{}}, {Invite: &identity.InviteAsk{}, Seed: &identity.SeedAsk{}},
			} {
				_, err = k.Sign(ctx, i.ID, none, password)
				require.ErrorIs(t, err, ErrBadAsk)
			}

			a := project.Asset{
				ID: "a", Name: "a", Author: i.ID.String(), Format: "text/plain", Size: 1, Content: [32]byte{1},
				Created: time.Unix(5, 0).UTC(), Updated: time.Unix(5, 0).UTC(),
			}
			signed, err := k.SignAsset(ctx, a, password)
			require.NoError(t, err)
			require.NoError(t, signed.Verify())
		}
		all, err := k.Identities(ctx)
		require.NoError(t, err)
		require.Len(t, all, 2, name)
		for _, i := range all {
			require.NoError(t, k.Remove(ctx, i.ID))
			require.ErrorIs(t, k.Remove(ctx, i.ID), ErrNoIdentity)
			_, err := k.Keys(ctx, i.ID, password)
			require.ErrorIs(t, err, ErrNoIdentity)
		}
	}
	// A file that is not what it is called.
	i, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	j, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	require.NoError(t, os.Rename(l.path(i.ID), l.path(j.ID)))
	_, err = l.Identities(ctx)
	require.ErrorContains(t, err, "it is that of")
}

// Files as people have them: in Skerry's form with the work that it takes to guess a password, and
// in Ethereum's.
func TestFilesOfKeys(t *testing.T) {
	testkit.OneGoroutine(t)
	ctx := t.Context()
	l := NewLocal(t.TempDir(), nil)
	i, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	file, err := l.Export(ctx, i.ID, password, Keystore)
	require.NoError(t, err)
	var f struct {
		KDF struct {
			Name         string
			Time, Memory int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(file), &f))
	require.Equal(t, "argon2id", f.KDF.Name)
	require.GreaterOrEqual(t, f.KDF.Time*f.KDF.Memory, 3*64<<10)
	file, err = l.Export(ctx, i.ID, password, Ethereum)
	require.NoError(t, err)
	moved, err := newLocal(t.TempDir(), nil).Add(ctx,
		NewIdentity{Keystore: []byte(file), KeystorePassword: password, Password: "new one"})
	require.NoError(t, err)
	require.Equal(t, i, moved)
}

func ask(challenge byte) Ask {
	return Ask{
		Application: "example.org", Challenge: bytes.Repeat([]byte{challenge}, 32), Reason: "to list",
	}
}

// The steps of an app, at a keyring in the same process and through calls. The app
// gets a signature, read access and the catalogue key, and nothing else.
func TestAccessFlow(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	l := newLocal(t.TempDir(), c.now)
	app := asApp(l, "app")
	_, err := app.Ask(ctx, App{}, ask(1))
	require.ErrorIs(t, err, ErrNoIdentity, "nobody is here")
	me, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	keys, err := l.Keys(ctx, me.ID, password)
	require.NoError(t, err)
	n := byte(1)
	for name, person := range both(l) {
		// 1: who is it?
		n++
		ch := Challenge{Ask: ask(n)}
		asked, err := app.Ask(ctx, App{}, ch.Ask)
		require.NoError(t, err, name)
		require.Equal(t, ch.Ask.Code(App{Peer: "app"}), asked.Code)
		requests, err := person.Requests(ctx)
		require.NoError(t, err)
		require.Len(t, requests, 1)
		require.Equal(
			t, Request{Asked: asked, Application: "example.org", Reason: "to list", Peer: "app", At: c.t},
			requests[0],
		)
		_, err = asApp(l, "another app").Wait(ctx, App{Peer: "app"}, asked.Request)
		require.ErrorIs(t, err, ErrNoRequest, "an app cannot say that it is another")

		require.ErrorIs(
			t, person.Approve(ctx, asked.Code, identity.ID{}, "wrong"), identity.ErrWrongPassword,
		)
		require.ErrorIs(t, person.Approve(ctx, "000000x", identity.ID{}, password), ErrNoRequest)
		require.ErrorIs(t, person.Approve(ctx, asked.Code, identity.ID{1}, password), ErrNoIdentity)
		cut, cancel := context.WithCancel(ctx)
		cancel()
		_, err = app.Wait(cut, App{}, asked.Request)
		require.ErrorIs(t, err, ErrUndecided, "a wrong password decides nothing")
		require.NoError(t, person.Approve(ctx, asked.Code, identity.ID{}, password))
		require.ErrorIs(
			t, person.Approve(ctx, asked.Code, identity.ID{}, password), ErrNoRequest, "it is decided",
		)
		a, err := app.Wait(ctx, App{}, asked.Request)
		require.NoError(t, err)
		require.NoError(t, ch.Check(&a, c.t))
		require.Equal(t, me.ID, a.Identity)
		require.ErrorIs(t, ch.Check(&a, c.t), ErrReplayed, "an answer counts once")

		// 2 to 4: access, to this app only.
		got, err := app.Access(ctx, App{}, a.Session)
		require.NoError(t, err)
		require.Equal(t, Access{Replica: keys.Replica.Replica(), ReadKey: keys.First()}, got)
		_, err = asApp(l, "another app").Access(ctx, App{Peer: "app"}, a.Session)
		require.ErrorIs(t, err, ErrNoSession)
		// 6: the catalogue key.
		key, err := app.CatalogueKey(ctx, App{}, a.Session)
		require.NoError(t, err)
		require.Equal(t, keys.Catalogue, key)
		_, err = asApp(l, "another app").CatalogueKey(ctx, App{Peer: "app"}, a.Session)
		require.ErrorIs(t, err, ErrNoSession)
		_, err = app.CatalogueKey(ctx, App{}, "made up")
		require.ErrorIs(t, err, ErrNoSession)

		// Nothing that the app is told has the identity's key, or what could write the vault.
		told, err := json.Marshal([]any{a.wire(), got.Replica, [32]byte(got.ReadKey.Key)})
		require.NoError(t, err)
		seed := keys.Replica.Seed()
		require.NotContains(t, string(told), hex.EncodeToString(seed[:8]))

		// A challenge counts once, also for the keyring.
		_, err = app.Ask(ctx, App{}, ch.Ask)
		require.ErrorIs(t, err, ErrReplayed)

		// Denied.
		n++
		asked, err = app.Ask(ctx, App{}, ask(n))
		require.NoError(t, err)
		require.NoError(t, person.Deny(ctx, asked.Request[:8]))
		_, err = app.Wait(ctx, App{}, asked.Request)
		require.ErrorIs(t, err, ErrDenied)
		require.ErrorIs(t, person.Deny(ctx, asked.Code), ErrNoRequest)

		// A session ends.
		c.t = c.t.Add(sessionLasts + time.Second)
		_, err = app.Access(ctx, App{}, a.Session)
		require.ErrorIs(t, err, ErrNoSession)
		requests, err = person.Requests(ctx)
		require.NoError(t, err)
		require.Empty(t, requests)
	}
}

// What Skerry signs for purposes of its own, no application gets by taking a name: not in other
// letters, with other dashes, or with spaces that one does not see.
func TestReservedApplications(t *testing.T) {
	ctx := t.Context()
	l := newLocal(t.TempDir(), newClock().now)
	_, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	n := byte(0)
	with := func(name string) Ask {
		a := ask(n)
		n++
		a.Application = name
		return a
	}
	for _, name := range []string{
		"skerry-invite", "skerry-seed", "Skerry-Invite", "SKERRY-SEED", "skerry-invite.", ".skerry-seed",
		"skerry_seed", "skerryseed", "-skerry-seed", "skerry--invite", "skerry-", "Skerry",
		"skerry-anything", " skerry-invite", "skerry-invite ", "skerry invite", "skerry\u2011invite", "skerry\u00a0invite", "skerry-\u200binvite",
		"\uff53\uff4b\uff45\uff52\uff52\uff59-invite", "skerry-invite\t", "skerry-invite\u202e", "s\u212aerry-seed", "skerry-seed/x", "skerry:seed",
	} {
		_, err := l.Ask(ctx, App{}, with(name))
		require.ErrorIs(t, err, ErrBadAsk, "%q", name)
	}
	for _, name := range []string{
		"example.org", "skerry.example.org", "skerry-invite.example.org", "skerry", "my-skerry-app",
		"localhost:8080",
	} {
		_, err := l.Ask(ctx, App{}, with(name))
		require.NoError(t, err, name)
	}
}

func TestBadAsks(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	l := newLocal(t.TempDir(), c.now)
	me, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	for name, edit := range map[string]func(*Ask){
		"short challenge":  func(a *Ask) { a.Challenge = a.Challenge[:31] },
		"long challenge":   func(a *Ask) { a.Challenge = make([]byte, 257) },
		"no application":   func(a *Ask) { a.Application = "" },
		"long application": func(a *Ask) { a.Application = strings.Repeat("a", 254) },
		"two lines":        func(a *Ask) { a.Application = "a\nAction: Sign Asset" },
		"control in text":  func(a *Ask) { a.Reason = "\x1b[2J" },
		"long reason":      func(a *Ask) { a.Reason = strings.Repeat("a", 257) },
	} {
		a := ask(1)
		edit(&a)
		_, err := l.Ask(ctx, App{Peer: "app"}, a)
		require.ErrorIs(t, err, ErrBadAsk, name)
	}
	// One app cannot fill up the person's list, and all together cannot fill the memory.
	for i := range maxOfApp {
		_, err := l.Ask(ctx, App{Peer: "app"}, ask(byte(i+1)))
		require.NoError(t, err)
	}
	_, err = l.Ask(ctx, App{Peer: "app"}, ask(50))
	require.ErrorIs(t, err, ErrTooManyRequests)
	for i := range maxRequests - maxOfApp {
		_, err := l.Ask(ctx, App{}, ask(byte(i+100)))
		require.NoError(t, err)
	}
	_, err = l.Ask(ctx, App{}, ask(99))
	require.ErrorIs(t, err, ErrTooManyRequests)
	all, err := l.Requests(ctx)
	require.NoError(t, err)
	require.Len(t, all, maxRequests)
	waiting := all[0]
	c.t = c.t.Add(requestLasts + time.Second)
	_, err = l.Wait(ctx, App{Peer: waiting.Peer}, waiting.Asked.Request)
	require.ErrorIs(t, err, ErrNoRequest, "they expire")
	require.ErrorIs(t, l.Approve(ctx, waiting.Code, me.ID, password), ErrNoRequest)

	// Whose key is not here is not answered for, which the app only learns from the person.
	a := ask(77)
	a.Identity = identity.ID{1}
	asked, err := l.Ask(ctx, App{Peer: "app"}, a)
	require.NoError(t, err)
	require.ErrorIs(t, l.Approve(ctx, asked.Code, identity.ID{}, password), ErrNoIdentity)
	require.ErrorIs(t, l.Approve(ctx, asked.Code, me.ID, password), ErrNoIdentity)
	// With two identities one must be named.
	_, err = l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	asked, err = l.Ask(ctx, App{Peer: "app"}, ask(78))
	require.NoError(t, err)
	require.ErrorIs(t, l.Approve(ctx, asked.Code, identity.ID{}, password), ErrWhichIdentity)
	require.NoError(t, l.Approve(ctx, asked.Code, me.ID, password))
}

// Anybody can make peer ids. However many there are, they take no place of a known peer or of the
// person's own programs, and those from one network leave places to strangers from others.
func TestStrangersDoNotFillAKeyring(t *testing.T) {
	ctx := t.Context()
	l := newLocal(t.TempDir(), newClock().now)
	_, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	n := byte(0)
	asks := func(app App) error {
		n++
		_, err := l.Ask(ctx, app, ask(n))
		return err
	}
	for i := range 33 { // one host, each time with a new identity
		err := asks(App{Peer: fmt.Sprint("a", i), Net: "192.0.2.1"})
		if i < maxOfNet {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, ErrTooManyRequests)
		}
	}
	require.NoError(t, asks(App{Peer: "honest", Net: "198.51.100.1"}))
	for i := range 100 { // many hosts
		err = asks(App{Peer: fmt.Sprint("b", i), Net: fmt.Sprint("203.0.113.", i)})
	}
	require.ErrorIs(t, err, ErrTooManyRequests)
	for i := range maxPeers - maxStrangers {
		require.NoError(t, asks(App{Peer: fmt.Sprint("known", i), Net: "192.0.2.1", Named: true}))
	}
	require.ErrorIs(t, asks(App{Peer: "one more", Named: true}), ErrTooManyRequests)
	for range maxRequests - maxPeers {
		require.NoError(t, asks(App{}))
	}
	require.ErrorIs(t, asks(App{}), ErrTooManyRequests)
	all, err := l.Requests(ctx)
	require.NoError(t, err)
	require.Len(t, all, maxRequests)
}

// What an app must refuse.
func TestForgedAnswers(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	l := newLocal(t.TempDir(), c.now)
	me, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	answer := func(a Ask) Answer {
		asked, err := l.Ask(ctx, App{Peer: "app"}, a)
		require.NoError(t, err)
		require.NoError(t, l.Approve(ctx, asked.Code, me.ID, password))
		got, err := l.Wait(ctx, App{Peer: "app"}, asked.Request)
		require.NoError(t, err)
		return got
	}
	good := answer(ask(1))
	for name, tc := range map[string]struct {
		ask  Ask
		edit func(*Answer)
		at   time.Duration
		want error
	}{
		"another challenge": {ask(2), nil, 0, identity.ErrBadSignature},
		"another application": {Ask{
			Application: "example.com", Challenge: ask(1).Challenge,
		}, nil, 0, identity.ErrBadSignature},
		"another time": {ask(1), func(a *Answer) {
			a.At = a.At.Add(time.Second)
		}, 0, identity.ErrBadSignature},
		"too late":  {ask(1), nil, 6 * time.Minute, identity.ErrOutOfTime},
		"too early": {ask(1), nil, -6 * time.Minute, identity.ErrOutOfTime},
		"another identity": {ask(1), func(a *Answer) {
			a.Identity[0] ^= 1
		}, 0, identity.ErrBadSignature},
		"another nonce": {ask(1), func(a *Answer) { a.Nonce[0] ^= 1 }, 0, identity.ErrBadSignature},
		"a changed signature": {ask(1), func(a *Answer) {
			a.Signature.Signature = append(
				[]byte{a.Signature.Signature[0] ^ 1}, a.Signature.Signature[1:]...,
			)
		}, 0, identity.ErrBadSignature},
		"not who was wanted": {Ask{
			Application: "example.org", Challenge: ask(1).Challenge, Identity: identity.ID{9},
		}, nil, 0, ErrForeignAnswer},
	} {
		a := good
		if tc.edit != nil {
			tc.edit(&a)
		}
		ch := Challenge{Ask: tc.ask}
		require.ErrorIs(t, ch.Check(&a, c.t.Add(tc.at)), tc.want, name)
	}
	ch := Challenge{Ask: ask(1)}
	require.NoError(t, ch.Check(&good, c.t))
}

// An app may call what is for apps, and nothing else.
func TestAppsMayNotCallAll(t *testing.T) {
	ctx := t.Context()
	l := newLocal(t.TempDir(), nil)
	me, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	k := asApp(l, "app")
	_, err = k.Identities(ctx)
	require.ErrorIs(t, err, ErrNotForApps)
	_, err = k.Add(ctx, NewIdentity{Password: password})
	require.ErrorIs(t, err, ErrNotForApps)
	_, err = k.Export(ctx, me.ID, password, Mnemonic)
	require.ErrorIs(t, err, ErrNotForApps)
	require.ErrorIs(t, k.Remove(ctx, me.ID), ErrNotForApps)
	_, err = k.Keys(ctx, me.ID, password)
	require.ErrorIs(t, err, ErrNotForApps)
	_, err = k.Requests(ctx)
	require.ErrorIs(t, err, ErrNotForApps)
	require.ErrorIs(t, k.Approve(ctx, "x", me.ID, password), ErrNotForApps)
	require.ErrorIs(t, k.Deny(ctx, "x"), ErrNotForApps)
	_, err = k.SignAsset(ctx, project.Asset{}, password)
	require.ErrorIs(t, err, ErrNotForApps)
	_, err = k.Sign(
		ctx, me.ID, ToSign{Seed: &identity.SeedAsk{Request: identity.SeedStatus, Seed: "12D3seed"}},
		password,
	)
	require.ErrorIs(t, err, ErrNotForApps)
	all, err := l.Identities(ctx)
	require.NoError(t, err)
	require.Len(t, all, 1)
}

// Golden: calls and replies keep their form.
func TestCallsGolden(t *testing.T) {
	var sent []byte
	k := Remote{func(_ context.Context, msg []byte) ([]byte, error) {
		sent = msg
		return []byte(`{"asked":{"request":"r","code":"000001","expires":"2026-05-01T12:00:00Z"}}`), nil
	}}
	asked, err := k.Ask(
		t.Context(), App{}, Ask{Application: "example.org", Challenge: make([]byte, 32)},
	)
	require.NoError(t, err)
	require.Equal(t, Asked{"r", "000001", time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}, asked)
	require.JSONEq(
		t,
		`{"version":1,"op":"ask","ask":{"application":"example.org","challenge":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}`,
		string(sent),
	)
	a := ask(7)
	require.Equal(t, "633152", a.Code(App{Peer: "peer"}))
	for reply, want := range map[string]string{
		`{"error":"denied","message":"no"}`: "no", `{"error":"of the future","message":"what"}`: "what",
		`{`: "malformed", `{}`: "no request", `[]`: "malformed",
	} {
		k.Call = func(context.Context, []byte) ([]byte, error) { return []byte(reply), nil }
		_, err := k.Ask(t.Context(), App{}, a)
		require.ErrorContains(t, err, want)
	}
}

func FuzzServe(f *testing.F) {
	l := newLocal(f.TempDir(), nil)
	for _, s := range []string{
		`{"version":1,"op":"ask","ask":{"application":"a","challenge":"AAAA"}}`,
		`{"version":1,"op":"wait","request":"x"}`, `{"version":1,"op":"identities"}`, `{"version":2}`,
		`{}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Contains(b, []byte("add")) { // makes keys, slowly
			return
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, out := range [][]byte{
			Serve(ctx, l, b), ServeApp(ctx, l, App{Peer: "p"}, b, func(error) {}),
		} {
			require.LessOrEqual(t, len(out), MaxCall)
			require.True(t, json.Valid(out))
		}
		_, _ = parseReply(b)
	})
}

func TestRestore(t *testing.T) {
	key := RestoreKey{1}
	secret := replica.SecretKeyFromSeed([32]byte{2})
	for _, r := range []Restore{
		{Capability: replica.Write, Replica: secret.Replica(), Secret: secret, ReadKey: replica.EpochKey{
			Epoch: 3, Key: [32]byte{4},
		}},
		{Capability: replica.Write, Replica: secret.Replica(), Secret: secret},
		{Capability: replica.Read, Replica: replica.ID{5}},
	} {
		b, err := r.Seal(key)
		require.NoError(t, err)
		back, err := OpenRestore(key, r.Key(), b)
		require.NoError(t, err)
		require.Equal(t, r, back)
		_, err = OpenRestore(RestoreKey{2}, r.Key(), b)
		require.ErrorIs(t, err, ErrSealed)
		_, err = OpenRestore(key, RestoreKeyOf(replica.ID{9}), b)
		require.ErrorIs(t, err, ErrSealed, "moved to another project")
		_, err = OpenRestore(key, []byte("/catalog/x"), b)
		require.ErrorIs(t, err, ErrNotRestore)
		_, err = OpenRestore(key, r.Key(), b[:30])
		require.ErrorIs(t, err, ErrSealed)
	}
	_, err := (&Restore{Capability: replica.Sync}).Seal(key)
	require.Error(t, err)
	wrong, err := sealWith(key, make([]byte, restorePlain), RestoreKeyOf(replica.ID{}))
	require.NoError(t, err)
	_, err = OpenRestore(key, RestoreKeyOf(replica.ID{}), wrong)
	require.ErrorIs(t, err, ErrNotRestore)
}

func FuzzOpenRestore(f *testing.F) {
	r := Restore{Capability: replica.Read, Replica: replica.ID{5}}
	b, err := r.Seal(RestoreKey{})
	require.NoError(f, err)
	f.Add(r.Key(), b)
	f.Fuzz(func(_ *testing.T, key, b []byte) {
		_, _ = OpenRestore(RestoreKey{}, key, b)
		_, _ = OpenHead(CatalogueKey{}, replica.AuthorID{}, b)
		_, _ = OpenKeptAt(CatalogueKey{}, key, b)
	})
}

// What a head notices, and what it leaves alone.
func TestHeads(t *testing.T) {
	author := replica.AuthorID{1}
	ids := [][32]byte{{3}, {1}, {2}}
	h := HeadOf(append([][32]byte{}, ids...))
	require.Equal(t, h, HeadOf([][32]byte{{1}, {2}, {3}}), "in any order")
	b, err := h.Seal(CatalogueKey{7}, author)
	require.NoError(t, err)
	back, err := OpenHead(CatalogueKey{7}, author, b)
	require.NoError(t, err)
	require.Equal(t, h, back)
	_, err = OpenHead(CatalogueKey{7}, replica.AuthorID{2}, b)
	require.ErrorIs(t, err, ErrSealed, "of another author")
	wrong, err := sealWith(CatalogueKey{7}, []byte{2}, HeadKey(author))
	require.NoError(t, err)
	_, err = OpenHead(CatalogueKey{7}, author, wrong)
	require.ErrorIs(t, err, ErrNotHead)
	for name, tc := range map[string]struct {
		w    Written
		want string
	}{
		"all there":      {Written{author, &h, 10, ids, 9}, ""},
		"one is missing": {Written{author, &h, 10, ids[:2], 9}, "2 are here"},
		"an old one instead": {Written{
			author, &h, 10, [][32]byte{{1}, {2}, {9}}, 9,
		}, "3 are here that are not all"},
		"no head":            {Written{author, nil, 0, ids, 9}, "withholds it"},
		"the head is behind": {Written{author, &h, 10, ids[:1], 11}, ""},
		"nothing at all":     {Written{author, nil, 0, nil, 0}, ""},
	} {
		if tc.want == "" {
			require.Empty(t, tc.w.Missing(), name)
		} else {
			require.Contains(t, tc.w.Missing(), tc.want, name)
		}
	}
}

func TestKeptAt(t *testing.T) {
	key := CatalogueKey{3}
	k := KeptAt{
		Seed: "12D3KooW", Addrs: []string{"/ip4/192.0.2.1/tcp/1/p2p/12D3KooW"},
		Replicas: []replica.ID{replica.NewSecretKey().Replica(), replica.NewSecretKey().Replica()},
	}
	b, err := k.Seal(key)
	require.NoError(t, err)
	back, err := OpenKeptAt(key, k.Key(), b)
	require.NoError(t, err)
	require.Equal(t, k, back)
	_, err = OpenKeptAt(key, append(SeedsPrefix(), "another"...), b)
	require.ErrorIs(t, err, ErrSealed)
	_, err = OpenKeptAt(CatalogueKey{4}, k.Key(), b)
	require.ErrorIs(t, err, ErrSealed)
	_, err = OpenKeptAt(key, []byte("/catalog/x"), b)
	require.ErrorIs(t, err, ErrNotSeeds)
	for _, plain := range []string{"{", `{"version":2}`, `{"version":1,"replicas":["x"]}`} {
		b, err := sealWith(key, []byte(plain), k.Key())
		require.NoError(t, err)
		_, err = OpenKeptAt(key, k.Key(), b)
		require.ErrorIs(t, err, ErrNotSeeds, plain)
	}
	_, err = (&KeptAt{Seed: "x", Replicas: make([]replica.ID, 1000)}).Seal(key)
	require.ErrorContains(t, err, "more than an entry can say")
}

// faulty is a keyring of which all is wrong that can be.
type faulty struct {
	Keyring
	err error
}

func (f faulty) Ask(context.Context, App, Ask) (Asked, error) { return Asked{}, f.err }

// What is wrong with a keyring, an app is not told: the words for it name files and identities.
func TestAppsAreNotToldWhatIsWrong(t *testing.T) {
	for _, fault := range []error{
		fmt.Errorf("keyring: /home/alice/.skerry/keyring/obj_x.json: %w", identity.ErrBadKeystore),
		fmt.Errorf("the keyring at /home/alice/keyring.sock does not answer"),
	} {
		var told error
		b := ServeApp(t.Context(), faulty{err: fault}, App{Peer: "p"},
			[]byte(`{"version":1,"op":"ask","ask":{}}`), func(err error) { told = err })
		require.NotContains(t, string(b), "alice")
		require.Contains(t, string(b), `"error":"failed"`)
		require.Equal(t, fault, told)
	}
	b := ServeApp(t.Context(), faulty{err: fmt.Errorf("none: %w", ErrNoIdentity)}, App{Peer: "p"},
		[]byte(`{"version":1,"op":"ask","ask":{}}`), func(err error) { t.Error(err) })
	require.Contains(t, string(b), `"error":"no_identity"`)
}

// The damaged file of one identity keeps no app from asking, and no other identity from answering.
func TestDamagedFileOfAnotherIdentity(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := newLocal(dir, newClock().now)
	good, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	bad, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.path(bad.ID), []byte("{"), 0o600))
	asked, err := l.Ask(
		ctx, App{Peer: "p"}, Ask{Application: "app.example", Challenge: randomBytes(32)},
	)
	require.NoError(t, err)
	require.ErrorIs(t, l.Approve(ctx, asked.Request, identity.ID{}, password), ErrWhichIdentity)
	require.NoError(t, l.Approve(ctx, asked.Request, good.ID, password))
	_, err = l.Identities(ctx)
	require.ErrorIs(t, err, identity.ErrBadKeystore, "a person is told")
}

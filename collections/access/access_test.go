package access_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

const start = 1_700_000_000_000

func at(ms int64) access.Clock { return func() time.Time { return time.UnixMilli(ms) } }

// A nonce is used once, for as long as a request of its time would be let in, also by a server that
// was started again.
func TestNonces(t *testing.T) {
	for _, journal := range []bool{false, true} {
		dir := ""
		if journal {
			dir = filepath.Join(t.TempDir(), "nonces")
		}
		n, err := access.NewNonces(access.NonceOptions{Dir: dir, Clock: at(start)})
		require.NoError(t, err)
		for i := range int64(100) { // over more than the time that is remembered
			now := start + i*20_000
			nonce := fmt.Sprint(i)
			require.NoError(t, n.Use(t.Context(), "alice", nonce, now-250_000, now))
			require.NoError(t, n.Use(t.Context(), "bob", nonce, now-250_000, now))
			require.ErrorIs(t, n.Use(t.Context(), "alice", nonce, now-250_000, now), access.ErrReplayed)
			require.ErrorIs(
				t, n.Use(t.Context(), "alice", nonce, now, now), access.ErrReplayed, "with another time",
			)
			if journal && i%7 == 0 {
				if i%2 == 0 { // otherwise it is as if the process had been killed
					require.NoError(t, n.Close())
				}
				n, err = access.NewNonces(access.NonceOptions{Dir: dir, Clock: at(now)})
				require.NoError(t, err)
				require.ErrorIs(
					t, n.Use(t.Context(), "alice", nonce, now-250_000, now+40_000), access.ErrReplayed,
				)
				if i > 0 {
					require.ErrorIs(
						t, n.Use(t.Context(), "bob", fmt.Sprint(i-1), now-270_000, now+5_000), access.ErrReplayed,
					)
				}
			}
		}
		if journal {
			files, err := filepath.Glob(filepath.Join(dir, "*"))
			require.NoError(t, err)
			require.Len(t, files, 2)
			for _, f := range files {
				st, err := os.Stat(f)
				require.NoError(t, err)
				require.Less(t, st.Size(), int64(24*200))
			}
		}
		require.NoError(t, n.Close())
	}
}

// The journal does not grow for years because the clock was years ahead for a moment.
func TestNonceJournalAfterAWrongClock(t *testing.T) {
	dir := t.TempDir()
	const ahead, each = 400 * 24 * 60 * 60_000, 20_000
	n, err := access.NewNonces(access.NonceOptions{Dir: dir, Clock: at(start)})
	require.NoError(t, err)
	require.NoError(t, n.Use(t.Context(), "alice", "ahead", start+ahead, start+ahead))
	for i := range int64(500) {
		now := start + i*each
		require.NoError(t, n.Use(t.Context(), "alice", fmt.Sprint(i), now, now))
	}
	require.NoError(t, n.Close())
	size := int64(0)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	for _, f := range files {
		st, err := os.Stat(f)
		require.NoError(t, err)
		size += st.Size()
	}
	require.Less(t, size, int64(24*200))
}

// One party, with as many keys as it likes, does not take what is remembered for all others; and
// whoever is refused is not let in twice by being forgotten.
func TestNobodyFillsTheNonces(t *testing.T) {
	const most = 1 << 14
	for name, use := range map[string]func(*access.Nonces) access.NonceStore{
		"alone": func(n *access.Nonces) access.NonceStore { return n },
		"with others": func(n *access.Nonces) access.NonceStore {
			return &access.SharedNonces{Store: store.NewMemory(), Skew: 5 * time.Minute, Local: n}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := access.NewNonces(access.NonceOptions{Max: most})
			require.NoError(t, err)
			s, count := use(n), 0
			// send sends from an address until it is refused, most requests at most.
			send := func(address string, signer func(i int) string, most int) (taken int) {
				ctx := access.WithSource(t.Context(), address)
				for i := range most {
					count++
					if err := s.Use(ctx, signer(i), fmt.Sprint(count), start+300_000, start); err != nil {
						require.ErrorIs(t, err, access.ErrTooMany)
						return i
					}
				}
				return most
			}
			one := func(int) string { return "mallory" }
			many := func(i int) string { return fmt.Sprint("mallory", count) }
			require.Equal(t, most/64, send("192.0.2.1", one, most), "one key")
			require.Equal(
				t, most/16-most/64, send("192.0.2.1", many, most), "any number of keys at one address",
			)
			require.Equal(t, 0, send("::ffff:192.0.2.1", many, most))
			require.Equal(t, most/16, send("2001:db8::1", many, most))
			require.Equal(t, 0, send("2001:db8:0:ff::1", many, most), "the same network")
			require.NoError(
				t, s.Use(access.WithSource(t.Context(), "192.0.2.2"), "alice", "a", start, start),
			)
			// Whoever has so many addresses leaves the rest to those who ask for little.
			for i := range 4 * 16 {
				send(fmt.Sprintf("198.51.100.%d", i), many, most)
			}
			require.NoError(
				t, s.Use(access.WithSource(t.Context(), "192.0.2.2"), "alice", "b", start, start),
			)
			require.Equal(t, 3, send("192.0.2.3", func(int) string { return "bob" }, 3))
			require.ErrorIs(
				t, s.Use(access.WithSource(t.Context(), "192.0.2.2"), "alice", "a", start, start),
				access.ErrReplayed,
			)
			require.Equal(t, 3, send("192.0.2.4", func(int) string { return "carol" }, 3))
			// Behind a proxy of this machine all are one source, so they are not bounded as one.
			require.Equal(t, 100, send("127.0.0.1", func(i int) string {
				return fmt.Sprint("local", i)
			}, 100))
			require.NoError(t, n.Close())
		})
	}
}

// A server that was started again has all that it let in, however much that is.
func TestNoncesAreReadBack(t *testing.T) {
	dir := t.TempDir()
	n, err := access.NewNonces(access.NonceOptions{Dir: dir, Max: 1 << 12, Clock: at(start)})
	require.NoError(t, err)
	for i := range 200 {
		require.NoError(t, n.Use(t.Context(), fmt.Sprint("old", i), "x", start, start))
	}
	now := start + int64(20*time.Minute/time.Millisecond)
	for i := range 200 {
		require.NoError(t, n.Use(t.Context(), fmt.Sprint("new", i), "x", now, now))
	}
	n, err = access.NewNonces(access.NonceOptions{Dir: dir, Max: 300, Clock: at(now)})
	require.NoError(t, err)
	for i := range 200 {
		require.ErrorIs(t, n.Use(t.Context(), fmt.Sprint("new", i), "x", now, now), access.ErrReplayed)
		require.ErrorIs(t, n.Use(t.Context(), fmt.Sprint("old", i), "x", start, now), access.ErrForgotten)
	}
	require.NoError(t, n.Close())
}

// Servers that share a store let a request in once, and what is of no use any more is removed.
func TestSharedNonces(t *testing.T) {
	ctx := t.Context()
	s := store.NewMemory()
	one, two := &access.SharedNonces{
		Store: s, Skew: 10 * time.Second,
	}, &access.SharedNonces{Store: s, Skew: 10 * time.Second}
	const count = 1500
	for i := range int64(count) {
		require.NoError(t, one.Use(ctx, "a", fmt.Sprint(i), start+i, start))
	}
	require.ErrorIs(t, two.Use(ctx, "a", "7", start+7, start), access.ErrReplayed)
	require.NoError(t, two.Use(ctx, "b", "7", start+7, start))
	require.NoError(t, two.Use(ctx, "b", "8", start+30_000, start+30_000))
	require.NoError(t, one.Clean(ctx, start+20_000))
	require.ErrorIs(
		t, two.Use(ctx, "a", "7", start+7, start), access.ErrReplayed,
		"it may still be let in by another",
	)
	require.NoError(t, one.Clean(ctx, start+23_000))
	keys, err := s.List(ctx, "__sync__/nonces/", "", 10)
	require.NoError(t, err)
	require.Len(t, keys, 1)
	away := errors.New("away")
	broken := &access.SharedNonces{
		Store: &store.Funcs{OnPut: func(context.Context, string, *store.Object, store.Condition) error {
			return away
		}}, Skew: time.Second,
	}
	require.ErrorIs(t, broken.Use(ctx, "a", "1", start, start), away)
}

// A clock that goes back lets nothing in a second time: what is remembered is known, and what may
// have been forgotten is denied until its time has passed.
func TestNoncesClockGoesBack(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		o := access.NonceOptions{
			Skew: 10 * time.Second, Dir: t.TempDir(), Name: "short", Clock: at(start),
		}
		n, err := access.NewNonces(o)
		require.NoError(t, err)
		const hour = 3_600_000
		require.NoError(t, n.Use(t.Context(), "a", "early", start, start))
		require.NoError(
			t, n.Use(t.Context(), "a", "late", start+hour, start+hour), "the first is forgotten",
		)
		if restarted {
			require.NoError(t, n.Close())
			o.Clock = at(start)
			n, err = access.NewNonces(o)
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, n.Use(t.Context(), "a", "other", start, start), access.ErrForgotten)
			require.NoError(t, n.Use(t.Context(), "a", "other", start+5_000, start+5_000))
		}
		if !restarted { // after a start the journal still knows it
			require.ErrorIs(t, n.Use(t.Context(), "a", "early", start, start), access.ErrForgotten)
		} else {
			require.ErrorIs(t, n.Use(t.Context(), "a", "early", start, start), access.ErrReplayed)
		}
		require.ErrorIs(t, n.Use(t.Context(), "a", "late", start+hour, start+hour), access.ErrReplayed)
		require.NoError(t, n.Close())
		o.Clock = at(start + 2*hour)
		n, err = access.NewNonces(o)
		require.NoError(t, err)
		require.ErrorIs(t, n.Use(t.Context(), "a", "late", start+hour, start+hour), access.ErrForgotten)
		require.NoError(t, n.Close())
	}
}

// What is cut off at the end of a journal is left out.
func TestNoncesCutOff(t *testing.T) {
	dir := t.TempDir()
	n, err := access.NewNonces(access.NonceOptions{Dir: dir, Clock: at(start)})
	require.NoError(t, err)
	require.NoError(t, n.Use(t.Context(), "a", "1", start, start))
	require.NoError(t, n.Use(t.Context(), "a", "2", start, start))
	require.NoError(t, n.Close())
	require.NoError(t, os.Truncate(filepath.Join(dir, "nonces.1.log"), 30))
	n, err = access.NewNonces(access.NonceOptions{Dir: dir, Clock: at(start)})
	require.NoError(t, err)
	require.ErrorIs(t, n.Use(t.Context(), "a", "1", start, start), access.ErrReplayed)
	require.NoError(t, n.Use(t.Context(), "a", "2", start, start))
	require.NoError(t, n.Close())
}

func key(t *testing.T, b byte) capcert.Key {
	k, err := capcert.NewKey(slices.Repeat([]byte{b}, 32))
	require.NoError(t, err)
	return k
}

func TestRevocations(t *testing.T) {
	ctx := t.Context()
	s := store.NewMemory()
	r, err := access.NewRevocations(ctx, s, s)
	require.NoError(t, err)
	issuer := key(t, 1)
	sign := func(generation int64, certs []capcert.Revoked, subjects ...string) *capcert.Revocations {
		l, err := capcert.SignRevocations(issuer, generation, certs, subjects)
		require.NoError(t, err)
		return l
	}
	require.False(t, r.IsRevoked(issuer.Public, "s", "n"))
	require.NoError(
		t,
		r.Accept(ctx, sign(2, []capcert.Revoked{{Subject: "s", Nonce: "n"}, {Nonce: "link"}}, "all", "")),
	)
	check := func(r *access.Revocations) {
		require.True(t, r.IsRevoked(issuer.Public, "s", "n"))
		require.False(t, r.IsRevoked(issuer.Public, "s", "other"))
		require.True(t, r.IsRevoked(issuer.Public, "all", "any"))
		require.True(t, r.IsRevoked(issuer.Public, "", "link"))
		require.False(t, r.IsRevoked(issuer.Public, "", "other link"), "no subject is not a subject")
		require.False(t, r.IsRevoked(key(t, 2).Public, "s", "n"))
	}
	check(r)
	require.ErrorIs(t, r.Accept(ctx, sign(2, nil)), access.ErrStale)
	require.ErrorIs(t, r.Accept(ctx, sign(1, nil)), access.ErrStale)
	again, err := access.NewRevocations(ctx, s, s)
	require.NoError(t, err)
	check(again)
	require.NoError(t, again.Accept(ctx, sign(3, nil)))
	require.True(t, r.IsRevoked(issuer.Public, "s", "n"))
	require.NoError(t, r.Load(ctx), "what another server has accepted")
	require.False(t, r.IsRevoked(issuer.Public, "s", "n"))
	require.NoError(
		t, s.Put(ctx, "__sync__/revocations/x", &store.Object{Body: []byte("{}")}, store.Whatever),
	)
	require.ErrorIs(t, r.Load(ctx), capcert.ErrRevocations)
	require.ErrorIs(
		t, access.CheckInternal("__sync__/revocations/x", []byte("{}")), capcert.ErrRevocations,
	)
	require.NoError(t, access.CheckInternal("__sync__/else", []byte("{}")))
	keys, err := s.List(ctx, "__sync__/revocations/", "", 10)
	require.NoError(t, err)
	require.Equal(
		t,
		[]string{"__sync__/revocations/" + issuer.Public + "/0000000000000003", "__sync__/revocations/x"},
		keys, "one list of an issuer",
	)
	last, err := access.NewRevocations(ctx, s, s)
	require.NoError(t, err, "what is none keeps the others from nobody")
	require.False(t, last.IsRevoked(issuer.Public, "s", "n"))
	require.ErrorIs(t, last.Accept(ctx, sign(3, nil)), access.ErrStale)
}

func TestEnrichers(t *testing.T) {
	ctx := t.Context()
	docs := document.In(store.NewMemory(), nil)
	now := int64(start)
	clock := func() time.Time { return time.UnixMilli(now) }
	list := func(features ...any) {
		base := ""
		if d, err := docs.Get(ctx, "users/alice/entitlements"); err == nil && d != nil {
			base = d.Hash
		}
		_, err := docs.Push(
			ctx, "users/alice/entitlements",
			value.NewObject(value.Member{Key: "features", Value: value.Array(features)}), &base, nil, false,
		)
		require.NoError(t, err)
	}
	e := access.Compose(
		access.Entitlements{}.Enricher(docs, clock), access.IdentityRole("alice", "admin"),
	)
	roles := func(identity string) []string {
		got, err := e(ctx, &access.Auth{Identity: identity}, access.Place{})
		require.NoError(t, err)
		return got
	}
	list("gold", 5.0)
	require.Equal(t, []string{"entitlement:gold", "admin"}, roles("alice"))
	require.Empty(t, roles("bob"))
	require.Empty(t, roles(""))
	list("silver")
	require.Equal(t, []string{"entitlement:gold", "admin"}, roles("alice"), "it is remembered")
	now += 60_000
	require.Equal(t, []string{"entitlement:silver", "admin"}, roles("alice"))
	failing := errors.New("away")
	_, err := access.Compose(
		access.IdentityRole("alice", "admin"),
		func(context.Context, *access.Auth, access.Place) ([]string, error) {
			return nil, failing
		},
	)(ctx, &access.Auth{}, access.Place{})
	require.ErrorIs(t, err, failing)
}

func TestRestricted(t *testing.T) {
	c, err := config.Parse(
		[]byte(
			`{"version": 1, "restrictions": [{"mode": "deny", "identities": ["carol"]}], "collections": [{"name": "a", "storagePath": "a/{id}", "readRoles": ["public"], "writeRoles": ["public"], "maxBodyBytes": 1,
		"restrictions": [{"mode": "allow", "identities": ["alice"], "actions": ["push"]}]}]}`,
		),
	)
	require.NoError(t, err)
	require.True(t, access.HasRestrictions(c))
	col := c.Collections[0]
	for _, x := range []struct {
		who, action string
		shut        bool
	}{
		{"alice", "push", false}, {"bob", "push", true}, {"", "push", true}, {"bob", "pull", false},
		{"", "pull", false}, {"carol", "pull", true}, {"carol", "push", true},
	} {
		require.Equal(t, x.shut, access.Restricted(c, col, x.who, x.action), "%v", x)
	}
}

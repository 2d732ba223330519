package replica

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// grantFrom makes a grant below a parent, which may be nil.
func grantFrom(parent *Grant, by, to SecretKey, issued uint64, edit func(*Grant)) Grant {
	g := Grant{
		Replica:  testKey(1).Replica(),
		Author:   to.Author(),
		Issued:   issued,
		NotAfter: Forever,
		Parent:   parent,
	}
	if edit != nil {
		edit(&g)
	}
	g.Sign(by)
	return g
}

func delegable(g *Grant) { g.Delegable = true }

func under(prefix string) func(*Grant) { return func(g *Grant) { g.Prefix = []byte(prefix) } }

func revocation(by SecretKey, authority *Grant, of SecretKey, issued, from uint64) Revocation {
	r := Revocation{
		Replica:   testKey(1).Replica(),
		Author:    of.Author(),
		Issued:    issued,
		From:      from,
		Authority: authority,
	}
	r.Sign(by)
	return r
}

// The rule of revocation, case by case. Owner is 1; 2, 3, 4 are authors.
func TestAuthority(t *testing.T) {
	owner, a, b := testKey(1), testKey(2), testKey(3)
	toA := grantFrom(nil, owner, a, 10, delegable)
	aToB := grantFrom(&toA, a, b, 20, under("p/"))
	entry := func(by SecretKey, key string, at uint64) *Entry {
		return &Entry{
			Replica: owner.Replica(), Author: by.Author(), Key: []byte(key), Timestamp: at,
		}
	}
	for name, tc := range map[string]struct {
		grants      []Grant
		revocations []Revocation
		entry       *Entry
		want        bool
	}{
		"granted":                   {[]Grant{toA}, nil, entry(a, "x", 5), true},
		"nobody granted anything":   {nil, nil, entry(a, "x", 5), false},
		"delegated":                 {[]Grant{aToB}, nil, entry(b, "p/x", 5), true},
		"delegated, another prefix": {[]Grant{aToB}, nil, entry(b, "q", 5), false},
		"before the revocation": {
			[]Grant{toA}, []Revocation{revocation(owner, nil, a, 30, 100)}, entry(a, "x", 99), true,
		},
		"from the revocation on": {
			[]Grant{toA},
			[]Revocation{revocation(owner, nil, a, 30, 100)},
			entry(a, "x", 100),
			false,
		},
		"everything revoked": {
			[]Grant{toA}, []Revocation{revocation(owner, nil, a, 30, 0)}, entry(a, "x", 0), false,
		},
		"the earliest counts": {
			[]Grant{toA},
			[]Revocation{revocation(owner, nil, a, 30, 100), revocation(owner, nil, a, 31, 50)},
			entry(a, "x", 60),
			false,
		},
		"granted anew": {
			[]Grant{toA, grantFrom(nil, owner, a, 40, nil)},
			[]Revocation{revocation(owner, nil, a, 30, 50)},
			entry(a, "x", 60),
			true,
		},
		"an old grant is not a new one": {
			[]Grant{toA, grantFrom(nil, owner, a, 30, nil)},
			[]Revocation{revocation(owner, nil, a, 30, 50)},
			entry(a, "x", 60),
			false,
		},
		"the delegator is revoked": {
			[]Grant{aToB},
			[]Revocation{revocation(owner, nil, a, 30, 100)},
			entry(b, "p/x", 100),
			false,
		},
		"the delegator is revoked later": {
			[]Grant{aToB},
			[]Revocation{revocation(owner, nil, a, 30, 101)},
			entry(b, "p/x", 100),
			true,
		},
		"by the delegator": {
			[]Grant{aToB},
			[]Revocation{revocation(a, &toA, b, 30, 100)},
			entry(b, "p/x", 100),
			false,
		},
		"not by those below": {
			[]Grant{toA}, []Revocation{revocation(a, &toA, a, 30, 100)}, entry(a, "x", 100), true,
		},
		"no bringing back from below": {
			[]Grant{grantFrom(&toA, a, b, 99, nil)},
			[]Revocation{revocation(owner, nil, b, 30, 100)},
			entry(b, "x", 100),
			false,
		},
		"but from above": {
			[]Grant{grantFrom(nil, owner, b, 99, nil)},
			[]Revocation{revocation(a, &toA, b, 30, 100)},
			entry(b, "x", 100),
			true,
		},
		"outside of the time of a grant": {
			[]Grant{
				grantFrom(nil, owner, a, 1, func(g *Grant) { g.NotBefore, g.NotAfter = 10, 20 }),
			},
			nil,
			entry(a, "x", 21),
			false,
		},
		"at the end of the time": {
			[]Grant{
				grantFrom(nil, owner, a, 1, func(g *Grant) { g.NotBefore, g.NotAfter = 10, 20 }),
			},
			nil,
			entry(a, "x", 20),
			true,
		},
		"the end of all time": {
			[]Grant{toA}, nil, entry(a, "x", math.MaxUint64), true,
		},
		"made after its issuer was revoked": {
			[]Grant{grantFrom(&toA, a, b, 50, under("p/"))},
			[]Revocation{revocation(owner, nil, a, 60, 50)},
			entry(b, "p/x", 10),
			false,
		},
		"made before its issuer was revoked": {
			[]Grant{grantFrom(&toA, a, b, 49, under("p/"))},
			[]Revocation{revocation(owner, nil, a, 60, 50)},
			entry(b, "p/x", 10),
			true,
		},
		"made by whom a delegate had revoked": {
			[]Grant{grantFrom(ref(grantFrom(&toA, a, b, 20, delegable)), b, testKey(4), 50, nil)},
			[]Revocation{revocation(a, &toA, b, 60, 40)},
			entry(testKey(4), "x", 10),
			true,
		},
		"below what was made too late": {
			[]Grant{grantFrom(ref(grantFrom(&toA, a, b, 50, delegable)), b, testKey(4), 30, nil)},
			[]Revocation{revocation(owner, nil, a, 60, 40)},
			entry(testKey(4), "x", 10),
			false,
		},
		"somebody else's revocation": {
			[]Grant{toA}, []Revocation{revocation(owner, nil, b, 30, 0)}, entry(a, "x", 100), true,
		},
		"a revocation of another replica": {
			[]Grant{toA},
			[]Revocation{{Replica: ID{7}, Author: a.Author(), Issued: 30}},
			entry(a, "x", 100),
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // in either order
				var mine []Grant
				for _, g := range tc.grants {
					require.NoError(t, g.Verify())
					if g.Author == tc.entry.Author {
						mine = append(mine, g)
					}
				}
				got, err := authorityOf(mine, func(author AuthorID) (of []Revocation, _ error) {
					for _, r := range tc.revocations {
						if r.Author == author {
							of = append(of, r)
						}
					}
					return of, nil
				})
				require.NoError(t, err)
				require.Equal(t, tc.want, got.Allows(tc.entry))
				slices.Reverse(tc.grants)
				slices.Reverse(tc.revocations)
			}
		})
	}
}

// Statements that nobody could rightly make are refused, and the good ones beside them are kept.
func TestRefusedStatements(t *testing.T) {
	owner, a, b, stranger := testKey(1), testKey(2), testKey(3), testKey(9)
	limited := grantFrom(nil, owner, a, 10, func(g *Grant) {
		g.Delegable, g.Prefix, g.NotBefore, g.NotAfter = true, []byte("p/"), 100, 200
	})
	plain := grantFrom(nil, owner, a, 10, nil)
	within := func(edit func(*Grant)) Grant {
		return grantFrom(&limited, a, b, 150, func(g *Grant) {
			g.Prefix, g.NotBefore, g.NotAfter = []byte("p/q"), 100, 200
			edit(g)
		})
	}
	other := grantFrom(nil, owner, a, 10, delegable)
	other.Replica = stranger.Replica()
	other.Sign(stranger)
	forged := within(func(*Grant) {})
	forged.Signature[5] ^= 1
	forgedParent := limited
	forgedParent.NotAfter = Forever
	good := within(func(*Grant) {})
	for name, tc := range map[string]struct {
		st   Statement
		want error
	}{
		"forged": {&forged, ErrBadSignature},
		"signed by somebody else": {
			ref(grantFrom(nil, stranger, a, 1, nil)), ErrBadSignature,
		},
		"a forged parent": {
			ref(
				grantFrom(
					&forgedParent,
					a,
					b,
					150,
					func(g *Grant) { g.Prefix, g.NotBefore = []byte("p/"), 100 },
				),
			),
			ErrBadSignature,
		},
		"a wider prefix": {
			ref(within(func(g *Grant) { g.Prefix = []byte("p") })), ErrTooWide,
		},
		"an earlier beginning": {
			ref(within(func(g *Grant) { g.NotBefore = 99 })), ErrTooWide,
		},
		"a later end": {
			ref(within(func(g *Grant) { g.NotAfter = 201 })), ErrTooWide,
		},
		"made before its parent began": {
			ref(within(func(g *Grant) { g.Issued = 99 })), ErrOutOfTime,
		},
		"made after its parent ended": {
			ref(within(func(g *Grant) { g.Issued = 201 })), ErrOutOfTime,
		},
		"a revocation made too early": {ref(revocation(a, &limited, b, 99, 0)), ErrOutOfTime},
		"a revocation made too late":  {ref(revocation(a, &limited, b, 201, 0)), ErrOutOfTime},
		"not delegable":               {ref(grantFrom(&plain, a, b, 20, nil)), ErrTooWide},
		"of another replica":          {&other, ErrWrongReplica},
		"a parent of another replica": {ref(grantFrom(&other, a, b, 20, nil)), ErrWrongReplica},
		"a revocation by a stranger": {
			ref(revocation(stranger, nil, a, 1, 0)), ErrBadSignature,
		},
		"by somebody who may only write": {ref(revocation(a, &plain, b, 1, 0)), ErrTooWide},
		"by authority over another":      {ref(revocation(a, &other, b, 1, 0)), ErrWrongReplica},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, newClock())
			id := hold(t, s, owner, Read)
			n, err := s.InsertStatements(bg, id, []Statement{tc.st, &good})
			require.ErrorIs(t, err, tc.want)
			require.Equal(t, 1, n.Added, "the good one is kept")
		})
	}
}

// A chain has a limit, on the wire as well.
func TestGrantChains(t *testing.T) {
	parent := grantFrom(nil, testKey(1), testKey(2), 1, delegable)
	for i := byte(2); ; i++ {
		back, err := ParseGrant(parent.Bytes())
		if i > MaxChain+1 {
			require.ErrorIs(t, err, ErrMalformedGrant)
			return
		}
		require.NoError(t, err)
		require.Equal(t, parent.Bytes(), back.Bytes())
		require.NoError(t, back.Verify())
		above := parent
		parent = grantFrom(&above, testKey(i), testKey(i+1), uint64(i), delegable)
	}
}

// Grant and Revoke, as a node does them, with its own keys.
func TestGrantAndRevoke(t *testing.T) {
	c := newClock()
	owner, helper, guest := newStore(t, c), newStore(t, c), newStore(t, c)
	id := hold(t, owner, testKey(1), Write)
	keys := map[*Store]SecretKey{}
	for _, s := range []*Store{helper, guest} {
		hold(t, s, testKey(1), Read)
		author, err := s.NewAuthor(bg)
		require.NoError(t, err)
		keys[s], err = s.AuthorKey(bg, author)
		require.NoError(t, err)
	}
	spread := func() {
		exchange(t, owner, helper, id)
		exchange(t, helper, guest, id)
		exchange(t, owner, helper, id)
	}
	_, err := helper.Grant(bg, id, keys[guest].Author(), Permission{})
	require.ErrorIs(t, err, ErrCannotGrant)
	_, err = owner.Grant(
		bg, id, keys[helper].Author(), Permission{Prefix: []byte("photos/"), Delegable: true},
	)
	require.NoError(t, err)
	spread()
	_, err = helper.Grant(bg, id, keys[guest].Author(), Permission{})
	require.ErrorIs(t, err, ErrCannotGrant, "wider than its own")
	_, err = helper.Grant(bg, id, keys[guest].Author(), Permission{Prefix: []byte("photos/2026/")})
	require.NoError(t, err)
	_, err = guest.Revoke(bg, id, keys[helper].Author(), 0)
	require.ErrorIs(t, err, ErrCannotGrant)
	spread()
	write(t, guest, id, keys[guest], "photos/2026/a", "1")
	_, err = guest.Write(bg, id, keys[guest], []Change{change("photos/2025", "1")})
	var denied *NotAllowedError
	require.ErrorAs(t, err, &denied)
	spread()
	require.Len(t, collect(t, owner.Entries(bg, id, Query{})), 1)

	_, err = helper.Revoke(bg, id, testKey(7).Author(), 0)
	require.ErrorIs(t, err, ErrNotFound)
	sub := owner.Subscribe(id)
	defer sub.Close()
	_, err = helper.Revoke(bg, id, keys[guest].Author(), 0)
	require.NoError(t, err)
	spread()
	for _, s := range []*Store{owner, helper, guest} {
		require.Empty(
			t, collect(t, s.Entries(bg, id, Query{})), "what the guest wrote is void everywhere",
		)
		rep, err := s.Check(bg, id, false, nil)
		require.NoError(t, err)
		require.Empty(t, rep.Faults)
	}
	events, _, err := sub.Next(bg)
	require.NoError(t, err)
	require.Len(t, events, 1)
	require.True(t, events[0].Dropped)
	_, err = guest.Write(bg, id, keys[guest], []Change{change("photos/2026/b", "1")})
	require.ErrorAs(t, err, &denied)

	_, err = helper.Grant(bg, id, keys[guest].Author(), Permission{Prefix: []byte("photos/2026/")})
	require.NoError(t, err, "granted anew, within the same microsecond")
	spread()
	write(t, guest, id, keys[guest], "photos/2026/c", "1")
}

// A store that is cut off while it drops what is void goes on when it is opened again.
func TestDroppingIsResumed(t *testing.T) {
	testkit.OneGoroutine(t)
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	defer db.Close()
	cut := &cutOff{Store: kvtest.Limit(db, 64<<10), left: math.MaxInt}
	c := newClock()
	s, err := Open(bg, cut, Config{Now: c.now})
	require.NoError(t, err)
	id := hold(t, s, testKey(1), Write)
	var changes []Change
	for i := range 5000 {
		changes = append(changes, change(fmt.Sprintf("k%04d", i), "v"))
	}
	for _, author := range []byte{2, 3} {
		_, err = s.Write(bg, id, testKey(author), changes)
		require.NoError(t, err)
	}
	cut.left = 12
	_, err = s.Revoke(bg, id, testKey(2).Author(), 0)
	require.ErrorIs(t, err, errCutOff)
	cut.left = math.MaxInt
	counts, err := s.Counts(bg, id)
	require.NoError(t, err)
	require.Greater(t, counts.Entries, uint64(5000))
	require.Less(t, counts.Entries, uint64(10000))

	s, err = Open(bg, cut, Config{Now: c.now})
	require.NoError(t, err)
	entries := collect(t, s.Entries(bg, id, Query{}))
	require.Len(t, entries, 5000)
	for i := range entries {
		require.Equal(t, testKey(3).Author(), entries[i].Author)
	}
	rep, err := s.Check(bg, id, false, nil)
	require.NoError(t, err)
	require.Empty(t, rep.Faults)
	require.Zero(t, rep.Bad)
}

var errCutOff = errors.New("cut off")

// cutOff fails all updates after some.
type cutOff struct {
	kv.Store
	left int
}

func (c *cutOff) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if c.left == 0 {
		return errCutOff
	}
	c.left--
	return c.Store.Update(ctx, fn)
}

// Whoever is granted, delegates, is revoked, writes on and writes entries that pretend to be old:
// after sessions all nodes hold the same, and nothing that is void.
func TestNodesAgreeAboutRevocations(t *testing.T) {
	c := newClock()
	rapid.Check(t, func(rt *rapid.T) {
		key := testKey(1)
		id := key.Replica()
		var stores []*Store
		for i := range 3 {
			s := newStore(rt, c)
			capability := Read
			if i == 0 {
				capability = Write
			}
			hold(rt, s, key, capability)
			for a := byte(2); a <= 4; a++ { // every node knows all keys: whoever wants to cheat may
				require.NoError(rt, s.kv.Update(bg, func(tx kv.Txn) error {
					author, seed := testKey(a).Author(), testKey(a).Seed()
					return tx.Set(append([]byte(keyAuthor), author[:]...), seed[:])
				}))
			}
			stores = append(stores, s)
		}
		prefixes := rapid.SampledFrom([]string{"", "a", "ab"})
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			c.t = c.t.Add(time.Duration(rapid.IntRange(0, 3).Draw(rt, "time")) * time.Microsecond)
			s := rapid.SampledFrom(stores).Draw(rt, "store")
			author := testKey(rapid.ByteRange(2, 4).Draw(rt, "author"))
			now := uint64(c.t.UnixMicro())
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0, 1:
				_, err := s.Grant(
					bg,
					id,
					author.Author(),
					Permission{
						Prefix:    []byte(prefixes.Draw(rt, "prefix")),
						Delegable: rapid.Bool().Draw(rt, "delegable"),
					},
				)
				require.True(rt, err == nil || errors.Is(err, ErrCannotGrant), err)
			case 2:
				from := uint64(0)
				if rapid.IntRange(0, 3).Draw(rt, "all") > 0 {
					from = now - uint64(rapid.IntRange(0, 5).Draw(rt, "from"))
				}
				_, err := s.Revoke(bg, id, author.Author(), from)
				require.True(
					rt,
					err == nil || errors.Is(err, ErrCannotGrant) || errors.Is(err, ErrNotFound),
					err,
				)
			case 3:
				other := rapid.SampledFrom(stores).Draw(rt, "with")
				if other != s {
					exchange(rt, s, other, id)
				}
			default:
				ch := change(
					rapid.SampledFrom([]string{"a", "abc", "b"}).Draw(rt, "key"),
					fmt.Sprint(rapid.IntRange(0, 5).Draw(rt, "value")),
				)
				e := Entry{
					Replica:   id,
					Timestamp: now - uint64(rapid.IntRange(0, 9).Draw(rt, "age")),
					Size:      ch.Size,
					Hash:      ch.Hash,
					Key:       ch.Key,
				}
				e.Sign(author)
				_, err := s.Insert(bg, id, []Entry{e}, Local)
				require.True(rt, err == nil || errors.Is(err, ErrNotGranted), err)
			}
		}
		for range 2 {
			exchange(rt, stores[0], stores[1], id)
			exchange(rt, stores[2], stores[1], id)
			exchange(rt, stores[1], stores[0], id)
		}
		want, err := stores[0].SharedFingerprint(bg, id)
		require.NoError(rt, err)
		for _, s := range stores {
			got, err := s.SharedFingerprint(bg, id)
			require.NoError(rt, err)
			require.Equal(rt, want, got)
			rep, err := s.Check(bg, id, false, nil)
			require.NoError(rt, err)
			require.Empty(rt, rep.Faults)
			require.Zero(rt, rep.Bad, "entries that are void")
			require.NoError(rt, s.kv.Close())
		}
	})
}

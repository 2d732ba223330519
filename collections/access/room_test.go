package access_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/store"
)

// keyOf is a key that has a name.
func keyOf(t *testing.T, name string) capcert.Key {
	seed := sha256.Sum256([]byte(name))
	k, err := capcert.NewKey(seed[:])
	require.NoError(t, err)
	return k
}

// ranked are lists with room for some, and a rank for each of some names.
type ranked struct {
	*access.Revocations
	t     *testing.T
	store store.Store
	ranks map[string]access.Rank // by identity
}

func newRanked(t *testing.T, most int) *ranked {
	x := &ranked{t: t, store: store.NewMemory(), ranks: map[string]access.Rank{}}
	x.open(most)
	return x
}

func (x *ranked) open(most int) {
	var err error
	x.Revocations, err = access.NewRevocations(x.t.Context(), nil)
	require.NoError(x.t, err)
	x.SetStore(x.store)
	x.SetMost(most, 1<<30)
	require.NoError(x.t, x.Load(x.t.Context()))
	require.NoError(x.t, x.Judge(x.t.Context(), func(_ context.Context, id string) (access.Rank, error) { return x.ranks[id], nil }))
}

func (x *ranked) rank(name string, r access.Rank) {
	id, err := capcert.UserID(keyOf(x.t, name).Public)
	require.NoError(x.t, err)
	x.ranks[id] = r
}

// accept brings the first list of a name from an address.
func (x *ranked) accept(name, address string) error {
	l, err := capcert.SignRevocations(keyOf(x.t, name), 1, nil, []string{"stolen"})
	require.NoError(x.t, err)
	return x.Accept(access.WithSource(x.t.Context(), address), l)
}

func (x *ranked) has(name string) bool { return x.IsRevoked(keyOf(x.t, name).Public, "stolen", "n") }

// stored returns how many lists the store has.
func (x *ranked) stored() int {
	keys, err := x.store.List(x.t.Context(), "__sync__/revocations/", "", 1000)
	require.NoError(x.t, err)
	return len(keys)
}

// However many lists strangers bring, from however many places, one that matters has room.
func TestRoomForListsThatMatter(t *testing.T) {
	const most = 50
	x := newRanked(t, most)
	for i := range 2 * most {
		_ = x.accept(fmt.Sprint("stranger", i), fmt.Sprintf("198.51.%d.1", i%40)) // several from each
	}
	require.Equal(t, most, x.stored())
	x.rank("owner", access.Owner)
	require.NoError(t, x.accept("owner", "198.51.0.1"))
	require.True(t, x.has("owner"))
	require.Equal(t, most, x.stored(), "what has made room is not kept elsewhere")
	x.Present(keyOf(t, "known").Public)
	require.NoError(t, x.accept("known", "203.0.113.1"))
	for i := range 10 * most {
		_ = x.accept(fmt.Sprint("more", i), fmt.Sprintf("198.18.%d.%d", i>>8, i&255))
	}
	require.True(t, x.has("owner"))
	require.True(t, x.has("known"))

	// Where all matter as much, those go of whoever has brought most.
	for i := range most {
		name := fmt.Sprint("made", i)
		x.rank(name, access.Owner)
		_ = x.accept(name, "198.51.0.1")
	}
	require.ErrorIs(t, x.accept("made49", "198.51.0.1"), access.ErrTooManyIssuers)
	for i := range 10 {
		name := fmt.Sprint("other", i)
		x.rank(name, access.Owner)
		require.NoError(t, x.accept(name, fmt.Sprintf("203.0.113.%d", i)))
		require.True(t, x.has(name))
	}
	require.ErrorIs(t, x.accept("stranger", "192.0.2.1"), access.ErrTooManyIssuers)
	x.rank("admin", access.Named)
	require.NoError(t, x.accept("admin", "198.51.0.1"))
	require.True(t, x.has("admin"))

	// After a start the same lists count, those that matter also beyond what there is room for.
	x.open(most)
	require.True(t, x.has("admin"))
	x.open(1)
	require.True(t, x.has("admin"))
	require.True(t, x.has("other9"))
}

// One who shares an address with a flood of lists may still revoke.
func TestFloodFromTheSameAddress(t *testing.T) {
	x := newRanked(t, 1000)
	var err error
	for i := 0; err == nil; i++ {
		err = x.accept(fmt.Sprint("stranger", i), "198.51.100.1")
	}
	require.ErrorIs(t, err, access.ErrTooOften)
	for name, rank := range map[string]access.Rank{"owner": access.Owner, "admin": access.Named} {
		require.ErrorIs(t, x.accept(name, "198.51.100.1"), access.ErrTooOften)
		x.rank(name, rank)
		require.NoError(t, x.accept(name, "198.51.100.1"))
	}
}

// A list of certificates that are over protects nothing, and neither does that of one who stays a
// stranger.
func TestUselessListsExpire(t *testing.T) {
	x := newRanked(t, 1000)
	now := time.Unix(1_700_000_000, 0)
	x.SetNow(func() time.Time { return now })
	list := func(name string, subjects []string, ends ...int64) {
		var certs []capcert.Revoked
		for _, e := range ends {
			certs = append(certs, capcert.Revoked{Subject: "s", Nonce: fmt.Sprint("n", e), Expires: e})
		}
		l, err := capcert.SignRevocations(keyOf(t, name), 1, certs, subjects)
		require.NoError(t, err)
		require.NoError(t, x.Accept(t.Context(), l))
	}
	const end = 1_700_010_000
	list("over", nil, end-1, end)
	list("later", nil, end-1, end+10_000)
	list("whoever", []string{"stolen"}, end)
	list("without end", nil, 0)
	x.rank("owner", access.Owner)
	list("owner", nil, end)
	list("known", []string{"stolen"})
	kept := func() (all []string) {
		for _, name := range []string{"over", "later", "whoever", "without end", "owner", "known"} {
			k := keyOf(t, name).Public
			if x.IsRevoked(k, "stolen", "") || x.IsRevoked(k, "s", fmt.Sprint("n", end)) ||
				x.IsRevoked(k, "s", fmt.Sprint("n", end-1)) || x.IsRevoked(k, "s", "n0") {
				all = append(all, name)
			}
		}
		require.Equal(t, len(all), x.stored())
		return all
	}
	now = time.Unix(end+capcert.Skew, 0)
	require.NoError(t, x.Load(t.Context()))
	require.Equal(t, []string{"over", "later", "whoever", "without end", "owner", "known"}, kept())
	now = now.Add(time.Second)
	require.NoError(t, x.Load(t.Context()))
	require.Equal(t, []string{"later", "whoever", "without end", "owner", "known"}, kept())
	x.Present(keyOf(t, "known").Public)
	now = now.Add(access.StrangerKept + time.Hour)
	require.NoError(t, x.Load(t.Context()))
	require.Equal(t, []string{"owner", "known"}, kept())
}

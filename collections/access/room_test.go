package access_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/store"
)

// keyOf is a key that has a name.
func keyOf(t require.TestingT, name string) capcert.Key {
	seed := sha256.Sum256([]byte(name))
	k, err := capcert.NewKey(seed[:])
	require.NoError(t, err)
	return k
}

// ranked are lists with room for some, and a rank for each of some names.
type ranked struct {
	*access.Revocations
	t     require.TestingT
	store store.Store
	now   time.Time
	ranks map[string]access.Rank // by identity
	bad   map[string]error       // of what is to be found out, by identity
}

func newRanked(t require.TestingT, most int) *ranked {
	x := &ranked{
		t: t, store: store.NewMemory(), now: time.UnixMilli(start), ranks: map[string]access.Rank{},
		bad: map[string]error{},
	}
	x.open(most)
	return x
}

// open begins anew with what is in the store, as a server that has been restarted, or another one
// of the store.
func (x *ranked) open(most int) {
	ctx := context.Background()
	var err error
	x.Revocations, err = access.NewRevocations(ctx, nil, nil)
	require.NoError(x.t, err)
	x.SetStore(x.store, x.store)
	x.SetMost(most, 1<<30)
	x.SetNow(func() time.Time { return x.now })
	require.NoError(x.t, x.Load(ctx))
	require.NoError(x.t, x.Judge(ctx, func(_ context.Context, id string) (access.Rank, error) {
		return x.ranks[id], x.bad[id]
	}))
}

// rank makes a name somebody of a rank from now on.
func (x *ranked) rank(name string, r access.Rank) { x.standing(name, r, x.now) }

// standing makes a name somebody of a rank, one of whose certificates was presented at a time if
// that is before now.
func (x *ranked) standing(name string, r access.Rank, since time.Time) {
	id, err := capcert.UserID(keyOf(x.t, name).Public)
	require.NoError(x.t, err)
	x.ranks[id] = r
	if now := x.now; !since.IsZero() && since.Before(now) {
		x.now = since
		x.Present(keyOf(x.t, name).Public)
		x.now = now
	}
}

// loadAll loads until there is nothing left to note.
func (x *ranked) loadAll() {
	require.NoError(x.t, x.Load(context.Background()))
	for range 100 {
		if x.Marked() == 0 {
			return
		}
		require.NoError(x.t, x.Load(context.Background()))
	}
	require.Zero(x.t, x.Marked())
}

// accept brings the first list of a name from an address.
func (x *ranked) accept(name, address string) error {
	l, ok := firstLists.Load(name)
	if !ok {
		signed, err := capcert.SignRevocations(keyOf(x.t, name), 1, nil, []string{"stolen"})
		require.NoError(x.t, err)
		l, _ = firstLists.LoadOrStore(name, signed)
	}
	ctx := access.WithSource(context.Background(), address)
	return x.Accept(ctx, l.(*capcert.Revocations))
}

// firstLists are the first lists of names, which are the same in all tests.
var firstLists sync.Map // by name

func (x *ranked) has(name string) bool {
	return x.IsRevoked(keyOf(x.t, name).Public, "stolen", "n")
}

// stored returns how many lists the store has.
func (x *ranked) stored() int {
	keys, err := x.store.List(context.Background(), "__sync__/revocations/", "", 1000)
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

	// Owners get no more than half of the room from others, and where all matter as much, those go of
	// whoever has brought most.
	for i := range 2 * most {
		name := fmt.Sprint("made", i)
		x.standing(name, access.Owner, x.now.Add(-access.Old)) // which have each a share of their own
		_ = x.accept(name, "198.51.0.1")
	}
	require.ErrorIs(t, x.accept("made99", "198.51.0.1"), access.ErrTooManyIssuers)
	require.True(t, x.has("known"))
	for i := range 10 {
		name := fmt.Sprint("other", i)
		x.rank(name, access.Owner)
		require.NoError(t, x.accept(name, fmt.Sprintf("203.0.113.%d", i)))
		require.True(t, x.has(name))
	}
	x.rank("admin", access.Named)
	require.NoError(t, x.accept("admin", "198.51.0.1"))
	require.True(t, x.has("admin"))

	// After a start the same lists count, and whom the configuration names also beyond the room.
	x.open(most)
	require.True(t, x.has("admin"))
	require.True(t, x.has("other9"))
	x.open(1)
	require.True(t, x.has("admin"))
}

// One who shares an address with a flood of lists may still revoke.
func TestFloodFromTheSameAddress(t *testing.T) {
	x := newRanked(t, 1000)
	before := x.now.Add(-access.Old)
	var err error
	for i := 0; err == nil; i++ {
		err = x.accept(fmt.Sprint("stranger", i), "198.51.100.1")
	}
	require.ErrorIs(t, err, access.ErrTooOften)
	for name, rank := range map[string]access.Rank{"owner": access.Owner, "admin": access.Named} {
		require.ErrorIs(t, x.accept(name, "198.51.100.1"), access.ErrTooOften)
		x.standing(name, rank, before)
		require.NoError(t, x.accept(name, "198.51.100.1"))
	}
	// An owner who has come into being since has the owners' share of the address.
	err = nil
	for i := 0; err == nil; i++ {
		name := fmt.Sprint("made", i)
		x.rank(name, access.Owner)
		err = x.accept(name, "198.51.100.1")
		require.LessOrEqual(t, i, access.SourceLists)
	}
	require.ErrorIs(t, err, access.ErrTooOften)
	x.standing("another", access.Owner, before)
	require.NoError(t, x.accept("another", "198.51.100.1"))
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
	now = now.Add(time.Hour)
	x.Present(keyOf(t, "known").Public)
	now = now.Add(access.StrangerKept)
	require.NoError(t, x.Load(t.Context()))
	require.Equal(t, []string{"owner", "known"}, kept())
	now = now.Add(access.StrangerKept) // after which it is looked at again
	require.NoError(t, x.Load(t.Context()))
	now = now.Add(time.Second)
	require.NoError(t, x.Load(t.Context()))
	require.Equal(t, []string{"owner"}, kept(), "nobody has presented a certificate any more")
}

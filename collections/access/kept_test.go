package access_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/storetest"
	"github.com/skerry-sync/skerry/collections/value"
)

// list is a list of a name, of about so many bytes.
func list(t *testing.T, name string, generation int64, size int) *capcert.Revocations {
	subjects := []string{"stolen"}
	if size > 0 {
		subjects = append(subjects, strings.Repeat("s", size))
	}
	l, err := capcert.SignRevocations(keyOf(t, name), generation, nil, subjects)
	require.NoError(t, err)
	return l
}

// bring puts a list of a name into the store, as another node that has the replica does.
func (x *ranked) bring(t *testing.T, name string, generation int64, size int) {
	l := list(t, name, generation, size)
	o := &store.Object{Body: value.Append(nil, l.Object())}
	key := fmt.Sprintf("__sync__/revocations/%s/%016d", l.Issuer, generation)
	require.NoError(t, x.store.Put(t.Context(), key, o, store.Whatever))
}

const storedLists, storedNotes = "__sync__/revocations/", "__sync__/standing/"

func (x *ranked) keyOf(name string, generation int64) string {
	return fmt.Sprintf("%s%s/%016d", storedLists, keyOf(x.t, name).Public, generation)
}

func (x *ranked) storesList(name string, generation int64) bool {
	_, err := x.store.Get(context.Background(), x.keyOf(name, generation))
	return err == nil
}

func (x *ranked) note(name string) string {
	o, err := x.store.Get(context.Background(), storedNotes+keyOf(x.t, name).Public)
	if err != nil {
		return ""
	}
	return string(o.Body)
}

func (x *ranked) breaks(name string) {
	id, err := capcert.UserID(keyOf(x.t, name).Public)
	require.NoError(x.t, err)
	x.bad[id] = storetest.ErrBroken
}

// An owner of whom it cannot be found out how much its list matters keeps nobody else from
// revoking, and no list from expiring.
func TestOneUnreadableOwner(t *testing.T) {
	x := newRanked(t, 4)
	require.NoError(t, x.accept("unreadable", "192.0.2.1"))
	for i := range 3 {
		require.NoError(t, x.accept(fmt.Sprint("stranger", i), "192.0.2.1"))
	}
	x.breaks("unreadable")
	for i := range 3 {
		x.Present(keyOf(t, fmt.Sprint("known", i)).Public)
		require.NoError(t, x.accept(fmt.Sprint("known", i), "192.0.2.2"))
	}
	require.True(t, x.has("unreadable"))
	x.Present(keyOf(t, "known3").Public)
	require.ErrorIs(t, x.accept("known3", "192.0.2.2"), storetest.ErrBroken, "there is no other")

	x.now = x.now.Add(access.StrangerKept + time.Second)
	require.ErrorIs(t, x.Load(t.Context()), storetest.ErrBroken)
	require.True(t, x.has("unreadable"))
	for i := range 3 {
		require.False(t, x.has(fmt.Sprint("known", i)))
	}
}

// A list or a note that cannot be read keeps no other list from counting.
func TestOneUnreadableList(t *testing.T) {
	x := newRanked(t, 100)
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		require.NoError(t, x.accept(name, "192.0.2.1"))
	}
	good := x.store
	for _, c := range []struct {
		key    string
		counts bool
	}{{x.keyOf("b", 1), false}, {storedNotes + keyOf(t, "b").Public, true}} {
		x.store = good
		x.open(100)
		f := &storetest.Failing{Store: good, How: "get", Key: c.key}
		r, err := access.NewRevocations(t.Context(), f, f)
		require.Equal(t, c.counts, err == nil, "a server does not start without a list that counts")
		x.Revocations = r
		require.Equal(t, c.counts, x.has("b"))
		for _, name := range []string{"a", "c", "d"} {
			require.True(t, x.has(name), name)
		}
		f.How = ""
		require.NoError(t, r.Load(t.Context()))
		require.True(t, x.has("b"))
	}
}

// An owner is old who was seen a day ago, however often it writes, and also after a restart, though
// it has brought no list. Its age outlives its list.
func TestOwnersAreKnownSinceTheyWereSeen(t *testing.T) {
	x := newRanked(t, 1)
	began := x.now.UnixMilli()
	x.rank("owner", access.Owner)
	x.Present(keyOf(t, "owner").Public)
	x.Present(keyOf(t, "stranger").Public)
	x.loadAll()
	require.Empty(t, x.note("stranger"), "who may be anybody")
	x.open(1)
	x.now = x.now.Add(access.Old - 1)
	long := list(t, "owner", 1, access.MaxUnknown)
	require.ErrorIs(t, x.Accept(t.Context(), long), access.ErrTooLong)
	x.now = x.now.Add(1)
	require.NoError(t, x.Accept(t.Context(), long))
	require.Contains(t, x.note("owner"), fmt.Sprint(`"since":`, began))
	require.Contains(t, x.note("owner"), `"from":""`)

	x.Present(keyOf(t, "known").Public) // who takes back what owners have beyond half of the room
	require.NoError(t, x.accept("known", "192.0.2.1"))
	require.False(t, x.has("owner"))
	require.Contains(t, x.note("owner"), fmt.Sprint(`"since":`, began))
	require.NotContains(t, x.note("owner"), `"from"`)
}

// An owner's note does not put this server in charge of a list that another node has brought.
func TestNoteOfAnOwnerIsNoteOfNoList(t *testing.T) {
	x := newRanked(t, 10)
	notes := store.NewMemory()
	r, err := access.NewRevocations(t.Context(), x.store, notes)
	require.NoError(t, err)
	require.NoError(t, r.Judge(t.Context(), func(context.Context, string) (access.Rank, error) {
		return access.Owner, nil
	}))
	r.Present(keyOf(t, "owner").Public)
	require.NoError(t, r.Load(t.Context()))
	keys, err := notes.List(t.Context(), "", "", 10)
	require.NoError(t, err)
	require.Equal(t, []string{storedNotes + keyOf(t, "owner").Public}, keys)
	x.bring(t, "owner", 1, 0)
	require.NoError(t, r.Load(t.Context()))
	x.Revocations = r
	require.True(t, x.has("owner"))
	require.Zero(t, r.Brought())
}

// Who was presented remains so for 30 days after the last time, also in a server that runs on, and
// a list of one who remains a stranger ends after 30 days, also in a server that is restarted.
func TestPresentedEnds(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		x := newRanked(t, 100)
		require.NoError(t, x.accept("stranger", "192.0.2.1"))
		require.NoError(t, x.accept("once", "192.0.2.1"))
		require.NoError(t, x.accept("often", "192.0.2.1"))
		x.Present(keyOf(t, "once").Public)
		for day := range 75 {
			x.Present(keyOf(t, "often").Public)
			x.now = x.now.Add(24 * time.Hour)
			x.loadAll()
			if restarts && day%10 == 0 {
				x.open(100)
				x.loadAll()
			}
			require.Equal(t, day < 30, x.has("stranger"), day)
			require.True(t, x.has("often"))
		}
		require.False(t, x.has("once"))
	}
}

// A list that is in the store counts, whatever else fails, and is no failure for whoever has sent
// it. What has failed is done the next time.
func TestWhatCountsIsAnswered(t *testing.T) {
	for _, c := range []struct{ how, key string }{
		{"delete", storedLists}, {"put", storedNotes}, {"get", storedNotes},
	} {
		x := newRanked(t, 100)
		require.NoError(t, x.Accept(t.Context(), list(t, "a", 1, 0)))
		f := &storetest.Failing{Store: x.store, How: c.how, Key: c.key}
		x.SetStore(f, f)
		x.now = x.now.Add(time.Second)
		l := list(t, "a", 2, 0)
		require.NoError(t, x.Accept(t.Context(), l), c.how)
		require.ErrorIs(t, x.Accept(t.Context(), l), access.ErrStale)
		require.NoError(t, x.Accept(t.Context(), list(t, "b", 1, 0)), c.how)
		if c.how != "delete" {
			require.Empty(t, x.note("b"), c.how)
		}
		require.ErrorIs(t, x.Load(t.Context()), storetest.ErrBroken, c.how)
		f.How = ""
		require.NoError(t, x.Load(t.Context()), c.how)
		require.False(t, x.storesList("a", 1), c.how)
		require.NotEmpty(t, x.note("b"), c.how)
		require.Zero(t, x.Marked())
	}
}

// A list that cannot be stored has removed none.
func TestListsStayForOneThatIsNotStored(t *testing.T) {
	x := newRanked(t, 2)
	require.NoError(t, x.accept("stranger", "192.0.2.1"))
	require.NoError(t, x.accept("stranger2", "192.0.2.1"))
	f := &storetest.Failing{Store: x.store, How: "put", Key: storedLists}
	x.SetStore(f, f)
	x.rank("owner", access.Owner)
	require.ErrorIs(t, x.accept("owner", "192.0.2.2"), storetest.ErrBroken)
	require.False(t, x.has("owner"))
	for _, name := range []string{"stranger", "stranger2"} {
		require.True(t, x.has(name))
		require.True(t, x.storesList(name, 1))
	}
	f.How = ""
	require.NoError(t, x.accept("owner", "192.0.2.2"))
	require.Equal(t, 2, x.stored())
}

// However many lists owners have in a store, and however they grow, those that count have a bound.
// What there is no room for is not read again each time.
func TestRoomForListsOfOwners(t *testing.T) {
	const most = 20
	x := newRanked(t, most)
	for i := range 3 * most {
		name := fmt.Sprint("owner", i)
		x.rank(name, access.Owner)
		x.bring(t, name, 1, 0)
	}
	x.rank("admin", access.Named)
	x.bring(t, "admin", 1, 0)
	counting := func() (n int) {
		for i := range 3 * most {
			if x.has(fmt.Sprint("owner", i)) {
				n++
			}
		}
		return n
	}
	f := &storetest.Failing{Store: x.store}
	x.store = f
	x.open(most)
	require.True(t, x.has("admin"))
	require.LessOrEqual(t, counting(), most)
	require.GreaterOrEqual(t, counting(), most-1)
	require.Equal(t, 3*most+1, x.stored(), "of whoever has brought them")
	for range 3 {
		f.Gets = 0
		require.NoError(t, x.Load(t.Context()))
		require.Zero(t, f.Gets)
	}
	x.now = x.now.Add(access.LeftFor)
	require.NoError(t, x.Load(t.Context()))
	require.Positive(t, f.Gets, "some may matter more by now")

	// Later generations are longer.
	x.SetMost(most, 10_000)
	for i := range 3 * most {
		x.bring(t, fmt.Sprint("owner", i), 2, 1000)
	}
	x.bring(t, "admin", 2, 50_000)
	require.NoError(t, x.Load(t.Context()))
	require.LessOrEqual(t, x.Bytes(), 10_000)
	require.LessOrEqual(t, counting(), most)
	require.True(t, x.has("admin"))
}

// Whom the configuration names takes no room, however long their lists are.
func TestNamedTakeNoRoom(t *testing.T) {
	x := newRanked(t, 2)
	x.SetMost(2, 10_000)
	for i := range 3 {
		x.rank(fmt.Sprint("admin", i), access.Named)
		require.NoError(t, x.Accept(t.Context(), list(t, fmt.Sprint("admin", i), 1, 50_000)))
	}
	x.bring(t, "stranger", 1, 9000)
	require.NoError(t, x.Load(t.Context()))
	require.True(t, x.has("stranger"))
	require.NoError(t, x.Accept(t.Context(), list(t, "stranger2", 1, 0)))
	full := x.Accept(t.Context(), list(t, "stranger3", 1, 0))
	require.ErrorIs(t, full, access.ErrTooManyIssuers)
}

// Whose certificates are presented is read again at once, though there was no room for its list.
func TestWhoIsPresentedIsReadAgain(t *testing.T) {
	x := newRanked(t, 2)
	require.NoError(t, x.accept("stranger", "192.0.2.1"))
	require.NoError(t, x.accept("stranger2", "192.0.2.1"))
	x.bring(t, "known", 1, 0)
	require.NoError(t, x.Load(t.Context()))
	require.False(t, x.has("known"))
	x.Present(keyOf(t, "known").Public)
	require.NoError(t, x.Load(t.Context()))
	require.True(t, x.has("known"))
}

// When lists have expired, those count that there was no room for.
func TestRoomThatBecomesFree(t *testing.T) {
	x := newRanked(t, 1)
	require.NoError(t, x.accept("stranger", "192.0.2.1"))
	x.now = x.now.Add(access.StrangerKept)
	x.bring(t, "other", 1, 0)
	require.NoError(t, x.Load(t.Context()))
	require.False(t, x.has("other"))
	x.now = x.now.Add(time.Second)
	for range 2 {
		require.NoError(t, x.Load(t.Context()))
	}
	require.False(t, x.has("stranger"))
	require.True(t, x.has("other"))
}

// Whom the configuration names no longer takes room as others do, also if that was before a start.
func TestNamedNoLonger(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		x := newRanked(t, 2)
		for _, name := range []string{"admin", "admin2"} {
			x.rank(name, access.Named)
			require.NoError(t, x.accept(name, "192.0.2.1"))
			x.rank(name, access.Stranger)
		}
		if restarts {
			x.open(2)
		} else {
			require.NoError(t, x.Load(t.Context()))
		}
		x.rank("owner", access.Owner)
		require.NoError(t, x.accept("owner", "192.0.2.2"))
		require.True(t, x.has("owner"))
		require.Equal(t, 2, x.stored(), "one has made room")
	}
}

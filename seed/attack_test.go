package seed

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/seed/report"
)

// An entry that claims one byte, and then the same content with its true size: the second is
// charged in full, and has no room. What nobody is charged for is collected, whoever else had it.
func TestContentIsChargedInFull(t *testing.T) {
	const size = 3 << 20
	x := newShop(t, Limits{Bytes: 4 << 20, Replicas: 2, Grace: time.Hour}, limits.Config{})
	ctx := t.Context()
	b := make([]byte, size)
	_, _ = rand.Read(b)
	claims := func(n uint64, key string) replica.Change {
		return replica.Change{Key: []byte(key), Hash: blobs.HashOf(b), Size: n}
	}
	// Somebody else has the content kept, in the whole.
	friend := identity.ID{2}
	other := x.register(t, friend)
	require.Equal(t, 1, x.write(t, other, claims(size, "honest")))
	_, err := x.n.Blobs().ImportBytes(ctx, b)
	require.NoError(t, err)

	require.Equal(t, 2, x.write(t, x.secret, claims(1, "a"), claims(size/2, "b")))
	_, u := x.state(t, x.who, x.secret.Replica())
	require.Greater(t, u.Bytes, uint64(size/2))
	require.Equal(t, 1, x.write(t, x.secret, claims(size, "c")), "the entry is kept")
	state, u := x.state(t, x.who, x.secret.Replica())
	require.Equal(t, Paused, state, "and its content has no room beside what is claimed")
	require.LessOrEqual(t, u.Bytes, uint64(4<<20))

	collect := func() bool {
		_, err := x.n.Collect(ctx, false, nil)
		require.NoError(t, err)
		has, err := x.n.Blobs().Has(ctx, blobs.HashOf(b))
		require.NoError(t, err)
		return has
	}
	require.True(t, collect(), "the other is charged for it")
	x.end(t, friend, other.Replica())
	require.False(t, collect(), "one byte does not keep three million")

	// With its true size alone, it fits, and is kept.
	require.Equal(
		t, 2, x.write(t, x.secret, replica.Change{Key: []byte("a")}, replica.Change{Key: []byte("b")}),
	)
	_, err = x.n.Blobs().ImportBytes(ctx, b)
	require.NoError(t, err)
	require.NoError(t, x.retryRefused(ctx))
	require.NoError(t, x.n.CatchUp(ctx, x.secret.Replica()))
	state, u = x.state(t, x.who, x.secret.Replica())
	require.NotEqual(t, Paused, state)
	require.Greater(t, u.Bytes, uint64(size))
	require.True(t, collect())
}

// end ends a registration at once.
func (x *shop) end(t *testing.T, who identity.ID, id replica.ID) {
	t.Helper()
	grace := x.reg.limits.Grace
	x.reg.limits.Grace = -time.Second
	_, err := x.reg.Unregister(t.Context(), x.n.Store(), who, id, time.Now().Add(time.Minute))
	require.NoError(t, err)
	require.NoError(t, x.sweep(t.Context()))
	x.reg.limits.Grace = grace
}

// Deletions with long keys stop at the quota: what is on the disk stays within it, the owner sees
// why, and deleting brings it back.
func TestLongKeysAreCharged(t *testing.T) {
	testkit.SeenElsewhere(t)
	const limit = 4 << 20
	x := newShop(t, Limits{Bytes: limit, Replicas: 2, Grace: time.Hour}, limits.Config{})
	id := x.secret.Replica()
	b := make([]byte, 1<<20)
	_, _ = rand.Read(b)
	info, err := x.n.Blobs().ImportBytes(t.Context(), b)
	require.NoError(t, err)
	require.Equal(
		t, 1,
		x.write(t, x.secret, replica.Change{Key: []byte("value"), Hash: info.Hash, Size: info.Size}),
	)
	taken := 0
	for i := range 200 { // 12 MB of keys
		taken += x.write(t, x.secret, replica.Change{Key: longKey(i)})
	}
	require.Less(t, taken, 40)
	state, u := x.state(t, x.who, id)
	require.Equal(t, Full, state)
	require.LessOrEqual(t, u.Bytes, uint64(limit+limit/reserveShare))
	require.Zero(t, x.write(t, x.secret, replica.Change{Key: longKey(0)}), "nothing more")

	// What replaces an entry is taken also now, and makes room.
	require.Equal(t, 1, x.write(t, x.secret, replica.Change{Key: []byte("value")}))
	require.NoError(t, x.retryRefused(t.Context()))
	state, _ = x.state(t, x.who, id)
	require.NotEqual(t, Full, state)
	require.Equal(t, 1, x.write(t, x.secret, replica.Change{Key: longKey(1)}))

	// The owner revokes whoever wrote them: all of it goes.
	r := replica.Revocation{Replica: id, Author: x.author.Author(), Issued: x.now + 1}
	r.Sign(x.secret)
	_, err = x.n.TakeStatements(t.Context(), id, [][]byte{r.Bytes()})
	require.NoError(t, err)
	_, u = x.state(t, x.who, id)
	require.Less(t, u.Bytes, uint64(4<<10), "two statements are left")
	require.LessOrEqual(t, x.disk(t), uint64(limit+limit/reserveShare))
}

// Statements are charged, too, and stop a little beyond the quota.
func TestStatementsAreCharged(t *testing.T) {
	testkit.SeenElsewhere(t)
	const limit = 1 << 20
	x := newShop(t, Limits{Bytes: limit, Replicas: 2, Grace: time.Hour}, limits.Config{})
	id := x.secret.Replica()
	added := 0
	for i := range 4000 {
		g := replica.Grant{
			Replica: id, Author: replica.AuthorID{1, byte(i), byte(i >> 8)}, NotAfter: replica.Forever,
			Issued: x.now, Prefix: longKey(i)[:500],
		}
		g.Sign(x.secret)
		n, err := x.n.TakeStatements(t.Context(), id, [][]byte{g.Bytes()})
		require.NoError(t, err)
		added += n.Added
	}
	require.Less(t, added, limit/500)
	state, u := x.state(t, x.who, id)
	require.Equal(t, Full, state)
	require.LessOrEqual(t, u.Bytes, uint64(limit+limit/reserveShare))
	require.Zero(
		t, x.write(t, x.secret, replica.Change{Key: []byte("k"), Hash: blobs.Hash{1}, Size: 1}),
	)
	require.LessOrEqual(t, x.disk(t), u.Bytes)
}

// Each identity that has registered a replica is charged for its entries in full, so nothing is
// kept for free when the others have gone; and who has no room for them cannot register it.
func TestSharedReplicaIsChargedToEach(t *testing.T) {
	const limit = 2 << 20
	x := newShop(t, Limits{Bytes: limit, Replicas: 3, Grace: time.Hour}, limits.Config{})
	id := x.secret.Replica()
	for i := range 8 {
		require.Equal(t, 1, x.write(t, x.secret, replica.Change{Key: longKey(i)}))
	}
	_, u := x.state(t, x.who, id)
	second, third := identity.ID{2}, identity.ID{3}
	x.registerOld(t, second, id)
	_, u2 := x.state(t, second, id)
	require.Equal(t, u, u2)

	full := x.register(t, third)
	for i := range 8 {
		require.Equal(t, 1, x.write(t, full, replica.Change{Key: longKey(i)}))
	}
	_, err := x.reg.Register(t.Context(), x.n.Store(), third, id, "", "", time.Now())
	require.ErrorIs(t, err, ErrQuota)

	x.end(t, x.who, id)
	_, u2 = x.state(t, second, id)
	require.Equal(t, u, u2, "all of it, also without the first")
	for i := range 20 {
		x.write(t, x.secret, replica.Change{Key: longKey(i)})
	}
	_, u2 = x.state(t, second, id)
	require.LessOrEqual(t, u2.Bytes, uint64(limit+limit/reserveShare))
}

// A replica that is registered in the moment in which it is to be left does not become the seed's
// own, which no quota binds.
func TestRegisteredWhileLeaving(t *testing.T) {
	x := newShop(t, Limits{Bytes: 1 << 20, Replicas: 2, Grace: -time.Second}, limits.Config{})
	ctx, id := t.Context(), x.secret.Replica()
	_, err := x.reg.Unregister(ctx, x.n.Store(), x.who, id, time.Now().Add(time.Minute))
	require.NoError(t, err)
	leave, err := x.reg.Sweep(ctx, x.n.Store())
	require.NoError(t, err)
	require.Equal(t, []replica.ID{id}, leave) // and the seed dies, or is slow, before it leaves it
	require.NoError(t, keepOwn(ctx, x.n.Store(), id))
	x.registerOld(t, identity.ID{2}, id)
	require.NoError(t, x.sweep(ctx))
	_, err = x.n.Replicas().Get(ctx, id)
	require.NoError(t, err, "it is registered again, and is not left")
	for i := range 10 {
		x.write(t, x.secret, replica.Change{Key: longKey(i)})
	}
	state, _ := x.state(t, identity.ID{2}, id)
	require.Equal(t, Full, state, "the quota holds")
}

// A person sees in the status that entries have no room, and everything comes when there is room
// again.
func TestOwnerSeesThatEntriesHaveNoRoom(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), Limits{Bytes: 30_000, Replicas: 2, Grace: 24 * time.Hour}, c)
	ctx := t.Context()
	a := online(t, node.Config{}, nil)
	p := newPerson(t, c)
	client := Client{a, infoOf(s.n)}
	r, err := a.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	for i := range 5 {
		set(t, a, r.ID, fmt.Sprint("large", i), strings.Repeat(fmt.Sprint(i), 2000))
	}
	_, err = client.Register(ctx, p.request(t, s, r.ID, ticketFor(t, a, r, replica.Sync)))
	require.NoError(t, err)
	state := func() report.Answer {
		all, err := client.Backups(ctx, p.read(t, s))
		require.NoError(t, err)
		require.Len(t, all, 1)
		return all[0]
	}
	eventually(t, "what fits", func() bool {
		x := state()
		return x.State == "SYNCED" &&
			x.EntryCount == 5
	})
	for i := range 20 {
		set(t, a, r.ID, fmt.Sprint("small", i), fmt.Sprint(i))
	}
	eventually(t, "no room", func() bool {
		x := state()
		return x.State == "QUOTA" &&
			x.EntryCount < 25
	})
	require.LessOrEqual(t, state().BytesStored, uint64(30_000))
	for i := range 5 {
		set(t, a, r.ID, fmt.Sprint("large", i), "")
	}
	eventually(t, "all of it is there", func() bool {
		x := state()
		return x.State == "SYNCED" &&
			x.EntryCount == 20
	})
}

// Nothing is given back that was not charged, and a registration that ends leaves nothing to be
// done.
func TestNothingIsGivenBackThatWasNotCharged(t *testing.T) {
	s := newStore(t)
	reg := NewRegistry(Limits{Bytes: 1 << 20, Replicas: 3, Grace: -time.Second}, nil)
	id, now := identity.ID{1}, time.Now()
	first, second := replica.ID{1}, replica.ID{2}
	used := func() (u Usage) {
		require.NoError(t, s.View(bg, func(rd kv.Reader) (err error) {
			u, err = usageOf(rd, id)
			return err
		}))
		return u
	}
	_, err := reg.Register(bg, s, id, first, "", "", now)
	require.NoError(t, err)
	e := replica.Entry{Replica: first, Key: []byte("k"), Hash: blobs.Hash{1}, Size: 500_000}
	require.NoError(t, s.Update(bg, func(tx kv.Txn) error { _, err := reg.Put(tx, &e); return err }))
	before := used().Bytes
	require.Greater(t, before, uint64(500_000))

	// The seed holds the second replica for somebody else, and before its statements are charged, some
	// are void.
	_, err = reg.Register(bg, s, id, second, "", "", now)
	require.NoError(t, err)
	require.NoError(t, s.Update(bg, func(tx kv.Txn) error {
		_, err := reg.State(tx, second, -100_000, false)
		return err
	}))
	require.Equal(t, before, used().Bytes)

	_, err = reg.Unregister(bg, s, id, second, now.Add(time.Minute))
	require.NoError(t, err)
	leave, err := reg.Sweep(bg, s)
	require.NoError(t, err)
	require.Equal(t, []replica.ID{second}, leave)
	require.NoError(t, s.View(bg, func(rd kv.Reader) error {
		has, err := rd.Has(key(keyCharging, second[:]))
		require.False(t, has, "nobody is to be charged for it")
		return err
	}))
}

// Content that is refused, and whose entry then goes, leaves no note behind: what is there now all
// has room. While other content is refused, the replica stays paused.
func TestRefusedContentThatGoes(t *testing.T) {
	x := newShop(t, Limits{Bytes: 4 << 20, Replicas: 2, Grace: time.Hour}, limits.Config{})
	big := func(key string, hash byte, size uint64) replica.Change {
		return replica.Change{Key: []byte(key), Hash: blobs.Hash{hash}, Size: size}
	}
	state := func() State {
		t.Helper()
		require.NoError(t, x.retryRefused(t.Context())) // as the bell would
		s, _ := x.state(t, x.who, x.secret.Replica())
		return s
	}
	require.Equal(t, 1, x.write(t, x.secret, big("fits", 1, 3<<20)))
	require.NotEqual(t, Paused, state())
	require.Equal(t, 2, x.write(t, x.secret, big("two", 2, 2<<20), big("three", 3, 3<<20)))
	require.Equal(t, Paused, state())
	require.Equal(t, 1, x.write(t, x.secret, replica.Change{Key: []byte("two")}))
	require.Equal(t, Paused, state(), "the other has no room still")
	require.Equal(t, 1, x.write(t, x.secret, big("three", 4, 1000)))
	require.NotEqual(t, Paused, state(), "what is there fits")
	require.Len(t, x.reg.bell, 1, "and the seed was told to look")
}

// A seed that answers about something else than it was asked is not believed: it may have used the
// request otherwise.
func TestAnswersAboutSomethingElse(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), DefaultLimits, c)
	liar := online(t, node.Config{}, func(n *node.Node) {
		n.Serve(Protocol, func(st link.Stream) {
			defer st.Close()
			if _, err := readFrame(st, MaxRequest); err != nil {
				t.Error(err)
			}
			if err := writeFrame(st, []byte(`{"answer":{"replica_id":"x","state":"SYNCED"}}`)); err != nil {
				t.Error(err)
			}
		})
	})
	a := online(t, node.Config{}, nil)
	r, err := a.CreateReplica(t.Context(), "r", true)
	require.NoError(t, err)
	client, p := Client{a, infoOf(liar)}, newPerson(t, c)
	_, err = client.Register(t.Context(), p.request(t, s, r.ID, ticketFor(t, a, r, replica.Sync)))
	require.ErrorContains(t, err, `answers about "x"`)
	got, err := client.Unregister(t.Context(), p.request(t, s, r.ID, ""))
	require.ErrorContains(t, err, `answers about "x"`)
	require.Zero(t, got)
}

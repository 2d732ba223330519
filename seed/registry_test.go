package seed

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/replica"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

func newStore(t require.TestingT) kv.Store {
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	if tb, ok := t.(interface{ Cleanup(func()) }); ok {
		tb.Cleanup(func() { _ = db.Close() })
	}
	return kvtest.Rerun(db) // everything must bear a conflict
}

// The charges of identities are at each moment what their replicas' entries come to, each content once, whatever is put, put again, replaced, dropped, registered and ended.
func TestCharges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(t)
		now := time.Unix(1_000_000, 0)
		reg := NewRegistry(Limits{Bytes: 60, Replicas: 2, Grace: time.Hour}, func() time.Time { return now })
		ids := []identity.ID{{1}, {2}}
		reps := []replica.ID{{1}, {2}, {3}}
		type at struct {
			id  identity.ID
			rep replica.ID
		}
		registered := map[at]bool{}
		held := map[replica.ID]map[string]replica.Entry{}
		charged := map[at]map[string]replica.Entry{}
		for _, r := range reps {
			held[r] = map[string]replica.Entry{}
		}
		used := func(id identity.ID) (n uint64) {
			seen := map[blobs.Hash]bool{}
			for where, entries := range charged {
				if where.id != id {
					continue
				}
				for _, e := range entries {
					if !seen[e.Hash] {
						seen[e.Hash] = true
						n += e.Size
					}
				}
			}
			return n
		}
		put := func(e replica.Entry) {
			want := len(reg.mustIdentities(t, s, e.Replica)) == 0
			for _, id := range ids {
				where := at{id, e.Replica}
				if !registered[where] {
					continue
				}
				k := string(e.Key)
				if old, ok := charged[where][k]; ok && old.Hash == e.Hash {
					want = true
					continue
				}
				delete(charged[where], k)
				fits := used(id)+e.Size <= 60
				for w, entries := range charged {
					for _, other := range entries {
						fits = fits || w.id == id && other.Hash == e.Hash
					}
				}
				if fits {
					charged[where][k] = e
					want = true
				}
			}
			var got bool
			require.NoError(t, s.Update(bg, func(tx kv.Txn) (err error) { got, err = reg.Put(tx, &e); return err }))
			require.Equal(t, want, got)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Minute)
			rep := rapid.SampledFrom(reps).Draw(t, "replica")
			id := rapid.SampledFrom(ids).Draw(t, "identity")
			where := at{id, rep}
			k := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key")
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0:
				_, err := reg.Register(bg, s, id, rep, "", "", now)
				count := 0
				for w := range registered {
					if w.id == id && registered[w] {
						count++
					}
				}
				switch {
				case registered[where]:
					require.ErrorIs(t, err, ErrRegistered)
				case count >= 2:
					require.ErrorIs(t, err, ErrReplicaLimit)
				case used(id) >= 60:
					require.ErrorIs(t, err, ErrQuota)
				default:
					require.NoError(t, err)
					_, err = reg.Register(bg, s, id, rep, "", "", now)
					require.ErrorIs(t, err, ErrRegistered, "replayed")
					_, err = reg.Unregister(bg, s, id, rep, now)
					require.ErrorIs(t, err, ErrOldRequest, "the registration, taken for its end")
					registered[where], charged[where] = true, map[string]replica.Entry{}
					for _, e := range held[rep] { // as the seed does afterwards
						put(e)
					}
				}
			case 1:
				_, err := reg.Unregister(bg, s, id, rep, now)
				if !registered[where] {
					require.ErrorIs(t, err, ErrNotRegistered)
					continue
				}
				require.NoError(t, err)
				now = now.Add(2 * time.Hour)
				leave, err := reg.Sweep(bg, s)
				require.NoError(t, err)
				delete(registered, where)
				delete(charged, where)
				others := registered[at{ids[0], rep}] || registered[at{ids[1], rep}]
				require.Equal(t, !others, len(leave) == 1)
			case 2:
				e, ok := held[rep][k]
				if !ok {
					continue
				}
				delete(held[rep], k)
				for _, id := range ids {
					delete(charged[at{id, rep}], k)
				}
				require.NoError(t, s.Update(bg, func(tx kv.Txn) error { return reg.Drop(tx, &e) }))
			default:
				size := rapid.IntRange(1, 30).Draw(t, "size")
				e := replica.Entry{Replica: rep, Author: replica.AuthorID{9}, Key: []byte(k), Size: uint64(size), Hash: blobs.HashOf(fmt.Append(nil, size))}
				held[rep][k] = e
				put(e)
			}
			for _, id := range ids {
				_, u, err := reg.Of(bg, s, id)
				require.NoError(t, err)
				require.Equal(t, used(id), u.Bytes)
			}
		}
		// When all has ended, nothing is left of it.
		for where := range registered {
			now = now.Add(time.Minute)
			_, err := reg.Unregister(bg, s, where.id, where.rep, now)
			require.NoError(t, err)
		}
		now = now.Add(2 * time.Hour)
		_, err := reg.Sweep(bg, s)
		require.NoError(t, err)
		now = now.Add(25 * time.Hour)
		require.NoError(t, reg.forget(bg, s))
		require.NoError(t, s.View(bg, func(rd kv.Reader) error {
			for p, err := range rd.Scan(kv.Prefix([]byte("s")), kv.ScanOptions{}) {
				require.NoError(t, err)
				require.Equal(t, keyCharging, string(p.Key[:2]), "%x is left", p.Key)
			}
			return nil
		}))
	})
}

func (r *Registry) mustIdentities(t require.TestingT, s kv.Store, id replica.ID) (all []identity.ID) {
	require.NoError(t, s.View(bg, func(rd kv.Reader) (err error) {
		all, err = identitiesOf(rd, id)
		return err
	}))
	return all
}

// A registration that was ended is taken up again in its time of grace; a size that would overflow has no room.
func TestGraceAndOverflow(t *testing.T) {
	s := newStore(t)
	now := time.Unix(1_000_000, 0)
	reg := NewRegistry(DefaultLimits, func() time.Time { return now })
	id, rep := identity.ID{1}, replica.ID{1}
	_, err := reg.Register(bg, s, id, rep, "ticket", "", now)
	require.NoError(t, err)
	e := replica.Entry{Replica: rep, Key: []byte("k"), Hash: blobs.Hash{1}, Size: 5}
	require.NoError(t, s.Update(bg, func(tx kv.Txn) error { _, err := reg.Put(tx, &e); return err }))
	huge := replica.Entry{Replica: rep, Key: []byte("huge"), Hash: blobs.Hash{2}, Size: math.MaxUint64}
	require.NoError(t, s.Update(bg, func(tx kv.Txn) error {
		fetch, err := reg.Put(tx, &huge)
		require.False(t, fetch)
		return err
	}))
	refused, err := reg.Refused(bg, s, id, rep)
	require.NoError(t, err)
	require.True(t, refused)
	g, err := reg.Unregister(bg, s, id, rep, now.Add(time.Second))
	require.NoError(t, err)
	require.Equal(t, now.Add(7*24*time.Hour).UTC(), g.Deletion)
	_, err = reg.Unregister(bg, s, id, rep, now.Add(2*time.Second))
	require.ErrorIs(t, err, ErrNotRegistered)
	now = now.Add(6 * 24 * time.Hour)
	leave, err := reg.Sweep(bg, s)
	require.NoError(t, err)
	require.Empty(t, leave)
	_, err = reg.Register(bg, s, id, rep, "ticket", "", now)
	require.NoError(t, err)
	all, u, err := reg.Of(bg, s, id)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.True(t, all[0].Deletion.IsZero())
	require.Equal(t, Usage{5, 1}, u)
	now = now.Add(30 * 24 * time.Hour)
	leave, err = reg.Sweep(bg, s)
	require.NoError(t, err)
	require.Empty(t, leave)
}

// A replica of which no device is heard any more is given up after the time of retention and that of grace, unless one comes back in between.
func TestRetention(t *testing.T) {
	s := newStore(t)
	now := time.Unix(1_000_000, 0)
	reg := NewRegistry(Limits{Bytes: 60, Replicas: 2, Grace: 7 * 24 * time.Hour, Retention: 30 * 24 * time.Hour}, func() time.Time { return now })
	who, kept, gone := identity.ID{1}, replica.ID{1}, replica.ID{2}
	for _, id := range []replica.ID{kept, gone} {
		_, err := reg.Register(bg, s, who, id, "ticket", "", now)
		require.NoError(t, err)
	}
	heard := map[replica.ID]time.Time{kept: now, gone: now}
	lapse := func(lapsed, back int) {
		t.Helper()
		l, b, err := reg.Lapse(bg, s, func(_ context.Context, id replica.ID) (time.Time, error) { return heard[id], nil })
		require.NoError(t, err)
		require.Equal(t, [2]int{lapsed, back}, [2]int{l, b})
	}
	sweep := func(want ...replica.ID) {
		t.Helper()
		leave, err := reg.Sweep(bg, s)
		require.NoError(t, err)
		require.Equal(t, want, leave)
	}
	replicas := func() uint32 {
		_, u, err := reg.Of(bg, s, who)
		require.NoError(t, err)
		return u.Replicas
	}
	now = now.Add(30 * 24 * time.Hour)
	lapse(0, 0)
	now = now.Add(time.Second)
	lapse(2, 0)
	require.Zero(t, replicas())
	lapse(0, 0)
	now = now.Add(24 * time.Hour)
	heard[kept] = now
	lapse(0, 1)
	require.EqualValues(t, 1, replicas())
	sweep()
	now = now.Add(6 * 24 * time.Hour)
	sweep(gone)
	sweep()
	lapse(0, 0)
	all, _, err := reg.Of(bg, s, who)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.True(t, all[0].Deletion.IsZero())

	// One that its person has ended does not come back because a device still syncs it.
	_, err = reg.Unregister(bg, s, who, kept, now)
	require.NoError(t, err)
	heard[kept] = now.Add(time.Minute)
	lapse(0, 0)
	_, err = reg.Register(bg, s, who, kept, "ticket", "", now.Add(time.Minute))
	require.NoError(t, err)
	now = now.Add(8 * 24 * time.Hour)
	sweep() // the end that was taken back is forgotten
	require.EqualValues(t, 1, replicas())
}

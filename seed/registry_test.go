package seed

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
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

// The charges of identities are at each moment what their replicas' entries come to, each content
// once, whatever is put, put again, replaced, deleted, dropped, registered and ended.
func TestCharges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(t)
		now := time.Unix(1_000_000, 0)
		const limit = 12_000
		reg := NewRegistry(Limits{Bytes: limit, Replicas: 2, Grace: time.Hour}, func() time.Time {
			return now
		})
		ids := []identity.ID{{1}, {2}}
		reps := []replica.ID{{1}, {2}, {3}}
		type at struct {
			id  identity.ID
			rep replica.ID
		}
		type claim struct {
			hash blobs.Hash
			size uint64
		}
		registered := map[at]bool{}
		held := map[replica.ID]map[string]replica.Entry{}
		records := map[at]map[string]replica.Entry{} // what is charged for
		content := map[at]map[string]claim{}
		for _, r := range reps {
			held[r] = map[string]replica.Entry{}
		}
		used := func(id identity.ID) (n uint64) {
			seen := map[claim]bool{}
			for where, claims := range content {
				if where.id != id {
					continue
				}
				for _, e := range records[where] {
					n += recordCost(&e)
				}
				for _, c := range claims {
					if !seen[c] {
						seen[c] = true
						n += contentCost(c.size)
					}
				}
			}
			return n
		}
		others := func(rep replica.ID) (all []identity.ID) {
			for _, id := range ids {
				if registered[at{id, rep}] {
					all = append(all, id)
				}
			}
			return all
		}
		putContent := func(e replica.Entry) {
			want := len(others(e.Replica)) == 0
			for _, id := range others(e.Replica) {
				where, k, c := at{id, e.Replica}, string(e.Key), claim{e.Hash, e.Size}
				records[where][k] = e
				if old, ok := content[where][k]; ok && old == c {
					want = true
					continue
				}
				delete(content[where], k)
				if e.IsTombstone() {
					continue
				}
				fits := used(id)+contentCost(e.Size) <= limit
				for w, claims := range content {
					for _, other := range claims {
						fits = fits || w.id == id && other == c
					}
				}
				if fits {
					content[where][k] = c
					want = true
				}
			}
			got, keeps := false, false
			require.NoError(t, s.Update(bg, func(tx kv.Txn) (err error) {
				if got, err = reg.Put(tx, &e); err == nil {
					keeps, err = reg.Keeps(tx, &e)
				}
				return err
			}))
			require.Equal(t, want, got)
			charging := false
			require.NoError(t, s.View(bg, func(rd kv.Reader) (err error) {
				charging, err = rd.Has(key(keyCharging, e.Replica[:]))
				return err
			}))
			require.True(t, charging || want == keeps, "what nobody is charged for is not kept")
		}
		put := func(e replica.Entry) {
			k := string(e.Key)
			old, replaces := held[e.Replica][k]
			fits := len(others(e.Replica)) == 0 || replaces
			for _, id := range others(e.Replica) {
				most := uint64(limit)
				if e.IsTombstone() {
					most += limit / reserveShare
				}
				fits = fits || used(id)+recordCost(&e) <= most
			}
			got := false
			require.NoError(t, s.Update(bg, func(tx kv.Txn) (err error) {
				before := &old
				if !replaces {
					before = nil
				}
				got, err = reg.Take(tx, &e, before, false)
				return err
			}))
			require.Equal(t, fits, got)
			if got {
				held[e.Replica][k] = e
				for _, id := range others(e.Replica) {
					records[at{id, e.Replica}][k] = e
				}
				putContent(e)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Minute)
			rep := rapid.SampledFrom(reps).Draw(t, "replica")
			id := rapid.SampledFrom(ids).Draw(t, "identity")
			where := at{id, rep}
			k := rapid.SampledFrom(
				[]string{"a", "b", "c", "d", "\x00\x00", strings.Repeat("e", 700)},
			).Draw(t, "key")
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0:
				_, err := reg.Register(bg, s, id, rep, "", "", now)
				count, size := 0, uint64(0)
				for w := range registered {
					if w.id == id && registered[w] {
						count++
					}
				}
				for _, e := range held[rep] {
					size += recordCost(&e)
				}
				switch {
				case registered[where]:
					require.ErrorIs(t, err, ErrRegistered)
				case count >= 2:
					require.ErrorIs(t, err, ErrReplicaLimit)
				case used(id) >= limit, len(others(rep)) > 0 && used(id)+size > limit:
					require.ErrorIs(t, err, ErrQuota)
				default:
					require.NoError(t, err)
					_, err = reg.Register(bg, s, id, rep, "", "", now)
					require.ErrorIs(t, err, ErrRegistered, "replayed")
					_, err = reg.Unregister(bg, s, id, rep, now)
					require.ErrorIs(t, err, ErrOldRequest, "the registration, taken for its end")
					registered[where], records[where], content[where] = true, map[string]replica.Entry{}, map[string]claim{}
					for _, k := range slices.Sorted(maps.Keys(held[rep])) { // as the seed does afterwards
						putContent(held[rep][k])
					}
					require.NoError(t, reg.Charged(bg, s, rep))
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
				delete(records, where)
				delete(content, where)
				require.Equal(t, len(others(rep)) == 0, len(leave) == 1)
				if len(leave) == 1 {
					require.NoError(t, reg.Left(bg, s, rep))
					clear(held[rep])
				}
			case 2:
				e, ok := held[rep][k]
				if !ok {
					continue
				}
				delete(held[rep], k)
				for _, id := range ids {
					delete(records[at{id, rep}], k)
					delete(content[at{id, rep}], k)
				}
				require.NoError(t, s.Update(bg, func(tx kv.Txn) error { return reg.Drop(tx, &e) }))
			case 3:
				put(
					replica.Entry{
						Replica: rep, Author: replica.AuthorID{9}, Key: []byte(k), Hash: blobs.EmptyHash,
					},
				)
			default:
				size := rapid.IntRange(1, 3000).Draw(t, "size")
				e := replica.Entry{
					Replica: rep, Author: replica.AuthorID{9}, Key: []byte(k), Size: uint64(size),
					Hash: blobs.Hash{byte(size % 4)},
				}
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
		leave, err := reg.Sweep(bg, s)
		require.NoError(t, err)
		for _, rep := range leave {
			require.NoError(t, reg.Left(bg, s, rep))
		}
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

// A registration that was ended is taken up again in its time of grace; a size that would overflow
// has no room.
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
	require.NoError(t, s.View(bg, func(rd kv.Reader) error {
		refused, err := refusalOf(rd, id, rep)
		require.Equal(t, uint64(math.MaxUint64), refused.content)
		return err
	}))
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
	require.Equal(t, Usage{recordCost(&e) + recordCost(&huge) + 5, 1}, u)
	now = now.Add(30 * 24 * time.Hour)
	leave, err = reg.Sweep(bg, s)
	require.NoError(t, err)
	require.Empty(t, leave)
}

// A registration that is ended and begun again and again, as anybody may, does not have all entries
// looked at each time: they are charged all the while, until the time of grace is over.
func TestTakenUpAgainIsNotChargedAnew(t *testing.T) {
	s := newStore(t)
	now := time.Unix(1_000_000, 0)
	reg := NewRegistry(DefaultLimits, func() time.Time { return now })
	id, rep := identity.ID{1}, replica.ID{1}
	register := func() (charges bool) {
		now = now.Add(time.Second)
		_, err := reg.Register(bg, s, id, rep, "ticket", "", now)
		require.NoError(t, err)
		require.NoError(t, s.View(bg, func(rd kv.Reader) error {
			charges, err = rd.Has(key(keyCharging, rep[:]))
			return err
		}))
		require.NoError(t, reg.Charged(bg, s, rep))
		return charges
	}
	end := func() {
		now = now.Add(time.Second)
		_, err := reg.Unregister(bg, s, id, rep, now)
		require.NoError(t, err)
	}
	require.True(t, register())
	for range 3 {
		end()
		require.False(t, register())
	}
	end()
	now = now.Add(DefaultLimits.Grace)
	require.True(t, register(), "some of it may have been taken back")
}

// A replica of which no device is heard any more is given up after the time of retention and that
// of grace, unless one comes back in between.
func TestRetention(t *testing.T) {
	s := newStore(t)
	now := time.Unix(1_000_000, 0)
	reg := NewRegistry(
		Limits{Bytes: 60, Replicas: 2, Grace: 7 * 24 * time.Hour, Retention: 30 * 24 * time.Hour},
		func() time.Time {
			return now
		},
	)
	who, kept, gone := identity.ID{1}, replica.ID{1}, replica.ID{2}
	for _, id := range []replica.ID{kept, gone} {
		_, err := reg.Register(bg, s, who, id, "ticket", "", now)
		require.NoError(t, err)
	}
	heard := map[replica.ID]time.Time{kept: now, gone: now}
	lapse := func(lapsed, back int) {
		t.Helper()
		l, b, err := reg.Lapse(bg, s, func(_ context.Context, id replica.ID) (time.Time, error) {
			return heard[id], nil
		})
		require.NoError(t, err)
		require.Equal(t, [2]int{lapsed, back}, [2]int{l, b})
	}
	sweep := func(want ...replica.ID) {
		t.Helper()
		leave, err := reg.Sweep(bg, s)
		require.NoError(t, err)
		require.Equal(t, want, leave)
		for _, id := range leave {
			require.NoError(t, reg.Left(bg, s, id))
		}
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

	// Registrations that lapsed because the clock was years ahead for a while are taken up again.
	right := now
	heard[kept] = now
	now = now.Add(5000 * 24 * time.Hour)
	lapse(1, 0)
	sweep()
	require.Zero(t, replicas())
	now = right.Add(time.Hour)
	lapse(0, 1)
	require.EqualValues(t, 1, replicas())
	now = right

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

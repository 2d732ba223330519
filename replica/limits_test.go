package replica

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/reconcile/tree"
)

// storeOn returns a store on what wrap makes of an empty kv store.
func storeOn(t require.TestingT, cfg Config, wrap func(kv.Store) kv.Store) *Store {
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	if tb, ok := t.(interface{ Cleanup(func()) }); ok {
		tb.Cleanup(func() { _ = db.Close() })
	}
	s, err := Open(bg, wrap(db), cfg)
	require.NoError(t, err)
	return s
}

// counted counts the transactions that are begun, and those after some are too big.
type counted struct {
	kv.Store
	updates int
	tooBig  bool
}

func (c *counted) Update(ctx context.Context, fn func(kv.Txn) error) error {
	c.updates++
	if c.updates > 100 {
		return errCutOff // what goes on for ever ends
	}
	if c.tooBig {
		return kv.ErrTooBig
	}
	return c.Store.Update(ctx, fn)
}

// A time at a limit is within it: the ends of a grant, of the grant above, and how far ahead of the
// clock an entry may be.
func TestTimesAtTheirLimits(t *testing.T) {
	owner, a, b := testKey(1), testKey(2), testKey(3)
	limited := grantFrom(nil, owner, a, 10, func(g *Grant) {
		g.Delegable, g.NotBefore, g.NotAfter = true, 100, 200
	})
	for issued, want := range map[uint64]error{
		99: ErrOutOfTime, 100: nil, 200: nil, 201: ErrOutOfTime,
	} {
		g := grantFrom(&limited, a, b, issued, func(g *Grant) { g.NotBefore, g.NotAfter = 100, 200 })
		require.ErrorIs(t, g.Verify(), want, issued)
		r := revocation(a, &limited, b, issued, 5)
		require.ErrorIs(t, r.Verify(), want, issued)
	}
	moment := grantFrom(nil, owner, a, 10, func(g *Grant) { g.NotBefore, g.NotAfter = 100, 100 })
	may, err := authorityOf([]Grant{moment}, func(AuthorID) ([]Revocation, error) { return nil, nil })
	require.NoError(t, err)
	for at, want := range map[uint64]bool{99: false, 100: true, 101: false} {
		require.Equal(t, want, may.Allows(&Entry{Author: a.Author(), Timestamp: at}))
	}

	c := newClock()
	s := newStore(t, c)
	id := hold(t, s, owner, Write)
	write(t, s, id, a, "first", "1")
	limit := uint64(c.t.Add(MaxAhead).UnixMicro())
	for at, later := range map[uint64]int{limit: 0, limit + 1: 1} {
		ch := change(fmt.Sprint(at), "v")
		e := Entry{Replica: id, Timestamp: at, Size: ch.Size, Hash: ch.Hash, Key: ch.Key}
		e.Sign(a)
		out, err := s.Insert(bg, id, []Entry{e}, Local)
		require.NoError(t, err)
		require.Equal(t, later, out.Later)
		require.Len(t, out.Added, 1-later)
	}
}

func TestInsertsTheLongestKey(t *testing.T) {
	s := newStore(t, newClock())
	id := hold(t, s, testKey(1), Write)
	write(t, s, id, testKey(2), "first", "1")
	entry := func(n int) Entry {
		ch := change("", "v")
		now := uint64(s.cfg.Now().UnixMicro())
		e := Entry{
			Replica: id, Timestamp: now, Size: ch.Size, Hash: ch.Hash, Key: bytes.Repeat([]byte("k"), n),
		}
		e.Sign(testKey(2))
		return e
	}
	out, err := s.Insert(bg, id, []Entry{entry(MaxKey), entry(0)}, Local)
	require.NoError(t, err)
	require.Len(t, out.Added, 2)
	_, err = s.Insert(bg, id, []Entry{entry(MaxKey + 1)}, Local)
	require.ErrorIs(t, err, ErrKeyTooLong)
	wholesome(t, s, id)
}

// How much goes into a transaction: so many, and up to about so many bytes.
func TestFitting(t *testing.T) {
	lengths := func(n, each int) []int {
		out := make([]int, n)
		for i := range out {
			out[i] = each
		}
		return out
	}
	length := func(n *int) int { return *n }
	require.Equal(t, 10, fitting(lengths(10, 1), 20, length))
	require.Equal(t, 20, fitting(lengths(30, 1), 20, length))
	require.Zero(t, fitting(lengths(0, 1), 20, length))
	// 1024 bytes each fill it to the byte; a little less takes one more.
	require.Equal(t, insertBytes/1024, fitting(lengths(5000, (1024-256)/2), 5000, length))
	require.Equal(t, insertBytes/1022+1, fitting(lengths(5000, (1022-256)/2), 5000, length))
	require.Equal(t, 1, fitting(lengths(2, insertBytes), 5000, length), "one at the least")
}

// After a transaction that was too big they are smaller for a while, and grow again.
func TestAtOnce(t *testing.T) {
	var a atOnce
	require.Equal(t, insertEntries, a.get())
	fits := func(times int) {
		for range times {
			a.fits()
		}
	}
	fits(1000)
	require.Equal(t, insertEntries, a.get())
	for tried, then := range map[int]int{
		1: 1, 2: 1, 3: 2, 100: 50, 101: 51, insertEntries: insertEntries / 2,
	} {
		a.tooBig(tried)
		require.Equal(t, then, a.get(), tried)
	}
	a.tooBig(510)
	fits(63)
	require.Equal(t, 255, a.get())
	fits(1)
	require.Equal(t, 510, a.get())
	fits(63)
	a.tooBig(1020)
	fits(63)
	require.Equal(t, 510, a.get(), "it counts anew")
	fits(1)
	require.Equal(t, 1020, a.get())
	fits(64)
	require.Equal(t, insertEntries, a.get())
	require.Zero(t, a.less, "as if nothing had been")
	a.tooBig(insertEntries)
	fits(64)
	require.Zero(t, a.less)
}

// Where transactions are small, the same is stored in more of them.
func TestSmallTransactions(t *testing.T) {
	c := newClock()
	source := newStore(t, c)
	owner, a := testKey(1), testKey(2)
	id := hold(t, source, owner, Write)
	var changes []Change
	for i := range 600 {
		changes = append(changes, change(fmt.Sprintf("k%0200d", i), "v"))
	}
	entries, err := source.Write(bg, id, a, changes)
	require.NoError(t, err)
	_, err = source.Grant(bg, id, a.Author(), Permission{Delegable: true})
	require.NoError(t, err)
	grants, err := source.Grants(bg, id)
	require.NoError(t, err)

	s := storeOn(t, Config{Now: c.now}, func(db kv.Store) kv.Store { return kvtest.Limit(db, 40<<10) })
	hold(t, s, owner, Read)
	all := allStatements(grants)
	for i := range 200 {
		all = append(all, ref(grantFrom(nil, owner, SecretKeyFromSeed([32]byte{9, byte(i)}), 5, nil)))
	}
	out, err := s.InsertStatements(bg, id, all)
	require.NoError(t, err)
	require.Equal(t, Stated{Added: len(all)}, out)
	got, err := s.Insert(bg, id, entries, Local)
	require.NoError(t, err)
	require.Len(t, got.Added, len(entries))
	wholesome(t, s, id)
	require.Len(t, collect(t, s.Entries(bg, id, Query{})), len(entries))
}

// What is too big for any transaction is an error, after a few tries.
func TestTransactionsThatNeverFit(t *testing.T) {
	c := newClock()
	var db *counted
	s := storeOn(t, Config{Now: c.now}, func(s kv.Store) kv.Store {
		db = &counted{Store: s}
		return db
	})
	owner, a := testKey(1), testKey(2)
	id := hold(t, s, owner, Write)
	entries := write(t, s, id, a, "a", "1", "b", "1", "c", "1")
	tries := func(do func() error) int {
		db.updates, db.tooBig = 0, true
		require.ErrorIs(t, do(), kv.ErrTooBig)
		db.tooBig = false
		return db.updates
	}
	require.Equal(t, 1, tries(func() error {
		_, err := s.Write(bg, id, a, []Change{change("x", "y")})
		return err
	}))
	s.atOnce = atOnce{}
	require.Equal(t, 3, tries(func() error { // three, two, one
		_, err := s.Insert(bg, id, entries, Local)
		return err
	}))
	grants := []Statement{
		ref(NewGrant(owner, AuthorID{1}, 1)), ref(NewGrant(owner, AuthorID{2}, 1)),
		ref(NewGrant(owner, AuthorID{3}, 1)),
	}
	require.Equal(t, 3, tries(func() error {
		_, err := s.InsertStatements(bg, id, grants)
		return err
	}))
	require.Equal(t, 11, tries(func() error { return s.dropVoid(bg, id) }), "1024, 512, down to one")
}

// A writer's own times grow also within one call, and in a call of several transactions.
func TestTimesOfOneCall(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	id := hold(t, s, testKey(1), Write)
	now := uint64(c.t.UnixMicro())
	entries := write(t, s, id, testKey(2), "k", "1", "k", "2", "k", "3", "other", "1")
	require.Equal(t, []uint64{now, now + 1, now + 2, now},
		[]uint64{entries[0].Timestamp, entries[1].Timestamp, entries[2].Timestamp, entries[3].Timestamp})
	latest, err := s.LatestOf(bg, id, []byte("k"))
	require.NoError(t, err)
	require.Equal(t, entries[2], latest)

	var changes []Change
	for i := range 2 * insertEntries {
		changes = append(changes, change("same", fmt.Sprint(i)))
	}
	entries, err = s.Write(bg, id, testKey(2), changes)
	require.NoError(t, err)
	for i := range entries {
		require.Equal(t, now+uint64(i), entries[i].Timestamp)
	}
	grants, err := s.Grants(bg, id)
	require.NoError(t, err)
	require.Len(t, grants, 1, "an author is granted once")
	wholesome(t, s, id)
}

// MayWrite says what Write would say.
func TestMayWrite(t *testing.T) {
	c := newClock()
	owner, other := newStore(t, c), newStore(t, c)
	id := hold(t, owner, testKey(1), Write)
	a := testKey(2).Author()
	require.NoError(t, owner.MayWrite(bg, id, a, []byte("anything")), "it has the replica key")
	hold(t, other, testKey(1), Read)
	var no *NotAllowedError
	require.ErrorAs(t, other.MayWrite(bg, id, a, []byte("p/x")), &no)
	now := uint64(c.t.UnixMicro())
	g := grantFrom(nil, testKey(1), testKey(2), 1, func(g *Grant) {
		g.Prefix, g.NotAfter = []byte("p/"), now
	})
	_, err := other.InsertStatements(bg, id, []Statement{&g})
	require.NoError(t, err)
	require.NoError(t, other.MayWrite(bg, id, a, []byte("p/x"), []byte("p/y")))
	require.ErrorAs(t, other.MayWrite(bg, id, a, []byte("p/x"), []byte("q")), &no)
	require.Equal(t, a, no.Author)
	c.t = c.t.Add(time.Microsecond)
	require.ErrorAs(t, other.MayWrite(bg, id, a, []byte("p/x")), &no, "it is over")
}

// The bound of a node of the tree stands for the whole key, if that is not too long.
func TestBoundOf(t *testing.T) {
	for n, has := range map[int]bool{
		0: false, 1: true, tree.MaxBound: true, tree.MaxBound + 1: false,
	} {
		key := bytes.Repeat([]byte("k"), n)
		got := boundOf(orderBytes(key, AuthorID{1}))
		if has {
			require.Equal(t, key, got)
		} else {
			require.Nil(t, got)
		}
	}
}

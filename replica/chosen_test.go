package replica

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica/seal"
)

// encoded are the bytes of some statements.
func encoded(all ...Statement) (items [][]byte) {
	for _, st := range all {
		items = append(items, st.Bytes())
	}
	return items
}

// What is sent along with entries, or about an author: what the replica key has stated, the grants
// by delegates that are needed, and what has been revoked in their chains. Owner is 1; 2 to 6 are
// authors.
func TestStatementsThatAreSent(t *testing.T) {
	owner, a, b, d, e, w := testKey(1), testKey(2), testKey(3), testKey(4), testKey(5), testKey(6)
	s := newStore(t, newClock())
	id := hold(t, s, owner, Read)
	toA := grantFrom(nil, owner, a, 10, delegable)
	aToB := grantFrom(&toA, a, b, 20, func(g *Grant) { g.Delegable, g.Prefix = true, []byte("p/") })
	aToBelow := grantFrom(&toA, a, b, 20, under("q/"))
	bToD := grantFrom(&aToB, b, d, 30, under("p/d/"))
	toDLater := grantFrom(&aToB, b, d, 60, under("p/e/"))
	toE := grantFrom(nil, owner, e, 10, under("e/"))
	ofE := revocation(owner, nil, e, 40, 1000)
	ofA := revocation(owner, nil, a, 40, 500) // what a grants from 500 on is void
	ofB := revocation(a, &toA, b, 50, 300)    // by a delegate
	ofD := revocation(b, &aToB, d, 50, 0)
	late := grantFrom(&toA, a, b, 500, nil)
	dAgain := grantFrom(&aToB, b, d, 55, under("p/d/x/"))
	wrapped, err := wrapKey(owner, w.Author(), EpochKey{1, seal.NewReadKey()}, 5, false)
	require.NoError(t, err)
	out, err := s.InsertStatements(bg, id, []Statement{
		&toA, &aToB, &aToBelow, &bToD, &toDLater, &toE, &ofE, &ofA, &ofB, &ofD, &late, &dAgain, wrapped,
	})
	require.NoError(t, err)
	require.Equal(t, Stated{Added: 12, Refused: 1, Void: 1}, out, "one is void")

	entry := func(by SecretKey, key string, at uint64) Entry {
		return Entry{Replica: id, Author: by.Author(), Key: []byte(key), Timestamp: at}
	}
	for name, tc := range map[string]struct {
		entries []Entry
		want    [][]byte
	}{
		"nothing": {nil, nil},
		"of whom the replica key names": {[]Entry{
			entry(a, "x", 5), entry(a, "y", 6),
		}, encoded(&toA, &ofA)},
		"with what is revoked": {[]Entry{entry(e, "e/x", 5)}, encoded(&toE, &ofE)},
		"a delegate's grant":   {[]Entry{entry(b, "p/x", 5)}, encoded(&aToB, &ofA, &toA, &ofB)},
		"the one that is needed": {[]Entry{entry(b, "q/x", 5)}, encoded(
			&aToBelow, &ofA, &toA, &ofB,
		)},
		"both, if both are": {[]Entry{
			entry(b, "q/x", 5), entry(b, "p/x", 5),
		}, encoded(&aToB, &aToBelow, &ofA, &toA, &ofB)},
		"nothing that allows nothing": {[]Entry{entry(b, "z", 5), entry(b, "p/x", 301)}, nil},
		"of a longer chain": {[]Entry{entry(d, "p/d/x/y", 5)}, encoded(
			&dAgain, &toA, &ofA, &ofB,
		)},
		"none that allows it no more": {[]Entry{
			entry(d, "p/d/y", 5), entry(d, "p/e/y", 5),
		}, encoded(&toDLater, &toA, &ofA, &ofB)},
		"of several authors": {[]Entry{
			entry(a, "x", 5), entry(e, "e/x", 5),
		}, encoded(&toA, &ofA, &toE, &ofE)},
	} {
		got, err := s.StatementsFor(bg, id, tc.entries)
		require.NoError(t, err)
		require.ElementsMatch(t, named(t, tc.want), named(t, got), name)
	}
	for name, tc := range map[string]struct {
		author SecretKey
		want   [][]byte
	}{
		"the replica key's":         {e, encoded(&toE, &ofE)},
		"with those of delegates":   {b, encoded(&aToB, &aToBelow, &ofA, &toA, &ofB)},
		"none that allow nothing":   {d, encoded(&dAgain, &toDLater, &toA, &ofA, &ofB)},
		"nothing that is not there": {testKey(9), nil},
	} {
		got, err := s.StatementsAbout(bg, id, tc.author.Author())
		require.NoError(t, err)
		require.ElementsMatch(t, named(t, tc.want), named(t, got), name)
	}
}

// named says what statements are, for people who read that a test has failed.
func named(t require.TestingT, items [][]byte) (out []string) {
	for _, b := range items {
		st, err := ParseStatement(b)
		require.NoError(t, err)
		_, about := st.about()
		name := "?"
		for i := range byte(10) {
			if testKey(i).Author() == about {
				name = string('0' + i)
			}
		}
		kind := "grant"
		if _, ok := st.(*Revocation); ok {
			kind = "revocation"
		}
		sid := st.ID()
		out = append(out, kind+" of "+name+" "+string(rune('a'+sid[0]%26))+AuthorID(sid).String()[:6])
	}
	return out
}

func TestRevokedSince(t *testing.T) {
	owner, a, b := testKey(1), testKey(2), testKey(3)
	s := newStore(t, newClock())
	id := hold(t, s, owner, Read)
	toA := grantFrom(nil, owner, a, 10, delegable)
	_, err := s.InsertStatements(bg, id, []Statement{&toA, ref(revocation(a, &toA, b, 100, 0))})
	require.NoError(t, err)
	since := func(at uint64) bool {
		is, err := s.RevokedSince(bg, id, b.Author(), at)
		require.NoError(t, err)
		return is
	}
	require.False(t, since(100), "by a delegate elsewhere")
	require.NoError(t, s.ImportAuthor(bg, a))
	require.True(t, since(100), "by one whose key is here")
	require.True(t, since(99))
	require.False(t, since(101))
	_, err = s.InsertStatements(bg, id, []Statement{ref(revocation(owner, nil, b, 200, 0))})
	require.NoError(t, err)
	require.True(t, since(200))
	require.False(t, since(201))
	other, err := s.RevokedSince(bg, id, a.Author(), 0)
	require.NoError(t, err)
	require.False(t, other)
}

// Wherever a replica is founded, the same epoch begins it, and what was written apart is one.
func TestFound(t *testing.T) {
	c := newClock()
	key, first := testKey(7), seal.NewReadKey()
	one, two := newStore(t, c), newStore(t, c)
	for _, s := range []*Store{one, two} {
		r, err := s.Found(bg, "vault", key, first)
		require.NoError(t, err)
		require.Equal(t, Write, r.Capability)
		require.True(t, r.Encrypted)
		require.Equal(t, EpochKey{1, first}, sealingKey(t, s, r.ID))
		again, err := s.Found(bg, "another name", key, first)
		require.NoError(t, err)
		require.Equal(t, "vault", again.Name)
	}
	id := key.Replica()
	a, err := one.EpochStatements(bg, id)
	require.NoError(t, err)
	b, err := two.EpochStatements(bg, id)
	require.NoError(t, err)
	require.Len(t, a, 1)
	require.Equal(t, a, b)
	plainWrite(t, one, id, authorOn(t, one), "x", "1")
	plainWrite(t, two, id, authorOn(t, two), "y", "1")
	exchange(t, one, two, id)
	require.Len(t, listed(t, plain(t, two, id).Latest(bg, Query{})), 2)
	_, err = one.Create(bg, "taken")
	require.NoError(t, err)
	_, err = one.Found(bg, "taken", testKey(8), first)
	require.ErrorIs(t, err, ErrExists)
}

// What Config.OnState is told adds up to what is stored, whatever is refused, dropped and stored
// within one call; and a call says what became of each statement.
func TestStatementsAddUp(t *testing.T) {
	owner, a, b := testKey(1), testKey(2), testKey(3)
	told := 0
	c := newClock()
	s := storeOn(t, Config{Now: c.now, OnState: func(_ kv.Txn, _ ID, bytes int) (bool, error) {
		told += bytes
		return true, nil
	}}, func(db kv.Store) kv.Store { return db })
	s.keep = keepLimits{all: 2, about: 1}
	id := hold(t, s, owner, Read)
	insert := func(all ...Statement) Stated {
		out, err := s.InsertStatements(bg, id, all)
		require.NoError(t, err)
		var count, bytes int
		require.NoError(t, s.kv.View(bg, func(rd kv.Reader) error {
			n, size, err := StatementsIn(rd, id)
			count, bytes = n, int(size)
			return err
		}))
		require.Equal(t, bytes, told)
		require.Len(t, statementIDs(t, s, id), count)
		return out
	}
	toA := grantFrom(nil, owner, a, 10, delegable)
	require.Equal(t, Stated{Added: 1, Known: 1}, insert(&toA, &toA), "twice in one call")
	require.Equal(t, Stated{Known: 1}, insert(&toA))
	toB := func(issued uint64) *Grant { return ref(grantFrom(&toA, a, b, issued, nil)) }
	require.Equal(t, Stated{Added: 1, Refused: 1}, insert(toB(50), toB(60)), "the later is not kept")
	require.Equal(t, Stated{Refused: 1}, insert(toB(61)))
	require.Equal(
		t, Stated{Added: 1, Refused: 1}, insert(toB(41), toB(40)), "the earlier takes its place",
	)
	require.Equal(t, Stated{Added: 1, Refused: 2}, insert(toB(32), toB(30), toB(31)))
	require.Equal(t, Stated{Added: 1}, insert(ref(grantFrom(&toA, a, testKey(4), 90, nil))))
	require.Equal(
		t, Stated{Added: 1, Refused: 1, Void: 1},
		insert(toB(29), ref(revocation(owner, nil, a, 20, 25))),
		"what the replica key states is looked at first",
	)
	require.Len(t, statementIDs(t, s, id), 2, "all that was granted since is void")
}

// What Config.OnTake is told adds up to what is stored, also if one call has several versions of a
// key; and what it keeps out is counted.
func TestEntriesAddUp(t *testing.T) {
	c := newClock()
	size, room := uint64(0), uint64(100)
	dropped := 0
	s := storeOn(t, Config{
		Now: c.now,
		OnTake: func(_ kv.Txn, e, old *Entry) (bool, error) {
			then := size + e.Size
			if old != nil {
				then -= old.Size
			}
			if then > room {
				return false, nil
			}
			size = then
			return true, nil
		},
		OnDrop: func(_ kv.Txn, e *Entry) error {
			size -= e.Size
			dropped++
			return nil
		},
	}, func(db kv.Store) kv.Store { return db })
	owner, a := testKey(1), testKey(2)
	id := hold(t, s, owner, Write)
	now := uint64(c.t.UnixMicro())
	entry := func(key, value string, at uint64) Entry {
		ch := change(key, value)
		e := Entry{Replica: id, Timestamp: at, Size: ch.Size, Hash: ch.Hash, Key: ch.Key}
		e.Sign(a)
		return e
	}
	_, err := s.Grant(bg, id, a.Author(), Permission{})
	require.NoError(t, err)
	insert := func(entries ...Entry) Inserted {
		out, err := s.Insert(bg, id, entries, Local)
		require.NoError(t, err)
		sum := uint64(0)
		for _, e := range collect(t, s.Entries(bg, id, Query{})) {
			sum += e.Size
		}
		require.Equal(t, sum, size)
		out.Added = nil
		return out
	}
	require.Equal(
		t, Inserted{}, insert(entry("k", "12345", now), entry("k", "1", now+1), entry("j", "123", now)),
	)
	require.Equal(t, Inserted{Known: 1}, insert(entry("k", "1234567", now+3), entry("k", "12", now+2)))
	room = 12
	require.Equal(
		t, Inserted{NoRoom: 2},
		insert(entry("l", "123", now), entry("j", "123456", now+1), entry("m", "12", now)),
	)
	require.Equal(t, Inserted{NoRoom: 1}, insert(entry("j", "1", now+2), entry("j", "1234", now+3)))
	_, err = s.Write(bg, id, a, []Change{change("n", "123")})
	require.ErrorIs(t, err, ErrNoRoom)
	_, err = s.Revoke(bg, id, a.Author(), 0)
	require.NoError(t, err)
	require.Equal(t, 3, dropped)
	require.Zero(t, size)
	require.Empty(t, collect(t, s.Entries(bg, id, Query{})))
	wholesome(t, s, id)
}

// Authors are numbered from 1 in each replica, in the order in which their first entries came.
func TestNumbersOfAuthors(t *testing.T) {
	s := newStore(t, newClock())
	id := hold(t, s, testKey(1), Write)
	for i := range byte(3) {
		write(t, s, id, testKey(5-i), "k", "v")
	}
	r, err := s.Get(bg, id)
	require.NoError(t, err)
	require.NoError(t, s.kv.View(bg, func(rd kv.Reader) error {
		for i := range byte(3) {
			w, err := getWriter(rd, r.number, testKey(5-i).Author())
			require.NoError(t, err)
			require.EqualValues(t, i+1, w.number)
			require.EqualValues(t, 1, w.entries)
		}
		return nil
	}))
}

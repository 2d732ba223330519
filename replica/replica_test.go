package replica

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
	"github.com/skerry-sync/skerry/kv/pebble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

// clock is a clock that tests set.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{time.UnixMicro(1_700_000_000_000_000)} }

func newStore(t require.TestingT, c *clock) *Store {
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	if tb, ok := t.(interface{ Cleanup(func()) }); ok {
		tb.Cleanup(func() { _ = db.Close() })
	}
	s, err := Open(bg, kvtest.Rerun(db), Config{Now: c.now}) // everything must bear a conflict
	require.NoError(t, err)
	return s
}

func testKey(b byte) SecretKey { return SecretKeyFromSeed([32]byte{b}) }

func hold(t require.TestingT, s *Store, key SecretKey, c Capability) ID {
	r := Replica{ID: key.Replica(), Name: "r" + key.Replica().String()[:6], Capability: c}
	if c == Write {
		r.Secret = key
	}
	_, err := s.Join(bg, r)
	require.NoError(t, err)
	return r.ID
}

func change(key, value string) Change {
	return Change{Key: []byte(key), Hash: blobs.HashOf([]byte(value)), Size: uint64(len(value))}
}

func write(t require.TestingT, s *Store, id ID, author SecretKey, pairs ...string) []Entry {
	var cs []Change
	for i := 0; i < len(pairs); i += 2 {
		cs = append(cs, change(pairs[i], pairs[i+1]))
	}
	entries, err := s.Write(bg, id, author, cs)
	require.NoError(t, err)
	return entries
}

func collect(t require.TestingT, seq func(func(Entry, error) bool)) (out []Entry) {
	for e, err := range seq {
		require.NoError(t, err)
		out = append(out, e)
	}
	return out
}

func keysOf(entries []Entry) (keys []string) {
	for _, e := range entries {
		keys = append(keys, string(e.Key))
	}
	return keys
}

// Golden: the bytes that are signed, sent and hashed for an entry.
func TestEntryGolden(t *testing.T) {
	e := Entry{
		Replica: testKey(1).Replica(), Timestamp: 1_700_000_000_000_000, Size: 5,
		Hash: blobs.HashOf([]byte("hello")), Key: []byte("greeting"),
	}
	e.Sign(testKey(2))
	b, err := e.AppendBinary(nil)
	require.NoError(t, err)
	want := hex.EncodeToString([]byte("skerry entry 1\n")) +
		"cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4fc" + // replica
		"6b79c57e6a095239282c04818e96112f3f03a4001ba97a564c23852a3f1ea5fc" + // author
		"00060a24181e4000" + "0000000000000005" +
		"ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f" +
		"0008" + hex.EncodeToString([]byte("greeting"))
	require.Equal(t, want, hex.EncodeToString(b[:len(b)-64]))
	require.NoError(t, e.Verify())
	back, err := ParseEntry(b)
	require.NoError(t, err)
	require.Equal(t, e, back)
}

// The latest version is a view; all are there for an application that decides otherwise.
func TestSetGetAndLatest(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	id := hold(t, s, testKey(1), Write)
	alice, bob := testKey(2), testKey(3)
	write(t, s, id, alice, "b", "1", "a", "2")
	c.t = c.t.Add(time.Second)
	write(t, s, id, bob, "a", "3")

	require.Equal(
		t, []string{"a", "a", "b"}, keysOf(collect(t, s.Entries(bg, id, Query{}))),
		"both versions are kept",
	)
	e, err := s.LatestOf(bg, id, []byte("a"))
	require.NoError(t, err)
	require.Equal(t, bob.Author(), e.Author)
	require.Equal(t, []string{"a", "b"}, keysOf(collect(t, s.Latest(bg, id, Query{}))))
	require.Equal(t, []string{"b", "a"}, keysOf(collect(t, s.Latest(bg, id, Query{Reverse: true}))))
	require.Equal(
		t, []string{"b"}, keysOf(collect(t, s.Latest(bg, id, Query{Reverse: true, Limit: 1}))),
	)

	// The clock goes back; alice's own next version is still later than her last (and her last only).
	c.t = c.t.Add(-MaxAhead / 2)
	got := write(t, s, id, alice, "a", "4")
	require.Equal(t, uint64(1_700_000_000_000_001), got[0].Timestamp)

	// A tombstone hides the key, in the view only.
	c.t = c.t.Add(2 * time.Hour)
	_, err = s.Write(bg, id, bob, []Change{{Key: []byte("a")}})
	require.NoError(t, err)
	_, err = s.LatestOf(bg, id, []byte("a"))
	require.ErrorIs(t, err, ErrNotFound)
	require.Equal(t, []string{"b"}, keysOf(collect(t, s.Latest(bg, id, Query{}))))
	require.Equal(t, []string{"a", "b"}, keysOf(collect(t, s.Latest(bg, id, Query{Tombstones: true}))))
	counts, err := s.Counts(bg, id)
	require.NoError(t, err)
	require.Equal(t, Counts{Entries: 2, Tombstones: 1}, counts)
	authors, err := s.AuthorsOf(bg, id)
	require.NoError(t, err)
	require.ElementsMatch(t, []AuthorID{alice.Author(), bob.Author()}, authors)
}

// Whoever has the replica key may write; others need a grant.
func TestWriteNeedsCapabilityOrGrant(t *testing.T) {
	c := newClock()
	owner, reader := newStore(t, c), newStore(t, c)
	id := hold(t, owner, testKey(1), Write)
	hold(t, reader, testKey(1), Read)
	_, err := reader.Write(bg, id, testKey(5), []Change{change("k", "v")})
	var denied *NotAllowedError
	require.ErrorAs(t, err, &denied)
	require.Equal(t, Write, denied.Need)

	g := NewGrant(testKey(1), testKey(5).Author(), 1)
	n, err := reader.InsertStatements(bg, id, []Statement{ref(g)})
	require.NoError(t, err)
	require.Equal(t, 1, n.Added)
	write(t, reader, id, testKey(5), "k", "v")
}

func TestRefusedEntries(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	author := testKey(2)
	id := hold(t, s, testKey(1), Read)
	_, err := s.InsertStatements(bg, id, []Statement{ref(NewGrant(testKey(1), author.Author(), 1))})
	require.NoError(t, err)
	now := uint64(c.t.UnixMicro())
	valid := func(key string) Entry {
		ch := change(key, "v")
		e := Entry{Replica: id, Timestamp: now, Size: ch.Size, Hash: ch.Hash, Key: ch.Key}
		e.Sign(author)
		return e
	}
	resign := func(e Entry, by SecretKey) Entry { e.Sign(by); return e }
	for name, tc := range map[string]struct {
		bad  Entry
		want error
	}{
		"bad signature": {func() Entry {
			e := valid("x")
			e.Signature[3] ^= 1
			return e
		}(), ErrBadSignature},
		"changed size": {func() Entry { e := valid("x"); e.Size++; return e }(), ErrBadSignature},
		"wrong replica": {func() Entry {
			e := valid("x")
			e.Replica = ID{9}
			return resign(e, author)
		}(), ErrWrongReplica},
		"no grant": {resign(valid("x"), testKey(9)), ErrNotGranted},
		"size without hash": {func() Entry {
			e := valid("x")
			e.Hash = blobs.EmptyHash
			return resign(e, author)
		}(), ErrMalformed},
		"hash without size": {func() Entry {
			e := valid("x")
			e.Size = 0
			return resign(e, author)
		}(), ErrMalformed},
		"impossible size": {func() Entry {
			e := valid("x")
			e.Size = 1 << 60
			return resign(e, author)
		}(), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			good := valid("good " + name)
			more := valid("more " + name)
			got, err := s.Insert(
				bg, id, []Entry{good, tc.bad, more, valid("even more " + name), valid("and more " + name)},
				Origin{Peer: "peer"},
			)
			require.ErrorIs(t, err, tc.want)
			var which *EntryError
			require.ErrorAs(t, err, &which)
			require.Equal(t, tc.bad.Key, which.Key)
			require.Len(t, got.Added, 4, "the good ones are stored")
		})
	}
	future := valid("future")
	future.Timestamp = uint64(c.t.Add(MaxAhead + time.Second).UnixMicro())
	future.Sign(author)
	got, err := s.Insert(bg, id, []Entry{future}, Origin{Peer: "peer"})
	require.NoError(t, err)
	require.Equal(t, Inserted{Later: 1}, got)
	c.t = c.t.Add(2 * time.Second)
	got, err = s.Insert(bg, id, []Entry{future}, Origin{Peer: "peer"})
	require.NoError(t, err)
	require.Len(t, got.Added, 1, "later it is accepted")
	got, err = s.Insert(bg, id, []Entry{future}, Origin{Peer: "peer"})
	require.NoError(t, err)
	require.Equal(t, 1, got.Known)

	_, err = s.Insert(bg, ID{9}, nil, Origin{Peer: "peer"})
	require.NoError(t, err)
	e := valid("k")
	e.Replica = ID{9}
	e.Sign(author)
	_, err = s.Insert(bg, ID{9}, []Entry{e}, Origin{Peer: "peer"})
	require.ErrorIs(t, err, ErrNotFound)
	forged := NewGrant(testKey(8), author.Author(), 2)
	_, err = s.InsertStatements(bg, id, []Statement{ref(forged)})
	require.ErrorIs(t, err, ErrWrongReplica)
	forged.Replica = id
	_, err = s.InsertStatements(bg, id, []Statement{ref(forged)})
	require.ErrorIs(t, err, ErrBadSignature)
}

func TestSubscriptions(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	id, other := hold(t, s, testKey(1), Write), hold(t, s, testKey(4), Write)
	one, all := s.Subscribe(id), s.SubscribeAll()
	defer all.Close()
	written := write(t, s, id, testKey(2), "a", "1", "b", "2")
	write(t, s, other, testKey(2), "c", "3")
	events, lost, err := one.Next(bg)
	require.NoError(t, err)
	require.Zero(t, lost)
	require.Equal(t, []Event{{Entry: written[0]}, {Entry: written[1]}}, events)
	events, _, err = all.Next(bg)
	require.NoError(t, err)
	require.Len(t, events, 3)

	got, err := s.Insert(bg, id, written, Origin{Peer: "peer"})
	require.NoError(t, err)
	require.Equal(t, 2, got.Known)
	ctx, cancel := context.WithTimeout(bg, 20*time.Millisecond)
	defer cancel()
	_, _, err = one.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "what was known already is no event")
	one.Close()

	slow := s.Subscribe(id)
	defer slow.Close()
	slow.add(slices.Repeat(written[:1], maxQueued+10), Local, false)
	events, lost, err = slow.Next(bg)
	require.NoError(t, err)
	require.Len(t, events, maxQueued)
	require.EqualValues(t, 10, lost)
}

func TestJoinNamesAndResolve(t *testing.T) {
	s := newStore(t, newClock())
	r, err := s.Create(bg, "photos")
	require.NoError(t, err)
	require.Equal(t, Write, r.Capability)
	_, err = s.Create(bg, "photos")
	require.ErrorIs(t, err, ErrExists)
	for _, bad := range []string{
		"", " x", "a/b", "-x", "a\nb", strings.Repeat("x", 129), r.ID.String(),
	} {
		if bad == "" {
			require.ErrorIs(t, CheckName(bad), ErrBadName)
			continue
		}
		_, err := s.Create(bg, bad)
		require.ErrorIs(t, err, ErrBadName, "%q", bad)
	}
	for _, text := range []string{
		"photos", r.ID.String(), strings.ToUpper(r.ID.String()), r.ID.String()[:4],
	} {
		got, err := s.Resolve(bg, text)
		require.NoError(t, err)
		require.Equal(t, r.ID, got.ID)
	}
	_, err = s.Resolve(bg, "nothing")
	require.ErrorIs(t, err, ErrNotFound)

	key := testKey(7)
	_, err = s.Join(bg, Replica{ID: key.Replica(), Name: "shared", Capability: Read})
	require.NoError(t, err)
	got, err := s.Join(bg, Replica{ID: key.Replica(), Name: "ignored", Capability: Write, Secret: key})
	require.NoError(t, err)
	require.Equal(t, Write, got.Capability, "a greater capability raises the lesser")
	require.Equal(t, "shared", got.Name)
	got, err = s.Join(bg, Replica{ID: key.Replica(), Capability: Sync})
	require.NoError(t, err)
	require.Equal(t, Write, got.Capability)
	_, err = s.Join(bg, Replica{ID: ID{1}, Capability: Write, Secret: key})
	require.ErrorContains(t, err, "does not belong")
	require.NoError(t, s.Leave(bg, key.Replica()))
	require.ErrorIs(t, s.Leave(bg, key.Replica()), ErrNotFound)
}

func TestAuthors(t *testing.T) {
	s := newStore(t, newClock())
	first, err := s.DefaultAuthor(bg)
	require.NoError(t, err)
	again, err := s.DefaultAuthor(bg)
	require.NoError(t, err)
	require.Equal(t, first, again)
	second, err := s.NewAuthor(bg)
	require.NoError(t, err)
	require.NoError(t, s.SetDefaultAuthor(bg, second))
	again, err = s.DefaultAuthor(bg)
	require.NoError(t, err)
	require.Equal(t, second, again)
	require.ErrorIs(t, s.SetDefaultAuthor(bg, AuthorID{1}), ErrNotFound)
	all, err := s.Authors(bg)
	require.NoError(t, err)
	require.ElementsMatch(t, []AuthorID{first, second}, all)
	key, err := s.AuthorKey(bg, first)
	require.NoError(t, err)
	require.Equal(t, first, key.Author())
	_, err = s.AuthorKey(bg, AuthorID{1})
	require.ErrorIs(t, err, ErrNotFound)
}

func TestSecretsDoNotPrint(t *testing.T) {
	key := testKey(1)
	seed := key.Seed()
	r := Replica{ID: key.Replica(), Secret: key}
	for _, text := range []string{
		fmt.Sprint(key), fmt.Sprintf("%v %+v %#v %s", key, key, key, key), fmt.Sprintf("%v %+v", r, r),
	} {
		require.NotContains(t, text, hex.EncodeToString(seed[:4]))
		require.NotContains(t, text, fmt.Sprint(seed[:4])[1:8])
	}
	_, err := key.MarshalText()
	require.Error(t, err)
}

// The hook runs in the transaction that stores the entry, and its failure keeps the entry out.
func TestOnPut(t *testing.T) {
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	fail := errors.New("no")
	s, err := Open(bg, db, Config{OnPut: func(tx kv.Txn, e *Entry) error {
		if string(e.Key) == "bad" {
			return fail
		}
		return tx.Set(append([]byte("seen"), e.Key...), nil)
	}})
	require.NoError(t, err)
	id := hold(t, s, testKey(1), Write)
	write(t, s, id, testKey(2), "ok", "v")
	_, err = s.Write(bg, id, testKey(2), []Change{change("bad", "v")})
	require.ErrorIs(t, err, fail)
	require.NoError(t, db.View(bg, func(r kv.Reader) error {
		has, err := r.Has([]byte("seenok"))
		require.True(t, has)
		return err
	}))
	require.Len(t, collect(t, s.Entries(bg, id, Query{})), 1)
}

func FuzzParseEntry(f *testing.F) {
	e := Entry{
		Replica: ID{1}, Timestamp: 5, Size: 5, Hash: blobs.HashOf([]byte("hello")), Key: []byte("k"),
	}
	e.Sign(testKey(2))
	b, err := e.AppendBinary(nil)
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b)
		if err != nil {
			return
		}
		again, err := e.AppendBinary(nil)
		require.NoError(t, err)
		require.Equal(t, b, again, "one entry has one encoding")
	})
}

func BenchmarkWriteOne(b *testing.B) {
	s := newStore(b, newClock())
	id := hold(b, s, testKey(1), Write)
	for i := range b.N {
		write(b, s, id, testKey(2), fmt.Sprint(i), "v")
	}
}

func BenchmarkInsert(b *testing.B) {
	c := newClock()
	source := newStore(b, c)
	id := hold(b, source, testKey(1), Write)
	var cs []Change
	for range 20_000 {
		cs = append(cs, change(fmt.Sprint(rand.Uint64()), "v"))
	}
	entries, err := source.Write(bg, id, testKey(2), cs)
	require.NoError(b, err)
	grants, err := source.Grants(bg, id)
	require.NoError(b, err)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		s := newStore(b, c)
		hold(b, s, testKey(1), Read)
		_, err := s.InsertStatements(bg, id, allStatements(grants))
		require.NoError(b, err)
		b.StartTimer()
		_, err = s.Insert(bg, id, slices.Clone(entries), Origin{Peer: "peer"})
		require.NoError(b, err)
	}
	b.ReportMetric(float64(len(entries)*b.N)/b.Elapsed().Seconds(), "entries/s")
}

func ref[T any](x T) *T { return &x }

func allStatements(grants []Grant) (all []Statement) {
	for i := range grants {
		all = append(all, &grants[i])
	}
	return all
}

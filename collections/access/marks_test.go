package access

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/storetest"
)

// lists are Revocations whose clock stands still, in a store that may fail.
type lists struct {
	*Revocations
	t      *testing.T
	failed *storetest.Failing
	at     time.Time
	rank   map[string]Rank // by issuer
	judged int
	bad    error            // of judge
	badOf  map[string]error // by issuer
}

func newLists(t *testing.T, most int) *lists {
	x := &lists{
		t: t, failed: &storetest.Failing{Store: store.NewMemory()}, at: time.Unix(1_700_000_000, 0),
		rank: map[string]Rank{}, badOf: map[string]error{},
	}
	x.Revocations = &Revocations{
		store: x.failed, notes: x.failed, byIssuer: map[string]*revoked{}, marked: map[string]mark{},
		left:        map[string]int64{},
		mostIssuers: most, mostBytes: 1 << 20, now: func() time.Time { return x.at },
	}
	x.judge = func(_ context.Context, identity string) (Rank, error) {
		x.judged++
		for issuer, err := range x.badOf {
			if id, _ := capcert.UserID(issuer); id == identity {
				return 0, err
			}
		}
		for issuer, s := range x.rank {
			if id, _ := capcert.UserID(issuer); id == identity {
				return s, x.bad
			}
		}
		return x.rank[""], x.bad
	}
	return x
}

// enter makes a list count that is in the store.
func (x *lists) enter(issuer string, l revoked) *revoked {
	l.size = 1
	x.byIssuer[issuer] = &l
	x.count(&l, held.with)
	o := &store.Object{Body: []byte("{}")}
	require.NoError(x.t, x.store.Put(x.t.Context(), keyOf(issuer, l.generation), o, store.Whatever))
	return &l
}

// notePresented keeps a note of another server, that a certificate was presented some time ago.
func (x *lists) notePresented(issuer string, ago time.Duration) {
	n := note{since: x.at.Add(-ago), presented: x.at.Add(-ago)}
	o := &store.Object{Body: n.bytes()}
	require.NoError(x.t, x.notes.Put(x.t.Context(), standingUnder+issuer, o, store.Whatever))
}

// stored reports whether the store has a key.
func (x *lists) stored(key string) bool {
	_, err := x.failed.Store.Get(x.t.Context(), key)
	return err == nil
}

func issuerOf(i int) string { return fmt.Sprintf("%064x", i) }

// listOf is a list of so many bytes, if that is not 0.
func listOf(t *testing.T, name string, generation int64, size int) *capcert.Revocations {
	seed := sha256.Sum256([]byte(name))
	k, err := capcert.NewKey(seed[:])
	require.NoError(t, err)
	l, err := capcert.SignRevocations(k, generation, nil, []string{""})
	require.NoError(t, err)
	if size > 0 {
		long := []string{strings.Repeat("s", size-sizeOf(l))}
		l, err = capcert.SignRevocations(k, generation, nil, long)
		require.NoError(t, err)
		require.Equal(t, size, sizeOf(l))
	}
	return l
}

// No more than some lists are looked at to make room for one. What has turned out to matter stays.
func TestJudgedAtMost(t *testing.T) {
	const most, source = maxJudged + 10, "192.0.2.1"
	x := newLists(t, most)
	for i := range most {
		x.enter(issuerOf(i), revoked{source: source, since: x.at, brought: true})
	}
	x.rank[""] = Presented
	n := &newcomer{
		issuer: issuerOf(most), Standing: Standing{Presented, x.at}, source: source, grows: held{1, 1},
	}
	_, err := x.makeRoom(t.Context(), n)
	require.ErrorIs(t, err, ErrTooManyIssuers)
	require.Equal(t, maxJudged, x.judged)

	x.bad = storetest.ErrBroken
	_, err = x.makeRoom(t.Context(), n)
	require.ErrorIs(t, err, storetest.ErrBroken)
	require.Equal(t, maxJudged+10, x.judged, "the others do not give way any more")
	x.bad = nil
	x.rank[""] = Stranger
	leave, err := x.makeRoom(t.Context(), n)
	require.NoError(t, err)
	require.Len(t, leave, 1)
	require.Len(t, x.byIssuer, most, "they go when the other is stored")
}

// What a store refuses to remove is told, and removed the next time. The note of a list goes after
// it.
func TestRoomThatIsNotMade(t *testing.T) {
	ctx := t.Context()
	for _, what := range []string{"", revocationsUnder, standingUnder} {
		x := newLists(t, 1)
		issuer := issuerOf(1)
		x.enter(issuer, revoked{brought: true})
		require.NoError(t, x.note(ctx, issuer))
		if what != "" {
			x.failed.How, x.failed.Key = "delete", what
			require.ErrorIs(t, x.drop(ctx, leaving{issuer, math.MaxInt64}), storetest.ErrBroken, what)
		} else {
			require.NoError(t, x.drop(ctx, leaving{issuer, math.MaxInt64}))
		}
		require.Equal(t, what == revocationsUnder, x.stored(keyOf(issuer, 0)), what)
		require.Equal(t, what != "", x.stored(standingUnder+issuer), what)
		x.failed.How = ""
		require.NoError(t, x.settleMarked(ctx))
		require.False(t, x.stored(keyOf(issuer, 0)), what)
		require.False(t, x.stored(standingUnder+issuer), what)
		require.Empty(t, x.marked)
	}
}

// When lists expire, to the second, or the nanosecond.
func TestExpire(t *testing.T) {
	const never = math.MaxInt64
	now := time.Unix(1_700_000_000, 0)
	over := now.Unix() - capcert.Skew - 1
	for _, c := range []struct {
		name   string
		rank   Rank
		ends   int64
		ago    time.Duration // that it was looked at
		kept   bool
		looked bool // at now, and then after as long
	}{
		{"a stranger for so long", Stranger, never, strangerKept, true, false},
		{"and longer", Stranger, never, strangerKept + 1, false, false},
		{"presented", Presented, never, strangerKept + 1, true, true},
		{"not over", Presented, now.Unix(), strangerKept + 1, true, true},
		{"not over by a clock that is behind", Presented, over + 1, strangerKept + 1, true, true},
		{"over", Presented, over, time.Hour, false, false},
		{"a stranger's, over", Stranger, over, time.Hour, false, false},
		{"an owner's, over", Owner, over, time.Hour, true, true},
	} {
		x := newLists(t, 10)
		issuer := issuerOf(1)
		x.rank[""] = c.rank
		l := x.enter(issuer, revoked{brought: true, ends: c.ends, looked: now.Add(-c.ago)})
		require.NoError(t, x.expire(t.Context(), now), c.name)
		_, kept := x.byIssuer[issuer]
		require.Equal(t, c.kept, kept, c.name)
		require.Equal(t, c.kept, x.stored(keyOf(issuer, 0)), c.name)
		require.Equal(t, c.looked, l.looked.Equal(now), c.name)
	}
}

// A list keeps the day on which a certificate was presented last.
func TestPresentToTheDay(t *testing.T) {
	for ago, marked := range map[time.Duration]bool{0: false, old - 1: false, old: true} {
		x := newLists(t, 10)
		l := x.enter(issuerOf(1), revoked{presented: x.at.Add(-ago)})
		x.Present(issuerOf(1))
		require.Equal(t, marked, len(x.marked) == 1, ago)
		require.Equal(t, marked || ago == 0, l.presented.Equal(x.at), ago)
	}
}

// Who was presented is no stranger for some time, that moment included, wherever it is known from.
func TestPresentedForSoLong(t *testing.T) {
	ctx := t.Context()
	for beyond, want := range map[time.Duration]Rank{0: Presented, time.Millisecond: Stranger} {
		x := newLists(t, 10)
		here, noted := issuerOf(1), issuerOf(2)
		x.enter(here, revoked{presented: x.at.Add(-strangerKept - beyond)})
		s, err := x.standing(ctx, here)
		require.NoError(t, err)
		require.Equal(t, want, s.Rank)

		l := x.enter(noted, revoked{})
		x.notePresented(noted, strangerKept+beyond)
		s, err = x.look(ctx, noted)
		require.NoError(t, err)
		require.Equal(t, want, s.Rank)
		require.Equal(t, want, l.rank)
		require.Equal(t, x.at.Add(-strangerKept-beyond).UnixMilli(), l.presented.UnixMilli())
		_, marked := x.marked[noted]
		require.Equal(t, want == Presented, marked, "what is new is noted")

		x.notePresented(issuerOf(3), strangerKept+beyond) // of which no list is kept
		s, err = x.look(ctx, issuerOf(3))
		require.NoError(t, err)
		require.Equal(t, want, s.Rank)
	}
}

// What cannot be found out is an error.
func TestStandingThatIsNotKnown(t *testing.T) {
	ctx := t.Context()
	x := newLists(t, 10)
	issuer := issuerOf(1)
	l := x.enter(issuer, revoked{brought: true})
	x.failed.How, x.failed.Key = "get", standingUnder
	_, err := x.look(ctx, issuer)
	require.ErrorIs(t, err, storetest.ErrBroken)
	x.mark(issuer, mark{})
	require.ErrorIs(t, x.settleMarked(ctx), storetest.ErrBroken)
	require.Contains(t, x.marked, issuer, "to be tried again")
	require.ErrorIs(t, x.note(ctx, issuer), storetest.ErrBroken)
	x.failed.How = "put"
	require.ErrorIs(t, x.note(ctx, issuer), storetest.ErrBroken)
	x.failed.How = ""
	x.bad = storetest.ErrBroken
	x.rank[""] = Owner
	_, err = x.look(ctx, issuer)
	require.ErrorIs(t, err, storetest.ErrBroken)
	require.Equal(t, Stranger, l.rank)
	x.bad = nil
	_, err = x.look(ctx, issuer)
	require.NoError(t, err)
	require.Equal(t, Owner, l.rank)
}

// As many notes are brought up to date at a time as there may be, and the others later. One that
// cannot be does not keep others.
func TestNotedAtMost(t *testing.T) {
	x := newLists(t, 10)
	for i := range maxSettled + 1 {
		x.mark(issuerOf(i), mark{})
	}
	require.NoError(t, x.settleMarked(t.Context()))
	require.Len(t, x.marked, 1)
	require.NoError(t, x.settleMarked(t.Context()))
	require.Empty(t, x.marked)

	bad := issuerOf(5)
	x.badOf[bad] = storetest.ErrBroken
	for i := range 10 {
		x.mark(issuerOf(i), mark{})
	}
	require.ErrorIs(t, x.settleMarked(t.Context()), storetest.ErrBroken)
	require.Equal(t, map[string]mark{bad: {}}, x.marked)
}

// Anybody can present certificates of as many issuers as they like. What lists have taken the place
// of is removed all the same, and so are lists that make room for others.
func TestMarksOfAFlood(t *testing.T) {
	ctx := t.Context()
	x := newLists(t, 10)
	for i := range maxMarked + 1 {
		x.Present(issuerOf(i))
	}
	require.Equal(t, maxNoted, len(x.marked))
	first := listOf(t, "a", 1, 0)
	require.NoError(t, x.Accept(ctx, first))
	require.True(t, x.stored(revocationsKey(first)))
	second := listOf(t, "a", 2, 0)
	require.NoError(t, x.Accept(ctx, second))
	require.False(t, x.stored(revocationsKey(first)))
	require.NoError(t, x.drop(ctx, leaving{second.Issuer, math.MaxInt64}))
	require.False(t, x.stored(revocationsKey(second)))

	// What the store refuses to remove is removed first of all the next time.
	x.enter(first.Issuer, revoked{brought: true})
	x.failed.How, x.failed.Key = "delete", ""
	require.ErrorIs(t, x.drop(ctx, leaving{first.Issuer, math.MaxInt64}), storetest.ErrBroken)
	x.failed.How = ""
	require.NoError(t, x.settleMarked(ctx))
	require.False(t, x.stored(keyOf(first.Issuer, 0)))
}

// A list that takes the place of another costs its source as much as the first, whatever it is
// longer by. Of an owner who is known for some time only what it is longer by counts.
func TestLaterListsCost(t *testing.T) {
	const source, size = "192.0.2.1", 10_000
	for _, c := range []struct {
		rank Rank
		ago  time.Duration
		left int // of bytes, after two lists; -1 is that there are no bounds
	}{
		{Stranger, old, sourceBytes - 2*size}, {Presented, old, sourceBytes - 2*size},
		{Owner, 0, sourceBytes - 2*size}, {Owner, old, sourceBytes - size}, {Named, 0, -1},
	} {
		x := newLists(t, 10)
		issuer := listOf(t, "a", 1, 0).Issuer
		x.rank[issuer] = c.rank
		x.presented, _ = lru.NewLRU[string, seen](1, nil)
		x.presented.Add(issuer, seen{first: x.at.Add(-c.ago)})
		ctx := WithSource(t.Context(), source)
		accept := func(generation int64) error {
			return x.Accept(ctx, listOf(t, "a", generation, size))
		}
		for i := range int64(2) {
			require.NoError(t, accept(i+1))
		}
		all := map[string]*allowance{}
		for _, some := range []*allowances{&x.allowed, &x.young, &x.owners} {
			maps.Copy(all, some.of)
		}
		if c.left < 0 {
			require.Empty(t, all)
			for i := range int64(2 * sourceLists) {
				require.NoError(t, accept(i+3))
			}
			continue
		}
		require.Len(t, all, 1)
		for _, a := range all {
			require.InDelta(t, c.left, a.bytes.Tokens(), size/2)
		}
		taken := 2
		for accept(int64(taken+1)) == nil {
			taken++
			require.LessOrEqual(t, taken, 2*sourceLists)
		}
		shares := 1
		if c.rank == Owner && c.ago == old { // its own, and then the owners' of the source
			shares = 2
		}
		require.Equal(t, shares*sourceLists, taken, "rank %d", c.rank)
		require.ErrorIs(t, accept(int64(taken+1)), ErrTooOften)
	}
}

// A note may be so long, and no longer.
func TestLengthOfNotes(t *testing.T) {
	n := note{since: time.UnixMilli(1), accepted: true}
	n.from = strings.Repeat("f", maxNote-len(n.bytes()))
	require.Len(t, n.bytes(), maxNote)
	require.Equal(t, &n, parseNote(n.bytes()))
	n.from += "f"
	require.Nil(t, parseNote(n.bytes()))
}

// What of a full store is taken over at a start.
func TestTakeStored(t *testing.T) {
	const unknown = -1
	for _, c := range []struct {
		name          string
		rank          Rank
		rooms, left   int
		taken         bool
		presentedAgo  time.Duration // by a note; unknown if there is none
		alreadyCounts bool
	}{
		{"a stranger", Stranger, 5, 5, false, unknown, false},
		{"a later one", Stranger, 5, 5, true, unknown, true},
		{"presented", Presented, 5, 4, true, unknown, false},
		{"enough for now", Presented, 0, 0, false, unknown, false},
		{"an owner", Owner, 5, 4, true, unknown, false},
		{"an owner, enough for now", Owner, 0, 0, false, unknown, false},
		{"named", Named, 0, 0, true, unknown, false},
		{"presented elsewhere", Stranger, 5, 4, true, strangerKept, false},
		{"not lately", Stranger, 5, 5, false, strangerKept + time.Millisecond, false},
	} {
		x := newLists(t, 2)
		l := listOf(t, "a", 7, 0)
		x.rank[l.Issuer] = c.rank
		if c.alreadyCounts {
			x.enter(l.Issuer, revoked{generation: 6})
		} else {
			x.enter(issuerOf(1), revoked{})
		}
		x.enter(issuerOf(2), revoked{})
		if c.presentedAgo != unknown {
			x.notePresented(l.Issuer, c.presentedAgo)
		}
		rooms := c.rooms
		n, err := x.noted(t.Context(), l.Issuer)
		require.NoError(t, err)
		require.NoError(t, x.takeStored(t.Context(), l, n, &rooms), c.name)
		require.Equal(t, c.left, rooms, c.name)
		require.Equal(t, c.taken, x.byIssuer[l.Issuer] != nil, c.name)
		later := c.rooms == 0
		require.Equal(t, c.taken || !later, x.has(revocationsKey(l)), c.name)
		_, left := x.left[l.Issuer]
		require.Equal(t, !c.taken && !later, left, c.name)
	}
}

// A server is in charge of the lists of a store that it keeps its notes in, too.
func TestInChargeOf(t *testing.T) {
	for _, same := range []bool{true, false} {
		x := newLists(t, 10)
		if !same {
			x.notes = store.NewMemory()
		}
		l := listOf(t, "a", 1, 0)
		rooms := 1
		require.NoError(t, x.takeStored(t.Context(), l, nil, &rooms))
		require.Equal(t, same, x.byIssuer[l.Issuer].brought)
	}
}

// A list counts that is later than the one before.
func TestGenerations(t *testing.T) {
	x := newLists(t, 10)
	require.True(t, x.take(listOf(t, "a", 7, 0), &revoked{}))
	before := *x.byIssuer[listOf(t, "a", 7, 0).Issuer]
	for _, generation := range []int64{6, 7} {
		l := listOf(t, "a", generation, 0)
		require.False(t, x.take(l, &revoked{source: "other"}))
		require.True(t, x.has(revocationsKey(l)))
		require.Equal(t, before, *x.byIssuer[l.Issuer])
	}
	l := listOf(t, "a", 8, 0)
	require.False(t, x.has(revocationsKey(l)))
	require.False(t, x.has(revocationsUnder+l.Issuer), "that has no generation")
	require.True(t, x.take(l, &revoked{}))
}

// Who is not known for some time has lists of so many bytes.
func TestUnknownToTheLastByte(t *testing.T) {
	x := newLists(t, 10)
	require.NoError(t, x.Accept(t.Context(), listOf(t, "a", 1, maxUnknown)))
	require.ErrorIs(t, x.Accept(t.Context(), listOf(t, "b", 1, maxUnknown+1)), ErrTooLong)
}

// A memory that is full makes room, for one more and no others.
func TestFullMemories(t *testing.T) {
	var s allowances
	s.of = map[string]*allowance{}
	unused := newAllowance(1)
	for i := range maxSources {
		s.of[fmt.Sprint(i)] = unused
	}
	require.True(t, s.take(WithSource(t.Context(), "192.0.2.1"), 1, 1))
	require.Len(t, s.of, 1)

	seed := sha256.Sum256([]byte("a"))
	k, err := capcert.NewKey(seed[:])
	require.NoError(t, err)
	cert, err := capcert.MintAudience(k, "team", capcert.ReaderScope("team"), []string{k.Public},
		capcert.Terms{NotBefore: 1, Expires: 2, Nonce: make([]byte, capcert.NonceSize)})
	require.NoError(t, err)
	c := &Caps{}
	for i := range maxKnown {
		c.remember([32]byte{byte(i), byte(i >> 8)}, cert, 0)
	}
	for range 2 {
		_, err = c.cert(cert.Authorization())
		require.NoError(t, err)
		require.Len(t, c.known, maxKnown)
	}

	const header = 100 << 10
	c = &Caps{}
	for i := range 1000 {
		c.remember([32]byte{byte(i), byte(i >> 8)}, cert, header)
		c.remember([32]byte{byte(i), byte(i >> 8)}, cert, header) // at the same time
	}
	each := c.memory / len(c.known)
	require.Greater(t, each, header)
	require.Len(t, c.known, maxKnownMemory/each)
	sum := 0
	for _, k := range c.known {
		sum += k.memory
	}
	require.Equal(t, sum, c.memory)
}

// Lists of features are remembered of so many identities; one more, and the memory begins anew.
func TestRememberedAtMost(t *testing.T) {
	f := &storetest.Failing{Store: store.NewMemory()}
	clock := Clock(func() time.Time { return time.Unix(1_700_000_000, 0) })
	enrich := Entitlements{}.Enricher(document.In(f, nil), clock)
	read := func(i int) bool {
		before := f.Gets
		_, err := enrich(t.Context(), &Auth{Identity: fmt.Sprint("id", i)}, Place{})
		require.NoError(t, err)
		return f.Gets > before
	}
	for i := range maxRemembered {
		require.True(t, read(i))
	}
	require.False(t, read(0))
	require.True(t, read(maxRemembered))
	require.False(t, read(maxRemembered))
	require.True(t, read(0), "it is forgotten with the others")
}

// A journal is used for so long, that millisecond included.
func TestJournalTurns(t *testing.T) {
	j, _, _, err := openJournal(t.TempDir(), "a", 10, 0)
	require.NoError(t, err)
	turn := j.turn
	for _, c := range []struct {
		now  int64
		turn int
	}{{5, turn}, {15, turn}, {16, 1 - turn}, {26, 1 - turn}, {27, turn}} {
		require.NoError(t, j.add(record{time: c.now}, c.now))
		require.Equal(t, c.turn, j.turn, c.now)
	}
	require.NoError(t, j.f.Close())
}

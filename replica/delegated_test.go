package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/reconcile/tree"
)

// statementIDs returns the ids of all statements that a store has, and requires its index to agree.
func statementIDs(t require.TestingT, s *Store, id ID) (ids [][32]byte) {
	require.NoError(t, s.kv.View(bg, func(rd kv.Reader) error {
		indexed := 0
		for p, err := range rd.Scan(kv.Prefix(idKey(keyDelegated, id)), kv.ScanOptions{}) {
			require.NoError(t, err)
			_, r, err := parseRankKey(p.Key, p.Value)
			require.NoError(t, err)
			has, err := rd.Has(r.statementKeyOf(id))
			require.NoError(t, err)
			require.True(t, has)
			indexed++
		}
		for p, err := range rd.Scan(kv.Prefix(idKey(keyStatement, id)), kv.ScanOptions{}) {
			require.NoError(t, err)
			st, err := ParseStatement(p.Value)
			require.NoError(t, err)
			require.Equal(t, statementKey(st), p.Key)
			ids = append(ids, st.ID())
			if chainOf(st) != nil {
				indexed--
			}
		}
		require.Zero(t, indexed)
		return nil
	}))
	return ids
}

// kept is the rule of delegated.go, written down plainly: what is kept of some statements.
func kept(t require.TestingT, all []Statement, most keepLimits) map[[32]byte]bool {
	direct := func(a AuthorID) (out []Revocation, _ error) {
		for _, st := range all {
			if r, ok := st.(*Revocation); ok && r.Authority == nil && r.Author == a {
				out = append(out, *r)
			}
		}
		return out, nil
	}
	out := map[[32]byte]bool{}
	byShelf := map[shelf][]ranked{}
	numbers := map[uint32]bool{}
	for _, st := range all {
		if e, ok := st.(*Epoch); ok {
			numbers[e.Number] = true
		}
	}
	last := uint32(0)
	for numbers[last+1] {
		last++
	}
	for _, st := range all {
		above := chainOf(st)
		if above == nil {
			out[st.ID()] = true
			continue
		}
		void, err := isVoid(above, issuedOf(st), direct)
		require.NoError(t, err)
		if !void {
			b, r := rankOf(st, above)
			at := shelf{b, 0}
			if g, ok := st.(*Grant); ok && len(g.Prefix) > 0 {
				if n := binary.BigEndian.Uint32(g.Prefix); n <= last {
					at.epoch = n
				}
			}
			byShelf[at] = append(byShelf[at], r)
		}
	}
	for _, some := range byShelf {
		slices.SortFunc(some, func(a, b ranked) int { return a.compare(&b) })
		some = slices.CompactFunc(some, func(a, b ranked) bool { return a.rank == b.rank })
		about, n := map[AuthorID]int{}, 0
		for _, r := range some {
			if about[r.about]++; about[r.about] <= most.about && n < most.all {
				n++
				out[[32]byte(r.rank[9:])] = true
			}
		}
	}
	return out
}

// sealedIn is a prefix that says it was sealed in an epoch.
func sealedIn(epoch uint32) []byte {
	return append(binary.BigEndian.AppendUint32(nil, epoch), make([]byte, 64)...)
}

// Whatever delegates state, and in whatever order and portions nodes meet it, each keeps the same,
// and just what the rule says of all there is. One of the nodes meets everything by sessions.
func TestNodesKeepTheSameStatements(t *testing.T) {
	testkit.OneGoroutine(t)
	c := newClock()
	most := keepLimits{all: 5, about: 2}
	rapid.Check(t, func(rt *rapid.T) {
		owner := testKey(1)
		id := owner.Replica()
		author := func(name string) SecretKey {
			return testKey(rapid.ByteRange(2, 5).Draw(rt, name))
		}
		time := rapid.Uint64Range(1, 12)
		var all []Statement
		grants := []Grant{}
		for range rapid.IntRange(2, 40).Draw(rt, "statements") {
			var parent *Grant
			by := owner
			if len(grants) > 0 && rapid.IntRange(0, 4).Draw(rt, "delegated") > 0 {
				parent = &grants[rapid.IntRange(0, len(grants)-1).Draw(rt, "parent")]
				for k := byte(2); k <= 5; k++ {
					if testKey(k).Author() == parent.Author {
						by = testKey(k)
					}
				}
			}
			var st Statement
			if rapid.IntRange(0, 7).Draw(rt, "epoch") == 0 {
				e := &Epoch{Replica: id, Number: rapid.Uint32Range(1, 4).Draw(rt, "number"), Issued: 1}
				e.Commitment[0] = rapid.ByteRange(1, 2).Draw(rt, "commitment")
				e.Sign(owner)
				st = e
			} else if rapid.IntRange(0, 3).Draw(rt, "revocation") == 0 {
				st = ref(
					revocation(
						by,
						parent,
						author("revoked"),
						time.Draw(rt, "issued"),
						time.Draw(rt, "from"),
					),
				)
			} else {
				sealed := rapid.Uint32Range(0, 5).Draw(rt, "sealed in")
				g := grantFrom(parent, by, author("author"), time.Draw(rt, "issued"), func(g *Grant) {
					g.Delegable = true
					if parent != nil && len(parent.Prefix) > 0 {
						g.Prefix = parent.Prefix
					} else if sealed > 0 {
						g.Prefix = sealedIn(sealed)
					}
				})
				if _, err := ParseGrant(g.Bytes()); err != nil {
					continue // too long a chain
				}
				st = &g
				grants = append(grants, g)
			}
			require.NoError(rt, st.Verify())
			all = append(all, st)
		}
		var stores []*Store
		for i := range 3 {
			s := newStore(rt, c)
			s.keep = most
			s.treeFrom = []int{1, 4, treeFrom}[i] // their trees begin at different times, or never
			hold(rt, s, owner, Read)
			stores = append(stores, s)
			if i == 2 {
				break // by sessions alone
			}
			order := rapid.Permutation(all).Draw(rt, "order")
			for len(order) > 0 {
				n := rapid.IntRange(1, len(order)).Draw(rt, "portion")
				_, err := s.InsertStatements(bg, id, order[:n])
				require.NoError(rt, err)
				order = order[n:]
			}
			// What was refused or dropped too early comes again from those who have it.
			_, err := s.InsertStatements(bg, id, all)
			require.NoError(rt, err)
		}
		want := kept(rt, all, most)
		for range 2 {
			exchange(rt, stores[0], stores[2], id)
			exchange(rt, stores[1], stores[2], id)
		}
		for i, s := range stores {
			got := statementIDs(rt, s, id)
			require.Len(rt, got, len(want), "store %d", i)
			for _, x := range got {
				require.True(rt, want[x])
			}
			rep, err := s.Check(bg, id, false, nil)
			require.NoError(rt, err)
			require.Empty(rt, rep.Faults)
			sameEntries(rt, stores[0], s, id)
		}
		stats := exchange(rt, stores[0], stores[1], id)
		require.Zero(rt, stats.ItemsSent+stats.ItemsReceived)
		for _, s := range stores {
			require.NoError(rt, s.kv.Close())
		}
	})
}

// flooded is a replica whose owner is 1, with a delegate 2 who may write and grant below m/ and has
// signed very many statements about the owner's author 3.
func flooded(grant *Grant, from uint64, grants, revocations int) (all []Statement) {
	within := func(g *Grant) {
		g.Prefix, g.NotBefore, g.NotAfter = grant.Prefix, grant.NotBefore, grant.NotAfter
	}
	for i := range grants {
		all = append(all, ref(grantFrom(grant, testKey(2), testKey(3), from+uint64(i), within)))
	}
	for i := range revocations {
		all = append(all, ref(revocation(testKey(2), grant, testKey(3), from+uint64(i), 1<<62)))
	}
	return all
}

// A delegate whose grant is over or revoked adds nothing to a replica, and one whose grant stands
// no more than its share; what the owner writes then costs as much as before.
func TestFloodOfStatements(t *testing.T) {
	testkit.OneGoroutine(t)
	c := newClock()
	now := uint64(c.t.UnixMicro())
	counting := &countingStore{}
	var err error
	counting.Store, err = pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = counting.Store.Close() })
	s, err := Open(bg, counting, Config{Now: c.now})
	require.NoError(t, err)
	id := hold(t, s, testKey(1), Write)
	cost := func() (records, bytes int64) {
		write(t, s, id, testKey(3), "before", "x")
		// nothing is remembered
		_, err := s.InsertStatements(
			bg, id, []Statement{ref(NewGrant(testKey(1), AuthorID{99}, now))},
		)
		require.NoError(t, err)
		now++
		counting.records.Store(0)
		counting.bytes.Store(0)
		write(t, s, id, testKey(3), "after", fmt.Sprint(now))
		return counting.records.Load(), counting.bytes.Load()
	}
	cost()
	recordsBefore, bytesBefore := cost()

	over := grantFrom(
		nil,
		testKey(1),
		testKey(2),
		5,
		func(g *Grant) { g.Delegable, g.Prefix, g.NotAfter = true, []byte("m/"), now-10 },
	)
	standing := grantFrom(
		nil,
		testKey(1),
		testKey(2),
		6,
		func(g *Grant) { g.Delegable, g.Prefix = true, []byte("m/") },
	)
	begin := now
	_, err = s.InsertStatements(bg, id, []Statement{&over, &standing})
	require.NoError(t, err)
	size := func() int { return len(statementIDs(t, s, id)) }
	base := size()

	out, err := s.InsertStatements(bg, id, flooded(&over, now, 500, 500))
	require.ErrorIs(t, err, ErrOutOfTime, "issued after the grant was over")
	require.Zero(t, out.Added)

	_, err = s.InsertStatements(bg, id, flooded(&standing, now, 500, 500))
	require.NoError(t, err)
	require.Equal(t, base+2*MaxAbout, size(), "so much about one author")
	var spread []Statement
	for i := range 3 * MaxDelegated {
		to := SecretKeyFromSeed(
			[32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i))),
		)
		spread = append(
			spread, ref(grantFrom(&standing, testKey(2), to, now+uint64(i), under("m/"))),
		)
	}
	_, err = s.InsertStatements(bg, id, spread)
	require.NoError(t, err)
	require.Equal(t, base+MaxAbout+MaxDelegated, size(), "so much in all")
	_, err = s.InsertStatements(
		bg,
		id,
		[]Statement{
			ref(grantFrom(&standing, testKey(2), testKey(77), math.MaxUint64, under("m/"))),
		},
	)
	require.NoError(t, err)
	require.Equal(t, base+MaxAbout+MaxDelegated, size())

	records, bytes := cost()
	require.LessOrEqual(t, records, recordsBefore+4, "records read by the owner's next set")
	require.Less(t, bytes, bytesBefore+4096)

	// The replica key is not held up by what others have stated, and takes their room back.
	r, err := s.Revoke(bg, id, testKey(2).Author(), begin)
	require.NoError(t, err)
	require.Equal(t, base+2, size(), "all that was stated is void")
	forged := flooded(&standing, r.From, 500, 500)
	for _, st := range forged {
		switch st := st.(type) { // so that verifying them would show
		case *Grant:
			st.Signature = [64]byte{}
		case *Revocation:
			st.Signature = [64]byte{}
		}
	}
	out, err = s.InsertStatements(bg, id, forged)
	require.NoError(t, err, "what is void is not verified")
	require.Equal(t, Stated{Refused: 1000}, out)
	require.Equal(t, base+2, size())

	_, err = s.Grant(bg, id, testKey(2).Author(), Permission{Prefix: []byte("m/"), Delegable: true})
	require.NoError(t, err)
	grants, _, err := s.GrantStates(bg, id)
	require.NoError(t, err)
	i := slices.IndexFunc(grants, func(g GrantState) bool { return g.ID() == standing.ID() })
	require.Equal(t, r.From-1, grants[i].Until)
}

// A delegate's statements about others do not get in the way of the replica key: neither of its
// grants, nor of its times.
func TestDelegatesCannotTakeTimesAway(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	id := hold(t, s, testKey(1), Write)
	g, err := s.Grant(
		bg, id, testKey(2).Author(), Permission{Prefix: []byte("m/"), Delegable: true},
	)
	require.NoError(t, err)
	_, err = s.InsertStatements(bg, id, []Statement{
		ref(grantFrom(&g, testKey(2), testKey(3), math.MaxUint64-1, under("m/"))),
		ref(revocation(testKey(2), &g, testKey(3), math.MaxUint64-1, 0))})
	require.NoError(t, err)
	_, err = s.Grant(bg, id, testKey(3).Author(), Permission{})
	require.NoError(t, err)
	_, err = s.Revoke(bg, id, testKey(3).Author(), 0)
	require.NoError(t, err)
	again, err := s.Grant(bg, id, testKey(3).Author(), Permission{})
	require.NoError(t, err)
	require.Less(t, again.Issued, uint64(math.MaxUint64-1))
	write(t, s, id, testKey(3), "k", "v")
}

// A delegate that has made as many grants as are kept is told so, and what it granted before
// stands.
func TestDelegateIsToldOfItsLimit(t *testing.T) {
	c := newClock()
	owner, helper := newStore(t, c), newStore(t, c)
	helper.keep = keepLimits{all: 3, about: 2}
	id := hold(t, owner, testKey(1), Write)
	hold(t, helper, testKey(1), Read)
	author, err := helper.NewAuthor(bg)
	require.NoError(t, err)
	_, err = owner.Grant(bg, id, author, Permission{Delegable: true})
	require.NoError(t, err)
	exchange(t, owner, helper, id)
	for i := range 3 {
		_, err = helper.Grant(bg, id, AuthorID{byte(i + 1)}, Permission{})
		require.NoError(t, err)
	}
	_, err = helper.Grant(bg, id, AuthorID{9}, Permission{})
	require.ErrorIs(t, err, ErrTooMany)
	_, err = helper.Revoke(bg, id, AuthorID{1}, 0)
	require.NoError(t, err, "revocations are counted apart")
}

// countingStore counts the records that are read, and their bytes.
type countingStore struct {
	kv.Store
	records, bytes atomic.Int64
}

func (c *countingStore) View(ctx context.Context, fn func(kv.Reader) error) error {
	return c.Store.View(ctx, func(r kv.Reader) error { return fn(countingReader{r, c}) })
}

func (c *countingStore) Update(ctx context.Context, fn func(kv.Txn) error) error {
	return c.Store.Update(
		ctx, func(tx kv.Txn) error { return fn(countingTxn{countingReader{tx, c}, tx}) },
	)
}

type countingTxn struct {
	countingReader
	kv.Writer
}

type countingReader struct {
	kv.Reader
	c *countingStore
}

func (r countingReader) read(n int) {
	r.c.records.Add(1)
	r.c.bytes.Add(int64(n))
}

func (r countingReader) Get(key []byte) ([]byte, error) {
	b, err := r.Reader.Get(key)
	r.read(len(b))
	return b, err
}

func (r countingReader) Peek(key []byte, fn func([]byte) error) error {
	return r.Reader.Peek(key, func(b []byte) error {
		r.read(len(b))
		return fn(b)
	})
}

func (r countingReader) Has(key []byte) (bool, error) {
	r.read(0)
	return r.Reader.Has(key)
}

func (r countingReader) Scan(in kv.Range, o kv.ScanOptions) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		for p, err := range r.Reader.Scan(in, o) {
			r.read(len(p.Value))
			if !yield(p, err) {
				return
			}
		}
	}
}

// Check notices statements that should not be there and an index that is wrong, and repairs them.
func TestCheckOfStatements(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	s.treeFrom = 1
	id := hold(t, s, testKey(1), Write)
	write(t, s, id, testKey(3), "k", "v")
	g, err := s.Grant(bg, id, testKey(2).Author(), Permission{Delegable: true})
	require.NoError(t, err)
	delegated := grantFrom(&g, testKey(2), testKey(4), g.Issued, nil)
	void := grantFrom(&g, testKey(2), testKey(4), g.Issued+10, nil)
	forged := grantFrom(nil, testKey(9), testKey(4), 1, nil)
	_, err = s.InsertStatements(
		bg,
		id,
		[]Statement{
			&delegated, ref(revocation(testKey(1), nil, testKey(2), g.Issued+20, g.Issued+10)),
		},
	)
	require.NoError(t, err)
	b, r := rankOf(&delegated, delegated.Parent)
	bv, rv := rankOf(&void, void.Parent)
	indexed := rankKey(id, b, &r)
	for name, spoil := range map[string]func(kv.Txn) error{
		"nothing is wrong": func(kv.Txn) error { return nil },
		"a forged statement": func(tx kv.Txn) error {
			return tx.Set(statementKey(&forged), forged.Bytes())
		},
		"bytes that are none": func(tx kv.Txn) error {
			return tx.Set(statementKey(&forged), []byte("x"))
		},
		"one that is void": func(tx kv.Txn) error {
			return tx.Set(statementKey(&void), void.Bytes())
		},
		"one that is void, and indexed": func(tx kv.Txn) error {
			return errors.Join(
				tx.Set(statementKey(&void), void.Bytes()),
				tx.Set(rankKey(id, bv, &rv), rv.about[:]),
			)
		},
		"a record of the index is missing": func(tx kv.Txn) error { return tx.Delete(indexed) },
		"a record of the index is wrong": func(tx kv.Txn) error {
			return tx.Set(indexed, make([]byte, 32))
		},
		"the tree lacks a statement": func(tx kv.Txn) error {
			id := delegated.ID()
			mark := statementMark(id)
			change := tree.Change{Key: statementKey(&delegated)[len(keyStatement)+32:], Remove: &mark}
			return s.kv.View(bg, func(rd kv.Reader) error {
				return statementTree(delegated.Replica).Apply(rd, tx, []tree.Change{change})
			})
		},
		"the index by element lacks one": func(tx kv.Txn) error {
			id := delegated.ID()
			return tx.Delete(elementKey(delegated.Replica, reconcile.Element(id[:])))
		},
		"a record of the index is about one": func(tx kv.Txn) error {
			return tx.Set(rankKey(id, bv, &rv), rv.about[:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, s.kv.Update(bg, spoil))
			wrong := name != "nothing is wrong"
			for _, repair := range []bool{false, true} {
				rep, err := s.Check(bg, id, repair, nil)
				require.NoError(t, err)
				require.Equal(t, wrong, len(rep.Faults) > 0)
				require.Equal(t, repair && wrong, rep.Repaired)
			}
			rep, err := s.Check(bg, id, false, nil)
			require.NoError(t, err)
			require.Empty(t, rep.Faults)
			require.Len(t, statementIDs(t, s, id), 4)
		})
	}
}

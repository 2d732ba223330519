package replica

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/reconcile"
)

// storeStated puts statements into a store as if they had come and been verified.
func storeStated(t testing.TB, s *Store, id ID, from, n int) {
	t.Helper()
	for left := n; left > 0; {
		var some []Statement
		for ; left > 0 && len(some) < 1024; left-- {
			author := AuthorID(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(from+left)))
			g := Grant{Replica: id, Author: author, Issued: 7, NotAfter: Forever}
			some = append(some, &g)
		}
		_, err := s.storeStatements(bg, id, some)
		require.NoError(t, err)
	}
}

// A question about statements reads the more for many statements only as a tree is higher: peers
// ask as many as they like.
func TestQuestionsAboutStatementsAreCheap(t *testing.T) {
	testkit.OneGoroutine(t)
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	counted := &countingStore{Store: db}
	s, err := Open(bg, counted, Config{Now: newClock().now})
	require.NoError(t, err)
	id := hold(t, s, testKey(1), Read)
	const most = 1 << 13
	at := func(i int) []byte {
		return append(make([]byte, 24), binary.BigEndian.AppendUint64(nil, uint64(i))...)
	}
	set := s.StatementSet(id)
	var elements []reconcile.Element
	held := 0
	for _, n := range []int{treeFrom / 2, 1 << 11, most} {
		storeStated(t, s, id, held, n-held)
		held = n
		elements = nil
		for it, err := range set.Items(bg, reconcile.Range{From: at(n / 2), To: at(n/2 + 9)}) {
			require.NoError(t, err)
			elements = append(elements, it.Element)
		}
		require.Len(t, elements, 9)
		for name, ask := range map[string]func() error{
			"summaries of two halves": func() error {
				sums, err := set.Summaries(bg, [][]byte{nil, at(n/2 + 3), nil})
				require.Equal(t, uint64(n), sums[0].Count+sums[1].Count)
				return err
			},
			"parts of the second half": func() error {
				_, err := set.Split(bg, reconcile.Range{From: at(n / 2)}, 16)
				return err
			},
			"statements by their elements": func() error {
				found := 0
				for _, err := range set.Find(bg, reconcile.All, elements) {
					if err != nil {
						return err
					}
					found++
				}
				require.Equal(t, len(elements), found)
				return nil
			},
			"the digest of all": func() error {
				s.statementsChanged(id)
				_, err := s.StatementsFingerprint(bg, id)
				return err
			},
			"statements that are not here": func() error {
				for range set.Find(bg, reconcile.All, make([]reconcile.Element, 4)) {
					t.Error("found")
				}
				return nil
			},
		} {
			counted.records.Store(0)
			require.NoError(t, ask())
			require.Less(t, counted.records.Load(), int64(2500), "%s of %d", name, n)
		}
	}
	rep, err := s.Check(bg, id, false, nil)
	require.NoError(t, err)
	for _, f := range rep.Faults { // these statements are not signed
		require.NotContains(t, f, "tree")
		require.NotContains(t, f, "index")
	}
	require.NoError(t, s.Leave(bg, id))
	for _, kind := range perReplica {
		require.NoError(t, db.View(bg, func(rd kv.Reader) error {
			for p, err := range rd.Scan(kv.Prefix([]byte(kind)), kv.ScanOptions{}) {
				require.NoError(t, err)
				require.Empty(t, p.Key, "leaving erases everything")
			}
			return nil
		}))
	}
}

// Statements that were stored without a tree, since there were few, get one when they are first
// asked about, and the answers do not change.
func TestTreeOfStatementsComesLater(t *testing.T) {
	s := newStore(t, newClock())
	id := hold(t, s, testKey(1), Read)
	s.treeFrom = 1 << 30
	storeStated(t, s, id, 0, 2*treeFrom)
	before, err := s.StatementsFingerprint(bg, id)
	require.NoError(t, err)
	height := func() (err error) {
		return s.kv.View(bg, func(rd kv.Reader) error {
			_, err := statementTree(id).Height(rd)
			return err
		})
	}
	require.Error(t, height())
	s.treeFrom = treeFrom
	for range 2 {
		s.statementsChanged(id)
		after, err := s.StatementsFingerprint(bg, id)
		require.NoError(t, err)
		require.Equal(t, before, after)
		require.NoError(t, height())
	}
	var whole []reconcile.Item
	for it, err := range s.StatementSet(id).Items(context.Background(), reconcile.All) {
		require.NoError(t, err)
		whole = append(whole, it)
	}
	require.Len(t, whole, 2*treeFrom)
}

// A delegate's statements about authors who have written nothing do not have all entries read, nor
// all statements, however many it sends and however they displace each other.
func TestStatementsOfDelegatesAreCheapToStore(t *testing.T) {
	testkit.OneGoroutine(t)
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	counted := &countingStore{Store: db}
	s, err := Open(bg, counted, Config{Now: newClock().now})
	require.NoError(t, err)
	s.keep = keepLimits{all: 8, about: 4}
	id := hold(t, s, testKey(1), Write)
	var changes []Change
	for i := range 4000 {
		changes = append(changes, change(fmt.Sprint("k", i), "v"))
	}
	_, err = s.Write(bg, id, testKey(5), changes)
	require.NoError(t, err)
	storeStated(t, s, id, 0, 4000)
	root := grantFrom(nil, testKey(1), testKey(2), 5, delegable)
	_, err = s.InsertStatements(bg, id, []Statement{&root})
	require.NoError(t, err)
	for i := range uint64(24) { // each is older than the one before, so it displaces one
		about := testKey(byte(10 + i%2))
		g := grantFrom(&root, testKey(2), about, 1000-i, nil)
		for _, st := range []Statement{
			&g,
			ref(revocation(testKey(2), &root, about, 1000-i, 0)),
			ref(revocation(testKey(2), &root, testKey(5), 1000-i, 0)), // whom the owner lets write
		} {
			counted.records.Store(0)
			out, err := s.InsertStatements(bg, id, []Statement{st})
			require.NoError(t, err)
			require.Equal(t, Stated{Added: 1}, out)
			require.Less(t, counted.records.Load(), int64(1000))
		}
	}
	c, err := s.Counts(bg, id)
	require.NoError(t, err)
	require.EqualValues(t, 4000, c.Entries)
}

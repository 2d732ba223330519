package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
)

// The record of what may be void keeps the earliest time, and a place that dropping has come to.
func TestNoteVoid(t *testing.T) {
	s := newStore(t, newClock())
	id := hold(t, s, testKey(1), Write)
	note := func(from uint64) (got []byte) {
		require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
			if err := noteVoid(tx, id, from); err != nil {
				return err
			}
			b, err := voidFrom(tx, id)
			got = b
			return err
		}))
		return got
	}
	set := func(b []byte) {
		require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
			return tx.Set(idKey(keyVoid, id), b)
		}))
	}
	at := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	require.Equal(t, at(50), note(50))
	require.Equal(t, at(50), note(60))
	require.Equal(t, at(40), note(40))
	set(append(at(30), make([]byte, 17)...)) // a place
	require.Equal(t, at(30), note(35), "from the beginning of that time")
	set([]byte{1, 2, 3})
	require.Equal(t, at(70), note(70), "what is no time is replaced")
}

// revokedOnly stores a revocation of everything by an author as a node does that is stopped after
// it: nothing is dropped yet.
func revokedOnly(t require.TestingT, s *Store, owner, author SecretKey) {
	id := owner.Replica()
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		r := revocation(owner, nil, author, uint64(s.cfg.Now().UnixMicro())+1000, 0)
		return errors.Join(
			tx.Set(statementKey(&r), r.Bytes()), touchStatements(tx, id), noteVoid(tx, id, 0),
		)
	}))
}

// Dropping goes on in steps of so many entries, and takes those with the shortest key as well.
func TestDroppingInSteps(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	owner, a := testKey(1), testKey(2)
	id := hold(t, s, owner, Write)
	write(t, s, id, a, "", "v", "b", "v", "c", "v", "d", "v", "e", "v")
	c.t = c.t.Add(time.Second)
	write(t, s, id, testKey(3), "stays", "v", "too", "v")
	revokedOnly(t, s, owner, a)
	for _, tc := range []struct {
		most, dropped int
		done          bool
	}{{1, 1, false}, {2, 2, false}, {4, 2, false}, {4, 0, true}, {1, 0, true}} {
		dropped, done, err := s.dropSomeVoid(bg, id, tc.most, map[AuthorID]Authority{})
		require.NoError(t, err)
		require.Len(t, dropped, tc.dropped)
		require.Equal(t, tc.done, done)
	}
	s.prints.changed(id)
	authors, err := s.AuthorsOf(bg, id)
	require.NoError(t, err)
	require.Equal(t, []AuthorID{testKey(3).Author()}, authors, "the other has no entries")
	require.Equal(t, []string{"stays", "too"}, keysOf(collect(t, s.Entries(bg, id, Query{}))))
	wholesome(t, s, id)

	// A record that says otherwise is noticed, and mended.
	r, err := s.Get(bg, id)
	require.NoError(t, err)
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		w, err := getWriter(tx, r.number, a.Author())
		require.NoError(t, err)
		w.entries = 3
		return tx.Set(writerKey(r.number, a.Author()), w.marshal())
	}))
	rep, err := s.Check(bg, id, true, nil)
	require.NoError(t, err)
	require.Len(t, rep.Faults, 1)
	wholesome(t, s, id)

	// Of an author whose entries are void from a time on, the others stay, and are counted.
	c.t = c.t.Add(time.Second)
	write(t, s, id, testKey(3), "late", "v")
	_, err = s.Revoke(bg, id, testKey(3).Author(), uint64(c.t.UnixMicro()))
	require.NoError(t, err)
	require.Equal(t, []string{"stays", "too"}, keysOf(collect(t, s.Entries(bg, id, Query{}))))
	wholesome(t, s, id)
}

// A step takes no more than about a megabyte of keys, however many entries it may take.
func TestDroppingLongKeys(t *testing.T) {
	testkit.OneGoroutine(t)
	c := newClock()
	s := newStore(t, c)
	owner, a := testKey(1), testKey(2)
	id := hold(t, s, owner, Write)
	long := strings.Repeat("k", 1<<16-4-2)
	var changes []Change
	for i := range 20 {
		changes = append(changes, change(fmt.Sprintf("%02d%s", i, long), "v"))
	}
	_, err := s.Write(bg, id, a, changes)
	require.NoError(t, err)
	revokedOnly(t, s, owner, a)
	// 16 of them are a megabyte to the byte: the next one ends the step.
	dropped, done, err := s.dropSomeVoid(bg, id, voidAtOnce, map[AuthorID]Authority{})
	require.NoError(t, err)
	require.False(t, done)
	require.Len(t, dropped, 17)
	dropped, done, err = s.dropSomeVoid(bg, id, voidAtOnce, map[AuthorID]Authority{})
	require.NoError(t, err)
	require.True(t, done)
	require.Len(t, dropped, 3)
}

// A replica that has been left is not gone on with.
func TestDroppingOfALeftReplica(t *testing.T) {
	s := newStore(t, newClock())
	id := hold(t, s, testKey(1), Write)
	require.NoError(t, s.Leave(bg, id))
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error { return noteVoid(tx, id, 5) }))
	require.NoError(t, s.resumeVoid(bg))
	require.NoError(t, s.kv.View(bg, func(rd kv.Reader) error {
		_, err := voidFrom(rd, id)
		require.ErrorIs(t, err, kv.ErrNotFound)
		return nil
	}))
}

// Taking over many entries takes few transactions.
func TestAdoptMany(t *testing.T) {
	c := newClock()
	var db *counted
	s := storeOn(t, Config{Now: c.now}, func(s kv.Store) kv.Store {
		db = &counted{Store: s}
		return db
	})
	owner, a, b := testKey(1), testKey(2), testKey(3)
	id := hold(t, s, owner, Write)
	var changes []Change
	for i := range insertEntries + 10 {
		changes = append(changes, change(fmt.Sprint(i), "v"))
	}
	_, err := s.Write(bg, id, a, changes)
	require.NoError(t, err)
	write(t, s, id, b, "own", "v")
	db.updates = 0
	n, err := s.Adopt(bg, id, a.Author(), b, nil)
	require.NoError(t, err)
	require.Equal(t, len(changes), n)
	require.Equal(t, 2, db.updates)
	require.Len(t, collect(t, s.Entries(bg, id, Query{Author: ref(b.Author())})), len(changes)+1)
	wholesome(t, s, id)
}

package replica

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// An entry from elsewhere that takes another one's place tells of both, in the transaction that
// stores it. What is written here, what is new, older or the same, and what falls out between two
// that come together, is not told of.
func TestDisplaced(t *testing.T) {
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	c := newClock()
	type pair struct{ by, old string }
	var told []pair
	var refused error
	mark := []byte("x of a test")
	s, err := Open(bg, db, Config{Now: c.now, OnDisplace: func(tx kv.Txn, e, old *Entry) error {
		if refused != nil {
			return errors.Join(tx.Set(mark, nil), refused)
		}
		require.Equal(t, old.Key, e.Key)
		require.Equal(t, old.Author, e.Author)
		told = append(told, pair{string(e.Hash[:]), string(old.Hash[:])})
		return nil
	}})
	require.NoError(t, err)
	owner, author := testKey(1), testKey(2)
	id := hold(t, s, owner, Write)
	write(t, s, id, author, "k", "1")
	mine := write(t, s, id, author, "k", "2")[0]
	require.Empty(t, told)

	later := func(old Entry, value string) Entry {
		e := old
		e.Timestamp, e.Hash, e.Size = old.Timestamp+1, change("", value).Hash, uint64(len(value))
		e.Sign(author)
		return e
	}
	insert := func(entries ...Entry) error {
		_, err := s.Insert(bg, id, entries, Origin{Peer: "p"})
		return err
	}
	third := later(mine, "3")
	fourth := later(third, "4")
	other := later(mine, "other")
	other.Key = []byte("new")
	other.Sign(author)
	require.NoError(t, insert(other, third, fourth))
	require.Equal(t, []pair{{string(fourth.Hash[:]), string(mine.Hash[:])}}, told)
	require.NoError(t, insert(mine, third, fourth))
	require.Len(t, told, 1)

	told = nil
	gone := later(fourth, "")
	in := s.NewInserter(bg, id, Origin{Peer: "p"})
	raw, err := gone.AppendBinary(nil)
	require.NoError(t, err)
	require.NoError(t, in.Add([][]byte{raw}))
	_, err = in.Close()
	require.NoError(t, err)
	require.Equal(t, []pair{{string(gone.Hash[:]), string(fourth.Hash[:])}}, told, "a deletion, too")

	refused = errors.New("not now")
	require.ErrorIs(t, insert(later(gone, "5")), refused)
	require.NoError(t, db.View(bg, func(rd kv.Reader) error {
		has, err := rd.Has(mark)
		require.False(t, has, "one transaction")
		return err
	}))
	e, err := s.LatestOf(bg, id, []byte("k"))
	require.ErrorIs(t, err, ErrNotFound, "%v", e)
}

// Keys in plain are found under as many sealed ones as there are read keys.
func TestSealKey(t *testing.T) {
	s := newStore(t, newClock())
	r, err := s.CreateEncrypted(bg, "r")
	require.NoError(t, err)
	_, err = s.Rotate(bg, r.ID)
	require.NoError(t, err)
	p, err := s.Plain(bg, r.ID)
	require.NoError(t, err)
	sealed, err := p.SealKey([]byte("a/b"))
	require.NoError(t, err)
	require.Len(t, sealed, 2)
	for _, key := range sealed {
		it, ok := p.Open(Entry{Replica: r.ID, Key: key})
		require.True(t, ok)
		require.Equal(t, "a/b", string(it.Key))
	}
	plain := hold(t, s, testKey(1), Write)
	p, err = s.Plain(bg, plain)
	require.NoError(t, err)
	sealed, err = p.SealKey([]byte("a/b"))
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("a/b")}, sealed)
}

// Whether an entry is allowed follows what is stated; that a replica or an author's key is here
// can be seen within a transaction.
func TestIsAllowedNow(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	owner, author := testKey(1), testKey(2)
	id := hold(t, s, owner, Write)
	e := write(t, s, id, author, "k", "1")[0]
	allowed := func() bool {
		ok, err := s.IsAllowed(bg, &e)
		require.NoError(t, err)
		return ok
	}
	require.True(t, allowed())
	_, err := s.Revoke(bg, id, author.Author(), 0)
	require.NoError(t, err)
	require.False(t, allowed())
	require.NoError(t, s.ImportAuthor(bg, author))
	require.NoError(t, s.kv.View(bg, func(rd kv.Reader) error {
		require.NoError(t, HeldIn(rd, id))
		require.ErrorIs(t, HeldIn(rd, ID{1}), ErrNotFound)
		for a, want := range map[AuthorID]bool{author.Author(): true, owner.Author(): false} {
			has, err := HasAuthorIn(rd, a)
			require.NoError(t, err)
			require.Equal(t, want, has)
		}
		return nil
	}))
}

// A change is checked against what it would replace, at the moment at which it does.
func TestCheckedWrite(t *testing.T) {
	s := newStore(t, newClock())
	author := testKey(2)
	id := hold(t, s, testKey(1), Write)
	refused := errors.New("refused")
	set := func(value string, check func(*Entry) error) error {
		c := change("k", value)
		c.Check = check
		_, err := s.Write(bg, id, author, []Change{change("other", value), c})
		return err
	}
	require.NoError(t, set("1", func(old *Entry) error {
		require.Nil(t, old)
		return nil
	}))
	require.ErrorIs(t, set("2", func(old *Entry) error {
		require.Equal(t, change("k", "1").Hash, old.Hash)
		return refused
	}), refused)
	for _, key := range []string{"k", "other"} {
		e, err := s.LatestOf(bg, id, []byte(key))
		require.NoError(t, err)
		require.Equal(t, change("k", "1").Hash, e.Hash)
	}
}

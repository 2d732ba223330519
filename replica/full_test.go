package replica

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// A node that has no room for what others state still changes its own read keys, whole: who is
// revoked loses the next one, and no reader of those that stay, nor the node itself, is without it.
func TestReadKeysChangeWithoutRoom(t *testing.T) {
	c := newClock()
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	room := 1 << 30 // statements
	s, err := Open(bg, db, Config{Now: c.now, OnState: func(_ kv.Txn, _ ID, bytes int) (bool, error) {
		room--
		return room >= 0 || bytes < 0, nil
	}})
	require.NoError(t, err)
	r, err := s.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	reader := testKey(7).Author()
	require.NoError(t, s.AddReader(bg, r.ID, reader))
	for left := range 3 { // none, or a part of what a rotation states
		before, err := s.ReadKey(bg, r.ID)
		require.NoError(t, err)
		room = left
		next, err := s.Rotate(bg, r.ID)
		require.NoError(t, err)
		now, err := s.ReadKey(bg, r.ID)
		require.NoError(t, err)
		require.Equal(t, next, now)
		require.Equal(t, before.Epoch+1, now.Epoch)
	}
	room = 0
	other := testKey(8).Author()
	require.NoError(t, s.AddReader(bg, r.ID, other))
	st, err := s.statements(bg, r.ID)
	require.NoError(t, err)
	given := 0
	for _, w := range st.wrapped {
		if w.Author == other {
			given++
		}
	}
	require.Equal(t, 1, given)
	before, err := s.ReadKey(bg, r.ID)
	require.NoError(t, err)
	_, err = s.Revoke(bg, r.ID, reader, 0)
	require.NoError(t, err)
	now, err := s.ReadKey(bg, r.ID)
	require.NoError(t, err)
	require.Equal(t, before.Epoch+1, now.Epoch, "the revoked reader holds the key of the epoch before")
}

// A host whose room a writer has filled up still takes the owner's revocation of that writer, and
// drops what the writer wrote. It takes no more of them than the writer has grants for.
func TestAFullHostTakesRevocations(t *testing.T) {
	c := newClock()
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	full := false
	s, err := Open(bg, db, Config{Now: c.now, OnState: func(kv.Txn, ID, int) (bool, error) {
		return !full, nil
	}})
	require.NoError(t, err)
	owner, spammer, other := testKey(1), testKey(2), testKey(3)
	id := hold(t, s, owner, Sync)
	grant := func(author SecretKey) Stated {
		g := NewGrant(owner, author.Author(), uint64(c.now().UnixMicro()))
		out, err := s.InsertStatements(bg, id, []Statement{&g})
		require.NoError(t, err)
		return out
	}
	require.Equal(t, 1, grant(spammer).Added)
	write(t, s, id, spammer, "spam", "1")
	full = true
	require.Equal(t, 1, grant(other).Refused)
	revoke := func(by, author SecretKey, from uint64) Stated {
		r := Revocation{
			Replica: id, Author: author.Author(), Issued: uint64(c.now().UnixMicro()), From: from,
		}
		r.Sign(by)
		out, err := s.InsertStatements(bg, id, []Statement{&r})
		require.NoError(t, err)
		return out
	}
	require.Equal(t, 1, revoke(owner, other, 0).Refused, "who has no grant takes no room")
	require.Equal(t, 1, revoke(owner, spammer, uint64(c.now().UnixMicro())+1).Added)
	require.Len(t, collect(t, s.Entries(bg, id, Query{})), 1)
	require.Equal(t, 1, revoke(owner, spammer, 0).Added)
	require.Empty(t, collect(t, s.Entries(bg, id, Query{})))
	require.Equal(t, 1, revoke(owner, spammer, 1).Refused, "two for a grant")
}

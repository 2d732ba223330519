package replica

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica/seal"
)

// withheld gives a store what a host shows that keeps the statements back for which hide says so.
func withheld(t *testing.T, from, to *Store, id ID, hide func(Statement) bool) {
	t.Helper()
	var some []Statement
	for it, err := range from.StatementSet(id).Items(bg, reconcile.All) {
		require.NoError(t, err)
		st, err := ParseStatement(it.Data)
		require.NoError(t, err)
		if !hide(st) {
			some = append(some, st)
		}
	}
	_, err := to.InsertStatements(bg, id, some)
	require.NoError(t, err)
}

// laterThan hides epochs, and the keys that are handed over in them, after one.
func laterThan(epoch uint32) func(Statement) bool {
	return func(st Statement) bool {
		switch st := st.(type) {
		case *Epoch:
			return st.Number > epoch
		case *WrappedKey:
			return st.Epoch > epoch
		}
		return false
	}
}

// A device that may only sync, and is then let write by its author's id, writes nothing in clear,
// and nothing with a key that is known to be old, whatever its only host withholds.
func TestHostCannotWithholdEpochs(t *testing.T) {
	c := newClock()
	owner := newStore(t, c)
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	author := authorOn(t, newStore(t, c))
	_, err = owner.Grant(bg, r.ID, author.Author(), Permission{})
	require.NoError(t, err)
	for range 2 {
		_, err = owner.Rotate(bg, r.ID)
		require.NoError(t, err)
	}
	least, err := owner.NewestEpoch(bg, r.ID)
	require.NoError(t, err)
	present := sealingKey(t, owner, r.ID)
	require.Equal(t, present.ID(), least)
	for name, join := range map[string]struct {
		as   Replica
		keys []EpochKey
	}{
		"to sync":  {as: Replica{Capability: Sync, Least: least}},
		"to read":  {Replica{Capability: Read, Least: least}, []EpochKey{present}},
		"to write": {Replica{Capability: Write, Secret: r.Secret, Least: least}, []EpochKey{present}},
	} {
		for shown := range uint32(4) {
			s := newStore(t, c)
			require.NoError(t, s.ImportAuthor(bg, author))
			join.as.ID = r.ID
			_, err := s.Join(bg, join.as, join.keys...)
			require.NoError(t, err)
			withheld(t, owner, s, r.ID, laterThan(shown))
			p, err := s.Plain(bg, r.ID)
			if err == nil {
				require.True(t, p.Encrypted(), "%s, %d shown", name, shown)
				var now EpochKey
				if now, err = p.Sealing(); err == nil {
					require.Equal(t, present, now, "%s, %d shown", name, shown)
				}
				_, writeErr := p.s.WritePlain(bg, p, author, []Change{change("k", "v")})
				require.Equal(t, err == nil, writeErr == nil)
			}
			if shown == 3 || shown == 0 && name == "to write" {
				require.NoError(t, err, "%s, %d shown", name, shown)
				continue
			}
			require.ErrorIs(t, err, ErrNoReadKey, "%s, %d shown", name, shown)
			_, err = s.Rotate(bg, r.ID)
			require.Error(t, err, "no epoch beside those that are withheld")
			withheld(t, owner, s, r.ID, laterThan(3))
			require.Equal(t, present, sealingKey(t, s, r.ID))
		}
	}
}

// What a node has seen it remembers, also if its store should lose the statements.
func TestNewestEpochIsRemembered(t *testing.T) {
	c := newClock()
	owner, reader := newStore(t, c), newStore(t, c)
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	first := sealingKey(t, owner, r.ID)
	_, err = reader.Join(bg, Replica{ID: r.ID, Capability: Read}, first)
	require.NoError(t, err)
	_, err = owner.Rotate(bg, r.ID)
	require.NoError(t, err)
	exchange(t, owner, reader, r.ID)
	held, err := reader.Get(bg, r.ID)
	require.NoError(t, err)
	newest, err := owner.NewestEpoch(bg, r.ID)
	require.NoError(t, err)
	require.Equal(t, newest, held.Least)
	require.NoError(t, reader.deletePrefixes(bg, [][]byte{idKey(keyStatement, r.ID)}))
	withheld(t, owner, reader, r.ID, laterThan(1))
	_, err = plain(t, reader, r.ID).Sealing()
	require.ErrorIs(t, err, ErrBehind)
}

// Tickets can name keys without end; a node keeps few that nothing proves, and those that are right
// find a place for all that.
func TestUnprovedKeysAreBounded(t *testing.T) {
	c := newClock()
	owner, host := newStore(t, c), newStore(t, c)
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	_, err = host.Join(bg, Replica{ID: r.ID, Capability: Sync})
	require.NoError(t, err)
	exchange(t, owner, host, r.ID)
	refused := 0
	for i := range 3 * maxUnproved {
		_, err := host.Join(bg, Replica{ID: r.ID, Capability: Read},
			EpochKey{uint32(i + 2), seal.NewReadKey()})
		if err != nil {
			require.ErrorIs(t, err, ErrManyKeys)
			refused++
		}
	}
	require.Equal(t, 2*maxUnproved, refused)
	_, err = host.Join(bg, Replica{ID: r.ID, Capability: Read}, sealingKey(t, owner, r.ID))
	require.NoError(t, err)
	require.Equal(t, sealingKey(t, owner, r.ID), sealingKey(t, host, r.ID))
}

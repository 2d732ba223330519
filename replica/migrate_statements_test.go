package replica

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
)

// A store of version 4 is opened with its grants, revocations, epochs and read keys.
func TestMigrateStatements(t *testing.T) {
	c := newClock()
	s, reader := newStore(t, c), newStore(t, c)
	r, err := s.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	mine, theirs, gone := authorOn(t, s), authorOn(t, s), authorOn(t, s)
	for _, a := range []SecretKey{theirs, gone} {
		_, err = s.Grant(bg, r.ID, a.Author(), Permission{Delegable: true})
		require.NoError(t, err)
	}
	plainWrite(t, s, r.ID, mine, "a", "1")
	_, err = s.Rotate(bg, r.ID)
	require.NoError(t, err)
	plainWrite(t, s, r.ID, theirs, "b", "1")
	_, err = s.Revoke(bg, r.ID, gone.Author(), 0)
	require.NoError(t, err)
	now := sealingKey(t, s, r.ID)
	_, err = reader.Join(bg, Replica{ID: r.ID, Capability: Read}, now)
	require.NoError(t, err)
	exchange(t, s, reader, r.ID)

	for _, x := range []*Store{s, reader} {
		before, err := x.statements(bg, r.ID)
		require.NoError(t, err)
		require.NotEmpty(t, before.grants)
		require.NotEmpty(t, before.revocations)
		require.Len(t, before.epochs, 3, "a revocation begins one, too")
		back(t, x, r.ID)
		none, err := x.statements(bg, r.ID)
		require.NoError(t, err)
		require.Empty(t, none.grants)

		again, err := Open(bg, x.kv, x.cfg)
		require.NoError(t, err)
		after, err := again.statements(bg, r.ID)
		require.NoError(t, err)
		require.Equal(t, before, after)
		require.Equal(t, now, sealingKey(t, again, r.ID))
		require.Len(t, listed(t, plain(t, again, r.ID).Latest(bg, Query{})), 2)
		rep, err := again.Check(bg, r.ID, false, nil)
		require.NoError(t, err)
		require.Empty(t, rep.Faults)
		require.NoError(t, x.kv.View(bg, func(rd kv.Reader) error {
			for p, err := range rd.Scan(kv.Prefix([]byte(keyOldStatement)), kv.ScanOptions{}) {
				require.NoError(t, err)
				t.Errorf("%x is left", p.Key)
			}
			return nil
		}))
		_, err = Open(bg, x.kv, x.cfg)
		require.NoError(t, err, "once more")
	}
}

// back turns the statements and read keys of a store into those of version 4.
func back(t *testing.T, s *Store, id ID) {
	st, err := s.statements(bg, id)
	require.NoError(t, err)
	var all []Statement
	for i := range st.grants {
		all = append(all, &st.grants[i])
	}
	for i := range st.revocations {
		all = append(all, &st.revocations[i])
	}
	for i := range st.epochs {
		all = append(all, &st.epochs[i])
	}
	for i := range st.wrapped {
		all = append(all, &st.wrapped[i])
	}
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		var keys []kv.Pair
		for p, err := range tx.Scan(kv.Prefix(idKey(keyReadKey, id)), kv.ScanOptions{}) {
			require.NoError(t, err)
			keys = append(keys, kv.Pair{Key: bytes.Clone(p.Key), Value: bytes.Clone(p.Value)})
		}
		require.NotEmpty(t, keys)
		for _, p := range keys {
			require.NoError(t, tx.Set(p.Key, p.Value[:32]))
		}
		for _, kind := range []string{keyStatement, keyDelegated} {
			var drop [][]byte
			for p, err := range tx.Scan(kv.Prefix(idKey(kind, id)), kv.ScanOptions{KeysOnly: true}) {
				require.NoError(t, err)
				drop = append(drop, bytes.Clone(p.Key))
			}
			for _, k := range drop {
				require.NoError(t, tx.Delete(k))
			}
		}
		for _, st := range all {
			_, author := st.about()
			sid := st.ID()
			k := append(append(idKey(keyOldStatement, id), author[:]...), sid[:]...)
			require.NoError(t, tx.Set(k, st.Bytes()))
		}
		return nil
	}))
}

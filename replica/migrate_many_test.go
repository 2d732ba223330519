package replica

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// backToVersion4 makes of the statements of a store what version 4 would have left.
func backToVersion4(t *testing.T, db kv.Store) {
	require.NoError(t, db.Update(bg, func(tx kv.Txn) error {
		for _, kind := range []string{keyStatement, keyDelegated} {
			var all []kv.Pair
			for p, err := range tx.Scan(kv.Prefix([]byte(kind)), kv.ScanOptions{}) {
				if err != nil {
					return err
				}
				all = append(all, kv.Pair{Key: bytes.Clone(p.Key), Value: bytes.Clone(p.Value)})
			}
			for _, p := range all {
				if err := tx.Delete(p.Key); err != nil {
					return err
				}
				if kind != keyStatement {
					continue
				}
				k := append([]byte(keyOldStatement), p.Key[len(keyStatement):]...)
				at := len(k) - 33 // of the class
				if err := tx.Set(append(k[:at:at], k[at+1:]...), p.Value); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// However many statements a replica of version 4 has, and however full the node is, all are moved, and
// no revocation drops entries whose grants are still to come.
func TestManyStatementsOfVersion4(t *testing.T) {
	for name, room := range map[string]bool{"room": true, "full": false} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			db, err := pebble.Open("", pebble.Options{})
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			s, err := Open(bg, db, Config{Now: c.now})
			require.NoError(t, err)
			r, err := s.Create(bg, "r")
			require.NoError(t, err)
			now := uint64(c.now().UnixMicro())
			author := func(i int) AuthorID {
				var a AuthorID
				binary.BigEndian.PutUint32(a[:], uint32(i))
				return a
			}
			var all []Statement
			for i := range 2 * 1024 {
				g := NewGrant(r.Secret, author(i), now)
				all = append(all, &g)
			}
			var last SecretKey // of an author behind all these
			for i := byte(0); last.IsZero() || last.Author()[0] < 0x80; i++ {
				last = testKey(i)
			}
			g := NewGrant(r.Secret, last.Author(), now)
			out := Revocation{Replica: r.ID, Author: author(0), Issued: now + 1}
			out.Sign(r.Secret)
			_, err = s.InsertStatements(bg, r.ID, append(all, &g, &out))
			require.NoError(t, err)
			_, err = plain(t, s, r.ID).Write(bg, last, []Change{change("k", "v")})
			require.NoError(t, err)
			before, err := s.statements(bg, r.ID)
			require.NoError(t, err)
			backToVersion4(t, db)

			s, err = Open(bg, db, Config{Now: c.now, OnState: func(kv.Txn, ID, int) (bool, error) { return room, nil }})
			require.NoError(t, err)
			counts, err := s.Counts(bg, r.ID)
			require.NoError(t, err)
			require.EqualValues(t, 1, counts.Entries, "an entry is lost")
			after, err := s.statements(bg, r.ID)
			require.NoError(t, err)
			require.Len(t, after.grants, len(before.grants))
			require.Len(t, after.revocations, 1)
		})
	}
}

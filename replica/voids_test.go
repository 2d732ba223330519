package replica

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a revocation makes void is known before it is made: by the author, by whoever the author let
// write, and from its time on. What is void already, or stays allowed by another grant, is not
// among it, and nothing changes by the question.
func TestVoids(t *testing.T) {
	c := newClock()
	now := uint64(c.t.UnixMicro())
	for _, from := range []uint64{0, now + 5} {
		s := newStore(t, c)
		id := hold(t, s, testKey(1), Write)
		first, second, both, other, gone := testKey(2), testKey(3), testKey(4), testKey(5), testKey(6)
		grants := func(by SecretKey, parent *Grant, to ...SecretKey) (all []Grant) {
			for _, k := range to {
				g := Grant{
					Replica: id, Author: k.Author(), NotAfter: Forever, Delegable: true, Issued: now,
					Parent: parent,
				}
				g.Sign(by)
				all = append(all, g)
			}
			return all
		}
		all := grants(testKey(1), nil, first, both, other, gone)
		all = append(all, grants(first, &all[0], second, both)...)
		_, err := s.InsertStatements(bg, id, allStatements(all))
		require.NoError(t, err)
		for i, by := range []SecretKey{first, second, both, other, gone} {
			for at := range uint64(10) {
				ch := change(fmt.Sprint("k", i, at), "v")
				e := Entry{Replica: id, Key: ch.Key, Hash: ch.Hash, Size: ch.Size, Timestamp: now + at}
				e.Sign(by)
				_, err := s.Insert(bg, id, []Entry{e}, Local)
				require.NoError(t, err)
			}
		}
		voidAlready := Entry{Replica: id, Author: gone.Author(), Key: []byte("x"), Timestamp: now}
		_, err = s.Revoke(bg, id, gone.Author(), 0)
		require.NoError(t, err)

		voids, err := s.Voids(bg, id, first.Author(), from)
		require.NoError(t, err)
		before := collect(t, s.Entries(bg, id, Query{}))
		expected := map[string]bool{}
		for _, e := range before {
			void, err := voids(&e)
			require.NoError(t, err)
			expected[string(e.Key)] = void
		}
		void, err := voids(&voidAlready)
		require.NoError(t, err)
		require.False(t, void)
		require.Len(t, collect(t, s.Entries(bg, id, Query{})), len(before))

		_, err = s.Revoke(bg, id, first.Author(), from)
		require.NoError(t, err)
		left := map[string]bool{}
		for _, e := range collect(t, s.Entries(bg, id, Query{})) {
			left[string(e.Key)] = true
		}
		dropped := 0
		for _, e := range before {
			require.Equal(t, !expected[string(e.Key)], left[string(e.Key)], "%s from %d", e.Key, from)
			if expected[string(e.Key)] {
				dropped++
			}
		}
		require.Equal(t, map[bool]int{true: 20, false: 10}[from == 0], dropped)
	}
	s := newStore(t, c)
	id := hold(t, s, testKey(1), Read)
	_, err := s.Voids(bg, id, testKey(2).Author(), 0)
	require.ErrorIs(t, err, ErrNotFound)
}

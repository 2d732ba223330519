package replica

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// requireLooks requires that a view shows the same, whichever way it is asked for some keys.
func requireLooks(t require.TestingT, p *Plain, authors []SecretKey, names []string) {
	keys := make([][]byte, len(names))
	for i, name := range names {
		keys[i] = []byte(name)
	}
	all, err := p.EntriesOf(bg, keys)
	require.NoError(t, err)
	require.Len(t, all, len(keys))
	for i, key := range keys {
		want := listed(t, p.Entries(bg, Query{Key: key}))
		var got []string
		for _, it := range all[i] {
			got = append(got, listed(t, func(yield func(Item, error) bool) { yield(it, nil) })...)
		}
		require.Equal(t, want, got, names[i])
		if !p.Encrypted() {
			require.Equal(t, want, listed(t, p.EntriesNow(bg, Query{Key: key})))
		}
	}
	for _, author := range authors {
		by, err := p.EntriesBy(bg, author.Author(), keys)
		require.NoError(t, err)
		require.Len(t, by, len(keys))
		for i := range all {
			var want *Entry
			for j := range all[i] {
				if e := &all[i][j].Entry; e.Author == author.Author() {
					want = e
				}
			}
			require.Equal(t, want == nil, by[i] == nil, names[i])
			if want != nil {
				require.Equal(t, want.ID(), by[i].ID(), names[i])
			}
		}
	}
}

// A view that is old says so if the replica has been found to be encrypted since, or been left.
func TestOldView(t *testing.T) {
	c := newClock()
	owner, reader := newStore(t, c), newStore(t, c)
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	key := authorOn(t, owner)
	plainWrite(t, owner, r.ID, key, "a", "1")
	_, err = reader.Join(bg, Replica{ID: r.ID, Name: "theirs", Capability: Read})
	require.NoError(t, err)
	old := plain(t, reader, r.ID)
	require.False(t, old.Encrypted())
	requireLooks(t, old, []SecretKey{key}, []string{"a", ""})
	exchange(t, owner, reader, r.ID)

	keys := [][]byte{[]byte("a")}
	requireOld := func(want error) {
		t.Helper()
		_, err := old.EntriesOf(bg, keys)
		require.ErrorIs(t, err, want)
		_, err = old.EntriesBy(bg, key.Author(), keys)
		require.ErrorIs(t, err, want)
		n := 0
		for it, err := range old.EntriesNow(bg, Query{}) {
			require.ErrorIs(t, err, want)
			require.Empty(t, it)
			n++
		}
		require.Equal(t, 1, n)
	}
	requireOld(ErrEncrypted)
	require.NoError(t, reader.Leave(bg, r.ID))
	requireOld(ErrNotFound)
}

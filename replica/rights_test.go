package replica

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
)

// What a store remembers of authors is bounded, and forgotten when the statements change.
func TestRememberedRights(t *testing.T) {
	var k authorities
	author := func(i int) AuthorID { return AuthorID{byte(i), byte(i >> 8), 1} }
	replicaOf := func(i int) ID { return ID{byte(i), byte(i >> 8), 2} }
	id := replicaOf(0)
	known := func(id ID, version uint64, i int) bool {
		_, ok := k.get(id, version, author(i))
		return ok
	}
	for i := range maxKnown {
		k.put(id, 1, author(i), rights{})
	}
	for _, i := range []int{0, 1, maxKnown - 1} {
		require.True(t, known(id, 1, i), i)
		require.False(t, known(id, 2, i), "of another version")
		require.False(t, known(replicaOf(1), 1, i), "of another replica")
	}
	k.put(id, 1, author(maxKnown), rights{})
	require.True(t, known(id, 1, maxKnown))
	require.False(t, known(id, 1, 0), "one too many: it begins anew")
	k.put(id, 2, author(0), rights{})
	require.True(t, known(id, 2, 0))
	require.False(t, known(id, 1, maxKnown))
	for i := range maxAuthorities {
		k.put(replicaOf(i), 2, author(1), rights{})
	}
	require.True(t, known(id, 2, 0))
	for i := range maxAuthorities {
		require.True(t, known(replicaOf(i), 2, 1))
	}
	k.put(replicaOf(maxAuthorities), 2, author(1), rights{})
	require.True(t, known(replicaOf(maxAuthorities), 2, 1))
	require.False(t, known(id, 2, 1), "one too many: it begins anew")
	k.forget(replicaOf(maxAuthorities))
	require.False(t, known(replicaOf(maxAuthorities), 2, 1))
}

// Statements are read once where they decide about many things: the second write of an author reads
// none of them, nor does the second entry of a call, and a list of all grants reads each about
// twice.
func TestStatementsAreReadOnce(t *testing.T) {
	c := newClock()
	counting := &countingStore{}
	s := storeOn(t, Config{Now: c.now}, func(db kv.Store) kv.Store {
		counting.Store = db
		return counting
	})
	// b, about whom much is stated, comes first by its id
	owner, a, b := testKey(1), testKey(3), testKey(2)
	id := hold(t, s, owner, Read)
	reads := func(do func()) int64 {
		counting.records.Store(0)
		do()
		return counting.records.Load()
	}
	const many = MaxAbout
	toA := grantFrom(nil, owner, a, 1, delegable)
	all := []Statement{&toA}
	for i := range uint64(many) {
		all = append(all, ref(grantFrom(&toA, a, b, 10+i, nil)), ref(revocation(a, &toA, b, 10+i, 1<<62)))
	}
	_, err := s.InsertStatements(bg, id, all)
	require.NoError(t, err)
	write(t, s, id, b, "k", "0")
	require.Less(t, reads(func() {
		write(t, s, id, b, "k", "1")
	}), int64(many), "known from the write before")
	s.known.forget(id)
	one := reads(func() { write(t, s, id, b, "k", "2") })
	require.Greater(t, one, int64(many))
	s.known.forget(id)
	three := reads(func() { write(t, s, id, b, "k", "3", "l", "3", "m", "3") })
	require.Less(t, three, one+int64(many), "known from the entry before")

	require.Less(t, reads(func() {
		grants, revocations, err := s.GrantStates(bg, id)
		require.NoError(t, err)
		require.Len(t, grants, 1+many)
		require.Len(t, revocations, many)
	}), int64(3*len(all)))

	// Many authors below one delegate, and many statements about that one.
	for i := range uint64(many) {
		all = append(all, ref(grantFrom(nil, owner, a, 1000+i, delegable)),
			ref(grantFrom(&toA, a, SecretKeyFromSeed([32]byte{50, byte(i)}), 500, nil)))
	}
	_, err = s.InsertStatements(bg, id, all)
	require.NoError(t, err)
	require.Less(t, reads(func() {
		grants, _, err := s.GrantStates(bg, id)
		require.NoError(t, err)
		require.Len(t, grants, 1+3*many)
	}), int64(4*len(all)))
}

// GrantStates says of each grant until when it allows anything: a delegate's revocations end what
// delegates have granted, and not what the replica key has.
func TestGrantStates(t *testing.T) {
	owner, a, b := testKey(1), testKey(2), testKey(3)
	s := newStore(t, newClock())
	id := hold(t, s, owner, Read)
	toA := grantFrom(nil, owner, a, 1, delegable)
	aToB := grantFrom(&toA, a, b, 10, nil)
	later := grantFrom(&toA, a, b, 30, func(g *Grant) { g.NotAfter = 5000 })
	ofOwner := grantFrom(nil, owner, b, 5, nil)
	_, err := s.InsertStatements(bg, id, []Statement{
		&toA, &aToB, &later, &ofOwner, ref(revocation(a, &toA, b, 20, 1000)),
		ref(revocation(owner, nil, a, 2, 9000)),
	})
	require.NoError(t, err)
	grants, revocations, err := s.GrantStates(bg, id)
	require.NoError(t, err)
	require.Len(t, revocations, 2)
	got := map[string]uint64{}
	for _, g := range grants {
		got[fmt.Sprintf("%x", g.ID())] = g.Until
	}
	want := map[string]uint64{}
	for g, until := range map[*Grant]uint64{&toA: 8999, &aToB: 999, &later: 5000, &ofOwner: Forever} {
		want[fmt.Sprintf("%x", g.ID())] = until
	}
	require.Equal(t, want, got)
}

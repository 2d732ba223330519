package replica

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
)

// holds reports whether a store has a statement.
func holds(t require.TestingT, s *Store, id ID, st Statement) bool {
	return slices.Contains(statementIDs(t, s, id), st.ID())
}

// Each grantee of the replica key has a budget of its own, for grants and for revocations; what was
// made by fewer hands goes before what was made earlier.
func TestBudgetsOfDelegates(t *testing.T) {
	owner, a, b, other := testKey(1), testKey(2), testKey(3), testKey(4)
	s := newStore(t, newClock())
	s.keep = keepLimits{all: 2, about: 2}
	id := hold(t, s, owner, Read)
	toA, toOther := grantFrom(nil, owner, a, 1, delegable), grantFrom(nil, owner, other, 1, delegable)
	aToB := grantFrom(&toA, a, b, 10, delegable)
	deep := []*Grant{
		ref(grantFrom(&aToB, b, testKey(5), 11, nil)), ref(grantFrom(&aToB, b, testKey(6), 12, nil)),
	}
	insert := func(want Stated, all ...Statement) {
		out, err := s.InsertStatements(bg, id, all)
		require.NoError(t, err)
		require.Equal(t, want, out)
	}
	insert(Stated{Added: 4}, &toA, &toOther, deep[0], deep[1])
	insert(Stated{Refused: 1}, ref(grantFrom(&aToB, b, testKey(7), 13, nil)))
	shallow := grantFrom(&toA, a, testKey(8), 500, nil)
	insert(Stated{Added: 1}, &shallow)
	require.True(t, holds(t, s, id, deep[0]))
	require.False(t, holds(t, s, id, deep[1]), "the last of the longer chain goes, though it is older")
	insert(
		Stated{Added: 2}, ref(revocation(b, &aToB, testKey(5), 11, 1000)),
		ref(revocation(b, &aToB, testKey(6), 12, 1000)),
	)
	insert(Stated{Refused: 1}, ref(revocation(b, &aToB, testKey(7), 13, 1000)))
	insert(
		Stated{Added: 2}, ref(grantFrom(&toOther, other, testKey(5), 600, nil)),
		ref(grantFrom(&toOther, other, testKey(6), 600, nil)),
	)
	require.True(t, holds(t, s, id, &shallow), "the budget of another")
}

// A budget of one has one, which an earlier one replaces. What it allowed is dropped.
func TestBudgetOfOne(t *testing.T) {
	owner, a, b := testKey(1), testKey(2), testKey(3)
	s := newStore(t, newClock())
	id := hold(t, s, owner, Read)
	for name, most := range map[string]keepLimits{
		"about one author": {all: 9, about: 1}, "in all": {all: 1, about: 9},
	} {
		t.Run(name, func(t *testing.T) {
			s = newStore(t, newClock())
			s.keep = most
			hold(t, s, owner, Read)
			toA := grantFrom(nil, owner, a, 1, delegable)
			first := grantFrom(&toA, a, b, 50, under("first/"))
			second := grantFrom(&toA, a, b, 40, under("second/"))
			_, err := s.InsertStatements(bg, id, []Statement{&toA, &first})
			require.NoError(t, err)
			write(t, s, id, b, "first/x", "1")
			_, err = s.InsertStatements(bg, id, []Statement{&second})
			require.NoError(t, err)
			require.False(t, holds(t, s, id, &first))
			require.True(t, holds(t, s, id, &second))
			require.Empty(t, collect(t, s.Entries(bg, id, Query{})))
			out, err := s.InsertStatements(bg, id, []Statement{&first})
			require.NoError(t, err)
			require.Equal(t, Stated{Refused: 1}, out)
			wholesome(t, s, id)
		})
	}
}

// A statement whose record is lost comes again, also if its place in the index is the last there
// is.
func TestLostStatementComesAgain(t *testing.T) {
	owner, a, b := testKey(1), testKey(2), testKey(3)
	s := newStore(t, newClock())
	s.keep = keepLimits{all: 1, about: 1}
	id := hold(t, s, owner, Read)
	toA := grantFrom(nil, owner, a, 1, delegable)
	g := grantFrom(&toA, a, b, 50, nil)
	_, err := s.InsertStatements(bg, id, []Statement{&toA, &g})
	require.NoError(t, err)
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error { return tx.Delete(statementKey(&g)) }))
	out, err := s.InsertStatements(bg, id, []Statement{&g})
	require.NoError(t, err)
	require.Equal(t, 1, out.Added)
	require.True(t, holds(t, s, id, &g))
	wholesome(t, s, id)
}

// What the replica key states is stored first, also where it takes several transactions.
func TestReplicaKeyGoesFirst(t *testing.T) {
	owner, a := testKey(1), testKey(2)
	c := newClock()
	toA := grantFrom(nil, owner, a, 1, delegable)
	for name, wrap := range map[string]func(kv.Store) kv.Store{
		"at once":  func(db kv.Store) kv.Store { return db },
		"in parts": func(db kv.Store) kv.Store { return kvtest.Limit(db, 8<<10) },
	} {
		s := storeOn(t, Config{Now: c.now}, wrap)
		id := hold(t, s, owner, Read)
		var all []Statement
		for i := range byte(40) {
			all = append(all, ref(grantFrom(&toA, a, testKey(10+i), 60, nil)))
		}
		for i := range byte(60) {
			all = append(all, ref(NewGrant(owner, testKey(100+i).Author(), 5)))
		}
		all = append(all, &toA, ref(revocation(owner, nil, a, 70, 50)))
		out, err := s.InsertStatements(bg, id, all)
		require.NoError(t, err)
		require.Equal(t, Stated{Added: 62, Refused: 40, Void: 40}, out, name)
	}
}

// Check finds what is beyond a budget, whichever limit it is beyond, and repair keeps what the rule
// keeps. The rights that a bad statement gave end with it.
func TestRepairOfStatements(t *testing.T) {
	owner, a := testKey(1), testKey(2)
	c := newClock()
	toA := grantFrom(nil, owner, a, 1, delegable)
	about := func(author byte, issued uint64) *Grant {
		return ref(grantFrom(&toA, a, testKey(author), issued, nil))
	}
	all := []*Grant{
		about(3, 10), about(3, 11), about(3, 12), about(4, 13), about(5, 14), about(5, 15), about(6, 16),
		about(7, 17),
	}
	for name, tc := range map[string]struct {
		most keepLimits
		kept []int
	}{
		"two about an author": {keepLimits{all: 9, about: 2}, []int{0, 1, 3, 4, 5, 6, 7}},
		"one about an author": {keepLimits{all: 9, about: 1}, []int{0, 3, 4, 6, 7}},
		"three in all":        {keepLimits{all: 3, about: 9}, []int{0, 1, 2}},
		"both":                {keepLimits{all: 4, about: 1}, []int{0, 3, 4, 6}},
		"all":                 {keepLimits{all: 8, about: 3}, []int{0, 1, 2, 3, 4, 5, 6, 7}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, c)
			id := hold(t, s, owner, Read)
			_, err := s.InsertStatements(bg, id, []Statement{&toA})
			require.NoError(t, err)
			_, err = s.InsertStatements(bg, id, allStatements(values(all)))
			require.NoError(t, err)
			s.keep = tc.most
			rep, err := s.Check(bg, id, true, nil)
			require.NoError(t, err)
			require.Len(t, rep.Faults, 2*(len(all)-len(tc.kept)), "in the set and in the index")
			for i, g := range all {
				require.Equal(t, slices.Contains(tc.kept, i), holds(t, s, id, g), i)
			}
			wholesome(t, s, id)
		})
	}

	s := newStore(t, c)
	id := hold(t, s, owner, Read)
	_, err := s.InsertStatements(bg, id, append(allStatements(values(all[:2])), &toA))
	require.NoError(t, err)
	before, err := s.SharedFingerprint(bg, id)
	require.NoError(t, err)
	forged := grantFrom(nil, testKey(9), testKey(9), 1, nil)
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		for _, g := range all[:2] { // two of the index are missing
			b, r := rankOf(g, g.Parent)
			if err := tx.Delete(rankKey(id, b, &r)); err != nil {
				return err
			}
		}
		if err := touchStatements(tx, id); err != nil {
			return err
		}
		return tx.Set(statementKey(&forged), forged.Bytes())
	}))
	s.statementsChanged(id)
	require.NoError(t, s.MayWrite(bg, id, testKey(9).Author(), []byte("x")), "what is stored counts")
	with, err := s.SharedFingerprint(bg, id)
	require.NoError(t, err)
	require.NotEqual(t, before, with)
	rep, err := s.Check(bg, id, true, nil)
	require.NoError(t, err)
	require.True(t, rep.Repaired)
	var no *NotAllowedError
	require.ErrorAs(t, s.MayWrite(bg, id, testKey(9).Author(), []byte("x")), &no)
	after, err := s.SharedFingerprint(bg, id)
	require.NoError(t, err)
	require.Equal(t, before, after)
	wholesome(t, s, id)

	// As much that is wrong as that is missing.
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		b, r := rankOf(all[0], all[0].Parent)
		_, x := rankOf(all[7], all[7].Parent)
		if err := tx.Delete(rankKey(id, b, &r)); err != nil {
			return err
		}
		return tx.Set(rankKey(id, b, &x), x.about[:])
	}))
	rep, err = s.Check(bg, id, true, nil)
	require.NoError(t, err)
	require.Len(t, rep.Faults, 2)
	wholesome(t, s, id)
}

func values[T any](all []*T) (out []T) {
	for _, x := range all {
		out = append(out, *x)
	}
	return out
}

// Statements are issued later than all that their issuer has stated about the author before, even
// if the clock stands still or goes back.
func TestIssueTimes(t *testing.T) {
	owner, a, b := testKey(1), testKey(2), testKey(3)
	s := newStore(t, newClock())
	id := hold(t, s, owner, Read)
	toA := grantFrom(nil, owner, a, 10, delegable)
	next := func(by SecretKey, now uint64) (at uint64) {
		require.NoError(t, s.kv.View(bg, func(rd kv.Reader) (err error) {
			at, err = issueTime(rd, id, b.Author(), by.Author(), now)
			return err
		}))
		return at
	}
	require.EqualValues(t, 50, next(owner, 50))
	wrapped := &WrappedKey{Replica: id, Author: b.Author(), Epoch: 1, Issued: 70}
	wrapped.Sign(owner)
	for _, tc := range []struct {
		st         Statement
		owner, byA uint64
	}{
		{&toA, 50, 50},
		{ref(grantFrom(nil, owner, b, 60, nil)), 61, 50},
		{wrapped, 71, 50},
		{ref(revocation(owner, nil, b, 80, 1000)), 81, 50},
		{ref(grantFrom(&toA, a, b, 90, nil)), 81, 91},
		{ref(revocation(a, &toA, b, 100, 1000)), 81, 101},
	} {
		_, err := s.InsertStatements(bg, id, []Statement{tc.st})
		require.NoError(t, err)
		require.Equal(t, tc.owner, next(owner, 50))
		require.Equal(t, tc.byA, next(a, 50))
		require.EqualValues(t, 500, next(owner, 500))
	}
}

// What Grant makes of a permission, with the replica key and without.
func TestWhatIsGranted(t *testing.T) {
	c := newClock()
	owner, helper := newStore(t, c), newStore(t, c)
	id := hold(t, owner, testKey(1), Write)
	hold(t, helper, testKey(1), Read)
	to := testKey(9).Author()
	long := []byte(fmt.Sprintf("%0*d", MaxDelegablePrefix+1, 0))
	now := uint64(c.t.UnixMicro())
	for _, may := range []Permission{
		{}, {NotBefore: 10}, {NotAfter: 10}, {NotBefore: 10, NotAfter: 10}, {Prefix: long[1:]},
		{Delegable: true},
	} {
		require.NoError(t, owner.CanGrant(bg, id, may))
		g, err := owner.Grant(bg, id, to, may)
		require.NoError(t, err)
		if may.NotAfter == 0 {
			may.NotAfter = Forever
		}
		got := Permission{g.Prefix, g.NotBefore, g.NotAfter, g.Delegable}
		require.Equal(t, fmt.Sprint(may), fmt.Sprint(got))
		require.Nil(t, g.Parent)
	}
	for _, may := range []Permission{{NotBefore: 11, NotAfter: 10}, {Prefix: long}} {
		_, err := owner.Grant(bg, id, to, may)
		require.Error(t, err)
		require.Error(t, owner.CanGrant(bg, id, may))
	}

	author := authorOn(t, helper)
	require.ErrorIs(t, helper.CanGrant(bg, id, Permission{}), ErrCannotGrant)
	_, err := owner.Grant(
		bg, id, author.Author(), Permission{NotBefore: now - 10, NotAfter: now + 10, Delegable: true},
	)
	require.NoError(t, err)
	exchange(t, owner, helper, id)
	for may, want := range map[[2]uint64][2]uint64{
		{0, 0}:               {now - 10, now + 10},
		{now, 0}:             {now, now + 10},
		{0, now + 5}:         {now - 10, now + 5},
		{now - 10, now + 10}: {now - 10, now + 10},
	} {
		g, err := helper.Grant(bg, id, to, Permission{NotBefore: may[0], NotAfter: may[1]})
		require.NoError(t, err)
		require.Equal(t, want, [2]uint64{g.NotBefore, g.NotAfter})
		require.Equal(t, author.Author(), g.Parent.Author)
	}
	for _, may := range []Permission{{NotBefore: now - 11}, {NotAfter: now + 11}} {
		_, err = helper.Grant(bg, id, to, may)
		require.ErrorIs(t, err, ErrCannotGrant)
	}
	_, err = helper.Revoke(bg, id, to, 0)
	require.NoError(t, err)

	// In an encrypted replica no prefix is no prefix, in every epoch.
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	g, err := owner.Grant(bg, r.ID, to, Permission{})
	require.NoError(t, err)
	require.Empty(t, g.Prefix)
}

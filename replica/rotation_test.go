package replica

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica/seal"
)

// Before the first signed epoch, the key to seal with is the last that came with the replica key.
func TestPresentKeyBeforeTheFirstEpoch(t *testing.T) {
	key := func(epoch uint32, b byte) EpochKey { return EpochKey{epoch, seal.ReadKey{b}} }
	for name, tc := range map[string]struct {
		held []heldKey
		want EpochKey
		err  error
	}{
		"none":                 {nil, EpochKey{}, ErrNoReadKey},
		"one by its own word":  {[]heldKey{{key(1, 1), false}}, EpochKey{}, ErrUnprovedKey},
		"one with the key":     {[]heldKey{{key(1, 1), true}}, key(1, 1), nil},
		"the later":            {[]heldKey{{key(1, 1), true}, {key(2, 2), true}}, key(2, 2), nil},
		"the last of an epoch": {[]heldKey{{key(1, 1), true}, {key(1, 2), true}}, key(1, 2), nil},
		"not one by its word":  {[]heldKey{{key(1, 1), true}, {key(2, 2), false}}, key(1, 1), nil},
		"in whatever order":    {[]heldKey{{key(2, 2), true}, {key(1, 1), true}}, key(2, 2), nil},
		"one by its own word, 2": {[]heldKey{
			{key(1, 1), false}, {key(2, 2), false},
		}, EpochKey{}, ErrUnprovedKey},
	} {
		got, err := present(nil, tc.held, EpochID{})
		require.Equal(t, tc.want, got, name)
		require.Equal(t, tc.err, err, name)
	}
}

// A key that came with the replica key stays so, whatever ticket names it again; and a key alone
// does not let a node read that only syncs.
func TestWhatAKeyIsWorth(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	secret, first := testKey(7), EpochKey{1, seal.NewReadKey()}
	id := secret.Replica()
	_, err := s.Join(bg, Replica{ID: id, Name: "r", Capability: Write, Secret: secret}, first)
	require.NoError(t, err)
	for _, capability := range []Capability{Sync, Read} {
		_, err = s.Join(bg, Replica{ID: id, Capability: capability}, first)
		require.NoError(t, err)
		require.Equal(t, first, sealingKey(t, s, id))
	}
	held := func() (all []heldKey) {
		require.NoError(t, s.kv.View(bg, func(rd kv.Reader) (err error) {
			all, err = readKeysOf(rd, id)
			return err
		}))
		return all
	}
	require.Equal(t, []heldKey{{first, true}}, held())

	host := newStore(t, c)
	r, err := host.Join(bg, Replica{ID: id, Name: "r", Capability: Sync}, first)
	require.NoError(t, err)
	require.Equal(t, Sync, r.Capability)
	r, err = host.Get(bg, id)
	require.NoError(t, err)
	require.Equal(t, Sync, r.Capability)
}

// All keys that a store is given are learnt, those that are wrapped for its authors as well.
func TestAllKeysAreLearnt(t *testing.T) {
	c := newClock()
	owner := testKey(1)
	s := newStore(t, c)
	authors := []SecretKey{authorOn(t, s), authorOn(t, s)}
	given := []EpochKey{{1, seal.NewReadKey()}, {1, seal.NewReadKey()}}
	id := owner.Replica()
	_, err := s.Join(bg, Replica{ID: id, Name: "r", Capability: Sync}, given...)
	require.NoError(t, err)
	var all []Statement
	want := given
	for i, by := range []SecretKey{authors[0], authors[0], authors[1], authors[1]} {
		k := EpochKey{1, seal.NewReadKey()}
		w, err := wrapKey(owner, by.Author(), k, uint64(i), false)
		require.NoError(t, err)
		all, want = append(all, w), append(want, k)
	}
	_, err = s.InsertStatements(bg, id, all)
	require.NoError(t, err)
	var got []EpochKey
	require.NoError(t, s.kv.View(bg, func(rd kv.Reader) error {
		held, err := readKeysOf(rd, id)
		for _, k := range held {
			got = append(got, k.EpochKey)
		}
		return err
	}))
	require.ElementsMatch(t, want, got)

	// What has come before the author's key is learnt with that, in all replicas.
	late := testKey(8)
	replicas := map[byte]int{1: len(want), 4: 0, 5: 0} // by their keys
	for n := range replicas {
		secret, id := testKey(n), testKey(n).Replica()
		_, err := s.Join(bg, Replica{ID: id, Capability: Sync})
		require.NoError(t, err)
		w, err := wrapKey(secret, late.Author(), EpochKey{1, seal.NewReadKey()}, 9, false)
		require.NoError(t, err)
		_, err = s.InsertStatements(bg, id, []Statement{w})
		require.NoError(t, err)
	}
	require.NoError(t, s.ImportAuthor(bg, late))
	for n, before := range replicas {
		require.NoError(t, s.kv.View(bg, func(rd kv.Reader) error {
			held, err := readKeysOf(rd, testKey(n).Replica())
			require.Len(t, held, before+1)
			return err
		}))
	}
}

// AddReader hands a key out once, and again after the replica key has revoked the reader; a
// delegate's revocation says nothing about the key.
func TestAddReaderOnce(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	r, err := s.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	reader, delegate := testKey(7), testKey(8)
	given := func() (n int) {
		st, err := s.statements(bg, r.ID)
		require.NoError(t, err)
		for _, w := range st.wrapped {
			if w.Author == reader.Author() {
				n++
			}
		}
		return n
	}
	add := func(want int) {
		for range 2 {
			require.NoError(t, s.AddReader(bg, r.ID, reader.Author()))
			require.Equal(t, want, given())
		}
	}
	add(1)
	other := testKey(9).Author()
	require.NoError(t, s.AddReader(bg, r.ID, other))
	g, err := s.Grant(bg, r.ID, delegate.Author(), Permission{Delegable: true})
	require.NoError(t, err)
	c.t = c.t.Add(time.Second)
	now := uint64(c.t.UnixMicro())
	state := func(by SecretKey, authority *Grant, issued uint64) {
		v := Revocation{
			Replica: r.ID, Author: reader.Author(), Issued: issued, From: 0, Authority: authority,
		}
		v.Sign(by)
		_, err := s.InsertStatements(bg, r.ID, []Statement{&v})
		require.NoError(t, err)
	}
	state(delegate, &g, now)
	add(1)
	state(r.Secret, nil, now+5)
	add(2)
	// In the very moment in which it was handed out, a revocation takes it.
	st, err := s.statements(bg, r.ID)
	require.NoError(t, err)
	newest := uint64(0)
	for _, w := range st.wrapped {
		if w.Author == reader.Author() {
			newest = max(newest, w.Issued)
		}
	}
	state(r.Secret, nil, newest)
	add(3)
}

// Who is revoked: whoever the replica key has revoked since the present key was handed over, in the
// same moment or later. What others were given, and keys of other epochs, do not matter.
func TestRevokedReaders(t *testing.T) {
	a, b := testKey(2).Author(), testKey(3).Author()
	now, old := EpochKey{2, seal.NewReadKey()}, EpochKey{1, seal.NewReadKey()}
	gave := func(k EpochKey, to AuthorID, at uint64) WrappedKey {
		return WrappedKey{Author: to, Epoch: k.Epoch, Issued: at, Commitment: k.Key.Commitment()}
	}
	revoked := func(of AuthorID, at uint64) Revocation { return Revocation{Author: of, Issued: at} }
	for name, tc := range map[string]struct {
		wrapped     []WrappedKey
		revocations []Revocation
		want        bool
	}{
		"never": {[]WrappedKey{gave(now, a, 10)}, nil, false},
		"before": {[]WrappedKey{
			gave(now, a, 10),
		}, []Revocation{revoked(a, 9)}, false},
		"in that moment": {[]WrappedKey{
			gave(now, a, 10),
		}, []Revocation{revoked(a, 10)}, true},
		"after": {[]WrappedKey{
			gave(now, a, 10),
		}, []Revocation{revoked(a, 11)}, true},
		"before it was given again": {[]WrappedKey{
			gave(now, a, 10), gave(now, a, 20),
		}, []Revocation{revoked(a, 15)}, false},
		"and an older key": {[]WrappedKey{
			gave(now, a, 10), gave(old, a, 20),
		}, []Revocation{revoked(a, 15)}, true},
		"and another was given later": {[]WrappedKey{
			gave(now, a, 10), gave(now, b, 20),
		}, []Revocation{revoked(a, 15)}, true},
		"another is": {[]WrappedKey{
			gave(now, a, 10),
		}, []Revocation{revoked(b, 15)}, false},
		"without a key": {nil, []Revocation{revoked(a, 15)}, true},
		"another, without a key": {[]WrappedKey{
			gave(now, b, 20),
		}, []Revocation{revoked(a, 15)}, true},
	} {
		rot := rotation{all: statements{wrapped: tc.wrapped, revocations: tc.revocations}, old: now}
		rot.index(ID{})
		for _, delegates := range []bool{false, true} {
			require.Equal(t, tc.want, rot.revoked(a, delegates), name)
		}
	}
}

// A grant that lasts until now still counts now: its author is given the next key, and the prefix
// is sealed anew. One that has ended is not made anew.
func TestRotationInTheLastMoment(t *testing.T) {
	for ends, keeps := range map[time.Duration]bool{
		0: true, time.Microsecond: true, -time.Microsecond: false,
	} {
		c := newClock()
		s := newStore(t, c)
		r, err := s.CreateEncrypted(bg, "letters")
		require.NoError(t, err)
		author := testKey(7).Author()
		end := uint64(c.t.Add(time.Second).UnixMicro())
		_, err = s.Grant(bg, r.ID, author, Permission{Prefix: []byte("theirs/"), NotAfter: end})
		require.NoError(t, err)
		c.t = c.t.Add(time.Second - ends)
		next, err := s.Rotate(bg, r.ID)
		require.NoError(t, err)
		grants, err := s.Grants(bg, r.ID)
		require.NoError(t, err)
		st, err := s.statements(bg, r.ID)
		require.NoError(t, err)
		given := false
		for _, w := range st.wrapped {
			given = given || w.Author == author && w.Commitment == next.Key.Commitment()
		}
		require.Equal(t, keeps, given, ends)
		sealedAnew := 0
		for _, g := range grants {
			if epoch, err := seal.EpochOf(g.Prefix); err == nil && epoch == next.Epoch {
				require.Equal(t, end, g.NotAfter)
				sealedAnew++
			}
		}
		require.Equal(t, keeps, sealedAnew == 1, ends)
		require.LessOrEqual(t, sealedAnew, 1)
	}
}

// However many nodes have begun the present epoch, the next one takes along as many of their keys
// as an epoch can.
func TestRotationOfManyEpochsOfOneNumber(t *testing.T) {
	s := newStore(t, newClock())
	secret := testKey(7)
	id := secret.Replica()
	_, err := s.Join(bg, Replica{ID: id, Name: "r", Capability: Write, Secret: secret})
	require.NoError(t, err)
	var all []Statement
	for i := range MaxOlder + 2 {
		k := EpochKey{1, seal.NewReadKey()}
		e := &Epoch{Replica: id, Number: 1, Issued: uint64(i), Commitment: k.Key.Commitment()}
		e.Sign(secret)
		w, err := wrapKey(secret, AuthorID(id), k, uint64(i), false)
		require.NoError(t, err)
		all = append(all, e, w)
	}
	_, err = s.InsertStatements(bg, id, all)
	require.NoError(t, err)
	next, err := s.Rotate(bg, id)
	require.NoError(t, err)
	require.EqualValues(t, 2, next.Epoch)
	st, err := s.statements(bg, id)
	require.NoError(t, err)
	for _, e := range st.epochs {
		if e.Number == 2 {
			require.Len(t, e.Older, MaxOlder)
		}
	}
	require.Equal(t, next, sealingKey(t, s, id))
}

// The keys of many more readers than one transaction holds are handed out.
func TestRotationForManyReaders(t *testing.T) {
	testkit.OneGoroutine(t)
	const readers = 9000
	c := newClock()
	s := newStore(t, c)
	r, err := s.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	old := sealingKey(t, s, r.ID)
	var all []Statement
	for range readers {
		w, err := wrapKey(r.Secret, NewSecretKey().Author(), old, 5, false)
		require.NoError(t, err)
		all = append(all, w)
	}
	got, err := s.InsertStatements(bg, r.ID, all)
	require.NoError(t, err)
	require.Equal(t, readers, got.Added)
	c.t = c.t.Add(time.Hour)
	next, err := s.Rotate(bg, r.ID)
	require.NoError(t, err)
	require.Equal(t, next, sealingKey(t, s, r.ID))
	given := 0
	stored, err := s.statements(bg, r.ID)
	require.NoError(t, err)
	for _, w := range stored.wrapped {
		if w.Commitment == next.Key.Commitment() {
			given++
		}
	}
	require.GreaterOrEqual(t, given, readers)
}

// A new epoch that could not begin does when it can.
func TestRotationThatFailsIsTriedAgain(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	r, err := s.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	reader := NewSecretKey()
	err = s.AddReader(bg, r.ID, reader.Author())
	require.NoError(t, err)
	c.t = c.t.Add(time.Minute)
	old := sealingKey(t, s, r.ID)
	v := Revocation{Replica: r.ID, Author: reader.Author(), Issued: uint64(c.t.UnixMicro())}
	v.Sign(r.Secret)
	_, err = s.InsertStatements(bg, r.ID, []Statement{&v})
	require.NoError(t, err)

	ended, cancel := context.WithCancel(bg)
	cancel()
	begun, err := s.RotateIfDue(ended, r.ID)
	require.Error(t, err)
	require.False(t, begun)
	_, all := s.deferred.some() // what is looked at once has been
	require.True(t, all)
	ids, err := s.RotateDeferred(bg)
	require.NoError(t, err)
	require.Equal(t, []ID{r.ID}, ids)
	require.NotEqual(t, old, sealingKey(t, s, r.ID))
	ids, err = s.RotateDeferred(bg)
	require.NoError(t, err)
	require.Empty(t, ids)
}

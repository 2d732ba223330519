package replica

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
)

// A delegate that grants and revokes as often as it can begins an epoch each hour at first, and
// then ever fewer; what the owner revokes begins one at once, and after a quiet time delegates'
// revocations do so within the hour again.
func TestDelegatesBeginFewEpochs(t *testing.T) {
	testkit.OneGoroutine(t)
	c := newClock()
	s := newStore(t, c)
	r, err := s.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	delegate := testKey(2)
	toDelegate, err := s.Grant(bg, r.ID, delegate.Author(), Permission{Delegable: true})
	require.NoError(t, err)
	guests := 0
	guest := func(i int) AuthorID {
		var seed [32]byte
		binary.BigEndian.PutUint32(seed[:], uint32(i)+100)
		return SecretKeyFromSeed(seed).Author()
	}
	churn := func() { // the last guest goes, another one comes
		now := uint64(c.t.UnixMicro())
		v := Revocation{Replica: r.ID, Author: guest(guests), Issued: now, Authority: &toDelegate}
		v.Sign(delegate)
		guests++
		g := Grant{Replica: r.ID, Author: guest(guests), Issued: now, NotAfter: Forever,
			Parent: &toDelegate}
		g.Sign(delegate)
		_, err := s.InsertStatements(bg, r.ID, []Statement{&v, &g})
		require.NoError(t, err)
		begun, err := s.RotateIfDue(bg, r.ID)
		require.NoError(t, err)
		require.False(t, begun)
	}
	hour := func() bool {
		c.t = c.t.Add(time.Hour)
		begun, err := s.RotateDeferred(bg)
		require.NoError(t, err)
		return len(begun) > 0
	}
	churn()
	_, err = s.Rotate(bg, r.ID) // the first guest has the key
	require.NoError(t, err)
	c.t = c.t.Add(time.Second)
	churn()
	require.True(t, hour(), "the first is not slowed down")
	epochs := 0
	c.t = c.t.Add(time.Second)
	churn()
	for range int(calmMemory / time.Hour) {
		if hour() {
			epochs++
			churn()
		}
	}
	require.Greater(t, epochs, 5)
	require.Less(t, epochs, 16)

	reader := testKey(3).Author()
	require.NoError(t, s.AddReader(bg, r.ID, reader))
	c.t = c.t.Add(time.Second)
	before := sealingKey(t, s, r.ID)
	_, err = s.Revoke(bg, r.ID, reader, 0)
	require.NoError(t, err)
	require.NotEqual(t, before, sealingKey(t, s, r.ID), "for the owner at once")

	// The epoch that the owner has begun has handed the key to the last guest.
	c.t = c.t.Add(2 * calmMemory)
	_, err = s.Rotate(bg, r.ID)
	require.NoError(t, err)
	c.t = c.t.Add(time.Second)
	churn()
	require.True(t, hour(), "what is long past does not count")
}

// Which epochs count as begun for delegates.
func TestEpochsBegunForDelegates(t *testing.T) {
	const now = uint64(1_000_000)
	by := &Grant{Author: testKey(2).Author(), Delegable: true}
	direct := func(at uint64) Revocation { return Revocation{Issued: at} }
	delegated := func(at uint64) Revocation { return Revocation{Issued: at, Authority: by} }
	// handed says of which epochs the author of all revocations was handed the key.
	for name, tc := range map[string]struct {
		revocations []Revocation
		handed      []uint32
		want        int
	}{
		"nothing was revoked":          {nil, []uint32{1, 2}, 0},
		"before the first":             {[]Revocation{delegated(5)}, []uint32{1, 2}, 0},
		"before the second":            {[]Revocation{delegated(15)}, nil, 1},
		"in its moment":                {[]Revocation{delegated(20)}, nil, 1},
		"several before one":           {[]Revocation{delegated(12), delegated(18)}, nil, 1},
		"before each":                  {[]Revocation{delegated(15), delegated(25)}, nil, 2},
		"after the last":               {[]Revocation{delegated(35)}, []uint32{1, 2, 3}, 0},
		"the owner, too":               {[]Revocation{delegated(15), direct(18)}, nil, 0},
		"the owner before another":     {[]Revocation{delegated(15), direct(28)}, nil, 1},
		"the owner alone":              {[]Revocation{direct(15)}, nil, 0},
		"at a time yet to come":        {[]Revocation{delegated(now + 1)}, []uint32{1}, 1},
		"who was handed two":           {[]Revocation{delegated(now + 1)}, []uint32{1, 2, 2}, 2},
		"who has the present one":      {[]Revocation{delegated(now + 1)}, []uint32{3, 9}, 0},
		"who was handed none":          {[]Revocation{delegated(now + 1)}, nil, 0},
		"and the owner before the one": {[]Revocation{delegated(now + 1), direct(15)}, []uint32{1, 2}, 1},
	} {
		rot := rotation{now: now}
		for i := range 3 {
			rot.all.epochs = append(rot.all.epochs,
				Epoch{Number: uint32(i + 1), Issued: uint64(10 * (i + 1))})
		}
		rot.all.epochs = append(rot.all.epochs, Epoch{Number: 9, Issued: 90}) // does not count
		rot.all.revocations = tc.revocations
		for _, number := range tc.handed {
			rot.all.wrapped = append(rot.all.wrapped, WrappedKey{Epoch: number})
		}
		require.Equal(t, tc.want, rot.begunForDelegates(), name)
	}
}

// Whether a new epoch is due is found in one look at each statement, however many there are.
func TestDueInLinearTime(t *testing.T) {
	testkit.OneGoroutine(t)
	looked := func(holders int) int {
		c := newClock()
		s := newStore(t, c)
		r, err := s.CreateEncrypted(bg, "letters")
		require.NoError(t, err)
		delegate := testKey(2)
		toDelegate, err := s.Grant(bg, r.ID, delegate.Author(), Permission{Delegable: true})
		require.NoError(t, err)
		key := sealingKey(t, s, r.ID)
		var all []Statement
		now := uint64(c.t.UnixMicro())
		for i := range holders {
			var seed [32]byte
			binary.BigEndian.PutUint32(seed[:], uint32(i)+100)
			a := SecretKeyFromSeed(seed).Author()
			g := Grant{Replica: r.ID, Author: a, Issued: now, NotAfter: Forever, Parent: &toDelegate}
			g.Sign(delegate)
			v := Revocation{Replica: r.ID, Author: a, Issued: now + 10, Authority: &toDelegate}
			v.Sign(delegate)
			w, err := wrapKey(r.Secret, a, key, now, true)
			require.NoError(t, err)
			all = append(all, &g, &v, w)
		}
		_, err = s.InsertStatements(bg, r.ID, all)
		require.NoError(t, err)
		steps := 0
		require.NoError(t, s.view(bg, r.ID, func(rd kv.Reader, r *Replica) error {
			counted := &countingStore{Store: s.kv}
			rot := rotation{s: s, rd: countingReader{rd, counted}, r: r, now: now + 20}
			require.NoError(t, rot.load())
			now, later, err := rot.due()
			require.NoError(t, err)
			require.False(t, now)
			require.True(t, later)
			steps = rot.looked + int(counted.records.Load())
			return nil
		}))
		return steps
	}
	few := looked(100)
	require.LessOrEqual(t, looked(400), 4*few+100)
	require.Less(t, few, 100*20)
}

// One revocation that is dated ahead does not make all delegates' revocations wait for what the
// owner has begun without them.
func TestDatedAheadSlowsNobodyDown(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	r, err := s.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	delegate, guest := testKey(2), testKey(4).Author()
	toDelegate, err := s.Grant(bg, r.ID, delegate.Author(), Permission{Delegable: true})
	require.NoError(t, err)
	g := Grant{Replica: r.ID, Author: guest, Issued: uint64(c.t.UnixMicro()), NotAfter: Forever,
		Parent: &toDelegate}
	g.Sign(delegate)
	_, err = s.InsertStatements(bg, r.ID, []Statement{&g})
	require.NoError(t, err)
	for range 10 {
		c.t = c.t.Add(time.Minute)
		_, err = s.Rotate(bg, r.ID)
		require.NoError(t, err)
	}
	revoke := func(author AuthorID, at time.Time) {
		v := Revocation{Replica: r.ID, Author: author, Issued: uint64(at.UnixMicro()),
			Authority: &toDelegate}
		v.Sign(delegate)
		_, err := s.InsertStatements(bg, r.ID, []Statement{&v})
		require.NoError(t, err)
	}
	revoke(testKey(5).Author(), c.t.Add(calmMemory)) // somebody who was never handed a key
	revoke(guest, c.t.Add(time.Second))
	c.t = c.t.Add(calmFor)
	begun, err := s.RotateIfDue(bg, r.ID)
	require.NoError(t, err)
	require.True(t, begun)
}

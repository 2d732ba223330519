package replica

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
)

// A delegate decides about nobody's reading but that of those whom it lets write: it cannot take
// the next read key from a reader by granting and revoking, and whom it let write loses the key
// with the grant, also when it is the delegate who is revoked.
func TestDelegatesAndTheNextReadKey(t *testing.T) {
	testkit.OneGoroutine(t)
	c := newClock()
	owner, delegate := newStore(t, c), newStore(t, c)
	guest, reader, late := newStore(t, c), newStore(t, c), newStore(t, c)
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	delegateKey, guestKey := authorOn(t, delegate), authorOn(t, guest)
	readerKey, lateKey := authorOn(t, reader), authorOn(t, late)
	require.NoError(t, owner.AddReader(bg, r.ID, readerKey.Author()))
	_, err = owner.Grant(bg, r.ID, delegateKey.Author(),
		Permission{Prefix: []byte("ours/"), Delegable: true})
	require.NoError(t, err)
	all := []*Store{delegate, guest, reader, late}
	for _, s := range all {
		_, err = s.Join(bg, Replica{ID: r.ID, Capability: Sync})
		require.NoError(t, err)
	}
	sync := func() {
		for range 2 {
			for _, s := range all {
				exchange(t, owner, s, r.ID)
				_, err := s.Renew(bg, r.ID)
				require.NoError(t, err)
			}
		}
	}
	reads := func(s *Store) bool {
		k, err := s.ReadKey(bg, r.ID)
		if err == nil {
			require.Equal(t, sealingKey(t, owner, r.ID), k)
		}
		return err == nil
	}
	rotate := func() {
		c.t = c.t.Add(time.Second)
		_, err := owner.Rotate(bg, r.ID)
		require.NoError(t, err)
		sync()
	}
	writes := func(s *Store, key SecretKey) bool {
		p := plain(t, s, r.ID)
		_, err := p.s.WritePlain(bg, p, key, []Change{change("ours/k", "v")})
		return err == nil
	}
	sync()
	for _, a := range []SecretKey{guestKey, readerKey, lateKey} {
		_, err = delegate.Grant(bg, r.ID, a.Author(), Permission{Prefix: []byte("ours/part/")})
		require.NoError(t, err)
	}
	_, err = delegate.Grant(bg, r.ID, guestKey.Author(), Permission{Prefix: []byte("ours/")})
	require.NoError(t, err)
	sync()
	require.NoError(t, owner.AddReader(bg, r.ID, lateKey.Author()))
	rotate()
	for _, s := range all {
		require.True(t, reads(s))
	}
	require.True(t, writes(guest, guestKey), "by a grant that the delegate's node has made anew")

	// Two whom the replica key lets read, and one whom it does not.
	for _, a := range []SecretKey{guestKey, readerKey, lateKey} {
		_, err = delegate.Revoke(bg, r.ID, a.Author(), 0)
		require.NoError(t, err)
	}
	sync()
	rotate()
	require.True(t, reads(reader), "a delegate takes the key from no reader")
	require.True(t, reads(late), "whoever was made one first")
	require.False(t, reads(guest), "whom nobody lets read gets no later key")
	require.True(t, reads(delegate))

	// What stems from a delegate ends with it, also what was made anew.
	_, err = delegate.Grant(bg, r.ID, guestKey.Author(), Permission{Prefix: []byte("ours/")})
	require.NoError(t, err)
	sync()
	rotate()
	require.True(t, reads(guest))
	require.True(t, writes(guest, guestKey))
	c.t = c.t.Add(time.Second)
	_, err = owner.Revoke(bg, r.ID, delegateKey.Author(), uint64(c.t.UnixMicro()))
	require.NoError(t, err)
	sync()
	c.t = c.t.Add(time.Second)
	require.False(t, reads(delegate))
	require.False(t, reads(guest))
	require.True(t, reads(reader))
	var no *NotAllowedError
	require.ErrorAs(t, guest.MayWrite(bg, r.ID, guestKey.Author(), []byte("x")), &no)
	_, err = delegate.Rotate(bg, r.ID)
	require.Error(t, err, "a delegate begins no epoch")
	st, err := owner.statements(bg, r.ID)
	require.NoError(t, err)
	for _, g := range st.grants {
		require.True(t, g.Author != guestKey.Author() || g.Parent != nil,
			"the replica key has granted nothing to whom a delegate let in")
	}
}

package session

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/blame"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// A statement of a kind that this program does not know keeps none of the others out, and counts as
// one of those of which a peer may not send many alone.
func TestStatementsOfALaterVersion(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(t, &now)
	r, err := n.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	g := replica.Grant{
		Replica: r.ID, Author: replica.NewSecretKey().Author(), NotAfter: replica.Forever,
	}
	g.Sign(r.Secret)
	later := []byte("skerry wish 1\nwhatever it says")
	out, err := n.InsertStatements(t.Context(), r.ID, [][]byte{later, g.Bytes(), later})
	require.NoError(t, err)
	require.Equal(t, replica.Stated{Added: 1, Refused: 2, Void: 2}, out)
	var w worthless
	require.NoError(t, w.add(out, 2))
	require.Error(t, w.add(replica.Stated{Refused: 1}, 2))
	_, err = n.InsertStatements(t.Context(), r.ID, [][]byte{g.Bytes()[:40]})
	require.Error(t, err, "what is malformed is no later version")
}

// A peer that has not heard of a revocation may send what a replica keeps of some delegates in good
// faith, and a replica keeps as much again with each epoch.
func TestMoreMayBeRefusedWithEpochs(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(t, &now)
	r, err := n.replicas.CreateEncrypted(t.Context(), "r")
	require.NoError(t, err)
	most := func() int {
		most, err := n.mostRefused(t.Context(), r.ID)
		require.NoError(t, err)
		return most
	}
	before := most()
	for range 3 {
		_, err = n.replicas.Rotate(t.Context(), r.ID)
		require.NoError(t, err)
	}
	require.GreaterOrEqual(t, most(), before+3*maxRefused)
	_, err = n.replicas.Join(t.Context(), replica.Replica{ID: replica.NewSecretKey().Replica(),
		Name: "far", Capability: replica.Sync, Least: replica.EpochID{Number: 1 << 31}})
	require.NoError(t, err)
	far, err := n.replicas.Resolve(t.Context(), "far")
	require.NoError(t, err)
	most64, err := n.mostRefused(t.Context(), far.ID)
	require.NoError(t, err)
	require.Equal(t, 65*maxRefused, most64, "whatever a ticket says")
}

// A delegate that has been revoked brings its statements to a node that has not heard of it, which
// passes them on. That node is not refused for it: it would not hear of the revocation either. One
// that goes on is.
func TestWhoPassesOnIsNotBlamed(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(t, &now)
	r, err := n.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	delegate := replica.NewSecretKey()
	us := uint64(now.UnixMicro())
	g := replica.Grant{
		Replica: r.ID, Author: delegate.Author(), NotAfter: replica.Forever, Delegable: true, Issued: us,
	}
	g.Sign(r.Secret)
	revoked := replica.Revocation{Replica: r.ID, Author: delegate.Author(), Issued: us}
	revoked.Sign(r.Secret)
	_, err = n.replicas.InsertStatements(t.Context(), r.ID, []replica.Statement{&g, &revoked})
	require.NoError(t, err)
	var items [][]byte
	for i := range maxRefusedPush + 1 {
		below := replica.Grant{
			Replica: r.ID, Author: replica.AuthorID{byte(i), byte(i >> 8), 1}, NotAfter: replica.Forever,
			Issued: us + 1, Parent: &g,
		}
		below.Sign(delegate)
		items = append(items, below.Bytes())
	}
	msg := SealGossip(r.ID, bundle.Append(bundle.Append(nil, items), nil))
	const friend, flood = peer.ID("friend"), peer.ID("flood")
	for _, p := range []peer.ID{friend, flood} {
		n.contacts.Changed(p, true)
	}
	take := func(p peer.ID) link.Verdict { return n.takeGossip(t.Context(), r.ID, p, msg) }
	for i := range 3 * maxInGoodFaith {
		require.Equal(t, link.Ignore, take(friend), "it is not passed on")
		require.False(t, n.blamed.Refused(friend), i)
		if i%maxInGoodFaith == maxInGoodFaith-1 {
			n.blamed.Agreed(friend, r.ID) // a session
			now = now.Add(blame.RefusedFor)
		}
	}
	for range maxInGoodFaith {
		require.Equal(t, link.Ignore, take(flood))
	}
	require.False(t, n.blamed.Refused(flood))

	n.blamed.Agreed(flood, replica.ID{9}) // of another replica, in which it hears nothing of this one
	n.contacts.Changed(flood, false)
	n.contacts.Changed(flood, true)
	n.blamed.Agreed(flood, r.ID) // which it can run after each flood
	require.Equal(t, link.Reject, take(flood))
	require.True(t, n.blamed.Refused(flood))
}

// A delegate gives one node the first of its grants, and another ever earlier ones that are still
// later than those: each of these is news there, and passed on, and beyond what the first node
// keeps. Nobody is refused for that but who sends it by himself all the time.
func TestWhatIsBeyondIsNobodysOffence(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a, b := alone(t, &now), alone(t, &now)
	r, err := a.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	_, err = b.replicas.Join(t.Context(), replica.Replica{
		ID: r.ID, Name: "r", Capability: replica.Write, Secret: r.Secret,
	})
	require.NoError(t, err)
	delegate, us := replica.NewSecretKey(), uint64(now.UnixMicro())
	g := replica.Grant{
		Replica: r.ID, Author: delegate.Author(), NotAfter: replica.Forever, Delegable: true, Issued: us,
	}
	g.Sign(r.Secret)
	count := uint64(0)
	message := func(issued uint64) []byte {
		items := [][]byte{g.Bytes()}
		for range maxRefusedPush + 2 {
			count++
			var author replica.AuthorID
			binary.BigEndian.PutUint64(author[:], count)
			below := replica.Grant{
				Replica: r.ID, Author: author, NotAfter: replica.Forever, Issued: us + issued, Parent: &g,
			}
			below.Sign(delegate)
			items = append(items, below.Bytes())
		}
		return SealGossip(r.ID, bundle.Append(bundle.Append(nil, items), nil))
	}
	a.contacts.Changed(b.id, true)
	b.contacts.Changed(a.id, true)
	for range 2 {
		require.Equal(t, link.Accept, b.takeGossip(t.Context(), r.ID, "delegate", message(1)))
	}
	for i := range uint64(maxInGoodFaith + 4) {
		msg := message(1000 - i)
		require.Equal(t, link.Accept, a.takeGossip(t.Context(), r.ID, "delegate", msg))
		require.Equal(t, link.Ignore, b.takeGossip(t.Context(), r.ID, a.id, msg))
	}
	require.False(t, b.blamed.Refused(a.id))
}

// Delegates give one node the first of their grants, and another later ones. Whoever passes these
// on in a session has done nothing wrong, however many delegates there are; and a peer that makes
// up more than all of them can have is refused.
func TestMoreMayBeRefusedWithDelegates(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(t, &now)
	r, err := n.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	const delegates = fewDelegates + 3
	for i := range delegates {
		a, err := n.replicas.NewAuthor(t.Context())
		require.NoError(t, err)
		g, err := n.replicas.Grant(t.Context(), r.ID, a, replica.Permission{Delegable: true})
		require.NoError(t, err)
		_, err = n.replicas.Grant(t.Context(), r.ID, a, replica.Permission{})
		require.NoError(t, err)
		if i%2 == 0 {
			_, err = n.replicas.Revoke(t.Context(), r.ID, a, g.Issued)
			require.NoError(t, err)
		}
		b, err := n.replicas.NewAuthor(t.Context())
		require.NoError(t, err)
		_, err = n.replicas.Grant(t.Context(), r.ID, b, replica.Permission{})
		require.NoError(t, err, "of one who may not grant")
	}
	count, err := n.replicas.Delegates(t.Context(), r.ID, 100)
	require.NoError(t, err)
	require.Equal(t, delegates, count)
	count, err = n.replicas.Delegates(t.Context(), r.ID, 2)
	require.NoError(t, err)
	require.Equal(t, 2, count)

	var w worthless
	for range delegates {
		require.NoError(t, w.addOf(t.Context(), n.Syncer, r.ID, replica.Stated{Refused: keptOfOne}))
	}
	var wrong *reconcile.ProtocolError
	err = w.addOf(t.Context(), n.Syncer, r.ID, replica.Stated{Refused: 1})
	require.ErrorAs(t, err, &wrong)
}

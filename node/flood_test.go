package node

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// A delegate, before and after the owner has revoked it, pushes floods of statements about the owner's
// author to one of two nodes. That node keeps no more than the delegate's share, and none of it once
// it is revoked; it refuses the peer; and the two nodes end with the same statements, in sessions that
// then send nothing.
func TestFloodOfStatementsEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newSimWorld(t, 1)
		r := w.found(replica.Write)
		owner, other := w.nodes[0], w.nodes[1]
		for _, n := range w.nodes {
			n.skew = 0
		}
		delegate, victim := replica.NewSecretKey(), replica.NewSecretKey()
		g, err := owner.Replicas.Grant(ctx, r.ID, delegate.Author(), replica.Permission{Prefix: []byte("m/"), Delegable: true})
		require.NoError(t, err)
		floods := 0
		flood := func() (id peer.ID, err error) {
			floods++
			m := w.end(peer.ID("flood " + string(rune('0'+floods))))
			require.NoError(t, m.Start(func(peer.ID, bool) {}))
			require.NoError(t, m.Connect(ctx, peer.AddrInfo{ID: other.ID()}))
			for round := range 4 {
				var statements [][]byte
				for i := range maxPush {
					issued := max(g.Issued, uint64(time.Now().UnixMicro())) + uint64(round*maxPush+i)
					if i%3 == 0 {
						v := replica.Revocation{Replica: r.ID, Author: victim.Author(), Issued: issued, From: 1 << 62, Authority: &g}
						v.Sign(delegate)
						statements = append(statements, v.Bytes())
						continue
					}
					d := replica.Grant{Replica: r.ID, Author: victim.Author(), Issued: issued, NotAfter: g.NotAfter, Prefix: g.Prefix, Parent: &g}
					d.Sign(delegate)
					statements = append(statements, d.Bytes())
				}
				if err = push(ctx, m, other.ID(), r.ID, statements); err != nil {
					break
				}
			}
			return m.id, err
		}
		stated := func(n *simNode) int {
			grants, revocations, err := n.Replicas.GrantStates(ctx, r.ID)
			require.NoError(t, err)
			delegated := 0
			for i := range grants {
				if grants[i].Parent != nil {
					delegated++
				}
			}
			for i := range revocations {
				if revocations[i].Authority != nil {
					delegated++
				}
			}
			return delegated
		}
		same := func() {
			w.heal()
			require.NoError(t, owner.end.Connect(ctx, peer.AddrInfo{ID: other.ID()}))
			st, err := owner.syncWith(ctx, other.ID(), r.ID, nil)
			for err != nil { // one that the nodes began by themselves is under way
				time.Sleep(time.Second)
				st, err = owner.syncWith(ctx, other.ID(), r.ID, nil)
			}
			require.Less(t, st.BytesSent+st.BytesReceived, uint64(1000), "there is nothing to send")
			want, err := owner.Replicas.StatementsFingerprint(ctx, r.ID)
			require.NoError(t, err)
			for _, n := range w.nodes {
				got, err := n.Replicas.StatementsFingerprint(ctx, r.ID)
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
		}

		_, err = other.Replicas.InsertStatements(ctx, r.ID, []replica.Statement{&g})
		require.NoError(t, err)
		pusher, err := flood()
		require.Error(t, err, "pushes of what is not kept are refused")
		require.True(t, other.peers.isRefused(pusher))
		require.Equal(t, 2*replica.MaxAbout, stated(other))
		same()
		require.Equal(t, 2*replica.MaxAbout, stated(owner))

		_, err = owner.Revoke(ctx, r.ID, delegate.Author(), g.Issued)
		require.NoError(t, err)
		same()
		require.Zero(t, stated(other))
		pusher, err = flood()
		require.Error(t, err)
		require.True(t, other.peers.isRefused(pusher))
		require.Zero(t, stated(other), "nothing of a delegate that is revoked is kept")
		same()
		for _, n := range w.nodes {
			require.NoError(t, n.Close())
		}
	})
}

// push sends statements as a peer that makes them up does, and waits until they are taken or refused.
func push(ctx context.Context, m *simEnd, to peer.ID, id replica.ID, statements [][]byte) error {
	s, err := m.Open(ctx, to, pushProtocol)
	if err != nil {
		return err
	}
	lookup := lookupOf(id, to, dayOf(time.Now()))
	b := appendItems(appendItems(append([]byte{pushVersion}, lookup[:]...), statements), nil)
	if _, err := s.Write(b); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	_, err = s.Read(make([]byte, 1))
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

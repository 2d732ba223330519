package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

const (
	// inGoodFaith is how many pushes of worthless statements a peer may bring before a session.
	inGoodFaith = 16
	// mostRefused is how many statements of a replica without epochs may be refused in a session.
	mostRefused = 4 * 2 * replica.MaxDelegated
)

// A delegate, before and after the owner has revoked it, pushes floods of statements about the
// owner's author to one of two nodes. That node keeps no more than the delegate's share, and none
// of it once it is revoked; it refuses the peer; and the two nodes end with the same statements, in
// sessions that then send nothing.
func TestFloodOfStatementsEnds(t *testing.T) {
	testkit.SeenElsewhere(t)
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newSimWorld(t, 1)
		r := w.found(replica.Write)
		owner, other := w.nodes[0], w.nodes[1]
		delegate, victim := replica.NewSecretKey(), replica.NewSecretKey()
		g, err := owner.replicas.Grant(
			ctx, r.ID, delegate.Author(), replica.Permission{Prefix: []byte("m/"), Delegable: true},
		)
		require.NoError(t, err)
		floods := 0
		flood := func() (id peer.ID, err error) {
			floods++
			m := w.End(peer.ID("flood " + string(rune('0'+floods))))
			require.NoError(t, m.Start(func(peer.ID, bool) {}))
			require.NoError(t, m.Connect(ctx, peer.AddrInfo{ID: other.ID()}))
			for round := range inGoodFaith + 4 {
				var statements [][]byte
				for i := range bundle.Max {
					issued := max(g.Issued, uint64(time.Now().UnixMicro())) + uint64(round*bundle.Max+i)
					if i%3 == 0 {
						v := replica.Revocation{
							Replica: r.ID, Author: victim.Author(), Issued: issued, From: 1 << 62, Authority: &g,
						}
						v.Sign(delegate)
						statements = append(statements, v.Bytes())
						continue
					}
					d := replica.Grant{
						Replica: r.ID, Author: victim.Author(), Issued: issued, NotAfter: g.NotAfter,
						Prefix: g.Prefix, Parent: &g,
					}
					d.Sign(delegate)
					statements = append(statements, d.Bytes())
				}
				if err = push(ctx, m, other.ID(), r.ID, statements); err != nil {
					break
				}
			}
			return m.ID(), err
		}
		stated := func(n *simNode) int {
			grants, revocations, err := n.replicas.GrantStates(ctx, r.ID)
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
			st, err := owner.syncer.SyncWith(ctx, other.ID(), r.ID, nil)
			for err != nil { // one that the nodes began by themselves is under way
				time.Sleep(time.Second)
				st, err = owner.syncer.SyncWith(ctx, other.ID(), r.ID, nil)
			}
			require.Less(t, st.BytesSent+st.BytesReceived, uint64(1000), "there is nothing to send")
			want, err := owner.replicas.StatementsFingerprint(ctx, r.ID)
			require.NoError(t, err)
			for _, n := range w.nodes {
				got, err := n.replicas.StatementsFingerprint(ctx, r.ID)
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
		}

		_, err = other.replicas.InsertStatements(ctx, r.ID, []replica.Statement{&g})
		require.NoError(t, err)
		pusher, err := flood()
		require.Error(t, err, "pushes of what is not kept are refused")
		require.True(t, other.blamed.Refused(pusher))
		require.Equal(t, 2*replica.MaxAbout, stated(other))
		same()
		require.Equal(t, 2*replica.MaxAbout, stated(owner))

		_, err = owner.Revoke(ctx, r.ID, delegate.Author(), g.Issued)
		require.NoError(t, err)
		same()
		require.Zero(t, stated(other))
		pusher, err = flood()
		require.Error(t, err)
		require.True(t, other.blamed.Refused(pusher))
		require.Zero(t, stated(other), "nothing of a delegate that is revoked is kept")
		same()
		for _, n := range w.nodes {
			require.NoError(t, n.Close())
		}
	})
}

// push sends statements as a peer that makes them up does, and waits until they are taken or
// refused.
func push(
	ctx context.Context, m *simnet.End, to peer.ID, id replica.ID, statements [][]byte,
) error {
	s, err := m.Open(ctx, to, session.PushProtocol)
	if err != nil {
		return err
	}
	lookup := names.Lookup(id, to, names.Day(time.Now()))
	b := bundle.Append(
		bundle.Append(append([]byte{session.PushVersion}, lookup[:]...), statements), nil,
	)
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

// A peer that offers 40,000 void statements in a session is cut off and refused before it has sent
// all of them, and one that offers fewer ends the session with nothing of it kept.
func TestSessionWithVoidStatementsEnds(t *testing.T) {
	testkit.SeenElsewhere(t)
	for name, count := range map[string]int{
		"in good faith": 2 * replica.MaxDelegated, "a flood": 40_000,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := context.Background()
				w := newSimWorld(t, 1)
				r := w.found(replica.Write)
				n := w.nodes[0]
				delegate := replica.NewSecretKey()
				g, err := n.replicas.Grant(
					ctx, r.ID, delegate.Author(), replica.Permission{Prefix: []byte("m/"), Delegable: true},
				)
				require.NoError(t, err)
				_, err = n.Revoke(ctx, r.ID, delegate.Author(), g.Issued)
				require.NoError(t, err)
				before, err := n.replicas.StatementsFingerprint(ctx, r.ID)
				require.NoError(t, err)
				m := &statementPeer{End: w.End("mallory"), id: r.ID}
				for i := range count {
					d := replica.Grant{
						Replica: r.ID, Author: delegate.Author(), Issued: g.Issued + uint64(i), NotAfter: g.NotAfter,
						Prefix: g.Prefix, Parent: &g,
					}
					m.add(&d)
				}
				slices.SortFunc(m.items, func(a, b reconcile.Item) int { return bytes.Compare(a.Key, b.Key) })
				require.NoError(t, m.Start(func(peer.ID, bool) {}))
				m.Handle(session.Protocol, m.serve)
				require.NoError(t, n.end.Connect(ctx, peer.AddrInfo{ID: m.End.ID()}))
				for range 3 {
					_, err = n.syncer.SyncWith(ctx, m.End.ID(), r.ID, nil)
				}
				if name == "a flood" {
					require.Error(t, err)
					require.True(t, n.blamed.Refused(m.End.ID()))
					require.Less(t, m.sent.Load(), int64(2*mostRefused), "it is cut off early")
				} else {
					require.NoError(t, err)
					require.False(t, n.blamed.Refused(m.End.ID()))
				}
				after, err := n.replicas.StatementsFingerprint(ctx, r.ID)
				require.NoError(t, err)
				require.Equal(t, before, after)
				for _, n := range w.nodes {
					require.NoError(t, n.Close())
				}
				time.Sleep(time.Minute) // what the peer was sending ends, too
			})
		})
	}
}

// statementPeer holds statements that it has made up, and no entries, and answers sessions with
// them.
type statementPeer struct {
	*simnet.End
	id    replica.ID
	items []reconcile.Item
	sent  atomic.Int64 // in the last session
}

func (m *statementPeer) add(st replica.Statement) {
	id := st.ID()
	author := st.(*replica.Grant).Author
	key := append(append(append([]byte{}, author[:]...), 1), id[:]...)
	m.items = append(
		m.items,
		reconcile.Item{
			Key: key, Mark: reconcile.Mark{ID: id, Element: reconcile.Element(id[:])}, Data: st.Bytes(),
		},
	)
}

// serve greets as docs/protocol/sync.md says, and goes on as nobody does.
func (m *statementPeer) serve(s link.Stream) {
	defer s.Close()
	r := bufio.NewReader(s)
	var hello [1 + 32 + 32 + 8]byte
	if _, err := io.ReadFull(r, hello[:]); err != nil {
		return
	}
	var nonce [32]byte
	key := names.Keyed(m.id, []byte("skerry session 3\n"), hello[1:33], nonce[:],
		[]byte(s.Remote()), []byte{0}, []byte(m.End.ID()))
	proof := names.Keyed(key, []byte("responder"))
	if _, err := s.Write(append(nonce[:], proof[:]...)); err != nil {
		return
	}
	if _, err := io.ReadFull(r, make([]byte, 34)); err != nil {
		return
	}
	if _, err := s.Write([]byte{0}); err != nil {
		return
	}
	m.sent.Store(0)
	abort := func() { _ = s.Reset() }
	for i, part := range []string{"statements", "entries"} {
		_, err := reconcile.Run(context.Background(), r, s, abort, reconcile.Config{
			Set: m.set(i == 0), Key: names.Keyed(key, []byte(part)),
			Insert: func(context.Context, [][]byte) error { return nil },
			Sent:   func(*reconcile.Item) { m.sent.Add(1) },
		})
		if err != nil {
			return
		}
	}
}

func (m *statementPeer) set(full bool) reconcile.Set {
	return reconcile.Scanned(
		func(_ context.Context, in reconcile.Range) iter.Seq2[reconcile.Item, error] {
			return func(yield func(reconcile.Item, error) bool) {
				for _, it := range m.items {
					if full && in.Contains(it.Key) && !yield(it, nil) {
						return
					}
				}
			}
		},
	)
}

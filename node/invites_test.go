package node_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/invites"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/vaults"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// whole is a node with what stands above it.
type whole struct {
	*node.Node
	Invites *invites.Service
	Vaults  *vaults.Service
	handle  func(protocol string, fn func(link.Stream)) // answers a protocol otherwise
}

// world is a few of them, in a simulated network.
type world struct {
	*node.Sim
	nodes []*whole
}

func wholeNodes(t *testing.T, count int) *world {
	w := &world{}
	for range count {
		w.nodes = append(w.nodes, &whole{})
	}
	w.Sim = node.NewSim(t, count, func(i int, n *node.Node) {
		var err error
		x := w.nodes[i]
		x.Node = n
		x.Invites, err = invites.New(n)
		require.NoError(t, err)
		x.Vaults, err = vaults.New(n, nil)
		require.NoError(t, err)
		x.handle = func(protocol string, fn func(link.Stream)) { w.Handle(i, protocol, fn) }
	})
	return w
}

// An invite whose node is away is kept, over a restart, and taken when the node is back; one that
// is refused then is not asked for again.
func TestPendingInvite(t *testing.T) {
	node.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := wholeNodes(t, 2)
		a, b := w.nodes[0], w.nodes[1]
		r, err := a.ReplicaStore().Create(ctx, "r")
		require.NoError(t, err)
		var tickets []*ticket.Invite
		for _, expires := range []time.Time{{}, a.Now().Add(time.Minute)} {
			_, tk, err := a.Invites.Make(
				ctx,
				r,
				invites.Invite{Mode: replica.Write, Uses: 1, Expires: expires},
			)
			require.NoError(t, err)
			tk.Addrs = a.Addrs()
			tickets = append(tickets, tk)
		}
		w.Cut(0, 1)
		for _, tk := range tickets {
			_, err = b.Invites.Join(ctx, tk, "mine", nil, nil)
			var pending *invites.PendingError
			require.ErrorAs(t, err, &pending)
		}
		time.Sleep(time.Hour)
		w.Reopen(1)
		time.Sleep(time.Hour)
		all, err := b.Invites.Pending(ctx)
		require.NoError(t, err)
		require.Len(t, all, 2)
		w.Heal()
		time.Sleep(10 * time.Minute)
		all, err = b.Invites.Pending(ctx)
		require.NoError(t, err)
		require.Len(t, all, 1)
		for id, p := range all {
			require.True(t, p.Refused)
			require.Contains(t, p.Error, "expired")
			require.Equal(t, []string{a.ID().String()}, p.Inviters())
			require.NoError(t, b.Invites.DropPending(ctx, id))
			var unknown *invites.Error
			require.ErrorAs(t, b.Invites.DropPending(ctx, id), &unknown)
			require.Equal(t, invites.Unknown, unknown.Status)
		}
		got, err := b.ReplicaStore().Resolve(ctx, "mine")
		require.NoError(t, err)
		require.Equal(t, r.ID, got.ID)
		author, err := b.ReplicaStore().DefaultAuthor(ctx)
		require.NoError(t, err)
		key, err := b.ReplicaStore().AuthorKey(ctx, author)
		require.NoError(t, err)
		_, err = b.ReplicaStore().Write(ctx, r.ID, key, []replica.Change{{Key: []byte("k")}})
		require.NoError(t, err)
		_, err = a.Invites.Join(ctx, tickets[0], "", nil, nil)
		require.ErrorIs(t, err, invites.ErrOwn)
	})
}

// An invite for the holder of a wallet lets in whoever has signed with it for this author, at this
// node and not long ago.
func TestInviteForAWallet(t *testing.T) {
	key := func(b byte) eth.Key {
		k, err := eth.KeyFromSecret([32]byte{31: b})
		require.NoError(t, err)
		return k
	}
	alice, bob := key(1), key(2)
	sign := func(k eth.Key, at time.Time) invites.ProveWallet {
		return func(a invites.WalletAsk) (w invites.WalletProof, err error) {
			m, err := a.Message(at)
			return invites.WalletProof{
				At:        at.Unix(),
				Signature: k.Sign(eth.TextDigest([]byte(m.Text()))),
			}, err
		}
	}
	node.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := wholeNodes(t, 2)
		a, b := w.nodes[0], w.nodes[1]
		r, err := a.ReplicaStore().Create(ctx, "r")
		require.NoError(t, err)
		v, tk, err := a.Invites.Make(
			ctx,
			r,
			invites.Invite{
				Mode:   replica.Write,
				Prefix: []byte("notes/"),
				Uses:   1,
				Wallet: alice.Address(),
			},
		)
		require.NoError(t, err)
		tk.Addrs = a.Addrs()
		now := a.Now()
		other := func(x invites.WalletAsk) (invites.WalletProof, error) {
			x.Invite[0]++
			return sign(alice, now)(x)
		}
		for name, prove := range map[string]invites.ProveWallet{
			"nobody": nil, "another wallet": sign(bob, now),
			"long ago":      sign(alice, now.Add(-time.Hour-time.Minute)),
			"in the future": sign(alice, now.Add(6*time.Minute)), "something else": other,
		} {
			_, err = b.Invites.Join(ctx, tk, "mine", nil, prove)
			var refused *invites.Error
			require.ErrorAs(t, err, &refused, name)
			require.Equal(t, invites.NeedsWallet, refused.Status, name)
			require.Equal(t, alice.Address(), refused.Wallet)
		}
		failed := errors.New("locked")
		_, err = b.Invites.Join(
			ctx,
			tk,
			"mine",
			nil,
			func(invites.WalletAsk) (invites.WalletProof, error) { return invites.WalletProof{}, failed },
		)
		require.ErrorIs(t, err, failed)
		pending, err := b.Invites.Pending(ctx)
		require.NoError(t, err)
		require.Empty(t, pending)
		all, err := a.Invites.List(ctx)
		require.NoError(t, err)
		require.Empty(t, all[0].Redeemed)
		require.Equal(t, alice.Address(), all[0].Wallet)
		require.Equal(t, v.ID, all[0].ID)

		_, err = b.Invites.Join(ctx, tk, "mine", nil, sign(alice, now))
		require.NoError(t, err)
		author, err := b.ReplicaStore().DefaultAuthor(ctx)
		require.NoError(t, err)
		require.NoError(t, b.ReplicaStore().MayWrite(ctx, r.ID, author, []byte("notes/a")))
		var no *replica.NotAllowedError
		require.ErrorAs(t, b.ReplicaStore().MayWrite(ctx, r.ID, author, []byte("else")), &no)
	})
}

// Whoever takes an invite once more, and names the replica, has it by that name.
func TestAnInviteTakenAgainBringsItsName(t *testing.T) {
	node.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := wholeNodes(t, 2)
		owner, joiner := w.nodes[0], w.nodes[1]
		r, err := owner.ReplicaStore().Create(ctx, "theirs")
		require.NoError(t, err)
		_, tk, err := owner.Invites.Make(ctx, r, invites.Invite{Mode: replica.Write, Uses: 1})
		require.NoError(t, err)
		invite := &ticket.Invite{Secret: tk.Secret, Addrs: owner.Addrs()}
		joined, err := joiner.Invites.Join(ctx, invite, "", nil, nil)
		require.NoError(t, err)
		require.Equal(t, "theirs", joined.Replica.Name)
		joined, err = joiner.Invites.Join(ctx, invite, "mine", nil, nil)
		require.NoError(t, err)
		require.Equal(t, "mine", joined.Replica.Name)
		joined, err = joiner.Invites.Join(ctx, invite, "", nil, nil)
		require.NoError(t, err)
		require.Equal(t, "mine", joined.Replica.Name, "without a name, it keeps its own")
		found, err := joiner.ReplicaStore().Resolve(ctx, "mine")
		require.NoError(t, err)
		require.Equal(t, r.ID, found.ID)
	})
}

// An invite to sync an encrypted replica tells which epoch is the newest, as a ticket does.
func TestInvitedToSyncKnowTheNewestEpoch(t *testing.T) {
	node.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := wholeNodes(t, 2)
		a, c := w.nodes[0], w.nodes[1]
		r, err := a.ReplicaStore().CreateEncrypted(ctx, "letters")
		require.NoError(t, err)
		_, err = a.ReplicaStore().Rotate(ctx, r.ID)
		require.NoError(t, err)
		newest, err := a.ReplicaStore().NewestEpoch(ctx, r.ID)
		require.NoError(t, err)
		require.EqualValues(t, 2, newest.Number)
		_, tk, err := a.Invites.Make(ctx, r, invites.Invite{Mode: replica.Sync})
		require.NoError(t, err)
		joined, err := c.Invites.Join(ctx, tk, "r", nil, nil)
		require.NoError(t, err)
		require.Equal(t, newest, joined.Replica.Least)
	})
}

// An invite whose ticket names several nodes is redeemed though one of them drips its answer.
func TestRedeemsDespiteADrippingNode(t *testing.T) {
	node.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := wholeNodes(t, 3)
		dripping, inviter, joiner := w.nodes[0], w.nodes[1], w.nodes[2]
		stalls := false
		dripping.handle(inviteProtocol, func(s link.Stream) {
			stalls = true
			_, _ = s.Read(make([]byte, 1<<16)) // what it is asked
			for {
				if _, err := s.Write([]byte{0}); err != nil {
					return
				}
				time.Sleep(8 * time.Second)
			}
		})
		r, err := inviter.ReplicaStore().Create(ctx, "r")
		require.NoError(t, err)
		_, tk, err := inviter.Invites.Make(ctx, r, invites.Invite{Mode: replica.Sync, Uses: 1})
		require.NoError(t, err)
		tk.Addrs = append(dripping.Addrs(), tk.Addrs...)
		limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		joined, err := joiner.Invites.Join(limited, tk, "", nil, nil)
		require.NoError(t, err)
		require.Equal(t, r.ID, joined.Replica.ID)
		require.True(t, stalls)
		time.Sleep(time.Second)
		known, _, err := inviter.Holders(ctx, r.ID)
		require.NoError(t, err)
		require.Len(t, known, 1, "it was invited, and is remembered for it")
		require.Equal(t, joiner.ID(), known[0].ID)
	})
}

const (
	inviteProtocol  = "/skerry/invite/4"
	keyringProtocol = "/skerry/keyring/1"
)

// answerOf is what an inviter says that gives something; see docs/protocol/invite.md.
func answerOf(g invites.Given) []byte {
	b := append([]byte{0, byte(g.Capability)}, g.Replica[:]...)
	b = append(binary.BigEndian.AppendUint32(b, g.ReadKey.Epoch), g.ReadKey.Key[:]...)
	b = append(append(b, byte(len(g.Name))), g.Name...)
	return bundle.Append(b, g.Statements)
}

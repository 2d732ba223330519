package node_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/invites"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/vault"
)

// Whoever has an invite for somebody's wallet cannot have that person's approval of an application
// redeem it: neither by asking under the name that the invite is signed with, nor under any other.
func TestAnApprovalDoesNotRedeemAnInvite(t *testing.T) {
	node.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := wholeNodes(t, 2)
		owner, thief := w.nodes[0], w.nodes[1]
		victim := vault.NewLocal(t.TempDir(), owner.Now)
		me, err := victim.Add(ctx, vault.NewIdentity{Password: "p"})
		require.NoError(t, err)
		wallet, err := eth.AddressOf(me.Public)
		require.NoError(t, err)
		r, err := owner.ReplicaStore().Create(ctx, "r")
		require.NoError(t, err)
		_, tk, err := owner.Invites.Make(
			ctx, r, invites.Invite{Mode: replica.Write, Uses: 1, Wallet: wallet},
		)
		require.NoError(t, err)
		tk.Addrs = owner.Addrs()
		field := func(text, name string) string {
			_, rest, _ := strings.Cut(text, "\n"+name+": ")
			value, _, _ := strings.Cut(rest, "\n")
			return value
		}
		for _, as := range []string{"", "skerry-invite", "Skerry-Invite", "example.org"} {
			asked := 0
			_, err = thief.Invites.Join(
				ctx, tk, "stolen", nil, func(a invites.WalletAsk) (p invites.WalletProof, err error) {
					m, err := a.Message(owner.Now())
					require.NoError(t, err)
					asked++
					// The challenge of what is signed, if it has one, or else what an application could choose at
					// most.
					challenge, err := hex.DecodeString(field(m.Text(), "Challenge"))
					require.NoError(t, err)
					if len(challenge) == 0 {
						sum := blake3.Sum256(fmt.Appendf(nil, "%s %s", m.Text(), as))
						challenge = sum[:]
					}
					name := as
					if name == "" {
						if name = field(m.Text(), "Application"); name == "" {
							name = "skerry"
						}
					}
					q, err := victim.Ask(
						ctx, vault.App{Peer: thief.ID().String()},
						vault.Ask{Application: name, Challenge: challenge, Reason: "log in"},
					)
					if err != nil {
						return p, err
					}
					require.NoError(t, victim.Approve(ctx, q.Request, me.ID, "p"))
					answer, err := victim.Wait(ctx, vault.App{Peer: thief.ID().String()}, q.Request)
					require.NoError(t, err)
					p.At = answer.At.Unix()
					copy(p.Signature[:], answer.Signature.Signature)
					return p, nil
				},
			)
			require.Error(t, err, as)
			require.Equal(t, 1, asked, as)
			_, err = thief.ReplicaStore().Get(ctx, r.ID)
			require.ErrorIs(t, err, replica.ErrNotFound, as)
		}
		all, err := owner.Invites.List(ctx)
		require.NoError(t, err)
		require.Empty(t, all[0].Redeemed)
	})
}

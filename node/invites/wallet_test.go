package invites

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// What a wallet's holder signed for one author, invite, node and time is of no use for another.
func TestTheProofOfAWalletIsForOneUse(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a, b := offline(t, &now), offline(t, &now)
	key, err := eth.KeyFromSecret([32]byte{31: 1})
	require.NoError(t, err)
	_, v, tk := ready(t, a, Invite{Mode: replica.Write, Uses: 1, Wallet: key.Address()})
	author, joiner := replica.AuthorID{7}, b.n.ID()
	ask := WalletAsk{key.Address(), inviteID(tk.Secret), a.n.ID(), joiner, author}
	m, err := ask.Message(now)
	require.NoError(t, err)
	proof := WalletProof{At: now.Unix(), Signature: key.Sign(eth.TextDigest([]byte(m.Text())))}
	other := replica.AuthorID{1}
	require.NoError(t, a.checkWallet(&v, tk.Secret, author, joiner.String(), &proof))
	for name, err := range map[string]error{
		"no proof":       a.checkWallet(&v, tk.Secret, author, joiner.String(), nil),
		"another author": a.checkWallet(&v, tk.Secret, other, joiner.String(), &proof),
		"another device": a.checkWallet(&v, tk.Secret, author, a.n.ID().String(), &proof),
		"another invite": a.checkWallet(&v, ticket.InviteSecret{}, author, joiner.String(), &proof),
		"another node":   b.checkWallet(&v, tk.Secret, author, joiner.String(), &proof),
		"no device":      a.checkWallet(&v, tk.Secret, author, "x", &proof),
	} {
		require.Error(t, err, name)
		requireStatus(t, NeedsWallet, err)
	}
	for _, at := range []time.Time{
		now.Add(walletBehind + time.Minute), now.Add(-walletAhead - time.Minute),
	} {
		now = at
		err := a.checkWallet(&v, tk.Secret, author, joiner.String(), &proof)
		requireStatus(t, NeedsWallet, err)
		now = time.Unix(proof.At, 0)
	}
}

package invites

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// An invite may name the EVM address whose holder alone may use it. That holder signs, as a text
// (EIP-191), the message of identity.InviteAsk: it names the wallet, the invite, the node that made
// it, the device that takes it and the author who is let in. So the signature is of no use with
// another invite, for another author, or at another node, and nothing else that a wallet signs is
// of any use here.

// How far the time of a wallet's signature may be from the inviter's: somebody signs in another
// program, and brings it here.
const (
	walletAhead  = 5 * time.Minute
	walletBehind = time.Hour
)

// WalletAsk says what the holder of a wallet is to sign.
type WalletAsk struct {
	Wallet          eth.Address
	Invite          [32]byte // its id
	Inviter, Device peer.ID
	Author          replica.AuthorID
}

// Ask returns the request as a keyring takes it.
func (a *WalletAsk) Ask() identity.InviteAsk {
	return identity.InviteAsk{Wallet: a.Wallet.Lower(), Invite: hex.EncodeToString(a.Invite[:]),
		Inviter: a.Inviter.String(), Device: a.Device.String(), Author: a.Author.String()}
}

// Message returns the message, of a time.
func (a *WalletAsk) Message(at time.Time) (identity.Message, error) { return a.Ask().Message(at) }

// WalletProof is the signature of such a message.
type WalletProof struct {
	At        int64 // Unix seconds
	Signature eth.Signature
}

// ProveWallet signs for a wallet.
type ProveWallet func(WalletAsk) (WalletProof, error)

// UnsignedError says that nobody has signed for the wallet of an invite.
type UnsignedError struct{ Err error }

func (e *UnsignedError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *UnsignedError) Unwrap() error { return e.Err }

// checkWallet returns an *Error unless an invite is for anybody, or the holder of its wallet
// has signed for an author at a node, by its id as text.
func (s *Service) checkWallet(
	v *Invite, secret ticket.InviteSecret, author replica.AuthorID, node string, w *WalletProof,
) error {
	if v.Wallet == (eth.Address{}) {
		return nil
	}
	refused := &Error{Status: NeedsWallet, Wallet: v.Wallet}
	joiner, err := peer.Decode(node)
	if w == nil || err != nil {
		return refused
	}
	ask := WalletAsk{v.Wallet, inviteID(secret), s.n.ID(), joiner, author}
	m, err := ask.Message(time.Unix(w.At, 0))
	if err == nil {
		err = m.CheckTime(s.n.Now(), walletAhead, walletBehind)
	}
	var signer eth.Address
	if err == nil {
		signer, err = eth.RecoverAddress(eth.TextDigest([]byte(m.Text())), w.Signature)
	}
	if err == nil && signer != v.Wallet {
		err = fmt.Errorf("the signature is of %s", signer)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", refused, err)
	}
	return nil
}

// readWalletProof reads what follows the flag.
func readWalletProof(r io.Reader, flag byte) (*WalletProof, error) {
	switch flag {
	case 0:
		return nil, nil
	case 1:
	default:
		return nil, errors.New("redeem invite: a flag that is neither 0 nor 1")
	}
	var b [8 + 65]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, fmt.Errorf("read: %w", link.NoEOF(err))
	}
	w := &WalletProof{At: int64(binary.BigEndian.Uint64(b[:]))}
	copy(w.Signature[:], b[8:])
	if w.At < 0 || w.At > 1<<40 {
		return nil, errors.New("redeem invite: the time of the wallet's signature is none")
	}
	return w, nil
}

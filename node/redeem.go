package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/skerry-sync/skerry/node/link"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/ticket"
)

// An invite is redeemed on one stream, of which the joiner knows from the ticket who is at its
// other end:
//
//	joiner   version u8 = 4, secret[32], author[32], signature[64], u8 0, or 1 and the proof of a wallet: time u64 in Unix seconds, signature[65]
//	inviter  status u8 (see InviteStatus); if that is 6: address[20] of the wallet; if it is 0: capability u8, 1 sync or 2 read, replica[32], epoch u32 and read key[32] (zeros if there is none), length u8 and the name that the replica has there,
//	         statements as in a push
//
// The author signs "skerry redeem 1\n", the hash of the secret (see keyInvite), and the node ids of
// inviter and joiner, each after its length as u16 big-endian.
//
// A joiner that does not reach the inviter keeps the invite and tries again while it runs:
//
//	n u hash[32]   JSON, see PendingInvite
const (
	inviteProtocol = "/skerry/invite/4"
	inviteVersion  = 4
	keyPending     = "nu"
	firstInviteTry = 5 * time.Second
	lastInviteTry  = 5 * time.Minute
)

// serveInvite answers somebody who brings an invite.
func (n *Node) serveInvite(raw link.Stream) {
	s := link.Within(raw, idleTimeout).EndingIn(2 * requestTime) // for the request and the answer
	if err := n.answerInvite(n.ctx, s); err != nil {
		var refused *InviteError
		known := errors.As(err, &refused)
		level := slog.LevelDebug // anybody can ask
		if known && refused.Status != InviteUnknown {
			level = slog.LevelInfo
		}
		n.log.Log(n.ctx, level, "an invite was not taken", "peer", s.Remote(), "error", err)
		if !known {
			_ = s.Reset()
			return
		}
	}
	_ = s.Close()
}

func (n *Node) answerInvite(ctx context.Context, s link.Stream) error {
	var msg [1 + 32 + 32 + 64 + 1]byte
	if _, err := io.ReadFull(s, msg[:]); err != nil {
		return fmt.Errorf("read: %w", noEOF(err))
	}
	if msg[0] != inviteVersion {
		return fmt.Errorf("invite of version %d, expected %d", msg[0], inviteVersion)
	}
	secret, author := ticket.InviteSecret(msg[1:33]), replica.AuthorID(msg[33:65])
	if !author.Verify(redeemProof(secret, string(n.id), string(s.Remote())), [64]byte(msg[65:])) {
		return replica.ErrBadSignature
	}
	w, err := readWalletProof(s, msg[129])
	if err != nil {
		return err
	}
	given, err := n.redeem(ctx, secret, author, s.Remote().String(), w)
	var refused *InviteError
	if errors.As(err, &refused) {
		answer := []byte{byte(refused.Status)}
		if refused.Status == InviteWallet {
			answer = append(answer, refused.Wallet[:]...)
		}
		_, writeErr := s.Write(answer)
		return errors.Join(err, writeErr)
	}
	if err != nil {
		return err
	}
	if _, err := s.Write(append([]byte{byte(InviteTaken)}, given.marshal()...)); err != nil {
		return err
	}
	n.log.Info("an invite was taken", "replica", given.Name, "peer", s.Remote(), "author", author)
	if given.few { // whoever made the invite meant this node
		joiner := peer.AddrInfo{ID: s.Remote(), Addrs: n.net.KnownAddrs(s.Remote())}
		return n.Remember(ctx, []replica.ID{given.Replica}, []peer.AddrInfo{joiner})
	}
	return nil
}

// askForInvite brings an invite to one of the nodes that its ticket names.
func (n *Node) askForInvite(ctx context.Context, p peer.AddrInfo, secret ticket.InviteSecret, author replica.SecretKey, w *WalletProof) (g Given, err error) {
	if err := n.net.Connect(link.Named(ctx), p); err != nil {
		return g, err
	}
	raw, err := n.net.Open(ctx, p.ID, inviteProtocol)
	if err != nil {
		return g, err
	}
	defer resetAfterFault(raw)
	s := new(link.Patient)
	*s = link.Within(raw, greetTime).EndingIn(greetTime) // others may be asked instead
	defer func() { _ = s.Reset() }()                     // after Close it does nothing
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if _, err := s.Write(appendRedeem(secret, author.Author(), author.Sign(redeemProof(secret, string(p.ID), string(n.id))), w)); err != nil {
		return g, fmt.Errorf("redeem invite: %w", err)
	}
	r := bufio.NewReader(s)
	if _, err := r.Peek(1); err != nil {
		return g, fmt.Errorf("redeem invite: the answer: %w", noEOF(err))
	}
	*s = link.Within(raw, idleTimeout).Paced().EndingIn(exchangeTime)
	if g, err = readGiven(r); err != nil {
		return g, err
	}
	return g, s.Close()
}

// readGiven reads the answer to an invite, or returns an *InviteError.
func readGiven(r *bufio.Reader) (g Given, err error) {
	bad := func(err error) error { return fmt.Errorf("redeem invite: the answer: %w", noEOF(err)) }
	status, err := r.ReadByte()
	if err != nil {
		return g, bad(err)
	}
	if InviteStatus(status) == InviteWallet {
		refused := &InviteError{Status: InviteWallet}
		if _, err := io.ReadFull(r, refused.Wallet[:]); err != nil {
			return g, bad(err)
		}
		return g, refused
	}
	if InviteStatus(status) != InviteTaken {
		return g, &InviteError{Status: InviteStatus(status)}
	}
	var head [1 + 32 + 4 + 32 + 1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return g, bad(err)
	}
	g.Capability, g.Replica = replica.Capability(head[0]), replica.ID(head[1:33])
	if g.Capability != replica.Sync && g.Capability != replica.Read {
		return g, bad(fmt.Errorf("it gives %s", g.Capability))
	}
	g.ReadKey.Epoch = binary.BigEndian.Uint32(head[33:])
	copy(g.ReadKey.Key[:], head[37:])
	if (g.ReadKey.Epoch == 0) != (g.ReadKey.Key == seal.ReadKey{}) || g.ReadKey.Epoch > 0 && g.Capability < replica.Read {
		return g, bad(fmt.Errorf("a read key of epoch %d to %s", g.ReadKey.Epoch, g.Capability))
	}
	name := make([]byte, head[69])
	if _, err := io.ReadFull(r, name); err != nil {
		return g, bad(err)
	}
	g.Name = string(name)
	if g.Statements, err = readItems(r, nil); err != nil {
		return g, bad(err)
	}
	return g, nil
}

// ErrOwnInvite reports an invite that was brought to the node that made it.
var ErrOwnInvite = kind.New(kind.Usage, "this node has made the invite itself: it is for others")

// PendingInvite is an invite whose node has not been reached yet.
type PendingInvite struct {
	Secret  []byte           `json:"secret"`
	Addrs   []string         `json:"addrs"`
	Name    string           `json:"name,omitempty"`
	Policy  *Policy          `json:"policy,omitempty"`
	Author  replica.AuthorID `json:"author"`
	Created time.Time        `json:"created"`
	Error   string           `json:"error"`             // of the last attempt
	Refused bool             `json:"refused,omitempty"` // it is not tried again
}

// Inviters returns the ids of the nodes that could be asked.
func (p *PendingInvite) Inviters() (ids []string) {
	if t, err := p.ticket(); err == nil {
		for _, x := range t.Peers() {
			ids = append(ids, x.ID.String())
		}
	}
	return ids
}

func (p *PendingInvite) ticket() (*ticket.Invite, error) {
	t := &ticket.Invite{}
	if copy(t.Secret[:], p.Secret) != len(t.Secret) || len(p.Secret) != len(t.Secret) {
		return nil, errors.New("node store: malformed record of an invite")
	}
	for _, s := range p.Addrs {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("node store: malformed record of an invite: %w", err)
		}
		t.Addrs = append(t.Addrs, a)
	}
	return t, nil
}

// PendingInviteError reports that an invite's node could not be reached. The invite is kept, and
// tried again while the node runs.
type PendingInviteError struct{ Err error }

func (e *PendingInviteError) Error() string {
	return fmt.Sprintf("the invite is kept, but the node that made it cannot be reached: %v; a running node keeps trying", e.Err)
}

// Kind implements kind.Of.
func (e *PendingInviteError) Kind() kind.Kind { return kind.Unreachable }

func (e *PendingInviteError) Unwrap() error { return e.Err }

// JoinInvite redeems an invite for the default author and joins the replica that it is to. Name and
// policy are as for JoinWith; without a name the replica is called as it is at the node that
// invites. If the invite is for the holder of a wallet, prove must sign for it; it may be nil if it
// is not. It returns a *InviteError if the invite is no good, and a *PendingInviteError if that
// node cannot be reached.
func (n *Node) JoinInvite(ctx context.Context, t *ticket.Invite, name string, policy *Policy, prove ProveWallet) (JoinResult, error) {
	if n.net == nil {
		return JoinResult{}, link.ErrOffline
	}
	if name != "" {
		if err := replica.CheckName(name); err != nil {
			return JoinResult{}, err
		}
	}
	for _, p := range t.Peers() {
		if p.ID == n.id {
			return JoinResult{}, ErrOwnInvite
		}
	}
	author, err := n.Replicas.DefaultAuthor(ctx)
	if err != nil {
		return JoinResult{}, err
	}
	given, from, err := n.redeemAt(ctx, t, author, prove)
	if err == nil {
		return n.accept(ctx, given, from, name, policy, inviteID(t.Secret))
	}
	var refused *InviteError
	var unsigned *UnsignedError
	if errors.As(err, &refused) && refused.Status != InviteFailed || errors.As(err, &unsigned) || ctx.Err() != nil {
		return JoinResult{}, err
	}
	p := PendingInvite{Secret: t.Secret[:], Name: name, Policy: policy, Author: author, Created: n.cfg.Now().UTC().Truncate(time.Second), Error: err.Error()}
	for _, a := range t.Addrs {
		p.Addrs = append(p.Addrs, a.String())
	}
	if keepErr := n.setPending(ctx, inviteID(t.Secret), &p); keepErr != nil {
		return JoinResult{}, errors.Join(err, keepErr)
	}
	select {
	case n.invited <- struct{}{}:
	default:
	}
	return JoinResult{}, &PendingInviteError{err}
}

// redeemAt asks the nodes of an invite, one after the other, until one gives something. The error
// is that of the first that answered, or else of the first.
func (n *Node) redeemAt(ctx context.Context, t *ticket.Invite, author replica.AuthorID, prove ProveWallet) (g Given, from peer.AddrInfo, err error) {
	key, err := n.Replicas.AuthorKey(ctx, author)
	if err != nil {
		return g, from, err
	}
	for _, p := range t.Peers() {
		given, oneErr := n.askForInvite(ctx, p, t.Secret, key, nil)
		var refused *InviteError
		if errors.As(oneErr, &refused) && refused.Status == InviteWallet && prove != nil {
			w, err := prove(WalletAsk{refused.Wallet, inviteID(t.Secret), p.ID, n.id, author})
			if err != nil {
				return g, from, &UnsignedError{err}
			}
			given, oneErr = n.askForInvite(ctx, p, t.Secret, key, &w)
		}
		if oneErr == nil {
			return given, p, nil
		}
		if err == nil || errors.As(oneErr, &refused) {
			err = oneErr
		}
	}
	return g, from, err
}

// accept joins the replica that an invite has given, and forgets that the invite was pending.
func (n *Node) accept(ctx context.Context, g Given, from peer.AddrInfo, name string, policy *Policy, id [32]byte) (JoinResult, error) {
	t := &ticket.Doc{
		Capability: g.Capability, Replica: g.Replica, ReadKey: g.ReadKey,
		Addrs: n.net.KnownAddrs(from.ID),
	}
	least := g.newestEpoch()
	if addrs, err := peer.AddrInfoToP2pAddrs(&from); err == nil && len(addrs) > 0 {
		t.Addrs = addrs
	}
	own := name
	if own == "" && replica.CheckName(g.Name) == nil {
		own = g.Name
	}
	joined, err := n.joinWith(ctx, t, least, own, policy, nil)
	if name == "" && errors.Is(err, replica.ErrExists) { // another replica has that name
		joined, err = n.joinWith(ctx, t, least, "", policy, nil)
	}
	if joined.Replica.Name == "" {
		return joined, err // not even that
	}
	if name != "" && joined.Replica.Name != name { // it was here already
		renamed, nameErr := n.RenameReplica(ctx, joined.Replica.ID, name)
		if nameErr != nil {
			err = errors.Join(err, nameErr)
		} else {
			joined.Replica.Name = renamed.Name
		}
	}
	_, stErr := n.syncer.insertStatements(ctx, g.Replica, g.Statements)
	return joined, errors.Join(err, stErr, n.dropKeys(ctx, [][]byte{pendingKey(id)}), n.kv.Sync(ctx))
}

// newestEpoch returns the newest epoch that statements of an invite prove. What an inviter says of
// the read key alone proves nothing, and may be meant to keep the joiner from sealing with the
// right one.
func (g *Given) newestEpoch() replica.EpochID {
	var epochs []replica.Epoch
	for _, b := range g.Statements {
		e, err := replica.ParseEpoch(b)
		if err == nil && e.Replica == g.Replica && e.Verify() == nil {
			epochs = append(epochs, e)
		}
	}
	return replica.Newest(epochs)
}

func pendingKey(id [32]byte) []byte { return append([]byte(keyPending), id[:]...) }

func (n *Node) setPending(ctx context.Context, id [32]byte, p *PendingInvite) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	err = n.kv.Update(ctx, func(tx kv.Txn) error { return tx.Set(pendingKey(id), b) })
	if err != nil {
		return err
	}
	return n.kv.Sync(ctx)
}

// PendingInvites returns the invites whose nodes have not been reached yet, by their ids.
func (n *Node) PendingInvites(ctx context.Context) (all map[[32]byte]PendingInvite, err error) {
	all = map[[32]byte]PendingInvite{}
	err = n.kv.View(ctx, func(r kv.Reader) error {
		for rec, err := range r.Scan(kv.Prefix([]byte(keyPending)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			var p PendingInvite
			if err := json.Unmarshal(rec.Value, &p); err != nil || len(rec.Key) != len(keyPending)+32 {
				return errors.Join(errors.New("node store: malformed record of an invite"), err)
			}
			all[[32]byte(rec.Key[len(keyPending):])] = p
		}
		return nil
	})
	return all, err
}

// DropPendingInvite forgets an invite whose node has not been reached. It returns a *InviteError if
// there is none.
func (n *Node) DropPendingInvite(ctx context.Context, id [32]byte) error {
	err := n.kv.Update(kv.ToMakeRoom(ctx), func(tx kv.Txn) error {
		has, err := tx.Has(pendingKey(id))
		if err == nil && !has {
			err = &InviteError{Status: InviteUnknown}
		}
		if err != nil {
			return err
		}
		return tx.Delete(pendingKey(id))
	})
	if err != nil {
		return err
	}
	return n.kv.Sync(ctx)
}

// retryInvites tries pending invites again, the less often the longer, and waits while there are
// none.
func (n *Node) retryInvites(ctx context.Context) {
	for wait := time.Duration(0); ; {
		again, err := n.retryAll(ctx)
		if err != nil {
			if ctx.Err() == nil {
				n.log.Error("pending invites", "error", err)
			}
			return
		}
		wait = min(max(2*wait, firstInviteTry), lastInviteTry)
		var due <-chan time.Time
		if again {
			due = time.After(link.Jitter(wait))
		}
		select {
		case <-ctx.Done():
			return
		case <-n.invited:
			wait = 0
			select { // it was just tried
			case <-ctx.Done():
				return
			case <-time.After(link.Jitter(firstInviteTry)):
			}
		case <-due:
		}
	}
}

// retryAll tries all pending invites once, and reports whether any are left to be tried.
func (n *Node) retryAll(ctx context.Context) (again bool, err error) {
	all, err := n.PendingInvites(ctx)
	for id, p := range all {
		if !p.Refused && ctx.Err() == nil {
			again = n.retryInvite(ctx, id, &p) || again
		}
	}
	return again, err
}

// retryInvite tries a pending invite, and reports whether it is to be tried again.
func (n *Node) retryInvite(ctx context.Context, id [32]byte, p *PendingInvite) (again bool) {
	t, err := p.ticket()
	if err == nil {
		var given Given
		var from peer.AddrInfo
		if given, from, err = n.redeemAt(ctx, t, p.Author, nil); err == nil {
			joined, err := n.accept(ctx, given, from, p.Name, p.Policy, id)
			n.log.Info("an invite was taken at last", "replica", joined.Replica.Name, "error", err)
			return joined.Replica.Name == ""
		}
	}
	if ctx.Err() != nil {
		return false
	}
	var refused *InviteError
	p.Refused = errors.As(err, &refused) && refused.Status != InviteFailed
	p.Error = err.Error()
	n.log.Debug("a pending invite", "error", err)
	if err := n.setPending(ctx, id, p); err != nil {
		n.log.Error("a pending invite", "error", err)
	}
	return !p.Refused
}

package invites

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

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/ticket"
)

// An invite is redeemed on one stream, of which the joiner knows from the ticket who is at its
// other end:
//
//	joiner   version u8 = 4, secret[32], author[32], signature[64], u8 0, or 1 and the proof of a wallet: time u64 in Unix seconds, signature[65]
//	inviter  status u8 (see Status); if that is 6: address[20] of the wallet; if it is 0: capability u8, 1 sync or 2 read, replica[32], epoch u32 and read key[32] (zeros if there is none), length u8 and the name that the replica has there,
//	         statements as in a push
//
// The author signs "skerry redeem 1\n", the hash of the secret (see keyInvite), and the node ids of
// inviter and joiner, each after its length as u16 big-endian.
//
// A joiner that does not reach the inviter keeps the invite and tries again while it runs:
//
//	n u hash[32]   JSON, see Pending
const (
	protocol       = "/skerry/invite/4"
	version        = 4
	keyPending     = "nu"
	firstInviteTry = 5 * time.Second
	lastInviteTry  = 5 * time.Minute
	// requestTime is how long a joiner has for all of its request, of which it knows every byte when
	// it opens the stream. Anybody can hold a place for so long.
	requestTime = 5 * time.Second
	// replyTime is how long it has to take the answer.
	replyTime = 30 * time.Second
	// firstByte is how long an inviter may take until it answers: others may be asked instead.
	firstByte = 10 * time.Second
	// answerTime is how long it may then take for the rest.
	answerTime = 2 * time.Minute
	// idleTime is how long either may make no progress.
	idleTime = 30 * time.Second
)

// serve answers somebody who brings an invite.
func (s *Service) serve(ctx context.Context, raw link.Stream) {
	st := link.Within(raw, idleTime).EndingIn(requestTime)
	if err := s.answer(ctx, st); err != nil {
		var refused *Error
		known := errors.As(err, &refused)
		level := slog.LevelDebug // anybody can ask
		if known && refused.Status != Unknown {
			level = slog.LevelInfo
		}
		s.n.Log().Log(ctx, level, "an invite was not taken", "peer", st.Remote(), "error", err)
		if !known {
			_ = st.Reset()
			return
		}
	}
	_ = st.Close()
}

func (s *Service) answer(ctx context.Context, st link.Patient) error {
	var msg [1 + 32 + 32 + 64 + 1]byte
	if _, err := io.ReadFull(st, msg[:]); err != nil {
		return fmt.Errorf("read: %w", link.NoEOF(err))
	}
	if msg[0] != version {
		return fmt.Errorf("invite of version %d, expected %d", msg[0], version)
	}
	secret, author := ticket.InviteSecret(msg[1:33]), replica.AuthorID(msg[33:65])
	signed := redeemProof(secret, string(s.n.ID()), string(st.Remote()))
	if !author.Verify(signed, [64]byte(msg[65:])) {
		return replica.ErrBadSignature
	}
	w, err := readWalletProof(st, msg[129])
	if err != nil {
		return err
	}
	st = st.EndingIn(replyTime)
	given, err := s.redeem(ctx, secret, author, st.Remote().String(), w)
	var refused *Error
	if errors.As(err, &refused) {
		answer := []byte{byte(refused.Status)}
		if refused.Status == NeedsWallet {
			answer = append(answer, refused.Wallet[:]...)
		}
		_, writeErr := st.Write(answer)
		return errors.Join(err, writeErr)
	}
	if err != nil {
		return err
	}
	if _, err := st.Write(append([]byte{byte(Taken)}, given.marshal()...)); err != nil {
		return err
	}
	s.n.Log().Info("an invite was taken",
		"replica", given.Name, "peer", st.Remote(), "author", author)
	if given.few { // whoever made the invite meant this node
		joiner := s.n.PeerInfo(st.Remote())
		return s.n.Remember(ctx, []replica.ID{given.Replica}, []peer.AddrInfo{joiner})
	}
	return nil
}

// ask brings an invite to one of the nodes that its ticket names.
func (s *Service) ask(
	ctx context.Context, p peer.AddrInfo, secret ticket.InviteSecret, author replica.SecretKey,
	w *WalletProof,
) (g Given, err error) {
	raw, err := s.n.Open(ctx, p, protocol)
	if err != nil {
		return g, err
	}
	defer link.ResetAfterFault(raw)
	st := new(link.Patient)
	*st = link.Within(raw, firstByte).EndingIn(firstByte)
	defer func() { _ = st.Reset() }() // after Close it does nothing
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	proof := author.Sign(redeemProof(secret, string(p.ID), string(s.n.ID())))
	if _, err := st.Write(appendRedeem(secret, author.Author(), proof, w)); err != nil {
		return g, fmt.Errorf("redeem invite: %w", err)
	}
	r := bufio.NewReader(st)
	if _, err := r.Peek(1); err != nil {
		return g, fmt.Errorf("redeem invite: the answer: %w", link.NoEOF(err))
	}
	*st = link.Within(raw, idleTime).Paced().EndingIn(answerTime)
	if g, err = readGiven(r); err != nil {
		return g, err
	}
	return g, st.Close()
}

// readGiven reads the answer to an invite, or returns an *Error.
func readGiven(r *bufio.Reader) (g Given, err error) {
	bad := func(err error) error {
		return fmt.Errorf("redeem invite: the answer: %w", link.NoEOF(err))
	}
	status, err := r.ReadByte()
	if err != nil {
		return g, bad(err)
	}
	if Status(status) == NeedsWallet {
		refused := &Error{Status: NeedsWallet}
		if _, err := io.ReadFull(r, refused.Wallet[:]); err != nil {
			return g, bad(err)
		}
		return g, refused
	}
	if Status(status) != Taken {
		return g, &Error{Status: Status(status)}
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
	if (g.ReadKey.Epoch == 0) != (g.ReadKey.Key == seal.ReadKey{}) ||
		g.ReadKey.Epoch > 0 && g.Capability < replica.Read {
		return g, bad(fmt.Errorf("a read key of epoch %d to %s", g.ReadKey.Epoch, g.Capability))
	}
	name := make([]byte, head[69])
	if _, err := io.ReadFull(r, name); err != nil {
		return g, bad(err)
	}
	g.Name = string(name)
	if g.Statements, err = bundle.Read(r, nil); err != nil {
		return g, bad(err)
	}
	return g, nil
}

// ErrOwn reports an invite that was brought to the node that made it.
var ErrOwn = kind.New(kind.Usage, "this node has made the invite itself: it is for others")

// Pending is an invite whose node has not been reached yet.
type Pending struct {
	Secret  []byte           `json:"secret"`
	Addrs   []string         `json:"addrs"`
	Name    string           `json:"name,omitempty"`
	Policy  *wanted.Policy   `json:"policy,omitempty"`
	Author  replica.AuthorID `json:"author"`
	Created time.Time        `json:"created"`
	Error   string           `json:"error"`             // of the last attempt
	Refused bool             `json:"refused,omitempty"` // it is not tried again
}

// Inviters returns the ids of the nodes that could be asked.
func (p *Pending) Inviters() (ids []string) {
	if t, err := p.ticket(); err == nil {
		for _, x := range t.Peers() {
			ids = append(ids, x.ID.String())
		}
	}
	return ids
}

func (p *Pending) ticket() (*ticket.Invite, error) {
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

// PendingError reports that an invite's node could not be reached. The invite is kept, and
// tried again while the node runs.
type PendingError struct{ Err error }

func (e *PendingError) Error() string {
	return fmt.Sprintf("the invite is kept, but the node that made it cannot be reached: %v; "+
		"a running node keeps trying", e.Err)
}

// Kind implements kind.Of.
func (e *PendingError) Kind() kind.Kind { return kind.Unreachable }

func (e *PendingError) Unwrap() error { return e.Err }

// Join redeems an invite for the default author and joins the replica that it is to. Name and
// policy are as for JoinWith; without a name the replica is called as it is at the node that
// invites. If the invite is for the holder of a wallet, prove must sign for it; it may be nil if it
// is not. It returns a *Error if the invite is no good, and a *PendingError if that
// node cannot be reached.
func (s *Service) Join(
	ctx context.Context, t *ticket.Invite, name string, policy *wanted.Policy, prove ProveWallet,
) (node.JoinResult, error) {
	if err := s.ready(); err != nil {
		return node.JoinResult{}, err
	}
	if !s.n.Online() {
		return node.JoinResult{}, link.ErrOffline
	}
	if name != "" {
		if err := replica.CheckName(name); err != nil {
			return node.JoinResult{}, err
		}
	}
	for _, p := range t.Peers() {
		if p.ID == s.n.ID() {
			return node.JoinResult{}, ErrOwn
		}
	}
	author, err := s.n.Authors().Default(ctx)
	if err != nil {
		return node.JoinResult{}, err
	}
	given, from, err := s.redeemAt(ctx, t, author, prove)
	if err == nil {
		return s.accept(ctx, given, from, name, policy, inviteID(t.Secret))
	}
	var refused *Error
	var unsigned *UnsignedError
	if errors.As(err, &refused) && refused.Status != Failed || errors.As(err, &unsigned) ||
		ctx.Err() != nil {
		return node.JoinResult{}, err
	}
	p := Pending{
		Secret: t.Secret[:], Name: name, Policy: policy, Author: author,
		Created: s.n.Now().UTC().Truncate(time.Second), Error: err.Error(),
	}
	for _, a := range t.Addrs {
		p.Addrs = append(p.Addrs, a.String())
	}
	if keepErr := s.setPending(ctx, inviteID(t.Secret), &p); keepErr != nil {
		return node.JoinResult{}, errors.Join(err, keepErr)
	}
	select {
	case s.invited <- struct{}{}:
	default:
	}
	return node.JoinResult{}, &PendingError{err}
}

// redeemAt asks the nodes of an invite, one after the other, until one gives something. The error
// is that of the first that answered, or else of the first.
func (s *Service) redeemAt(
	ctx context.Context, t *ticket.Invite, author replica.AuthorID, prove ProveWallet,
) (g Given, from peer.AddrInfo, err error) {
	key, err := s.n.Authors().Key(ctx, author)
	if err != nil {
		return g, from, err
	}
	for _, p := range t.Peers() {
		given, oneErr := s.ask(ctx, p, t.Secret, key, nil)
		var refused *Error
		if errors.As(oneErr, &refused) && refused.Status == NeedsWallet && prove != nil {
			w, err := prove(WalletAsk{refused.Wallet, inviteID(t.Secret), p.ID, s.n.ID(), author})
			if err != nil {
				return g, from, &UnsignedError{err}
			}
			given, oneErr = s.ask(ctx, p, t.Secret, key, &w)
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
func (s *Service) accept(
	ctx context.Context, g Given, from peer.AddrInfo, name string, policy *wanted.Policy, id [32]byte,
) (node.JoinResult, error) {
	t := &ticket.Doc{
		Capability: g.Capability, Replica: g.Replica, ReadKey: g.ReadKey,
		Addrs: s.n.PeerInfo(from.ID).Addrs,
	}
	least := g.newestEpoch()
	with := node.JoinOptions{Policy: policy, Least: &least}
	if addrs, err := peer.AddrInfoToP2pAddrs(&from); err == nil && len(addrs) > 0 {
		t.Addrs = addrs
	}
	own := name
	if own == "" && replica.CheckName(g.Name) == nil {
		own = g.Name
	}
	joined, err := s.n.JoinWith(ctx, t, own, with)
	if name == "" && errors.Is(err, replica.ErrExists) { // another replica has that name
		joined, err = s.n.JoinWith(ctx, t, "", with)
	}
	if joined.Replica.Name == "" {
		return joined, err // not even that
	}
	if name != "" && joined.Replica.Name != name { // it was here already
		renamed, nameErr := s.n.RenameReplica(ctx, joined.Replica.ID, name)
		if nameErr != nil {
			err = errors.Join(err, nameErr)
		} else {
			joined.Replica.Name = renamed.Name
		}
	}
	_, stateErr := s.n.TakeStatements(ctx, g.Replica, g.Statements)
	return joined, errors.Join(err, stateErr,
		s.drop(ctx, pendingKey(id)), s.n.Store().Sync(ctx))
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

func (s *Service) setPending(ctx context.Context, id [32]byte, p *Pending) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	err = s.n.Store().Update(ctx, func(tx kv.Txn) error { return tx.Set(pendingKey(id), b) })
	if err != nil {
		return err
	}
	return s.n.Store().Sync(ctx)
}

// Pending returns the invites whose nodes have not been reached yet, by their ids.
func (s *Service) Pending(ctx context.Context) (all map[[32]byte]Pending, err error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	all = map[[32]byte]Pending{}
	err = s.n.Store().View(ctx, func(r kv.Reader) error {
		for rec, err := range r.Scan(kv.Prefix([]byte(keyPending)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			var p Pending
			if err := json.Unmarshal(rec.Value, &p); err != nil ||
				len(rec.Key) != len(keyPending)+32 {
				return errors.Join(errors.New("node store: malformed record of an invite"), err)
			}
			all[[32]byte(rec.Key[len(keyPending):])] = p
		}
		return nil
	})
	return all, err
}

// DropPending forgets an invite whose node has not been reached. It returns a *Error if
// there is none.
func (s *Service) DropPending(ctx context.Context, id [32]byte) error {
	if err := s.ready(); err != nil {
		return err
	}
	err := s.n.Store().Update(kv.ToMakeRoom(ctx), func(tx kv.Txn) error {
		has, err := tx.Has(pendingKey(id))
		if err == nil && !has {
			err = &Error{Status: Unknown}
		}
		if err != nil {
			return err
		}
		return tx.Delete(pendingKey(id))
	})
	if err != nil {
		return err
	}
	return s.n.Store().Sync(ctx)
}

// retry tries pending invites again, the less often the longer, and waits while there are
// none.
func (s *Service) retry(ctx context.Context) {
	for wait := time.Duration(0); ; {
		again, err := s.retryAll(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.n.Log().Error("pending invites", "error", err)
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
		case <-s.invited:
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
func (s *Service) retryAll(ctx context.Context) (again bool, err error) {
	all, err := s.Pending(ctx)
	for id, p := range all {
		if !p.Refused && ctx.Err() == nil {
			again = s.retryOne(ctx, id, &p) || again
		}
	}
	return again, err
}

// retryOne tries a pending invite, and reports whether it is to be tried again.
func (s *Service) retryOne(ctx context.Context, id [32]byte, p *Pending) (again bool) {
	t, err := p.ticket()
	if err == nil {
		var given Given
		var from peer.AddrInfo
		if given, from, err = s.redeemAt(ctx, t, p.Author, nil); err == nil {
			joined, err := s.accept(ctx, given, from, p.Name, p.Policy, id)
			s.n.Log().Info("an invite was taken at last",
				"replica", joined.Replica.Name, "error", err)
			return joined.Replica.Name == ""
		}
	}
	if ctx.Err() != nil {
		return false
	}
	var refused *Error
	p.Refused = errors.As(err, &refused) && refused.Status != Failed
	p.Error = err.Error()
	s.n.Log().Debug("a pending invite", "error", err)
	if err := s.setPending(ctx, id, p); err != nil {
		s.n.Log().Error("a pending invite", "error", err)
	}
	return !p.Refused
}

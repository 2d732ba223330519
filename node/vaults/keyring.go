package vaults

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// The keyring protocol lets an app on another device go through the steps of vault.Keyring. One
// stream carries one call and its reply:
//
//	app      length u32 big-endian, at most 65,536; a call as JSON
//	keyring  length u32 big-endian, at most 262,144; the reply as JSON
//
// Calls and replies are those of package vault, as far as they are for apps. A session that a reply
// names is good for the peer that asked only.
const (
	keyringProtocol = "/skerry/keyring/1"
	maxKeyringCall  = 64 << 10
	// callTime is how long an app has for a call, from the moment at which the stream is open. Anybody
	// can hold a place for so long.
	callTime = 10 * time.Second
	// replyTime is how long it has for taking the reply.
	replyTime = 30 * time.Second
	// idleTime is how long it may make no progress.
	idleTime = 30 * time.Second
)

// Keyring returns the keyring of this node.
func (s *Service) Keyring() vault.Keyring {
	if err := s.ready(); err != nil {
		return closedKeyring(err)
	}
	return s.keyring
}

// closedKeyring answers every call of an app with an error.
func closedKeyring(err error) vault.Keyring {
	return vault.Remote{Call: func(context.Context, []byte) ([]byte, error) { return nil, err }}
}

// AppKeyring returns the keyring as apps reach it: with tickets in what it gives to read a vault.
func (s *Service) AppKeyring() vault.Keyring {
	if err := s.ready(); err != nil {
		return closedKeyring(err)
	}
	return appKeyring{s.keyring, s.n}
}

type appKeyring struct {
	vault.Keyring
	n *node.Node
}

// Access adds the ticket: with the present read key if this node holds the vault, and with this
// node and those that it knows to hold the vault as peers.
func (k appKeyring) Access(
	ctx context.Context, app vault.App, session string,
) (vault.Access, error) {
	a, err := k.Keyring.Access(ctx, app, session)
	if err != nil {
		return a, err
	}
	t := &ticket.Doc{
		Capability: replica.Read, Replica: a.Replica, ReadKey: a.ReadKey, Addrs: k.n.Addrs(),
	}
	r, err := k.n.Replicas().Get(ctx, a.Replica)
	switch {
	case err == nil:
		if t, err = k.n.Ticket(ctx, r, replica.Read); err != nil {
			return a, err
		}
	case !errors.Is(err, replica.ErrNotFound):
		return a, err
	}
	known, err := k.n.KnownPeers(ctx, a.Replica)
	if err != nil {
		return a, err
	}
	var others [][]ma.Multiaddr
	for _, p := range known {
		addrs, err := peer.AddrInfoToP2pAddrs(&p)
		if err != nil {
			return a, err
		}
		if p.ID != k.n.ID() {
			others = append(others, addrs)
		}
	}
	more := link.InTurn(others...)
	t.Addrs = append(t.Addrs, more[:min(len(more), max(ticket.MaxAddrs-len(t.Addrs), 0))]...)
	a.ReadKey = t.ReadKey
	if a.Ticket, err = t.Text(); errors.Is(err, ticket.ErrNoAddresses) {
		a.Ticket, err = "", nil // the app is on this machine, and knows the node
	}
	return a, err
}

// serveKeyring answers a call of an app. The call must have come within callTime, and the reply
// must be gone within replyTime; the person's time between is not counted.
func (s *Service) serveKeyring(ctx context.Context, raw link.Stream) {
	st := link.Within(raw, idleTime).EndingIn(callTime)
	v := link.VisitOf(raw)
	msg, err := readMessage(st, maxKeyringCall, v)
	if err == nil {
		app := vault.App{Peer: st.Remote().String(), Net: link.OriginOf(raw), Named: v.Who().Named}
		reply := vault.ServeApp(ctx, s.AppKeyring(), app, msg, s.keyringFailed)
		err = writeMessage(st.EndingIn(replyTime), reply)
	}
	if err != nil {
		s.n.Log().Debug("serving a call to the keyring", "peer", st.Remote(), "error", err)
		_ = st.Reset()
		return
	}
	_ = st.Close()
}

// keyringFailed notes a fault of the keyring, of which an app is told nothing. Anybody can ask, and
// again.
func (s *Service) keyringFailed(err error) {
	if s.failedTold.Again(s.n.Now()) {
		s.n.Log().Error("the keyring could not answer an app", "error", err)
	}
}

// AnswerApp answers a call of an app on this machine.
func (s *Service) AnswerApp(ctx context.Context, msg []byte) []byte {
	return vault.ServeApp(ctx, s.AppKeyring(), vault.App{}, msg, s.keyringFailed)
}

// readMessage reads a message of at most so many bytes, which v counts.
func readMessage(r io.Reader, most uint32, v *admission.Visit) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, link.NoEOF(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > most {
		return nil, fmt.Errorf("keyring: a message of %d bytes, at most %d", size, most)
	}
	if err := v.Take(int(size)); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, link.NoEOF(err)
}

func writeMessage(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

// RemoteKeyring returns the keyring of the node at, as an app reaches it.
func (s *Service) RemoteKeyring(at peer.AddrInfo) vault.Keyring {
	return vault.Remote{Call: func(ctx context.Context, msg []byte) (_ []byte, err error) {
		if err := s.ready(); err != nil {
			return nil, err
		}
		if len(msg) > maxKeyringCall {
			return nil, fmt.Errorf("%w: %d bytes", vault.ErrBadAsk, len(msg))
		}
		st, err := s.n.Open(ctx, at, keyringProtocol)
		if err != nil {
			return nil, err
		}
		defer link.ResetAfterFault(st)
		stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
		defer stop()
		defer func() {
			if err != nil {
				_ = st.Reset()
				err = fmt.Errorf("ask the keyring at %s: %w", at.ID, err)
			}
		}()
		if err := writeMessage(st, msg); err != nil {
			return nil, err
		}
		b, err := readMessage(st, vault.MaxCall, nil)
		if err != nil {
			return nil, err
		}
		return b, st.Close()
	}}
}

// Request is what an app wants of a keyring.
type Request struct {
	At          *peer.AddrInfo // the keyring's node; nil is this one
	Application string         // the app's domain
	Reason      string
	Identity    identity.ID             // who is wanted, or zero
	Asked       func(asked vault.Asked) // told when the request waits for the person
}

// Ask goes through the steps of an app: it asks a keyring who the person is and to
// read the person's vault, waits for the person, checks the answer, joins the vault with the
// ticket, and keeps the catalogue key. It returns vault.ErrDenied, vault.ErrNoRequest when the
// person has not decided in time, another error of vault.Keyring, or an *UnreachableError.
func (s *Service) Ask(ctx context.Context, w Request) (Vault, error) {
	if err := s.ready(); err != nil {
		return Vault{}, err
	}
	k := s.AppKeyring()
	if w.At != nil {
		k = s.RemoteKeyring(*w.At)
	}
	c := vault.Challenge{Ask: vault.Ask{
		Application: w.Application, Reason: w.Reason, Identity: w.Identity,
		Challenge: make([]byte, identity.MinChallenge),
	}}
	_, _ = rand.Read(c.Ask.Challenge) // never fails
	app := vault.App{}
	asked, err := k.Ask(ctx, app, c.Ask)
	if err != nil {
		return Vault{}, err
	}
	peerName := "" // as the keyring knows this app
	if w.At != nil {
		peerName = s.n.ID().String()
	}
	if asked.Code != c.Ask.Code(vault.App{Peer: peerName}) {
		return Vault{}, fmt.Errorf("%w: it shows another code", vault.ErrForeignAnswer)
	}
	if w.Asked != nil {
		w.Asked(asked)
	}
	a, err := k.Wait(ctx, app, asked.Request)
	for errors.Is(err, vault.ErrUndecided) && ctx.Err() == nil {
		a, err = k.Wait(ctx, app, asked.Request)
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		return Vault{}, err
	}
	if err := c.Check(&a, s.n.Now()); err != nil {
		return Vault{}, fmt.Errorf("the keyring's answer: %w", err)
	}
	access, err := k.Access(ctx, app, a.Session)
	if err != nil {
		return Vault{}, err
	}
	if w.At == nil {
		if known, err := s.Of(ctx, access.Replica.String()); err == nil {
			return known, nil // this node has it open
		}
	}
	if access.Ticket == "" {
		return Vault{}, errors.New(
			"the keyring's node has no address to be reached at, and does not hold the vault")
	}
	t, err := ticket.ParseDoc(access.Ticket)
	if err != nil {
		return Vault{}, fmt.Errorf("the keyring's ticket: %w", err)
	}
	if t.Capability != replica.Read || t.Replica != access.Replica {
		return Vault{}, fmt.Errorf("the keyring's ticket is to %s replica %s",
			t.Capability, t.Replica.Short())
	}
	if err := s.checkForeignVault(ctx, t.Replica, a.Identity); err != nil {
		return Vault{}, err
	}
	name := s.vaultName(ctx, t.Replica)
	if _, err := s.n.JoinWith(ctx, t, name, node.JoinOptions{}); err != nil {
		return Vault{}, err
	}
	key, err := k.CatalogueKey(ctx, app, a.Session)
	if err != nil {
		return Vault{}, err
	}
	who := vault.Identity{
		ID: a.Identity, Kind: a.Signature.Kind, Public: a.Signature.PublicKey, Nonce: a.Nonce,
	}
	return s.keepAppVault(ctx, who, w.Application, t.Replica, key)
}

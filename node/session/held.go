package session

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// The held protocol asks a peer which of some entries it holds, and whether their content is there,
// too. One stream carries one question about one replica:
//
//	initiator  version u8 = 1, nonce[32], lookup[32]
//	responder  nonce[32], proof[32]
//	initiator  proof[32], entries: a list as in package bundle; each: the first 16 bytes of its id, author[32], key
//	responder  for each, u8: 0 it lacks that entry, 1 it holds it without all of its content, 2 it holds both
//
// The lookup and the proofs are as in a session, with another key. A peer can answer what it likes:
// who asks believes it as far as it believes that the peer keeps what it is given.
const (
	HeldProtocol = "/skerry/held/1"
	HeldVersion  = 1
	heldID       = 16
	// heldUnit is how much content, in bytes, is looked for in a unit of work: it may be in chunks.
	heldUnit = 1 << 20
)

// Holding is how much of an entry a peer holds.
type Holding byte

const (
	Lacking Holding = iota
	EntryOnly
	WithContent
)

// MaxAsked is how many entries a question is about at most.
const MaxAsked = bundle.Max

func heldKey(id replica.ID, nonceI, nonceR [32]byte, initiator, responder peer.ID) [32]byte {
	return names.Keyed(id, []byte("skerry held 1\n"), nonceI[:], nonceR[:], []byte(initiator),
		[]byte{0}, []byte(responder))
}

// appendAsked appends how an entry is asked for.
func appendAsked(b []byte, e *replica.Entry) []byte {
	id := e.ID()
	return append(append(append(b, id[:heldID]...), e.Author[:]...), e.Key...)
}

func parseAsked(b []byte) (id [heldID]byte, by replica.AuthorID, key []byte, err error) {
	const head = heldID + len(by)
	if len(b) < head || len(b) > head+replica.MaxKey {
		return id, by, nil, &reconcile.ProtocolError{Reason: fmt.Sprintf(
			"a question for an entry of %d bytes, expected %d to %d", len(b), head,
			head+replica.MaxKey)}
	}
	return [heldID]byte(b), replica.AuthorID(b[heldID:]), b[head:], nil
}

// Holdings asks a connected peer how much of entries of a replica it holds. It asks for the first
// of them, as many as one question can have, and answers in their order.
func (n *Syncer) Holdings(
	ctx context.Context, p peer.ID, id replica.ID, entries []replica.Entry,
) ([]Holding, error) {
	items := make([][]byte, len(entries))
	for i := range entries {
		items[i] = appendAsked(nil, &entries[i])
	}
	items = bundle.Few(items)
	opening, cancel := context.WithTimeout(ctx, GreetTime)
	defer cancel()
	raw, err := n.net.Open(opening, p, HeldProtocol)
	if err != nil {
		return nil, err
	}
	defer link.ResetAfterFault(raw)
	s := link.Within(raw, idleTimeout).Paced()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	answer, err := n.askHeld(s, id, items)
	if err != nil {
		return nil, errors.Join(n.blame(p, fmt.Errorf("held: %w", err)), link.GiveUp(s))
	}
	_ = s.Close()
	return answer, nil
}

// askHeld is the initiator's part.
func (n *Syncer) askHeld(s link.Stream, id replica.ID, items [][]byte) ([]Holding, error) {
	var nonceI, nonceR, proof [32]byte
	_, _ = rand.Read(nonceI[:]) // never fails
	lookup := names.Lookup(id, s.Remote(), names.Day(n.cfg.Now()))
	hello := append(append([]byte{HeldVersion}, nonceI[:]...), lookup[:]...)
	if _, err := s.Write(hello); err != nil {
		return nil, err
	}
	for _, b := range []*[32]byte{&nonceR, &proof} {
		if _, err := io.ReadFull(s, b[:]); err != nil {
			return nil, link.NoEOF(err)
		}
	}
	key := heldKey(id, nonceI, nonceR, n.id, s.Remote())
	if want := proofOf(key, "responder", false); subtle.ConstantTimeCompare(want[:], proof[:]) != 1 {
		return nil, contacts.ErrNotShared
	}
	mine := proofOf(key, "initiator", false)
	if _, err := s.Write(bundle.Append(mine[:], items)); err != nil {
		return nil, err
	}
	b := make([]byte, len(items))
	if _, err := io.ReadFull(s, b); err != nil {
		return nil, link.NoEOF(err)
	}
	answer := make([]Holding, len(items))
	for i, x := range b {
		if answer[i] = Holding(x); answer[i] > WithContent {
			return nil, &reconcile.ProtocolError{Reason: fmt.Sprintf("unknown holding %d", x)}
		}
	}
	return answer, nil
}

// ServeHeld is the responder's part.
func (n *Syncer) ServeHeld(s link.Stream) {
	if err := n.answerHeld(n.ctx, s); err != nil {
		n.log.Debug("saying what is held", "peer", s.Remote(), "error", err)
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

func (n *Syncer) answerHeld(ctx context.Context, s link.Stream) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	limited := link.Within(s, idleTimeout).EndingIn(GreetTime)
	small := bufio.NewReader(limited)
	var hello [1 + 32 + 32]byte
	if _, err := io.ReadFull(small, hello[:]); err != nil {
		return link.NoEOF(err)
	}
	if hello[0] != HeldVersion {
		return fmt.Errorf("held of version %d, expected %d", hello[0], HeldVersion)
	}
	var g greeting
	err := n.meet(ctx, limited, small, [32]byte(hello[33:]), &g, func(nonceR [32]byte) error {
		g.key = heldKey(g.id, [32]byte(hello[1:]), nonceR, s.Remote(), n.id)
		return nil
	})
	if err != nil {
		return err
	}
	v := link.VisitOf(s)
	if err := v.Proved(); err != nil {
		return err
	}
	s = link.Within(s, idleTimeout).Paced()
	items, err := bundle.Read(bufio.NewReader(unread(small, s)), v)
	if err != nil {
		return err
	}
	answer := make([]byte, len(items))
	for i, b := range items {
		h, err := n.holding(ctx, s, g.id, b)
		if err != nil {
			return err
		}
		answer[i] = byte(h)
	}
	_, err = s.Write(answer)
	return err
}

// holding finds out how much of an entry is here.
func (n *Syncer) holding(
	ctx context.Context, s link.Stream, id replica.ID, asked []byte,
) (Holding, error) {
	entry, by, key, err := parseAsked(asked)
	if err != nil {
		return Lacking, err
	}
	for e, err := range n.replicas.Entries(ctx, id, replica.Query{
		Key: key, Author: &by, Tombstones: true,
	}) {
		if err != nil {
			return Lacking, err
		}
		if held := e.ID(); [heldID]byte(held[:]) != entry {
			break
		}
		if err := n.cfg.Limits.Worked(ctx, s, 1+int(min(e.Size/heldUnit, 1<<20))); err != nil {
			return Lacking, err
		}
		if whole, err := n.cfg.Complete(ctx, &e); err != nil || !whole {
			return EntryOnly, err
		}
		return WithContent, nil
	}
	return Lacking, n.cfg.Limits.Worked(ctx, s, 1)
}

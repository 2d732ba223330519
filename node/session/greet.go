package session

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

// The sync protocol. One stream carries one session for one replica, or for the keys of it that
// begin with a prefix:
//
//	initiator  version u8 = 4, nonce[32], lookup[32], statements[8]
//	responder  nonce[32], proof[32]
//	initiator  proof[32], prefix length u16, prefix
//	responder  status u8: 0 go on, 1 busy with a session of this replica with the same peer
//	both       a reconcile session for the statements, if they differ, then one for the entries (see package reconcile)
//
// The key of the session is made from the replica's id, both nonces and both peers; the proofs,
// made with it, show that each side knows the id, before anything about the replica is said. A
// responder that does not hold the replica, or does not want to talk to the peer, sends a proof of
// 32 random bytes, after the same time. statements is a digest of the initiator's statements keyed
// with the id and its nonce; the responder's proof says whether its own are the same.
const (
	Protocol   = "/skerry/sync/4"
	Version    = 4
	statusGoOn = 0
	statusBusy = 1
	// answerTime is after what time a responder answers, whatever it has found: longer than it takes
	// to find out.
	answerTime = 2 * time.Millisecond
	// GreetTime is how long a responder that is known has to prove that it holds the replica, in all.
	GreetTime = 10 * time.Second
	// meetTime is how long one that is not known has.
	meetTime = 3 * time.Second
	// helloBytes is the length of the initiator's first message.
	helloBytes = 1 + 32 + 32 + statementsDigest
	// statementsDigest is the length of the digest of the statements.
	statementsDigest = 8
)

func sessionKey(id replica.ID, nonceI, nonceR [32]byte, initiator, responder peer.ID) [32]byte {
	return names.Keyed(id, []byte("skerry session 3\n"), nonceI[:], nonceR[:], []byte(initiator),
		[]byte{0}, []byte(responder))
}

// proofOf is what a side proves with that it knows the session's key; sameStatements is the
// responder's.
func proofOf(key [32]byte, role string, sameStatements bool) [32]byte {
	if sameStatements {
		role += " same statements"
	}
	return names.Keyed(key, []byte(role))
}

func statementsDigestOf(
	id replica.ID, nonce [32]byte, fingerprint [32]byte,
) (d [statementsDigest]byte) {
	h := names.Keyed(id, []byte("skerry statements 3\n"), nonce[:], fingerprint[:])
	copy(d[:], h[:])
	return d
}

// greeting is the outcome of a greeting: the two sides know each other to hold the replica.
type greeting struct {
	id             replica.ID
	key            [32]byte
	sameStatements bool
	prefix         []byte
}

// greet is the initiator's part until the responder has proved that it holds the replica. The
// session begins with confirm.
func (n *Syncer) greet(
	ctx context.Context, s link.Stream, r *bufio.Reader, id replica.ID, prefix []byte,
) (g greeting, err error) {
	g = greeting{id: id, prefix: prefix}
	var nonceI, nonceR, proof [32]byte
	_, _ = rand.Read(nonceI[:]) // never fails
	statements, err := n.replicas.StatementsFingerprint(ctx, id)
	if err != nil {
		return g, err
	}
	lookup := names.Lookup(id, s.Remote(), names.Day(n.cfg.Now()))
	digest := statementsDigestOf(id, nonceI, statements)
	hello := append(append(append([]byte{Version}, nonceI[:]...), lookup[:]...), digest[:]...)
	if _, err := s.Write(hello); err != nil {
		return g, fmt.Errorf("sync: %w", err)
	}
	for _, b := range []*[32]byte{&nonceR, &proof} {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return g, fmt.Errorf("sync: %w", link.NoEOF(err))
		}
	}
	g.key = sessionKey(id, nonceI, nonceR, n.id, s.Remote())
	same, differ := proofOf(g.key, "responder", true), proofOf(g.key, "responder", false)
	switch {
	case subtle.ConstantTimeCompare(same[:], proof[:]) == 1:
		g.sameStatements = true
	case subtle.ConstantTimeCompare(differ[:], proof[:]) != 1:
		return g, contacts.ErrNotShared
	}
	return g, nil
}

// confirm proves to the responder that this node holds the replica. What the responder says
// afterwards begins with its status.
func (g *greeting) confirm(s link.Stream) error {
	mine := proofOf(g.key, "initiator", false)
	b := binary.BigEndian.AppendUint16(mine[:], uint16(len(g.prefix)))
	if _, err := s.Write(append(b, g.prefix...)); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// afterStatus reads what a responder says behind its status, so that the initiator need not wait
// for that before it goes on.
type afterStatus struct {
	r    *bufio.Reader
	seen bool
}

func (a *afterStatus) Read(b []byte) (int, error) {
	if !a.seen {
		status, err := a.r.ReadByte()
		switch {
		case err != nil:
			return 0, err
		case status == statusBusy:
			return 0, contacts.ErrBusy
		case status != statusGoOn:
			return 0, fmt.Errorf("sync: unknown status %d", status)
		}
		a.seen = true
	}
	return a.r.Read(b)
}

// welcome is the responder's part before its status. It returns ErrNotShared for a peer that does
// not hold a replica that is held here, whatever the reason.
func (n *Syncer) welcome(
	ctx context.Context, s link.Stream, r *bufio.Reader,
) (g greeting, err error) {
	var hello [helloBytes]byte
	if _, err := io.ReadFull(r, hello[:]); err != nil {
		return g, fmt.Errorf("sync: %w", link.NoEOF(err))
	}
	if hello[0] != Version {
		return g, fmt.Errorf("sync of version %d, expected %d", hello[0], Version)
	}
	nonceI, lookup, digest := [32]byte(hello[1:]), [32]byte(hello[33:]),
		[statementsDigest]byte(hello[65:])
	err = n.meet(ctx, s, r, lookup, &g, func(nonceR [32]byte) error {
		statements, err := n.replicas.StatementsFingerprint(ctx, g.id)
		g.sameStatements = statementsDigestOf(g.id, nonceI, statements) == digest
		g.key = sessionKey(g.id, nonceI, nonceR, s.Remote(), n.id)
		return err
	})
	if err != nil {
		return g, err
	}
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return g, fmt.Errorf("sync: %w", link.NoEOF(err))
	}
	g.prefix = make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(r, g.prefix); err != nil {
		return g, fmt.Errorf("sync: %w", link.NoEOF(err))
	}
	return g, nil
}

// meet shows the peer that this node holds what it asks for, and has it show that it knows that,
// too. found is called once g names the replica: it sets the rest of g. meet returns ErrNotShared
// if there is none.
func (n *Syncer) meet(
	ctx context.Context, s link.Stream, r *bufio.Reader, lookup [32]byte, g *greeting,
	found func(nonceR [32]byte) error,
) error {
	if err := n.cfg.Limits.MayAsk(s); err != nil {
		return err
	}
	answerAt := time.NewTimer(answerTime)
	defer answerAt.Stop()
	var nonceR, answer, proof [32]byte
	_, _ = rand.Read(nonceR[:]) // never fails
	_, _ = rand.Read(answer[:])
	missing := n.lookUpFor(ctx, s, lookup, g)
	if missing == nil {
		if err := found(nonceR); err != nil {
			return err
		}
		answer = proofOf(g.key, "responder", g.sameStatements)
	} else if !errors.Is(missing, contacts.ErrNotShared) {
		return missing
	}
	select {
	case <-answerAt.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, err := s.Write(append(nonceR[:], answer[:]...)); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if _, err := io.ReadFull(r, proof[:]); err != nil {
		if missing != nil {
			return missing // the peer has seen that this is no proof
		}
		return fmt.Errorf("sync: %w", link.NoEOF(err))
	}
	if missing != nil {
		return missing
	}
	if want := proofOf(g.key, "initiator", false); subtle.ConstantTimeCompare(want[:], proof[:]) != 1 {
		return errors.New("sync: the peer does not know the replica that it asks for")
	}
	return nil
}

// lookUpFor finds what a peer asks for, if it is to be told.
func (n *Syncer) lookUpFor(ctx context.Context, s link.Stream, lookup [32]byte, g *greeting) error {
	id, err := n.lookups.Find(ctx, lookup)
	if errors.Is(err, contacts.ErrNotShared) {
		n.cfg.Missed(s)
	}
	if err != nil {
		return err
	}
	if n.blamed.Refused(s.Remote()) {
		return contacts.ErrNotShared
	}
	g.id = id
	return nil
}

package node

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
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// The sync protocol. One stream carries one session for one replica:
//
//	initiator  version u8 = 1, nonce[32], lookup[32]
//	responder  status u8 (0 go on, 1 no such replica here), nonce[32], proof[32]
//	initiator  proof[32]
//	both       a reconcile session for the grants, then one for the entries (see package reconcile)
//
// The lookup is the replica's id hashed with the responder's id and the day, so it tells nothing to a peer that does not hold
// the replica, and cannot be used elsewhere. The key of the session is made from the replica's id, both nonces and both peers; the
// proofs, made with it, show that each side knows the id, before anything about the replica is said.
const (
	syncProtocol = "/skerry/sync/1"
	syncVersion  = 1
	statusGoOn   = 0
	statusNone   = 1
)

// keyed is BLAKE3 keyed with the replica's id; the parts have fixed lengths or are last.
func keyed(id [32]byte, parts ...[]byte) (out [32]byte) {
	h := blake3.New(32, id[:])
	for _, p := range parts {
		_, _ = h.Write(p) // never fails
	}
	h.Sum(out[:0])
	return out
}

// lookupOf names a replica to one responder on one day (since 1970, UTC).
func lookupOf(id replica.ID, responder peer.ID, day uint32) [32]byte {
	return keyed(id, []byte("skerry lookup 1\n"), binary.BigEndian.AppendUint32(nil, day), []byte(responder))
}

func dayOf(t time.Time) uint32 { return uint32(t.Unix() / 86400) }

func sessionKey(id replica.ID, nonceI, nonceR [32]byte, initiator, responder peer.ID) [32]byte {
	return keyed(id, []byte("skerry session 1\n"), nonceI[:], nonceR[:], []byte(initiator), []byte{0}, []byte(responder))
}

func proofOf(key [32]byte, role string) [32]byte { return keyed(key, []byte(role)) }

// ErrNotShared reports a peer that does not hold the replica.
var ErrNotShared = errors.New("peer does not hold the replica")

// SyncStats describes one session.
type SyncStats struct {
	Peer            peer.ID
	Rounds          int
	BytesSent       uint64
	BytesReceived   uint64
	EntriesSent     uint64
	EntriesReceived uint64
	Duration        time.Duration
}

// syncWith runs a session with a connected peer.
func (n *Node) syncWith(ctx context.Context, p peer.ID, id replica.ID) (st SyncStats, err error) {
	start := time.Now()
	st.Peer = p
	raw, err := n.net.Open(ctx, p, syncProtocol)
	if err != nil {
		return st, err
	}
	defer func() { st.Duration = time.Since(start) }()
	s := patient{raw, idleTimeout}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	r := bufio.NewReaderSize(s, blobBuffer)
	key, err := n.greet(s, r, p, id)
	if err != nil {
		return st, errors.Join(err, ignoreReset(s))
	}
	if err := n.session(ctx, s, r, id, key, true, &st); err != nil {
		return st, errors.Join(err, ignoreReset(s))
	}
	n.peers.shares(p, id)
	_ = s.Close() // both sides have said that they are done
	return st, nil
}

// greet is the initiator's part before the session.
func (n *Node) greet(s Stream, r *bufio.Reader, p peer.ID, id replica.ID) (key [32]byte, err error) {
	var nonceI, nonceR, proof [32]byte
	_, _ = rand.Read(nonceI[:]) // never fails
	lookup := lookupOf(id, p, dayOf(n.cfg.Now()))
	hello := append(append([]byte{syncVersion}, nonceI[:]...), lookup[:]...)
	if _, err := s.Write(hello); err != nil {
		return key, fmt.Errorf("sync: %w", err)
	}
	status, err := r.ReadByte()
	if err != nil {
		return key, fmt.Errorf("sync: %w", noEOF(err))
	}
	if status != statusGoOn {
		return key, ErrNotShared
	}
	for _, b := range []*[32]byte{&nonceR, &proof} {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return key, fmt.Errorf("sync: %w", noEOF(err))
		}
	}
	key = sessionKey(id, nonceI, nonceR, n.net.ID(), p)
	if want := proofOf(key, "responder"); subtle.ConstantTimeCompare(want[:], proof[:]) != 1 {
		return key, errors.New("sync: the peer does not know the replica that it claims to hold")
	}
	mine := proofOf(key, "initiator")
	_, err = s.Write(mine[:])
	return key, err
}

// serveSync is the responder's part.
func (n *Node) serveSync(s Stream) {
	st := SyncStats{Peer: s.Remote()}
	id, err := n.answerSync(n.ctx, patient{s, idleTimeout}, &st)
	if err != nil {
		n.log.Debug("serving a session", "peer", s.Remote(), "error", err)
		_ = s.Reset()
		return
	}
	_ = s.Close()
	n.peers.shares(s.Remote(), id)
}

func (n *Node) answerSync(ctx context.Context, s Stream, st *SyncStats) (id replica.ID, err error) {
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	r := bufio.NewReaderSize(s, blobBuffer)
	var hello [65]byte
	if _, err := io.ReadFull(r, hello[:]); err != nil {
		return id, fmt.Errorf("sync: %w", noEOF(err))
	}
	if hello[0] != syncVersion {
		return id, fmt.Errorf("sync of version %d, expected %d", hello[0], syncVersion)
	}
	nonceI, lookup := [32]byte(hello[1:]), [32]byte(hello[33:])
	id, err = n.lookUp(ctx, lookup)
	if errors.Is(err, ErrNotShared) {
		if _, err := s.Write([]byte{statusNone}); err != nil {
			return id, err
		}
		return id, errors.Join(err, s.CloseWrite())
	}
	if err != nil {
		return id, err
	}
	var nonceR, proof [32]byte
	_, _ = rand.Read(nonceR[:]) // never fails
	key := sessionKey(id, nonceI, nonceR, s.Remote(), n.net.ID())
	mine := proofOf(key, "responder")
	if _, err := s.Write(append(append([]byte{statusGoOn}, nonceR[:]...), mine[:]...)); err != nil {
		return id, fmt.Errorf("sync: %w", err)
	}
	if _, err := io.ReadFull(r, proof[:]); err != nil {
		return id, fmt.Errorf("sync: %w", noEOF(err))
	}
	if want := proofOf(key, "initiator"); subtle.ConstantTimeCompare(want[:], proof[:]) != 1 {
		return id, errors.New("sync: the peer does not know the replica that it asks for")
	}
	return id, n.session(ctx, s, r, id, key, false, st)
}

// lookUp finds the replica that a peer asks for, or returns ErrNotShared. The peer's clock may be a day off.
func (n *Node) lookUp(ctx context.Context, lookup [32]byte) (replica.ID, error) {
	all, err := n.Replicas.List(ctx)
	if err != nil {
		return replica.ID{}, err
	}
	today := dayOf(n.cfg.Now())
	for _, r := range all {
		for _, day := range []uint32{today, today - 1, today + 1} {
			if lookupOf(r.ID, n.net.ID(), day) == lookup {
				return r.ID, nil
			}
		}
	}
	return replica.ID{}, ErrNotShared
}

// session reconciles the grants and then the entries, and makes what came durable.
func (n *Node) session(ctx context.Context, s Stream, r *bufio.Reader, id replica.ID, key [32]byte, initiator bool, st *SyncStats) error {
	abort := func() { _ = s.Reset() }
	add := func(x reconcile.Stats) {
		st.Rounds += x.Rounds
		st.BytesSent += x.BytesSent
		st.BytesReceived += x.BytesReceived
	}
	grants, err := reconcile.Run(ctx, r, s, abort, reconcile.Config{
		Set: n.Replicas.GrantSet(id), Key: keyed(key, []byte("grants")), Initiator: initiator,
		Insert: func(ctx context.Context, items [][]byte) error {
			_, err := n.insertGrants(ctx, id, items)
			return err
		},
	})
	add(grants)
	if err != nil {
		return fmt.Errorf("sync grants: %w", err)
	}
	x := n.Replicas.NewInserter(ctx, id, replica.Origin(s.Remote().String()))
	entries, err := reconcile.Run(ctx, r, s, abort, reconcile.Config{
		Set: n.Replicas.EntrySet(id), Key: keyed(key, []byte("entries")), Initiator: initiator,
		Insert: func(_ context.Context, items [][]byte) error { return x.Add(items) },
		Flush:  func(context.Context) error { return x.Flush() },
	})
	_, bad := x.Close()
	add(entries)
	st.EntriesSent, st.EntriesReceived = entries.ItemsSent, entries.ItemsReceived
	if err = errors.Join(err, bad); err != nil {
		return fmt.Errorf("sync entries: %w", err)
	}
	if entries.ItemsReceived > 0 || grants.ItemsReceived > 0 {
		return n.Replicas.Sync(ctx)
	}
	return nil
}

func (n *Node) insertGrants(ctx context.Context, id replica.ID, items [][]byte) (int, error) {
	grants := make([]replica.Grant, 0, len(items))
	for _, b := range items {
		g, err := replica.ParseGrant(b)
		if err != nil {
			return 0, err
		}
		grants = append(grants, g)
	}
	return n.Replicas.InsertGrants(ctx, id, grants)
}

func (n *Node) insertEntries(ctx context.Context, id replica.ID, items [][]byte, from peer.ID) error {
	entries := make([]replica.Entry, 0, len(items))
	var bad error
	for _, b := range items {
		e, err := replica.ParseEntry(b)
		if err != nil {
			bad = err
			continue // the good ones among its neighbours are kept
		}
		entries = append(entries, e)
	}
	_, err := n.Replicas.Insert(ctx, id, entries, replica.Origin(from.String()))
	return errors.Join(err, bad)
}

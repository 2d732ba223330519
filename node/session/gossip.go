package session

import (
	"bufio"
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// New entries of an active replica are published to its topic, the name of which is made with the
// replica's id, and passed on by those who listen. A message is
//
//	version u8 = 3
//	nonce[24]: the beginning of keyed(key; "nonce", plain text)
//	XChaCha20-Poly1305 with the version as additional data, of
//		statements: count varint (at most 1,024), then each: length varint (at most 131,072), bytes
//		entries: likewise
//
// of at most 524,288 bytes. The key is made with the replica's id, since everybody who is connected
// is told of a topic and can listen to it, and entries name their replica. A message is passed on
// only after its entries have been verified and stored, and if any of them, or a statement, was new
// here: whoever knows a replica could otherwise have everybody pass on what all have, again and
// again. A replica is active for a while after
// something was written to it, here or elsewhere; peers that hold it and do not listen are sent new
// entries directly (see push.go), which makes it active with them. So a node with thousands of
// replicas listens to the few that are in use.
const (
	GossipVersion = 3
	activeFor     = 10 * time.Minute
	maxActive     = 512
	// topicFromHost is from how many connected peers on that hold a replica a host of others' replicas
	// listens to it.
	topicFromHost = 8
)

// worthATopic reports whether this node is to listen to a replica that this many connected peers
// hold. All connected peers are told of each topic, which a node to which very many are connected
// must not do for a few.
func (n *Syncer) worthATopic(peers int) bool { return !n.cfg.Hosts || peers >= topicFromHost }

// active knows the replicas whose topics this node listens to.
type active struct {
	mu    sync.Mutex
	until map[replica.ID]time.Time
}

// keepActive listens to the topic of a replica for some time from now.
func (n *Syncer) keepActive(id replica.ID) {
	now := n.cfg.Now()
	n.active.mu.Lock()
	defer n.active.mu.Unlock()
	_, known := n.active.until[id]
	if !known && len(n.active.until) >= maxActive {
		oldest := id
		for other, t := range n.active.until {
			if oldest == id || t.Before(n.active.until[oldest]) {
				oldest = other
			}
		}
		n.rest(oldest)
	}
	n.active.until[id] = now.Add(activeFor)
	if known {
		return
	}
	err := n.net.Join(names.Topic(id), func(ctx context.Context, from peer.ID,
		msg []byte) link.Verdict {
		return n.takeGossip(ctx, id, from, msg)
	})
	if err != nil {
		delete(n.active.until, id)
		if n.ctx.Err() != nil {
			return // the node closes
		}
		n.log.Warn("listening to a topic", "replica", id.Short(), "error", err)
	}
}

// rest ceases to listen; the caller holds the lock.
func (n *Syncer) rest(id replica.ID) {
	delete(n.active.until, id)
	n.net.Part(names.Topic(id))
}

// restIdle ceases to listen to replicas that have not been active lately.
func (n *Syncer) restIdle() {
	now := n.cfg.Now()
	n.active.mu.Lock()
	defer n.active.mu.Unlock()
	for id, t := range n.active.until {
		if now.After(t) {
			n.rest(id)
		}
	}
}

func (n *Syncer) RestNow(id replica.ID) {
	n.active.mu.Lock()
	defer n.active.mu.Unlock()
	if _, ok := n.active.until[id]; ok {
		n.rest(id)
	}
}

// publish sends entries to all who listen to their replica's topic, and returns these.
func (n *Syncer) publish(
	ctx context.Context, id replica.ID, entries []replica.Entry,
) (told map[peer.ID]bool) {
	topic := names.Topic(id)
	told = map[peer.ID]bool{}
	for _, p := range n.net.Listeners(topic) {
		told[p] = true
	}
	if len(told) == 0 {
		return told
	}
	for len(entries) > 0 {
		k, size := 0, 0
		for k < len(entries) && k < bundle.Max && (k == 0 || size < link.MaxGossip/4) {
			size += len(entries[k].Key) + 256
			k++
		}
		statements, items, err := n.marshalPush(ctx, id, entries[:k])
		msg := SealGossip(id, bundle.Append(bundle.Append(nil, statements), items))
		if err == nil && len(msg) > link.MaxGossip {
			// very long statements: push has room for them
			err = fmt.Errorf("a message of %d bytes", len(msg))
		}
		if err == nil {
			err = n.net.Publish(ctx, topic, msg)
		}
		if err != nil {
			n.log.Debug("publish", "replica", id.Short(), "error", err)
			return map[peer.ID]bool{}
		}
		entries = entries[k:]
	}
	return told
}

// takeGossip stores what a message holds, and says whether it may be passed on: if any of it is new
// here. What brings nothing new is charged to its sender. Of a sender that has spent all that this
// may cost, messages are not looked at.
func (n *Syncer) takeGossip(
	ctx context.Context, id replica.ID, from peer.ID, msg []byte,
) link.Verdict {
	if n.blamed.Refused(from) || !n.cfg.Limits.Hears(from) {
		return link.Ignore
	}
	var in heard
	units := 1
	err := fault.Guard(n.log, "a message of gossip", func() error {
		statements, entries, err := readGossip(id, msg)
		if err != nil {
			return err
		}
		units = workOf(statements, entries)
		in, err = n.insertGossip(ctx, id, from, statements, entries)
		return err
	}, "peer", from, "replica", id.Short())
	if !in.fresh {
		n.cfg.Limits.Stale(from, units)
	}
	var protocol *reconcile.ProtocolError
	switch {
	case err == nil && (in.fresh || in.noRoom):
		return link.Accept
	case err == nil, ctx.Err() != nil, errors.Is(err, replica.ErrNotFound):
		return link.Ignore
	case errors.Is(err, replica.ErrNotGranted):
		n.contacts.CompareSoonWith(from) // its grant may be on another way
		return link.Ignore
	case isRubbish(err) || errors.As(err, &protocol):
		_ = n.blame(from, fmt.Errorf("gossip: %w", err)) // that is all there is to do
		return link.Reject
	}
	n.log.Debug("gossip", "peer", from, "replica", id.Short(), "error", err)
	return link.Ignore
}

// heard is what has become of a message of gossip.
type heard struct {
	fresh  bool // some of it is new here
	noRoom bool // there was no room for some: others may have it
}

func (n *Syncer) insertGossip(
	ctx context.Context, id replica.ID, from peer.ID, statements, entries [][]byte,
) (h heard, err error) {
	out, err := n.InsertStatements(ctx, id, statements)
	h.fresh = out.Added > 0
	if err = errors.Join(err, n.passedOn(from, id, out)); err != nil {
		return h, err
	}
	by := replica.Origin{Peer: from.String(), Spread: true}
	in, err := n.insertEntries(ctx, id, entries, by)
	h.fresh, h.noRoom = h.fresh || len(in.Added) > 0, in.NoRoom > 0
	return h, err
}

// SealGossip returns the message with a plain text for the topic of a replica. Equal ones have
// equal messages.
func SealGossip(id replica.ID, plain []byte) []byte {
	key := names.Gossip(id)
	nonce := names.Keyed(key, []byte("nonce"), plain)
	msg := make([]byte, 0, 1+chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	msg = append(append(msg, GossipVersion), nonce[:chacha20poly1305.NonceSizeX]...)
	return gossipCipher(key).Seal(msg, msg[1:], plain, msg[:1])
}

func gossipCipher(key [32]byte) cipher.AEAD {
	c, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(err) // the key has its length
	}
	return c
}

func readGossip(id replica.ID, msg []byte) (statements, entries [][]byte, err error) {
	bad := func(err error) error {
		return &reconcile.ProtocolError{Reason: fmt.Sprintf("a malformed message: %v", err)}
	}
	if len(msg) < 1+chacha20poly1305.NonceSizeX || msg[0] != GossipVersion {
		return nil, nil, bad(errors.New("unknown version"))
	}
	nonce, sealed := msg[1:1+chacha20poly1305.NonceSizeX], msg[1+chacha20poly1305.NonceSizeX:]
	plain, err := gossipCipher(names.Gossip(id)).Open(nil, nonce, sealed, msg[:1])
	if err != nil {
		return nil, nil, bad(err)
	}
	r := bufio.NewReader(bytes.NewReader(plain))
	if statements, err = bundle.Read(r, nil); err != nil {
		return nil, nil, bad(err)
	}
	if entries, err = bundle.Read(r, nil); err != nil {
		return nil, nil, bad(err)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, nil, bad(errors.New("something follows"))
	}
	return statements, entries, nil
}

package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Records of a node; all keys begin with 'n'.
//
//	n p replica[32] peer-id          a peer that holds the replica: addresses as count varint, then each: length varint, bytes
//	n w hash[32] replica[32] ...     content that is wanted: see downloads.go
//	n l peer-id                      a peer that sent something wrong: when, in seconds since 1970, u64
//	n d replica[32]                  which content of the replica is wanted: see policy.go
//	n m replica[32]                  a vault that is open: see vault.go
//	n z replica[32] peer-id          a seed that keeps the replica: see seeds.go
//	n s replica[32] peer-id          what a peer has had: see rollback.go
//	n q peer-id                      bytes of content fetched from the peer in the background, u64
const (
	keySharing = "np"
	keyLie     = "nl"
	keyTaken   = "nq"
)

// lieMemory is how long a peer that sent something wrong is asked only when nobody else can help.
const lieMemory = 24 * time.Hour

const maxKnown = 64 // peers remembered for a replica

// peerBook knows which peers hold which replicas, remembers them across restarts, and decides when to talk to whom (see contacts.go).
type peerBook struct {
	n *Node

	mu       sync.Mutex
	sharing  map[replica.ID]map[peer.ID]*sharer
	contacts map[peer.ID]*contact
	lies     map[peer.ID]time.Time
	rubbish  map[peer.ID]time.Time // when a peer last broke the sync protocol
	wakeUp   chan struct{}
	running  chan struct{} // holds a token for each session under way
}

// sharer is a peer that holds a replica.
type sharer struct {
	addrs []ma.Multiaddr
	seen  bool // it has shown that it holds the replica since it connected
}

func newPeerBook(n *Node) *peerBook {
	return &peerBook{n: n, sharing: map[replica.ID]map[peer.ID]*sharer{}, contacts: map[peer.ID]*contact{}, lies: map[peer.ID]time.Time{}, rubbish: map[peer.ID]time.Time{},
		wakeUp: make(chan struct{}, 1), running: make(chan struct{}, parallelSessions)}
}

func sharingKey(id replica.ID, p peer.ID) []byte {
	return append(append([]byte(keySharing), id[:]...), p...)
}

func marshalAddrs(addrs []ma.Multiaddr) []byte {
	b := binary.AppendUvarint(nil, uint64(len(addrs)))
	for _, a := range addrs {
		b = append(binary.AppendUvarint(b, uint64(len(a.Bytes()))), a.Bytes()...)
	}
	return b
}

func parseAddrs(b []byte) (addrs []ma.Multiaddr, err error) {
	bad := errors.New("node store: malformed addresses")
	count, n := binary.Uvarint(b)
	if n <= 0 || count > 64 {
		return nil, bad
	}
	b = b[n:]
	for range count {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, bad
		}
		a, err := ma.NewMultiaddrBytes(b[n : n+int(size)])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", bad, err)
		}
		addrs, b = append(addrs, a), b[n+int(size):]
	}
	return addrs, nil
}

// load reads who is remembered.
func (b *peerBook) load(ctx context.Context) error {
	return b.n.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keySharing)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			id, who := replica.ID(p.Key[len(keySharing):]), peer.ID(p.Key[len(keySharing)+32:])
			addrs, err := parseAddrs(p.Value)
			if err != nil {
				return err
			}
			b.put(id, who, &sharer{addrs: addrs})
		}
		for p, err := range r.Scan(kv.Prefix([]byte(keyLie)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Value) == 8 {
				b.lies[peer.ID(p.Key[len(keyLie):])] = time.Unix(int64(binary.BigEndian.Uint64(p.Value)), 0)
			}
		}
		return nil
	})
}

// lied reports whether p has sent something wrong not long ago.
func (b *peerBook) lied(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.lies[p]
	return ok && b.n.cfg.Now().Before(at.Add(lieMemory))
}

// noteLie remembers that p has sent something wrong.
func (b *peerBook) noteLie(p peer.ID, cause error) {
	now := b.n.cfg.Now()
	var old [][]byte
	b.mu.Lock()
	for q, at := range b.lies {
		if now.After(at.Add(lieMemory)) {
			delete(b.lies, q)
			old = append(old, append([]byte(keyLie), q...))
		}
	}
	b.lies[p] = now
	b.mu.Unlock()
	b.n.log.Warn("a peer sent something wrong, and is asked last from now on", "peer", p, "error", cause)
	err := b.n.kv.Update(context.WithoutCancel(b.n.ctx), func(tx kv.Txn) error {
		for _, k := range old {
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		return tx.Set(append([]byte(keyLie), p...), binary.BigEndian.AppendUint64(nil, uint64(now.Unix())))
	})
	if err != nil {
		b.n.log.Warn("remembering that a peer lied", "peer", p, "error", err)
	}
}

// rubbishMemory is how long a peer that broke the sync protocol, or sent entries that are wrong, is refused.
const rubbishMemory = 10 * time.Minute

// noteRubbish remembers such a peer, as long as this node runs.
func (b *peerBook) noteRubbish(p peer.ID, cause error) {
	now := b.n.cfg.Now()
	b.mu.Lock()
	for q, at := range b.rubbish {
		if now.After(at.Add(rubbishMemory)) {
			delete(b.rubbish, q)
		}
	}
	b.rubbish[p] = now
	b.mu.Unlock()
	b.n.log.Warn("a peer broke the sync protocol, and is refused for a while", "peer", p, "for", rubbishMemory, "error", cause)
}

// isRefused reports whether sessions with p are refused.
func (b *peerBook) isRefused(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refusedLocked(p)
}

func (b *peerBook) refusedLocked(p peer.ID) bool {
	at, ok := b.rubbish[p]
	return ok && b.n.cfg.Now().Before(at.Add(rubbishMemory))
}

// put enters a peer that holds the replica id; the caller holds the lock, or is alone.
func (b *peerBook) put(id replica.ID, p peer.ID, s *sharer) {
	if b.sharing[id] == nil {
		b.sharing[id] = map[peer.ID]*sharer{}
	}
	b.sharing[id][p] = s
	b.contact(p).shared[id] = s
}

// drop takes a peer out again, and returns the key of its record.
func (b *peerBook) drop(id replica.ID, p peer.ID) []byte {
	delete(b.sharing[id], p)
	if c := b.contacts[p]; c != nil {
		delete(c.shared, id)
		delete(c.sessions, id)
		if len(c.shared) == 0 && !c.connected {
			delete(b.contacts, p)
		}
	}
	return sharingKey(id, p)
}

// note enters that a peer holds a replica, and returns the record of it; nil for this node itself.
func (b *peerBook) note(id replica.ID, p peer.AddrInfo) []byte {
	if b.n.net != nil && p.ID == b.n.net.ID() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sharing[id][p.ID]
	if s == nil {
		s = &sharer{}
		b.put(id, p.ID, s)
	}
	b.contact(p.ID).dueBy(b.n.cfg.Now().Add(firstRetry))
	s.addrs = ma.Unique(append(slices.Clone(s.addrs), p.Addrs...))
	if len(s.addrs) > 16 {
		s.addrs = s.addrs[len(s.addrs)-16:]
	}
	return marshalAddrs(s.addrs)
}

// Remember notes that peers hold replicas of this node, as a ticket would say it. That is durable when it returns: a replica whose peers were forgotten would stay
// alone.
func (n *Node) Remember(ctx context.Context, ids []replica.ID, peers []peer.AddrInfo) error {
	err := n.kv.Batch(ctx, func(w kv.Writer) error {
		for _, id := range ids {
			for _, p := range peers {
				if value := n.peers.note(id, p); value != nil {
					if err := w.Set(sharingKey(id, p.ID), value); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return n.kv.Sync(ctx)
}

// Sharing returns how many times a connected peer is known to hold a replica of this node.
func (n *Node) Sharing() (count int) {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	for _, c := range n.peers.contacts {
		for _, s := range c.shared {
			if c.connected && s.seen {
				count++
			}
		}
	}
	return count
}

// shares notes that a session or push has shown that p holds the replica id, and is active.
func (b *peerBook) shares(p peer.ID, id replica.ID) {
	now := b.n.cfg.Now()
	addrs := b.n.net.KnownAddrs(p)
	here := slices.ContainsFunc(b.n.net.Peers(), func(k Peer) bool { return k.ID == p })
	var dropped [][]byte
	b.mu.Lock()
	c := b.contact(p)
	c.connected = c.connected || here // the network may not have said so yet, and what is set now must be pushed
	s := b.sharing[id][p]
	known := s != nil && s.seen
	if s == nil {
		if len(b.sharing[id]) >= maxKnown {
			dropped = b.dropOne(id)
		}
		s = &sharer{}
		b.put(id, p, s)
	}
	if len(addrs) > len(s.addrs) {
		known = false
	}
	s.seen = true
	delete(c.sessions, id)
	if len(addrs) > 0 {
		s.addrs = addrs[:min(len(addrs), 16)]
	}
	c.stranger = false
	c.pause = b.n.cfg.SyncInterval // what an active peer pushes may get lost: look again before long
	c.dueBy(now.Add(jitter(c.pause)))
	value := marshalAddrs(s.addrs)
	b.mu.Unlock()
	if !known {
		err := b.n.kv.Update(b.n.ctx, func(tx kv.Txn) error {
			for _, k := range dropped {
				if err := tx.Delete(k); err != nil {
					return err
				}
			}
			return tx.Set(sharingKey(id, p), value)
		})
		if err != nil {
			b.n.log.Warn("remembering a peer", "peer", p, "error", err)
		}
	}
	b.n.downloads.dueAgain(p)
}

// dropOne drops a peer that is not connected, to make room, and returns the key of its record.
func (b *peerBook) dropOne(id replica.ID) [][]byte {
	for p := range b.sharing[id] {
		if !b.isConnected(p) {
			return [][]byte{b.drop(id, p)}
		}
	}
	return nil
}

// forget drops what is known of a replica that has been left.
func (b *peerBook) forget(ctx context.Context, id replica.ID) error {
	b.mu.Lock()
	var keys [][]byte
	for p := range b.sharing[id] {
		keys = append(keys, b.drop(id, p))
	}
	delete(b.sharing, id)
	b.mu.Unlock()
	return b.n.kv.Batch(ctx, func(w kv.Writer) error {
		for _, k := range keys {
			if err := w.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *peerBook) isConnected(p peer.ID) bool {
	c := b.contacts[p]
	return c != nil && c.connected
}

// connectedSharing returns the connected peers that have shown that they hold the replica id.
func (b *peerBook) connectedSharing(id replica.ID) (out []peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, s := range b.sharing[id] {
		if s.seen && b.isConnected(p) {
			out = append(out, p)
		}
	}
	return out
}

// holders returns the connected peers that hold any of the replicas.
func (b *peerBook) holders(ids map[replica.ID]bool) (out []peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, c := range b.contacts {
		if !c.connected {
			continue
		}
		for id := range ids {
			if s := c.shared[id]; s != nil && s.seen {
				out = append(out, p)
				break
			}
		}
	}
	return out
}

// holds reports whether p is connected and holds the replica id.
func (b *peerBook) holds(p peer.ID, id replica.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sharing[id][p]
	return s != nil && s.seen && b.isConnected(p)
}

// allSharing returns the connected peers that hold any replica of this node.
func (b *peerBook) allSharing() (out []peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, c := range b.contacts {
		if !c.connected {
			continue
		}
		for _, s := range c.shared {
			if s.seen {
				out = append(out, p)
				break
			}
		}
	}
	return out
}

// known returns all remembered peers of a replica, the connected ones first.
func (b *peerBook) known(id replica.ID) (out []peer.AddrInfo) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, s := range b.sharing[id] {
		out = append(out, peer.AddrInfo{ID: p, Addrs: s.addrs})
	}
	slices.SortFunc(out, func(x, y peer.AddrInfo) int {
		switch cx, cy := b.isConnected(x.ID), b.isConnected(y.ID); {
		case cx && !cy:
			return -1
		case cy && !cx:
			return 1
		}
		return 0
	})
	return out
}

// SyncResult is the outcome of one session that somebody asked for.
type SyncResult struct {
	SyncStats
	Err error
}

// SyncNow runs a session for the replica id, or the keys of it that begin with prefix, with each peer that is remembered for it or connected, or only with the
// one named, and returns when all have ended. Peers that turn out not to hold the replica are left out.
func (n *Node) SyncNow(ctx context.Context, id replica.ID, only peer.ID, prefix []byte) ([]SyncResult, error) {
	if n.net == nil {
		return nil, ErrOffline
	}
	peers := n.peers.known(id)
	for _, p := range n.net.Peers() {
		if !slices.ContainsFunc(peers, func(k peer.AddrInfo) bool { return k.ID == p.ID }) {
			peers = append(peers, peer.AddrInfo{ID: p.ID})
		}
	}
	if only != "" {
		peers = slices.DeleteFunc(peers, func(p peer.AddrInfo) bool { return p.ID != only })
		if len(peers) == 0 {
			return nil, &UnreachableError{Peer: only, Err: errors.New("it is neither connected nor remembered for this replica")}
		}
	}
	results := make([]SyncResult, len(peers))
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() {
			st, err := n.syncOnce(ctx, p, id, prefix)
			for tries := 0; errors.Is(err, ErrBusy) && tries < 3; tries++ { // the peer's own session goes on: begin waits for its end
				st, err = n.syncOnce(ctx, p, id, prefix)
			}
			results[i] = SyncResult{st, err}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(results, func(r SyncResult) bool { return only == "" && errors.Is(r.Err, ErrNotShared) }), ctx.Err()
}

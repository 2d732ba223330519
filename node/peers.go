package node

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Records of a node; all keys begin with 'n'.
//
//	n h replica[32] peer-id          a peer that holds the replica: see acquaintance.go
//	n j length u8 peer-id replica[32]  the same by peer; length is that of the peer's id. The value is u8 2 if the peer is named, 1 if it has a history, 0 if it is a newcomer
//	n c replica[32] hash[32] ...     content that is wanted: see wanted.go
//	n l peer-id                      a peer that sent something wrong: when, in seconds since 1970, u64
//	n d replica[32]                  which content of the replica is wanted: see policy.go
//	n m replica[32]                  a vault that is open: see vault.go
//	n z replica[32] peer-id          a seed that keeps the replica: see seeds.go
//	n s replica[32] peer-id          what a peer has had: see rollback.go
//	n q peer-id                      bytes of content fetched from the peer in the background, u64
const (
	keySharing = "nh"
	keyByPeer  = "nj"
	keyLie     = "nl"
	keyTaken   = "nq"
)

// lieMemory is how long a peer that sent something wrong is asked only when nobody else can help.
const lieMemory = 24 * time.Hour

const (
	// maxContacts is how many peers are connected, or are to be dialled, before those that have been
	// gone longest are not dialled any more.
	maxContacts = 4096
)

// peerBook knows which peers hold which replicas, remembers them across restarts, and decides when
// to talk to whom (see contacts.go). What is remembered lies in the store; in memory is what
// concerns connected peers only, so that a seed with a million replicas needs no more than one with
// ten.
type peerBook struct {
	n *Node

	mu       sync.Mutex
	here     map[replica.ID]map[peer.ID]*sharer // the connected peers of a replica
	contacts map[peer.ID]*contact
	lies     map[peer.ID]time.Time
	rubbish  map[peer.ID]time.Time // when a peer last broke the sync protocol
	offences map[offender]*offence // messages with too many worthless statements
	awake    time.Time             // when this machine last woke up
	wakeUp   chan struct{}
	running  background // sessions under way that were due
	dialling int        // newcomers that are being dialled

	telling sync.Mutex // held while the network is told of trust: the last word is the newest
}

// sharer is a connected peer that holds a replica.
type sharer struct {
	seen  bool      // it has shown that it holds the replica since it connected
	kept  bool      // it was remembered then: there was room
	tried time.Time // when that was last looked at
	is    standing  // as far as is known
	noted uint32    // the day on which that was last remembered
}

// roomAgain is how often this node looks for room for a connected peer that it could not remember:
// each look reads all peers of the replica.
const roomAgain = time.Minute

func newPeerBook(n *Node) *peerBook {
	return &peerBook{
		n:        n,
		here:     map[replica.ID]map[peer.ID]*sharer{},
		contacts: map[peer.ID]*contact{},
		lies:     map[peer.ID]time.Time{},
		rubbish:  map[peer.ID]time.Time{},
		offences: map[offender]*offence{},
		wakeUp:   make(chan struct{}, 1),
	}
}

func byPeerPrefix(p peer.ID) []byte {
	return append(append([]byte(keyByPeer), byte(len(p))), p...)
}

func byPeerKey(p peer.ID, id replica.ID) []byte { return append(byPeerPrefix(p), id[:]...) }

// load reads who is to be dialled, and who has lied.
func (b *peerBook) load(ctx context.Context) error {
	return b.n.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keyLie)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Value) == 8 {
				b.lies[peer.ID(p.Key[len(keyLie):])] = time.Unix(int64(binary.BigEndian.Uint64(p.Value)), 0)
			}
		}
		for _, is := range []standing{known, newcomer} { // newcomers as far as there is room
			if err := b.loadContacts(r, is); err != nil {
				return err
			}
		}
		if len(b.contacts) == maxContacts {
			b.n.log.Info("more peers may be remembered than are dialled", "dialled", maxContacts)
		}
		return nil
	})
}

// loadContacts reads the peers of one standing that are to be dialled, as far as there is room.
func (b *peerBook) loadContacts(r kv.Reader, is standing) error {
	from := []byte(keyByPeer + "\x01")
	for len(b.contacts) < maxContacts {
		p, err := firstPeer(r, from)
		if err != nil || p == "" {
			return err
		}
		from = kv.After(byPeerPrefix(p))
		best, err := standingOf(r, p)
		if err != nil {
			return err
		}
		if best == is {
			c := b.contact(p)
			c.known, c.firm = true, is == known
		}
	}
	return nil
}

// standingOf returns the best standing of a peer, for any replica.
func standingOf(r kv.Reader, p peer.ID) (standing, error) {
	for k, err := range r.Scan(kv.Prefix(byPeerPrefix(p)), kv.ScanOptions{}) {
		if err != nil {
			return newcomer, err
		}
		if is, _ := parseByPeer(k.Value); is == known {
			return known, nil
		}
	}
	return newcomer, nil
}

// firstPeer returns the first peer whose records by peer begin at from or later, or none.
func firstPeer(r kv.Reader, from []byte) (peer.ID, error) {
	for p, err := range r.Scan(kv.Range{From: from, To: kv.After([]byte(keyByPeer))}, kv.ScanOptions{KeysOnly: true}) {
		if err != nil {
			return "", err
		}
		k := p.Key[len(keyByPeer):]
		if len(k) != 1+int(k[0])+32 {
			return "", errors.New("node store: malformed record of a peer")
		}
		return peer.ID(k[1 : 1+k[0]]), nil
	}
	return "", nil
}

// Records by peer say what the peer is for the replica.
const (
	byPeerHistory = 1
	byPeerNamed   = 2
)

func byPeerValue(a *acquaintance) []byte {
	switch {
	case a.named:
		return []byte{byPeerNamed}
	case a.history:
		return []byte{byPeerHistory}
	}
	return []byte{0}
}

func parseByPeer(b []byte) (is standing, named bool) {
	if len(b) != 1 || b[0] < byPeerHistory {
		return newcomer, false
	}
	return known, b[0] == byPeerNamed
}

// replicasOf returns the replicas that a peer is remembered to hold, at most so many, with what it
// is for each, and whether a person has named it for one of them.
func (b *peerBook) replicasOf(
	ctx context.Context, p peer.ID, most int,
) (ids []replica.ID, is []standing, named bool, err error) {
	prefix := byPeerPrefix(p)
	err = b.n.kv.View(ctx, func(r kv.Reader) error {
		ids, is, named = nil, nil, false
		for k, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			one, isNamed := parseByPeer(k.Value)
			named = named || isNamed
			ids, is = append(ids, replica.ID(k.Key[len(prefix):])), append(is, one)
			if len(ids) >= most {
				break
			}
		}
		return nil
	})
	return ids, is, named, err
}

// addrsOf returns all places where a peer may be: the best ones of each replica's.
func (b *peerBook) addrsOf(ctx context.Context, p peer.ID) (all []ma.Multiaddr) {
	const enough, each = 32, maxAddrs / 2
	ids, _, _, err := b.replicasOf(ctx, p, enough)
	if err == nil {
		err = b.n.kv.View(ctx, func(r kv.Reader) error {
			all = nil
			var rest []ma.Multiaddr
			for _, id := range ids {
				a, _, err := sharingOf(r, id, p)
				if err != nil {
					return err
				}
				k := min(each, len(a.addrs))
				all, rest = ma.Unique(append(all, a.addrs[:k]...)), append(rest, a.addrs[k:]...)
			}
			all = ma.Unique(append(all, rest...))
			all = all[:min(len(all), 2*enough)]
			return nil
		})
	}
	if err != nil && ctx.Err() == nil {
		b.n.log.Warn("reading where a peer is", "peer", p, "error", err)
	}
	return all
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
	b.n.counters.wrongContent.Add(1)
	var old [][]byte
	b.mu.Lock()
	for q, at := range b.lies {
		if now.After(at.Add(lieMemory)) {
			delete(b.lies, q)
			old = append(old, append([]byte(keyLie), q...))
		}
	}
	if q, full := oldestOf(b.lies); full {
		delete(b.lies, q)
		old = append(old, append([]byte(keyLie), q...))
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

// maxBlamed is how many peers are remembered to have lied, as many to have broken the protocol, and
// how many offences. Whoever makes new ids all the time pushes out old ones only, which are then
// asked, and found out, again.
const maxBlamed = 4096

// oldestOf returns the peer that was blamed first, and whether there are as many as there may be.
func oldestOf(blamed map[peer.ID]time.Time) (oldest peer.ID, full bool) {
	for p, at := range blamed {
		if oldest == "" || at.Before(blamed[oldest]) {
			oldest = p
		}
	}
	return oldest, len(blamed) >= maxBlamed
}

// rubbishMemory is how long a peer that broke the sync protocol, or sent entries that are wrong, is
// refused.
const rubbishMemory = 10 * time.Minute

// noteRubbish remembers such a peer, as long as this node runs.
func (b *peerBook) noteRubbish(p peer.ID, cause error) {
	b.n.counters.wrongEntries.Add(1)
	now := b.n.cfg.Now()
	b.mu.Lock()
	for q, at := range b.rubbish {
		if now.After(at.Add(rubbishMemory)) {
			delete(b.rubbish, q)
		}
	}
	if q, full := oldestOf(b.rubbish); full {
		delete(b.rubbish, q)
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

// put enters that a connected peer holds the replica id; the caller holds the lock, or is alone.
func (b *peerBook) put(id replica.ID, p peer.ID) *sharer {
	c := b.contact(p)
	s := c.shared[id]
	if s == nil {
		s = &sharer{}
		c.shared[id] = s
	}
	if b.here[id] == nil {
		b.here[id] = map[peer.ID]*sharer{}
	}
	b.here[id][p], c.known = s, true
	return s
}

// noteNamed enters that a person has named a peer.
func (b *peerBook) noteNamed(p peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[p]; c != nil { // else it is read when the peer connects
		c.named = true
	}
}

// drop takes that out again; the caller holds the lock.
func (b *peerBook) drop(id replica.ID, p peer.ID) {
	if delete(b.here[id], p); len(b.here[id]) == 0 {
		delete(b.here, id)
	}
	if c := b.contacts[p]; c != nil {
		delete(c.shared, id)
		delete(c.sessions, id)
	}
}

// note enters that a peer holds a replica.
func (b *peerBook) note(id replica.ID, p peer.ID, is standing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contact(p)
	c.firm = c.firm || is == known
	if c.known = true; c.connected {
		b.put(id, p).is = is
	}
	c.dueBy(b.n.cfg.Now().Add(firstRetry))
	b.makeRoom()
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
	here := b.n.net.Connected(p)
	b.mu.Lock()
	c := b.contact(p)
	c.connected = c.connected || here // the network may not have said so yet, and what is set now must be pushed
	s, today := &sharer{}, dayOf(now)
	if c.known = true; c.connected {
		s = b.put(id, p)
	}
	seen := s.seen && s.noted == today && (s.kept || now.Sub(s.tried) < roomAgain)
	if s.seen, s.noted = true, today; !seen {
		s.tried = now
	}
	delete(c.sessions, id)
	c.stranger = false
	c.pause = b.n.cfg.SyncInterval // what an active peer pushes may get lost: look again before long
	c.dueBy(now.Add(jitter(c.pause)))
	b.mu.Unlock()
	if !seen {
		is, kept, err := b.remember(b.n.ctx, p, id, b.n.net.KnownAddrs(p))
		if err != nil && b.n.ctx.Err() == nil {
			b.n.log.Warn("remembering a peer", "peer", p, "error", err)
		}
		b.mu.Lock()
		c.firm = c.firm || is == known
		s.is, s.kept = is, kept
		b.mu.Unlock()
		b.tellTrust(p)
	}
	b.n.downloads.dueAgain(p)
}

// forget drops what is known of a replica that has been left.
func (b *peerBook) forget(ctx context.Context, id replica.ID) error {
	b.mu.Lock()
	for p := range b.here[id] {
		b.drop(id, p)
	}
	b.mu.Unlock()
	return b.n.kv.View(ctx, func(r kv.Reader) error {
		return b.n.kv.Batch(ctx, func(w kv.Writer) error {
			for k, err := range r.Scan(kv.Prefix(sharingPrefix(id)), kv.ScanOptions{KeysOnly: true}) {
				if err != nil {
					return err
				}
				if err := dropSharing(w, id, peer.ID(k.Key[len(keySharing)+32:])); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (b *peerBook) isConnected(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	return c != nil && c.connected
}

// connectedSharing returns the connected peers that have shown that they hold the replica id.
func (b *peerBook) connectedSharing(id replica.ID) (out []peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, s := range b.here[id] {
		if s.seen {
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
	s := b.here[id][p]
	return s != nil && s.seen
}

// anyConnected reports whether a peer is connected that holds the replica id.
func (b *peerBook) anyConnected(id replica.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.here[id] {
		if s.seen {
			return true
		}
	}
	return false
}

// sharesAny reports whether p is connected and holds any replica of this node.
func (b *peerBook) sharesAny(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	return c != nil && c.sharesAny()
}

func (c *contact) sharesAny() bool {
	if !c.connected {
		return false
	}
	for _, s := range c.shared {
		if s.seen {
			return true
		}
	}
	return false
}

// allSharing returns the connected peers that hold any replica of this node.
func (b *peerBook) allSharing() (out []peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, c := range b.contacts {
		if c.sharesAny() {
			out = append(out, p)
		}
	}
	return out
}

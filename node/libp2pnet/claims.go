package libp2pnet

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Limits of what a node keeps for others in the hash table, in numbers and in bytes. Whoever floods
// it displaces only what is oldest, and under one key and for one peer no more than its share.
const (
	maxKeys       = 1 << 16
	maxEachKey    = 32
	maxEachPeer   = 1 << 12
	claimLifetime = 24 * time.Hour // OBJECTS drops announcements that are older
	maxClaimAddrs = 8
	maxClaimAddr  = 256      // bytes of an address; a longer one is left out
	maxClaimBytes = 48 << 20 // of all claims in memory
	maxPeerBytes  = 4 << 20  // of those of one peer
	claimOverhead = 768      // bytes that a claim takes beside its key and addresses
)

// claims are provider records: who claims to hold what. The table takes a claim only from the very
// peer that makes it, over a connection on which it has proved its id; whether it is true shows
// when it is asked.
type claims struct {
	host host.Host
	now  func() time.Time

	mu    sync.Mutex
	keys  map[string]map[peer.ID]claim
	count map[peer.ID]int
	bytes map[peer.ID]int // of each peer's claims
	total int             // bytes of all
}

type claim struct {
	addrs []byte // each after its length as a varint
	at    time.Time
}

// memory is about how many bytes a claim takes under a key.
func (x *claim) memory(key string) int { return claimOverhead + len(key) + cap(x.addrs) }

var _ records.ProviderStore = (*claims)(nil)

func newClaims(h host.Host, now func() time.Time) *claims {
	return &claims{
		host: h, now: now, keys: map[string]map[peer.ID]claim{}, count: map[peer.ID]int{},
		bytes: map[peer.ID]int{},
	}
}

// newClaim copies what is worth keeping of addresses, so that nothing else of the message they came
// in stays.
func newClaim(addrs []ma.Multiaddr, at time.Time) claim {
	var all []byte
	count := 0
	for _, a := range addrs {
		if b := a.Bytes(); count < maxClaimAddrs && len(b) <= maxClaimAddr {
			all = append(binary.AppendUvarint(all, uint64(len(b))), b...)
			count++
		}
	}
	return claim{slices.Clip(slices.Clone(all)), at}
}

// where returns the addresses of a claim.
func (x *claim) where() (all []ma.Multiaddr) {
	for b := x.addrs; len(b) > 0; {
		size, n := binary.Uvarint(b)
		a, err := ma.NewMultiaddrBytes(b[n : n+int(size)])
		if err == nil { // they were addresses when they came
			all = append(all, a)
		}
		b = b[n+int(size):]
	}
	return all
}

// AddProvider implements records.ProviderStore.
func (c *claims) AddProvider(_ context.Context, key []byte, p peer.AddrInfo) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := string(key)
	x := newClaim(p.Addrs, c.now())
	size := x.memory(k)
	if _, again := c.keys[k][p.ID]; again {
		c.drop(k, p.ID)
	}
	if c.count[p.ID] >= maxEachPeer || c.bytes[p.ID]+size > maxPeerBytes {
		return nil // the peer need not know
	}
	if len(c.keys[k]) >= maxEachKey {
		c.dropOldest(k)
	}
	for c.total+size > maxClaimBytes || c.keys[k] == nil && len(c.keys) >= maxKeys {
		if !c.dropSome() {
			return nil
		}
	}
	of := c.keys[k]
	if of == nil {
		of = map[peer.ID]claim{}
		c.keys[k] = of
	}
	of[p.ID] = x
	c.count[p.ID]++
	c.bytes[p.ID] += size
	c.total += size
	return nil
}

func (c *claims) drop(key string, p peer.ID) {
	x := c.keys[key][p]
	delete(c.keys[key], p)
	if len(c.keys[key]) == 0 {
		delete(c.keys, key)
	}
	c.total -= x.memory(key)
	c.bytes[p] -= x.memory(key)
	if c.count[p]--; c.count[p] <= 0 {
		delete(c.count, p)
		delete(c.bytes, p)
	}
}

func (c *claims) dropOldest(key string) {
	oldest, first := peer.ID(""), time.Time{}
	for p, x := range c.keys[key] {
		if oldest == "" || x.at.Before(first) {
			oldest, first = p, x.at
		}
	}
	c.drop(key, oldest)
}

// dropSome makes room for a key: those that are over go, or else the one of a few that has been
// claimed longest ago.
func (c *claims) dropSome() bool {
	const looked = 64
	victim, last, seen := "", time.Time{}, 0
	for k, of := range c.keys { // in no order
		newest := time.Time{}
		for _, x := range of {
			if x.at.After(newest) {
				newest = x.at
			}
		}
		if victim == "" || newest.Before(last) {
			victim, last = k, newest
		}
		if seen++; seen == looked {
			break
		}
	}
	for p := range c.keys[victim] {
		c.drop(victim, p)
	}
	return victim != ""
}

// GetProviders implements records.ProviderStore.
func (c *claims) GetProviders(_ context.Context, key []byte) (all []peer.AddrInfo, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := string(key)
	for p, x := range c.keys[k] {
		if c.now().Sub(x.at) > claimLifetime {
			c.drop(k, p)
			continue
		}
		addrs := x.where()
		if p == c.host.ID() { // its own claims are made without
			addrs = worthTelling(c.host, c.host.Addrs())
		}
		all = append(all, peer.AddrInfo{ID: p, Addrs: addrs[:min(len(addrs), maxClaimAddrs)]})
	}
	return all, nil
}

// Close implements records.ProviderStore.
func (c *claims) Close() error { return nil }

// size returns how many keys there are.
func (c *claims) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.keys)
}

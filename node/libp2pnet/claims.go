package libp2pnet

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Limits of what a node keeps for others in the hash table. Whoever floods it displaces only what is oldest, and under one key and for one peer no more than its share.
const (
	maxKeys       = 1 << 16 // some 30 MiB with a few claims each
	maxEachKey    = 32
	maxEachPeer   = 1 << 12
	claimLifetime = 24 * time.Hour // OBJECTS drops announcements that are older
	maxClaimAddrs = 8
)

// claims are provider records: who claims to hold what. The table takes a claim only from the very peer that makes it, over a connection on which it has proved its id; whether it is true shows when it is asked.
type claims struct {
	host host.Host
	now  func() time.Time

	mu    sync.Mutex
	keys  map[string]map[peer.ID]claim
	count map[peer.ID]int
}

type claim struct {
	addrs []ma.Multiaddr
	at    time.Time
}

var _ records.ProviderStore = (*claims)(nil)

func newClaims(h host.Host, now func() time.Time) *claims {
	return &claims{host: h, now: now, keys: map[string]map[peer.ID]claim{}, count: map[peer.ID]int{}}
}

// AddProvider implements records.ProviderStore.
func (c *claims) AddProvider(_ context.Context, key []byte, p peer.AddrInfo) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := string(key)
	of := c.keys[k]
	if _, again := of[p.ID]; !again {
		if c.count[p.ID] >= maxEachPeer {
			return nil // the peer need not know
		}
		if of == nil {
			if len(c.keys) >= maxKeys && !c.dropSome() {
				return nil
			}
			of = map[peer.ID]claim{}
			c.keys[k] = of
		}
		if len(of) >= maxEachKey {
			c.dropOldest(k)
		}
		c.count[p.ID]++
	}
	of[p.ID] = claim{p.Addrs[:min(len(p.Addrs), maxClaimAddrs)], c.now()}
	return nil
}

func (c *claims) drop(key string, p peer.ID) {
	delete(c.keys[key], p)
	if len(c.keys[key]) == 0 {
		delete(c.keys, key)
	}
	if c.count[p]--; c.count[p] <= 0 {
		delete(c.count, p)
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

// dropSome makes room for a key: those that are over go, or else the one of a few that has been claimed longest ago.
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
		addrs := x.addrs
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

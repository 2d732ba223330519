// Package linktest has networks in memory for tests of what stands on a node.
//
// What belongs here: implementations of link.Network that need no other node, with which a test
// plays the peers itself. What never belongs here: the simulated network of several nodes, which is
// with the tests of package node, and anything that a program uses.
//
// Start at [NewHall].
package linktest

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/node/link"
)

// Hall is a network in which a test opens streams to the node as any number of peers, from any IP
// network. The node itself reaches nobody.
type Hall struct {
	id       peer.ID
	handlers map[string]func(link.Stream)
	work     sync.WaitGroup

	mu   sync.Mutex
	open []net.Conn
}

var _ link.Network = (*Hall)(nil)

// NewHall returns the network of the node with an id.
func NewHall(id peer.ID) *Hall { return &Hall{id: id, handlers: map[string]func(link.Stream){}} }

// Visit opens a stream to the node, as a peer that is connected from an IP network, and returns the
// peer's end. What is written to it waits until the node reads.
func (h *Hall) Visit(p peer.ID, from, protocol string) net.Conn {
	ours, theirs := net.Pipe()
	h.mu.Lock()
	h.open = append(h.open, ours, theirs)
	h.mu.Unlock()
	h.work.Go(func() { h.handlers[protocol](visit{theirs, p, from}) })
	return ours
}

// visit is the node's end of a stream.
type visit struct {
	net.Conn
	p    peer.ID
	from string
}

func (v visit) CloseWrite() error { return nil }
func (v visit) Reset() error      { return v.Close() }
func (v visit) Remote() peer.ID   { return v.p }
func (v visit) Origin() string    { return v.from }
func (v visit) Relayed() bool     { return false }

// ID implements link.Network.
func (h *Hall) ID() peer.ID { return h.id }

// Addrs implements link.Network.
func (h *Hall) Addrs() []ma.Multiaddr { return nil }

// Connect implements link.Network: it reaches nobody.
func (h *Hall) Connect(_ context.Context, p peer.AddrInfo) error {
	return &link.UnreachableError{Peer: p.ID, Err: errors.New("nobody can be reached")}
}

// Open implements link.Network: it reaches nobody.
func (h *Hall) Open(ctx context.Context, p peer.ID, _ string) (link.Stream, error) {
	return nil, h.Connect(ctx, peer.AddrInfo{ID: p})
}

// Handle implements link.Network.
func (h *Hall) Handle(protocol string, fn func(link.Stream)) { h.handlers[protocol] = fn }

// Start implements link.Network.
func (h *Hall) Start(func(peer.ID, bool)) error { return nil }

// Peers implements link.Network.
func (h *Hall) Peers() []link.Peer { return nil }

// Connected implements link.Network.
func (h *Hall) Connected(peer.ID) bool { return false }

// Origin implements link.Network.
func (h *Hall) Origin(peer.ID) string { return "" }

// Keep implements link.Network.
func (h *Hall) Keep(peer.ID, link.Trust) {}

// KnownAddrs implements link.Network.
func (h *Hall) KnownAddrs(peer.ID) []ma.Multiaddr { return nil }

// Join implements link.Network.
func (h *Hall) Join(string, func(context.Context, peer.ID, []byte) link.Verdict) error {
	return nil
}

// Part implements link.Network.
func (h *Hall) Part(string) {}

// Publish implements link.Network.
func (h *Hall) Publish(context.Context, string, []byte) error { return nil }

// Listeners implements link.Network.
func (h *Hall) Listeners(string) []peer.ID { return nil }

// Announce implements link.Network.
func (h *Hall) Announce(context.Context, [32]byte) error { return link.ErrNoTable }

// Find implements link.Network.
func (h *Hall) Find(context.Context, [32]byte) ([]peer.AddrInfo, error) {
	return nil, link.ErrNoTable
}

// Drop implements link.Network.
func (h *Hall) Drop() {}

// Situation implements link.Network.
func (h *Hall) Situation() link.Situation { return link.Situation{} }

// Close implements link.Network: it ends all streams and waits for those who answer them.
func (h *Hall) Close() error {
	h.mu.Lock()
	for _, c := range h.open {
		_ = c.Close() // never fails
	}
	h.mu.Unlock()
	h.work.Wait()
	return nil
}

// Package link is what a node and its rooms need of a network: connections to peers by their ids,
// streams over them, gossip, and a hash table.
//
// What belongs here: the interface [Network], what it speaks of, and what holds for any stream,
// whoever uses it: that reads and writes end ([Patient]), and that what a peer makes this node
// hold is counted ([NewGuest]). What never belongs here: a protocol, or how connections are made,
// which is in libp2pnet, the implementation.
package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/skerry-sync/skerry/internal/kind"
)

// Network is all that a node needs of a network. Package libp2pnet is the real one; a simulator's
// can stand in for it.
type Network interface {
	// ID returns the node's own id.
	ID() peer.ID
	// Addrs returns where others may reach the node, each ending in /p2p/ID.
	Addrs() []ma.Multiaddr
	// Connect makes sure that there is a connection to the peer, which may be looked for if it is not
	// where it is said to be. An *UnreachableError says why there is none. Dials to addresses that
	// have never been reached are rationed, unless ctx is that of Named.
	Connect(ctx context.Context, p peer.AddrInfo) error
	// Open opens a stream for a protocol to a connected peer.
	Open(ctx context.Context, p peer.ID, protocol string) (Stream, error)
	// Handle calls fn, in a goroutine of its own, for each stream that a peer opens for a protocol. It
	// must be called before Start.
	Handle(protocol string, fn func(Stream))
	// Start begins to accept connections. changed is called, never twice at once, when a peer has come
	// or gone.
	Start(changed func(p peer.ID, connected bool)) error
	// Peers returns the connected peers.
	Peers() []Peer
	// Connected reports whether a peer is connected.
	Connected(p peer.ID) bool
	// Origin names the IP network of a connected peer, or of the relay between, as Located does.
	Origin(p peer.ID) string
	// Keep has a connected peer be among the last that are let go when there are too many: the more
	// trust, the later.
	Keep(p peer.ID, trust Trust)
	// KnownAddrs returns where a connected peer can be reached, without /p2p/ID: first where this node
	// has dialled it, then where the peer itself says.
	KnownAddrs(p peer.ID) []ma.Multiaddr
	// Join listens to a topic. take is called with each message that another peer publishes or passes
	// on, before it is passed on to others, from many goroutines at once; what it returns decides
	// whether it is. Joining twice changes nothing.
	Join(topic string, take func(ctx context.Context, from peer.ID, msg []byte) Verdict) error
	// Part ceases to listen to a topic.
	Part(topic string)
	// Publish sends a message of at most MaxGossip bytes to all who listen to a topic that has been
	// joined.
	Publish(ctx context.Context, topic string, msg []byte) error
	// Listeners returns the connected peers that are known to listen to a topic that has been joined.
	Listeners(topic string) []peer.ID
	// Announce says in the distributed hash table that this node can be asked for what the key stands
	// for, for a day. It returns ErrNoTable if there is no such table, or nobody in it.
	Announce(ctx context.Context, key [32]byte) error
	// Find returns peers that have announced a key: some of them, if there are many, and any of them
	// may lie. Errors are as for Announce.
	Find(ctx context.Context, key [32]byte) ([]peer.AddrInfo, error)
	// Drop closes all connections.
	Drop()
	// Situation tells how others see this node.
	Situation() Situation
	// Close ends all connections and waits until no handler runs.
	Close() error
}

// Relay is a Network that may carry the traffic of other nodes to each other.
type Relay interface {
	// MeterRelay has pass called after each n bytes that have been relayed, at most 64 KiB. The stream
	// that they belong to goes on when it returns. ctx ends with the network.
	MeterRelay(pass func(ctx context.Context, n int) error)
}

// Twins is a Network that finds out whether another process runs with this node's key.
type Twins interface {
	// LookForTwin looks at addresses, in the background, at which somebody says that this node is.
	// Those at which it listens are left out, and those that were looked at a short while ago. Who
	// says so does not matter: only whoever proves the key there is a twin.
	LookForTwin(addrs []ma.Multiaddr)
	// Twin returns where one was found in the last minutes; nil for nowhere.
	Twin() ma.Multiaddr
}

type namedKey struct{}

// Named returns a context for connecting to peers that a person or the configuration names, or that
// are known (see package holders), and no stranger. Dials to them are not rationed.
func Named(ctx context.Context) context.Context { return context.WithValue(ctx, namedKey{}, true) }

// IsNamed reports whether ctx comes from Named.
func IsNamed(ctx context.Context) bool { return ctx.Value(namedKey{}) != nil }

// Situation is what a network knows of how others see the node.
type Situation struct {
	// public addresses that others have dialled for a test, with and without success
	Reachable, Unreachable []ma.Multiaddr
	Untested               []ma.Multiaddr // and those that nobody has
	Seen                   []ma.Multiaddr // public addresses at which others see this node
	NAT                    NAT
	Relays                 []peer.ID      // that are to be used
	Relayed                []ma.Multiaddr // addresses of places at them
	RelayFor               bool           // this node relays for others
	Table                  string         // part in the hash table; empty without one
	TableSize              int            // nodes of it that are known
	Serves                 bool           // in it
	Bootstrap              []peer.ID
}

// NAT is how a router between this node and others translates addresses (RFC 4787, section 4.1).
type NAT string

// Through a router that translates independently of the endpoint, direct connections can be made;
// through one that does not, only to a peer that all can reach.
const (
	NATUnknown NAT = "unknown" // nobody has said anything
	NATNone    NAT = "none"    // there is no such router
	// there is one, of a kind that a single peer cannot tell
	NATSome        NAT = "some"
	NATIndependent NAT = "endpoint-independent" // others all see the same address and port
	NATDependent   NAT = "endpoint-dependent"   // each sees another
)

// Stream is a reliable two-way byte stream to one peer.
type Stream interface {
	io.ReadWriteCloser
	// CloseWrite tells the peer that nothing more will be written.
	CloseWrite() error
	// Reset ends both directions at once; the peer's reads fail.
	Reset() error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	// Remote returns the authenticated id of the peer.
	Remote() peer.ID
}

// MaxGossip is the length of the longest message published to a topic.
const MaxGossip = 512 << 10

// Verdict is what becomes of a message that came by gossip.
type Verdict int

// Ignore neither passes a message on nor blames anybody for it; Accept passes it on; Reject blames
// the peer that sent it.
const (
	Ignore Verdict = iota
	Accept
	Reject
)

// Peer is a connected peer.
type Peer struct {
	ID        peer.ID
	Addr      ma.Multiaddr // of the connection in use
	Transport string       // "tcp", "quic-v1"
	Direct    bool         // not through a relay
}

// Near reports whether a peer is on this machine or a local network. Of a peer behind a relay, Addr
// is the relay's, so it is not near.
func (p Peer) Near() bool {
	return p.Transport != "relay" && (p.Addr == nil || !manet.IsPublicAddr(p.Addr))
}

// UnreachableError reports a peer to which no connection could be made.
type UnreachableError struct {
	Peer    peer.ID
	Addrs   []ma.Multiaddr
	Timeout time.Duration // that ended the attempt, or 0 if it failed before
	Err     error
}

func (e *UnreachableError) Error() string {
	at := "no known address"
	if len(e.Addrs) > 0 {
		at = fmt.Sprint(e.Addrs[0])
		if n := len(e.Addrs) - 1; n > 0 {
			at += fmt.Sprintf(" and %d more", n)
		}
	}
	if e.Timeout > 0 {
		return fmt.Sprintf(
			"peer %s unreachable at %s: no answer within %s; is it running?", e.Peer, at, e.Timeout,
		)
	}
	return fmt.Sprintf("peer %s unreachable at %s: %v", e.Peer, at, e.Err)
}

// Kind implements kind.Of.
func (e *UnreachableError) Kind() kind.Kind { return kind.With(kind.Unreachable, e.Err) }

func (e *UnreachableError) Unwrap() error { return e.Err }

// ErrNoTable reports that nobody can be asked in a distributed hash table.
var ErrNoTable = errors.New("there is no distributed hash table")

// ErrOffline reports an operation that needs a network on a node that was opened without one.
var ErrOffline = errors.New("this node is offline")

// GiveUp gives up a stream that is no longer of use; that this can fail is of no use either.
func GiveUp(s Stream) error {
	_ = s.Reset()
	return nil
}

// Trust is how much a peer counts that holds a replica in common with this node.
type Trust int

// TrustProved is for a peer that has proved no more than that, TrustHistory for one that has proved
// it on several days, and TrustNamed for one that a person has named. See package
// holders.
const (
	TrustProved Trust = iota
	TrustHistory
	TrustNamed
)

package node

import (
	"time"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/clock"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/session"
)

// Everything that a peer opens comes through admitted: it counts the stream, and gives the handler
// a guest, which counts the memory that the peer makes this node hold. docs/protocol/limits.md
// lists the figures below.

const (
	// idleTimeout is how long a peer may take for the next byte.
	idleTimeout = 30 * time.Second
	// serviceTime is how long a peer has for one request to what is built upon the node, and for
	// taking the answer.
	serviceTime = time.Minute
	// guestBytes is charged for each stream: its goroutine and its reader.
	guestBytes = 12 << 10
	// serviceBytes is charged for each stream of what is built upon the node: a request, as it came
	// and parsed.
	serviceBytes = 192 << 10
	// maxPeerStreams is how many blob streams one peer may have open: each may hold a window of
	// requests that are not read yet.
	maxPeerStreams = 32
)

const mebi = 1 << 20

// budgets bound the memory that peers hold, in bytes.
var budgets = admission.Shares{
	Strangers: admission.Share{Peer: 8 * mebi, Net: 64 * mebi, All: 192 * mebi},
	Proved:    admission.Share{Peer: 64 * mebi, Net: 256 * mebi, All: 512 * mebi},
	Known:     admission.Share{Peer: 96 * mebi, All: 1024 * mebi},
}

// guests bound the open streams of each protocol.
var guests = map[string]admission.Shares{
	// A stream that waits for its reader costs memory, which budgets bounds; a known peer keeps
	// streams open for its next request.
	wire.Protocol: {
		Strangers: admission.Share{
			Peer: maxPeerStreams, Net: 32 * maxPeerStreams, All: 64 * maxPeerStreams,
		},
		Known: admission.Share{Peer: maxPeerStreams},
	},
	// A stranger is one until its greeting is over. A device that has just met another greets for
	// all its replicas.
	session.Protocol: {
		Strangers: admission.Share{Peer: 32, Net: 256, All: 1024}, Known: admission.Share{Peer: 128},
	},
	session.OverviewProtocol: {
		Strangers: admission.Share{Peer: 2, Net: 16, All: 64}, Known: admission.Share{Peer: 4},
	},
	session.PushProtocol: {
		Strangers: admission.Share{Peer: 8, Net: 64, All: 256}, Known: admission.Share{Peer: 64},
	},
	session.HeldProtocol: {
		Strangers: admission.Share{Peer: 2, Net: 16, All: 64}, Known: admission.Share{Peer: 8},
	},
	clock.Protocol: {
		Strangers: admission.Share{Peer: 2, Net: 32, All: 256}, Known: admission.Share{Peer: 4},
	},
}

// services bounds the open streams of a protocol of what is built upon the node.
var services = admission.Shares{
	Strangers: admission.Share{Peer: 4, Net: 16, All: 256},
	Known:     admission.Share{Peer: 16, All: 1024},
}

// newRoom returns the room that all peers share, with a place for what stands above the node.
func newRoom(served map[string]func(link.Stream), rooms []Room) *admission.Room {
	cfg := admission.Config{Bytes: budgets, Streams: map[string]admission.Shares{}}
	for protocol, s := range guests {
		cfg.Streams[protocol] = s
	}
	for protocol := range served {
		cfg.Streams[protocol] = services
	}
	for _, r := range rooms {
		if r.Protocol != "" {
			cfg.Streams[r.Protocol] = r.Streams
		}
	}
	return admission.New(cfg)
}

// admitted returns a handler that lets fn answer a stream if its peer may open one, and resets it
// otherwise, or when the place is for another (see admission.Room.EnterFairly).
func (n *Node) admitted(protocol string, fn func(link.Stream)) func(link.Stream) {
	return func(s link.Stream) {
		v, err := n.room.EnterFairly(protocol, n.partyOf(s), func() {
			n.counters.refused.Add(1)
			_ = s.Reset() // the peer may be gone
		})
		if err == nil {
			defer v.Leave()
			err = v.Take(guestBytes)
		}
		if err != nil {
			n.counters.refused.Add(1)
			n.log.Debug("a stream was refused", "peer", s.Remote(), "protocol", protocol, "error", err)
			_ = s.Reset() // the peer may be gone
			return
		}
		err = fault.Guard(n.log, "a stream", func() error {
			fn(link.NewGuest(s, v))
			return nil
		}, "protocol", protocol, "peer", s.Remote())
		if err != nil {
			_ = s.Reset() // the peer may be gone
		}
	}
}

// serveOther returns the handler of a protocol of what is built upon the node.
func serveOther(fn func(link.Stream)) func(link.Stream) {
	return func(s link.Stream) {
		if err := link.VisitOf(s).Take(serviceBytes); err != nil {
			_ = s.Reset() // the peer may be gone
			return
		}
		fn(link.Within(s, idleTimeout).EndingIn(serviceTime))
	}
}

// partyOf says who has opened a stream. Known peers are those whom a ticket, a vault, a seed or an
// invite names, and those with a history; others that are remembered have proved no more than that
// they know the id of a replica.
func (n *Node) partyOf(s link.Stream) admission.Party {
	p := admission.Party{Peer: s.Remote(), Net: link.OriginOf(s)}
	p.Proved, p.Known, p.Named = n.contacts.Counts(p.Peer)
	return p
}

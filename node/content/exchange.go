// Package content fetches verified content from peers, and gives it to them.
//
// What belongs here: the blob protocol on both sides (serve.go, provider.go; its bytes are in
// package wire), fetches from several providers at once (fetch.go; who is asked for what is in
// package schedule), those in the background, of what entries claim (claims.go), for one peer
// (lead.go), whole directories and files in chunks (get.go), reads of what is not here
// (session.go), and the mending of what is damaged (mend.go). What never belongs here: entries and
// replicas, which content is wanted (package wanted), or who may connect.
//
// Start at [Exchange].
package content

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
)

// Network is what an exchange needs of a network.
type Network interface {
	// Peers returns the connected peers.
	Peers() []link.Peer
	// Connected reports whether a peer is connected.
	Connected(p peer.ID) bool
	// Connect makes sure that there is a connection to the peer.
	Connect(ctx context.Context, p peer.AddrInfo) error
	// Open opens a stream for a protocol to a connected peer.
	Open(ctx context.Context, p peer.ID, protocol string) (link.Stream, error)
}

// Config sets up an Exchange. All fields but Gave must be set.
type Config struct {
	Blobs  *blobs.Store
	Limits *limits.Limiter
	Log    *slog.Logger
	// Lied reports whether a peer has sent something wrong not long ago. NoteLie remembers one that
	// has just done it.
	Lied    func(p peer.ID) bool
	NoteLie func(p peer.ID, cause error)
	// Gave, if not nil, is told how many bytes of the protocol a peer has been sent.
	Gave func(p peer.ID, bytes int)
}

// Exchange gives content to peers and fetches it from them. Its methods may be called at the same
// time from many goroutines.
type Exchange struct {
	cfg            Config
	blobs          *blobs.Store
	limits         *limits.Limiter
	log            *slog.Logger
	net            Network // nil while offline
	sent, received atomic.Uint64
}

// New returns an exchange without a network.
func New(cfg Config) *Exchange {
	return &Exchange{cfg: cfg, blobs: cfg.Blobs, limits: cfg.Limits, log: cfg.Log}
}

// GoOnline gives the exchange a network. It may be called once, before the exchange is used from
// several goroutines.
func (x *Exchange) GoOnline(n Network) { x.net = n }

// Traffic returns how many bytes of the protocol have been sent and received.
func (x *Exchange) Traffic() (sent, received uint64) { return x.sent.Load(), x.received.Load() }

// peers returns the peers that are connected right now.
func (x *Exchange) peers() (out []peer.AddrInfo) {
	if x.net == nil {
		return nil
	}
	for _, p := range x.net.Peers() {
		out = append(out, peer.AddrInfo{ID: p.ID})
	}
	return out
}

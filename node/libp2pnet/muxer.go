package libp2pnet

import (
	"net"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
)

// Windows of a stream in bytes: what a peer may send before it hears that it was read. On a
// connection that this node has opened, what is on the way must fit in them from the start, or a
// short transfer over a far connection is over before they have grown.
const (
	firstWindow = 16 << 20
	lastWindow  = 32 << 20
)

// muxer is yamux. The resource manager counts 256 KiB for each stream, and what its window grows
// beyond that. So a stream that somebody else's connection carries begins with a window of that
// size: all that strangers can make this node hold of what it has not read is counted.
type muxer struct{}

// NewConn implements network.Multiplexer.
func (muxer) NewConn(
	c net.Conn, isServer bool, scope network.PeerScope,
) (network.MuxedConn, error) {
	cfg := *yamux.DefaultTransport.Config() // a window of 256 KiB
	cfg.MaxStreamWindowSize = lastWindow
	if !isServer {
		cfg.InitialStreamWindowSize = firstWindow
	}
	return (*yamux.Transport)(&cfg).NewConn(c, isServer, scope)
}

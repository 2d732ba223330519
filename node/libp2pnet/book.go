package libp2pnet

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	ma "github.com/multiformats/go-multiaddr"
)

// What libp2p keeps of one peer that has said who it is (identify). A peer may say 80 KiB of
// itself, and libp2p keeps most of it while it is connected and for a minute after that. Anybody
// can connect under any number of ids.
const (
	// maxProtocols is how many protocols are kept, and maxProtocol how long their names may be. A
	// node speaks some twenty.
	maxProtocols = 64
	maxProtocol  = 64
	// maxBookAddrs and maxBookBytes are how many addresses are kept of those that are told at a time,
	// and how many bytes these may have together.
	maxBookAddrs = 64
	maxBookBytes = 4 << 10
	// maxNote is the length of a text that is kept besides, such as the name of the peer's program.
	maxNote = 64
)

// book is a peerstore that keeps little of what peers say.
type book struct {
	peerstore.Peerstore
	peerstore.CertifiedAddrBook
	self   peer.ID
	voices *voices                    // nil: all are heard
	relays map[peer.ID][]ma.Multiaddr // where the configuration names them; read only
}

func newBook(self peer.ID, v *voices) (*book, error) {
	all, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	return &book{Peerstore: all, CertifiedAddrBook: all, self: self, voices: v}, nil
}

// short returns the first of some addresses of a peer, as many as may be kept.
func (b *book) short(p peer.ID, addrs []ma.Multiaddr) []ma.Multiaddr {
	if p == b.self {
		return addrs
	}
	left := maxBookBytes
	for i, m := range addrs {
		for _, c := range m {
			left -= len(c.Bytes())
		}
		if i == maxBookAddrs || left < 0 {
			return addrs[:i:i]
		}
	}
	return addrs
}

// AddAddr implements peerstore.AddrBook.
func (b *book) AddAddr(p peer.ID, m ma.Multiaddr, ttl time.Duration) {
	b.AddAddrs(p, []ma.Multiaddr{m}, ttl)
}

// AddAddrs implements peerstore.AddrBook.
func (b *book) AddAddrs(p peer.ID, addrs []ma.Multiaddr, ttl time.Duration) {
	b.Peerstore.AddAddrs(p, b.short(p, addrs), ttl)
}

// SetAddr implements peerstore.AddrBook.
func (b *book) SetAddr(p peer.ID, m ma.Multiaddr, ttl time.Duration) {
	b.SetAddrs(p, []ma.Multiaddr{m}, ttl)
}

// SetAddrs implements peerstore.AddrBook.
func (b *book) SetAddrs(p peer.ID, addrs []ma.Multiaddr, ttl time.Duration) {
	b.Peerstore.SetAddrs(p, b.short(p, addrs), ttl)
}

// known returns those protocols of a peer that are kept. Names that are too long are none that this
// node asks about.
func (b *book) known(p peer.ID, all []protocol.ID) []protocol.ID {
	if p == b.self {
		return all
	}
	kept := make([]protocol.ID, 0, min(len(all), maxProtocols))
	for _, id := range all {
		if len(id) <= maxProtocol && len(kept) < maxProtocols {
			kept = append(kept, id)
		}
	}
	return kept
}

// SupportsProtocols implements peerstore.ProtoBook. Of a peer that is not to be asked where this
// node can be reached, it does not say that it would answer.
func (b *book) SupportsProtocols(p peer.ID, all ...protocol.ID) ([]protocol.ID, error) {
	some, err := b.Peerstore.SupportsProtocols(p, all...)
	if b.voices == nil || !slices.Contains(some, autonatv2.DialProtocol) {
		return some, err
	}
	if _, ok := b.voices.asks(p); ok {
		return some, err
	}
	return slices.DeleteFunc(some, func(id protocol.ID) bool {
		return id == autonatv2.DialProtocol
	}), err
}

// AddProtocols implements peerstore.ProtoBook.
func (b *book) AddProtocols(p peer.ID, all ...protocol.ID) error {
	return b.Peerstore.AddProtocols(p, b.known(p, all)...)
}

// SetProtocols implements peerstore.ProtoBook.
func (b *book) SetProtocols(p peer.ID, all ...protocol.ID) error {
	return b.Peerstore.SetProtocols(p, b.known(p, all)...)
}

// Put implements peerstore.PeerMetadata.
func (b *book) Put(p peer.ID, key string, value any) error {
	if text, ok := value.(string); ok && len(text) > maxNote {
		return nil
	}
	return b.Peerstore.Put(p, key, value)
}

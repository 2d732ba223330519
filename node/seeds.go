package node

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

// AddSeed notes that a peer keeps a replica, because this node has asked it to. Tickets of the
// replica name it from then on.
func (n *Node) AddSeed(ctx context.Context, id replica.ID, at peer.AddrInfo) error {
	err := n.addSeed(ctx, id, at, true)
	n.changed(id)
	return err
}

// LearnSeed notes that a peer keeps a replica, because another device of the person says so.
func (n *Node) LearnSeed(ctx context.Context, id replica.ID, at peer.AddrInfo) error {
	return n.addSeed(ctx, id, at, false)
}

func (n *Node) addSeed(ctx context.Context, id replica.ID, at peer.AddrInfo, own bool) error {
	if err := n.Remember(ctx, []replica.ID{id}, []peer.AddrInfo{at}); err != nil {
		return err
	}
	return n.holders.AddSeed(ctx, id, at.ID, own)
}

// RemoveSeed notes that a peer does not keep a replica any more.
func (n *Node) RemoveSeed(ctx context.Context, id replica.ID, p peer.ID) error {
	n.changed(id)
	return n.holders.RemoveSeed(ctx, id, p)
}

// UnlearnSeeds is [holders.Book.UnlearnSeeds].
func (n *Node) UnlearnSeeds(
	ctx context.Context, said func(id replica.ID, at peer.ID) bool,
) error {
	return n.holders.UnlearnSeeds(ctx, said)
}

// Seeds returns the peers that keep a replica.
func (n *Node) Seeds(ctx context.Context, id replica.ID) ([]peer.ID, error) {
	return n.holders.Seeds(ctx, id)
}

// RegisteredAt is [holders.Book.RegisteredAt].
func (n *Node) RegisteredAt(ctx context.Context) ([]holders.SeedOf, error) {
	return n.holders.RegisteredAt(ctx)
}

// seedAddrs returns where the seeds of a replica are, each with its id: one address of each, then
// the next of each, so that they share the places in a ticket.
func (n *Node) seedAddrs(ctx context.Context, id replica.ID) ([]ma.Multiaddr, error) {
	seeds, err := n.holders.SeedPeers(ctx, id)
	var of [][]ma.Multiaddr
	for _, p := range seeds {
		some, err := peer.AddrInfoToP2pAddrs(&p)
		if err != nil {
			return nil, err
		}
		of = append(of, some)
	}
	return link.InTurn(of...), err
}

package node

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

// A node notes which peers keep a replica for it, and puts them in the tickets that it makes:
//
//	n z replica[32] peer-id   1 if this node has registered the replica there, 0 if another device of the person says so
const keySeed = "nz"

func seedKey(id replica.ID, p peer.ID) []byte {
	return append(append([]byte(keySeed), id[:]...), p...)
}

// AddSeed notes that a peer keeps a replica, because this node has asked it to.
func (n *Node) AddSeed(ctx context.Context, id replica.ID, at peer.AddrInfo) error {
	err := n.addSeed(ctx, id, at, 1)
	n.changed(id)
	return err
}

func (n *Node) addSeed(ctx context.Context, id replica.ID, at peer.AddrInfo, own byte) error {
	if err := n.Remember(ctx, []replica.ID{id}, []peer.AddrInfo{at}); err != nil {
		return err
	}
	err := n.kv.Update(ctx, func(tx kv.Txn) error { return tx.Set(seedKey(id, at.ID), []byte{own}) })
	if err != nil {
		return err
	}
	return n.kv.Sync(ctx)
}

// RemoveSeed notes that a peer does not keep a replica any more.
func (n *Node) RemoveSeed(ctx context.Context, id replica.ID, p peer.ID) error {
	n.changed(id)
	return kv.DeleteAll(ctx, n.kv, [][]byte{seedKey(id, p)})
}

// Seeds returns the peers that keep a replica.
func (n *Node) Seeds(ctx context.Context, id replica.ID) (all []peer.ID, err error) {
	err = n.kv.View(ctx, func(r kv.Reader) error {
		all = nil
		prefix := append([]byte(keySeed), id[:]...)
		for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			all = append(all, peer.ID(p.Key[len(prefix):]))
		}
		return nil
	})
	return all, err
}

// seedAddrs returns where the seeds of a replica are.
func (n *Node) seedAddrs(ctx context.Context, id replica.ID) ([]ma.Multiaddr, error) {
	seeds, err := n.Seeds(ctx, id)
	if err != nil || len(seeds) == 0 {
		return nil, err
	}
	known, err := n.KnownPeers(ctx, id)
	if err != nil {
		return nil, err
	}
	var of [][]ma.Multiaddr
	for _, p := range known {
		if !slices.Contains(seeds, p.ID) {
			continue
		}
		some, err := peer.AddrInfoToP2pAddrs(&p)
		if err != nil {
			return nil, err
		}
		of = append(of, some)
	}
	return link.InTurn(of...), nil
}

// forgetSeeds drops what is noted of a replica that is left.
func (n *Node) forgetSeeds(ctx context.Context, id replica.ID) error {
	seeds, err := n.Seeds(ctx, id)
	var keys [][]byte
	for _, p := range seeds {
		keys = append(keys, seedKey(id, p))
	}
	if err != nil {
		return err
	}
	return kv.DeleteAll(ctx, n.kv, keys)
}

// SeedOf is a seed at which this node has registered replicas.
type SeedOf struct {
	Seed     peer.AddrInfo
	Replicas []replica.ID
}

// RegisteredAt returns the seeds at which this node has registered replicas, in the order of their
// ids.
func (n *Node) RegisteredAt(ctx context.Context) ([]SeedOf, error) {
	all := map[peer.ID]SeedOf{}
	err := n.eachSeed(ctx, func(id replica.ID, at peer.ID, own bool) {
		if own {
			x := all[at]
			x.Seed.ID, x.Replicas = at, append(x.Replicas, id)
			all[at] = x
		}
	})
	if err != nil {
		return nil, err
	}
	var out []SeedOf
	for _, x := range all {
		known, err := n.KnownPeers(ctx, x.Replicas[0])
		if err != nil {
			return nil, err
		}
		for _, p := range known {
			if p.ID == x.Seed.ID {
				x.Seed.Addrs = append(x.Seed.Addrs, p.Addrs...)
			}
		}
		slices.SortFunc(x.Seed.Addrs, func(a, b ma.Multiaddr) int {
			return strings.Compare(a.String(), b.String())
		})
		x.Seed.Addrs = x.Seed.Addrs[:min(len(x.Seed.Addrs), holders.MaxAddrs)]
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b SeedOf) int {
		return strings.Compare(a.Seed.ID.String(), b.Seed.ID.String())
	})
	return out, nil
}

// LearnSeed notes that a peer keeps a replica, because another device of the person says so.
func (n *Node) LearnSeed(ctx context.Context, id replica.ID, at peer.AddrInfo) error {
	return n.addSeed(ctx, id, at, 0)
}

// UnlearnSeeds forgets what was learned of seeds, as far as nobody says it any more.
func (n *Node) UnlearnSeeds(
	ctx context.Context, said func(id replica.ID, at peer.ID) bool,
) error {
	var gone [][]byte
	err := n.eachSeed(ctx, func(id replica.ID, at peer.ID, own bool) {
		if !own && !said(id, at) {
			gone = append(gone, seedKey(id, at))
		}
	})
	if err != nil {
		return err
	}
	return kv.DeleteAll(ctx, n.kv, gone)
}

// eachSeed calls fn for each record of a seed; own are those of this node.
func (n *Node) eachSeed(
	ctx context.Context, fn func(id replica.ID, at peer.ID, own bool),
) error {
	return n.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keySeed)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Key) <= len(keySeed)+32 {
				return errors.New("node store: malformed record of a seed")
			}
			id, at := replica.ID(p.Key[len(keySeed):]), peer.ID(p.Key[len(keySeed)+32:])
			fn(id, at, len(p.Value) != 1 || p.Value[0] != 0)
		}
		return nil
	})
}

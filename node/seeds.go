package node

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
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
	n.tendSoon()
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
	n.tendSoon()
	return n.dropKeys(ctx, [][]byte{seedKey(id, p)})
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
func (n *Node) seedAddrs(ctx context.Context, id replica.ID) (addrs []ma.Multiaddr, err error) {
	seeds, err := n.Seeds(ctx, id)
	if err != nil || len(seeds) == 0 {
		return nil, err
	}
	known, err := n.KnownPeers(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, p := range known {
		if !slices.Contains(seeds, p.ID) {
			continue
		}
		some, err := peer.AddrInfoToP2pAddrs(&p)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, some...)
	}
	return addrs, nil
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
	return n.dropKeys(ctx, keys)
}

// shareSeeds brings the seeds that the devices of a person know together, by the person's own
// vault: it returns what this device has to say, and notes what the others say. The caller holds
// n.tending.
func (n *Node) shareSeeds(ctx context.Context, p *replica.Plain, v *Vault) (changes []vaultChange, err error) {
	own := map[string]vault.KeptAt{} // what this device has said
	said := map[string]bool{}        // records that others say are to be there
	all := true
	for it, err := range p.Entries(ctx, replica.Query{Prefix: vault.SeedsPrefix()}) {
		if err != nil {
			return nil, err
		}
		b, err := n.readSmall(ctx, p, &it)
		if err != nil {
			all = false
			continue // it comes, or is of no use
		}
		k, err := vault.OpenKeptAt(v.catalogue, it.Key, b)
		if err != nil {
			continue
		}
		if it.Entry.Author == v.author {
			own[k.Seed] = k
		} else if err := n.learnSeeds(ctx, &k, said); err != nil {
			return nil, err
		}
	}
	if all {
		if err := n.unlearnSeeds(ctx, said); err != nil {
			return nil, err
		}
	}
	known, err := n.allSeeds(ctx)
	if err != nil {
		return nil, err
	}
	for id, k := range known {
		if said, ok := own[id]; ok && slices.Equal(said.Addrs, k.Addrs) && slices.Equal(said.Replicas, k.Replicas) {
			continue
		}
		content, err := k.Seal(v.catalogue)
		if err != nil {
			return nil, err
		}
		changes = append(changes, vaultChange{k.Key(), content})
	}
	for id, said := range own {
		if _, ok := known[id]; !ok {
			changes = append(changes, vaultChange{key: said.Key()})
		}
	}
	return changes, nil
}

// learnSeeds notes what another device says of a seed, as far as this one holds what it keeps.
func (n *Node) learnSeeds(ctx context.Context, k *vault.KeptAt, said map[string]bool) error {
	var addrs []ma.Multiaddr
	for _, text := range k.Addrs {
		if a, err := ma.NewMultiaddr(text); err == nil {
			addrs = append(addrs, a)
		}
	}
	for _, at := range peersAt(addrs) {
		if at.ID.String() != k.Seed || at.ID == n.id {
			continue
		}
		for _, id := range k.Replicas {
			if _, err := n.Replicas.Get(ctx, id); err != nil {
				continue // it is not held here
			}
			seeds, err := n.Seeds(ctx, id)
			if err != nil {
				return err
			}
			said[string(seedKey(id, at.ID))] = true
			if !slices.Contains(seeds, at.ID) {
				if err := n.addSeed(ctx, id, at, 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// unlearnSeeds forgets what no device says any more.
func (n *Node) unlearnSeeds(ctx context.Context, said map[string]bool) error {
	var gone [][]byte
	err := n.kv.View(ctx, func(r kv.Reader) error {
		gone = nil
		for p, err := range r.Scan(kv.Prefix([]byte(keySeed)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Value) == 1 && p.Value[0] == 0 && !said[string(p.Key)] {
				gone = append(gone, slices.Clone(p.Key))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return n.dropKeys(ctx, gone)
}

// SeedOf is a seed at which this node has registered replicas.
type SeedOf struct {
	Seed     peer.AddrInfo
	Replicas []replica.ID
}

// RegisteredAt returns the seeds at which this node has registered replicas, in the order of their
// ids.
func (n *Node) RegisteredAt(ctx context.Context) (out []SeedOf, err error) {
	all, err := n.allSeeds(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		id, err := peer.Decode(name)
		if err != nil {
			return nil, err
		}
		s := SeedOf{Seed: peer.AddrInfo{ID: id}, Replicas: all[name].Replicas}
		var addrs []ma.Multiaddr
		for _, text := range all[name].Addrs {
			a, err := ma.NewMultiaddr(text)
			if err != nil {
				return nil, err
			}
			addrs = append(addrs, a)
		}
		if at := peersAt(addrs); len(at) == 1 && at[0].ID == id {
			s.Seed = at[0]
		}
		out = append(out, s)
	}
	return out, nil
}

func peersAt(addrs []ma.Multiaddr) []peer.AddrInfo { return (&ticket.Blob{Addrs: addrs}).Peers() }

// allSeeds returns the seeds at which this node has registered something, with what they keep, in a
// fixed order.
func (n *Node) allSeeds(ctx context.Context) (map[string]vault.KeptAt, error) {
	all := map[string]vault.KeptAt{}
	err := n.kv.View(ctx, func(r kv.Reader) error {
		clear(all)
		for p, err := range r.Scan(kv.Prefix([]byte(keySeed)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Value) == 1 && p.Value[0] == 0 {
				continue
			}
			if len(p.Key) <= len(keySeed)+32 {
				return errors.New("node store: malformed record of a seed")
			}
			id, at := replica.ID(p.Key[len(keySeed):]), peer.ID(p.Key[len(keySeed)+32:])
			k := all[at.String()]
			k.Seed = at.String()
			k.Replicas = append(k.Replicas, id)
			all[k.Seed] = k
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name, k := range all {
		known, err := n.KnownPeers(ctx, k.Replicas[0])
		if err != nil {
			return nil, err
		}
		for _, p := range known {
			if p.ID.String() != name {
				continue
			}
			addrs, err := peer.AddrInfoToP2pAddrs(&p)
			if err != nil {
				return nil, err
			}
			for _, a := range addrs {
				k.Addrs = append(k.Addrs, a.String())
			}
		}
		slices.Sort(k.Addrs)
		k.Addrs = k.Addrs[:min(len(k.Addrs), 16)]
		all[name] = k
	}
	return all, nil
}

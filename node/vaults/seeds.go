package vaults

import (
	"context"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// keptThere is a replica at a seed.
type keptThere struct {
	id replica.ID
	at peer.ID
}

// shareSeeds brings the seeds that the devices of a person know together, by the person's own
// vault: it returns what this device has to say, and notes what the others say. The caller holds
// s.tending.
func (s *Service) shareSeeds(
	ctx context.Context, p *replica.Plain, v *Vault,
) (changes []vaultChange, err error) {
	own := map[string]vault.KeptAt{} // what this device has said
	said := map[keptThere]bool{}     // what others say
	all := true
	for it, err := range p.Entries(ctx, replica.Query{Prefix: vault.SeedsPrefix()}) {
		if err != nil {
			return nil, err
		}
		b, err := s.readSmall(ctx, p, &it)
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
		} else if err := s.learnSeeds(ctx, &k, said); err != nil {
			return nil, err
		}
	}
	if all {
		saysSo := func(id replica.ID, at peer.ID) bool { return said[keptThere{id, at}] }
		if err := s.n.UnlearnSeeds(ctx, saysSo); err != nil {
			return nil, err
		}
	}
	known, err := s.ownSeeds(ctx)
	if err != nil {
		return nil, err
	}
	for id, k := range known {
		said, ok := own[id]
		if ok && slices.Equal(said.Addrs, k.Addrs) && slices.Equal(said.Replicas, k.Replicas) {
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
func (s *Service) learnSeeds(
	ctx context.Context, k *vault.KeptAt, said map[keptThere]bool,
) error {
	var addrs []ma.Multiaddr
	for _, text := range k.Addrs {
		if a, err := ma.NewMultiaddr(text); err == nil {
			addrs = append(addrs, a)
		}
	}
	for _, at := range (&ticket.Blob{Addrs: addrs}).Peers() {
		if at.ID.String() != k.Seed || at.ID == s.n.ID() {
			continue
		}
		for _, id := range k.Replicas {
			if _, err := s.n.Replicas().Get(ctx, id); err != nil {
				continue // it is not held here
			}
			seeds, err := s.n.Seeds(ctx, id)
			if err != nil {
				return err
			}
			said[keptThere{id, at.ID}] = true
			if !slices.Contains(seeds, at.ID) {
				if err := s.n.LearnSeed(ctx, id, at); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ownSeeds returns the seeds at which this node has registered something, by their ids, with what
// they keep.
func (s *Service) ownSeeds(ctx context.Context) (map[string]vault.KeptAt, error) {
	seeds, err := s.n.RegisteredAt(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]vault.KeptAt{}
	for _, x := range seeds {
		k := vault.KeptAt{Seed: x.Seed.ID.String(), Replicas: x.Replicas}
		addrs, err := peer.AddrInfoToP2pAddrs(&x.Seed)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			k.Addrs = append(k.Addrs, a.String())
		}
		slices.Sort(k.Addrs)
		all[k.Seed] = k
	}
	return all, nil
}

package holders

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Peers that keep a replica for this node, its seeds, are noted in records of their own:
//
//	n z replica[32] peer-id
//	  own u8: 1 if this node has registered the replica there,
//	          0 if another device of the person says so
//
// Where a seed is stands in its record as a holder, which names it: see acquaintance.go.
const keySeed = "nz"

func seedPrefix(id replica.ID) []byte { return append([]byte(keySeed), id[:]...) }

func seedKey(id replica.ID, p peer.ID) []byte { return append(seedPrefix(id), p...) }

func seedValue(own bool) []byte {
	if own {
		return []byte{1}
	}
	return []byte{0}
}

// parseSeed reads a record of a seed.
func parseSeed(key, value []byte) (id replica.ID, at peer.ID, own bool, err error) {
	rest, ok := strings.CutPrefix(string(key), keySeed)
	if !ok || len(rest) <= len(id) || len(value) != 1 || value[0] > 1 {
		return id, "", false, errors.New("node store: malformed record of a seed")
	}
	return replica.ID([]byte(rest[:len(id)])), peer.ID(rest[len(id):]), value[0] == 1, nil
}

// AddSeed notes that a peer keeps a replica: because this node has registered it there (own), or
// because another device of the person says so. It is durable when AddSeed returns.
func (b *Book) AddSeed(ctx context.Context, id replica.ID, p peer.ID, own bool) error {
	err := b.kv.Update(ctx, func(tx kv.Txn) error { return tx.Set(seedKey(id, p), seedValue(own)) })
	if err != nil {
		return err
	}
	return b.kv.Sync(ctx)
}

// RemoveSeed notes that a peer does not keep a replica any more.
func (b *Book) RemoveSeed(ctx context.Context, id replica.ID, p peer.ID) error {
	return kv.DeleteAll(ctx, b.kv, [][]byte{seedKey(id, p)})
}

// Seeds returns the peers that keep a replica, in the order of their ids' bytes.
func (b *Book) Seeds(ctx context.Context, id replica.ID) (all []peer.ID, err error) {
	err = b.eachSeed(ctx, seedPrefix(id), func(_ replica.ID, at peer.ID, _ bool) {
		all = append(all, at)
	})
	return all, err
}

// SeedPeers returns the peers that keep a replica, with the places where each may be.
func (b *Book) SeedPeers(ctx context.Context, id replica.ID) (all []peer.AddrInfo, err error) {
	seeds, err := b.Seeds(ctx, id)
	if err != nil || len(seeds) == 0 {
		return nil, err
	}
	known, err := b.Of(ctx, id)
	for _, h := range known {
		if slices.Contains(seeds, h.ID) {
			all = append(all, h.AddrInfo)
		}
	}
	return all, err
}

// SeedOf is a seed at which this node has registered replicas.
type SeedOf struct {
	Seed     peer.AddrInfo
	Replicas []replica.ID
}

// RegisteredAt returns the seeds at which this node has registered replicas, in the order of their
// ids, each with at most [MaxAddrs] addresses.
func (b *Book) RegisteredAt(ctx context.Context) ([]SeedOf, error) {
	all := map[peer.ID]SeedOf{}
	err := b.eachSeed(ctx, []byte(keySeed), func(id replica.ID, at peer.ID, own bool) {
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
		known, err := b.Of(ctx, x.Replicas[0])
		if err != nil {
			return nil, err
		}
		for _, h := range known {
			if h.ID == x.Seed.ID {
				x.Seed.Addrs = append(x.Seed.Addrs, h.Addrs...)
			}
		}
		slices.SortFunc(x.Seed.Addrs, func(a, b ma.Multiaddr) int {
			return strings.Compare(a.String(), b.String())
		})
		x.Seed.Addrs = x.Seed.Addrs[:min(len(x.Seed.Addrs), MaxAddrs)]
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b SeedOf) int {
		return strings.Compare(a.Seed.ID.String(), b.Seed.ID.String())
	})
	return out, nil
}

// UnlearnSeeds forgets the seeds that other devices named, as far as none says so any more.
func (b *Book) UnlearnSeeds(
	ctx context.Context, said func(id replica.ID, at peer.ID) bool,
) error {
	var gone [][]byte
	err := b.eachSeed(ctx, []byte(keySeed), func(id replica.ID, at peer.ID, own bool) {
		if !own && !said(id, at) {
			gone = append(gone, seedKey(id, at))
		}
	})
	if err != nil {
		return err
	}
	return kv.DeleteAll(ctx, b.kv, gone)
}

// eachSeed calls fn for each record of a seed whose key begins with prefix, in the order of keys;
// own are those of this node. fn is called after the records have been read, so it sees each once.
func (b *Book) eachSeed(
	ctx context.Context, prefix []byte, fn func(id replica.ID, at peer.ID, own bool),
) error {
	type record struct {
		id  replica.ID
		at  peer.ID
		own bool
	}
	var all []record
	err := b.kv.View(ctx, func(r kv.Reader) error {
		all = nil
		for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			id, at, own, err := parseSeed(p.Key, p.Value)
			if err != nil {
				return err
			}
			all = append(all, record{id, at, own})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range all {
		fn(r.id, r.at, r.own)
	}
	return nil
}

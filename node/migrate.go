package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Version 4 of the store had
//
//	n p replica[32] peer-id   a peer that holds the replica, with addresses alone
//	n i …                     the same by peer
//	n c …, n w …              content that is wanted, by what the hash alone says
//
// Migration takes seeds for named, and all other peers for newcomers that were met today: strangers may
// have brought any of them. It finds anew what content is wanted.
const (
	keyOldSharing = "np"
	keyOldByPeer  = "ni"
	keyOldWanted  = "nc"
	keyOlderWants = "nw"
)

// migratePeers must come before peers are loaded.
func (n *Node) migratePeers(ctx context.Context) error {
	err := n.replaceOld(ctx, keyOldSharing, func(w kv.Writer, p kv.Pair) error {
		rest := p.Key[len(keyOldSharing):]
		addrs, err := parseAddrs(p.Value)
		if err != nil || len(rest) <= 32 {
			return nil // nothing is lost with it but an address
		}
		id, who := replica.ID(rest), peer.ID(rest[32:])
		now := uint64(n.cfg.Now().Unix())
		a := acquaintance{first: now, last: now, days: 1}
		err = n.kv.View(ctx, func(r kv.Reader) (err error) {
			a.named, err = r.Has(seedKey(id, who))
			return err
		})
		a.addAddrs(addrs)
		return errors.Join(err, setSharing(w, id, who, &a))
	})
	if err == nil {
		err = n.replaceOld(ctx, keyOldByPeer, func(kv.Writer, kv.Pair) error { return nil })
	}
	if err != nil {
		return fmt.Errorf("migrate peers: %w", err)
	}
	return nil
}

// migrateWanted must come after policies are loaded. Records of version 4 are dropped last, so that
// it begins anew after a crash.
func (n *Node) migrateWanted(ctx context.Context) error {
	old := false
	err := n.kv.View(ctx, func(r kv.Reader) error {
		for _, kind := range []string{keyOldWanted, keyOlderWants} {
			for _, err := range r.Scan(kv.Prefix([]byte(kind)), kv.ScanOptions{KeysOnly: true}) {
				old = true
				if err != nil {
					return err
				}
				break
			}
		}
		return nil
	})
	if err != nil || !old {
		return err
	}
	all, err := n.Replicas.List(ctx)
	for i := 0; i < len(all) && err == nil; i++ {
		err = n.CatchUp(ctx, all[i].ID)
	}
	for _, kind := range []string{keyOldWanted, keyOlderWants} {
		if err == nil {
			err = n.replaceOld(ctx, kind, func(kv.Writer, kv.Pair) error { return nil })
		}
	}
	if err != nil {
		return fmt.Errorf("migrate wanted content: %w", err)
	}
	return nil
}

// replaceOld deletes all records of a kind after write has written what takes the place of each.
func (n *Node) replaceOld(ctx context.Context, kind string, write func(kv.Writer, kv.Pair) error) error {
	for {
		var old []kv.Pair
		err := n.kv.View(ctx, func(r kv.Reader) error {
			old = nil
			for p, err := range r.Scan(kv.Prefix([]byte(kind)), kv.ScanOptions{}) {
				if err != nil {
					return err
				}
				old = append(old, kv.Pair{Key: bytes.Clone(p.Key), Value: slices.Clone(p.Value)})
				if len(old) == dropAtOnce {
					break
				}
			}
			return nil
		})
		if err != nil || len(old) == 0 {
			return err
		}
		err = n.kv.Batch(ctx, func(w kv.Writer) error {
			for _, p := range old {
				if err := write(w, p); err != nil {
					return err
				}
				if err := w.Delete(p.Key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/replica"
)

// SyncResult is the outcome of one session that somebody asked for.
type SyncResult struct {
	SyncStats
	Err error
}

// patience is how long the peers that are known for a replica have to be reached before others are looked for.
const patience = time.Second

// SyncNow runs a session for the replica id, or the keys of it that begin with prefix, with each peer that is remembered for it or connected and nearby, or only with the
// one named, and returns when all have ended. If none of them is soon reached, others are looked for. Peers that turn out not to hold the replica are left out.
func (n *Node) SyncNow(ctx context.Context, id replica.ID, only peer.ID, prefix []byte) ([]SyncResult, error) {
	if n.net == nil {
		return nil, ErrOffline
	}
	peers, err := n.toSyncWith(ctx, id, only)
	if err != nil {
		return nil, err
	}
	connecting, stop := context.WithCancel(ctx)
	defer stop()
	var hopes atomic.Int32 // sessions that run, or have succeeded
	results := make([]SyncResult, len(peers))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var wg sync.WaitGroup
		for i, p := range peers {
			wg.Go(func() {
				st, err := SyncStats{Peer: p.ID}, n.net.Connect(connecting, p)
				if err == nil {
					hopes.Add(1)
					defer func() {
						if results[i].Err != nil {
							hopes.Add(-1)
						}
					}()
					st, err = n.syncWith(ctx, p.ID, id, prefix)
				}
				for tries := 0; errors.Is(err, ErrBusy) && tries < 3; tries++ { // the peer's own session goes on: begin waits for its end
					st, err = n.syncOnce(ctx, p, id, prefix)
				}
				results[i] = SyncResult{st, err}
			})
		}
		wg.Wait()
	}()
	var found []SyncResult
	look := func() {
		if only != "" || ctx.Err() != nil {
			return
		}
		var err error
		if found, err = n.discovery.find(ctx, id); err != nil && !errors.Is(err, ErrNoTable) {
			n.log.Debug("looking for a replica", "replica", id.Short(), "error", err)
		}
	}
	select {
	case <-ended:
	case <-time.After(patience):
		if hopes.Load() > 0 {
			break
		}
		if look(); len(found) > 0 {
			stop() // those that cannot be reached need not be waited for
		}
	}
	<-ended
	if len(found) == 0 && !slices.ContainsFunc(results, func(r SyncResult) bool { return r.Err == nil }) {
		look()
	}
	results = slices.DeleteFunc(results, func(r SyncResult) bool {
		return only == "" && (errors.Is(r.Err, ErrNotShared) || len(found) > 0 && r.Err != nil)
	})
	return append(results, found...), ctx.Err()
}

// toSyncWith returns the peers of SyncNow.
func (n *Node) toSyncWith(ctx context.Context, id replica.ID, only peer.ID) ([]peer.AddrInfo, error) {
	peers, err := n.peers.known(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, p := range n.net.Peers() {
		if (only != "" || p.near()) && !slices.ContainsFunc(peers, func(k peer.AddrInfo) bool { return k.ID == p.ID }) {
			peers = append(peers, peer.AddrInfo{ID: p.ID})
		}
	}
	if only != "" {
		peers = slices.DeleteFunc(peers, func(p peer.AddrInfo) bool { return p.ID != only })
		if len(peers) == 0 {
			return nil, &UnreachableError{Peer: only, Err: errors.New("it is neither connected nor remembered for this replica")}
		}
	}
	return peers, nil
}

// syncOnce connects to a peer and runs a session with it.
func (n *Node) syncOnce(ctx context.Context, p peer.AddrInfo, id replica.ID, prefix []byte) (SyncStats, error) {
	if err := n.net.Connect(ctx, p); err != nil {
		return SyncStats{Peer: p.ID}, err
	}
	return n.syncWith(ctx, p.ID, id, prefix)
}

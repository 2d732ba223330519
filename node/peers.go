package node

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/blame"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/discovery"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

// openPeers makes what knows peers: who holds what, whom to contact when, who has done wrong, and
// who may hold what else.
func (n *Node) openPeers(ctx context.Context) (err error) {
	if n.blamed, err = blame.Load(ctx, n.kv, n.cfg.Now, n.log); err != nil {
		return err
	}
	n.holders = holders.New(holders.Config{
		Store: n.kv, Self: n.id, Now: n.cfg.Now, Log: n.log,
		Connected: func(p peer.ID) bool { return n.contacts.IsConnected(p) },
	})
	n.contacts = contacts.New(contacts.Config{
		Ctx: n.ctx, Self: n.id, Interval: n.cfg.SyncInterval, Hosts: n.cfg.Host != nil,
		Now: n.cfg.Now, Log: n.log, Holders: n.holders, Refused: n.blamed.Refused,
		Sessions: n.sessions, Go: n.work.Go,
		Does: contacts.Work{
			Introduce: n.introduce,
			Compare:   n.overviewWith,
			Sync: func(ctx context.Context, p peer.ID, id replica.ID, is holders.Standing) error {
				_, err := n.syncAs(ctx, p, id, asking{is: is})
				return err
			},
			News: n.downloads.dueAgain,
			Gone: n.dropOutbox,
		},
	})
	held := func(ctx context.Context) iter.Seq2[replica.Replica, error] { return n.Replicas.All(ctx) }
	n.lookups = discovery.NewLookups(discovery.LookupConfig{
		Store: n.kv, Self: n.id, Now: n.cfg.Now, Log: n.log, All: held,
		Get: func(ctx context.Context, id replica.ID) (replica.Replica, error) {
			return n.Replicas.Get(ctx, id)
		},
	})
	n.discovery = discovery.New(discovery.Config{
		Self: n.id, Hosts: n.cfg.Host != nil, Now: n.cfg.Now, Log: n.log, All: held, Seeds: n.Seeds,
		Here: n.contacts.ConnectedSharing, AnyHere: n.contacts.AnyConnected,
		Refused: n.blamed.Refused,
		Meet: func(
			proving, session context.Context, limit time.Duration, p peer.AddrInfo, id replica.ID,
		) error {
			_, err := n.meetAndSync(proving, session, limit, p, id, asking{})
			return err
		},
	})
	return n.contacts.Load(ctx)
}

// onHold is the replica store's OnHold: a replica can be looked up as soon as it is held, and found
// soon.
func (n *Node) onHold(tx kv.Txn, id replica.ID) error {
	n.discovery.AnnounceSoon(id)
	return n.lookups.Hold(tx, id)
}

// Remember notes that peers hold replicas of this node, because a person's ticket, vault or
// registration names them. Others do not displace them. That is durable when it returns: a replica
// whose peers were forgotten would stay alone.
func (n *Node) Remember(ctx context.Context, ids []replica.ID, peers []peer.AddrInfo) error {
	named, err := n.holders.Named(ctx, ids, peers)
	if err != nil {
		return err
	}
	for _, p := range named {
		n.contacts.NameAll(p.ID, ids)
	}
	return n.kv.Sync(ctx)
}

// hint notes that peers may hold a replica, as somebody says whom the person did not choose. They
// are newcomers that have not proved it yet, and make room for any that has.
func (n *Node) hint(ctx context.Context, id replica.ID, peers []peer.AddrInfo) error {
	kept, err := n.holders.Hinted(ctx, id, peers)
	if err != nil {
		return err
	}
	for _, p := range kept {
		n.contacts.Note(id, p.ID, p.Is)
	}
	return n.kv.Sync(ctx)
}

// findHolders looks for holders of a replica in the hash table and runs sessions with some. It
// returns those that succeeded.
func (n *Node) findHolders(ctx context.Context, id replica.ID) (done []SyncResult, err error) {
	var mu sync.Mutex
	err = n.discovery.Find(ctx, id, func(
		proving, session context.Context, limit time.Duration, p peer.AddrInfo, id replica.ID,
	) error {
		st, err := n.meetAndSync(proving, session, limit, p, id, asking{})
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			done = append(done, SyncResult{SyncStats: st})
		}
		return err
	})
	return done, err
}

// noteLie remembers that a peer has sent wrong content, also while the node closes.
func (n *Node) noteLie(p peer.ID, cause error) {
	n.counters.wrongContent.Add(1)
	n.blamed.Lie(context.WithoutCancel(n.ctx), p, cause)
}

// Sharing returns how many times a connected peer is known to hold a replica of this node.
func (n *Node) Sharing() int { return n.contacts.Sharing() }

// Lost says how many entries of a replica a peer was last found to have lost, and when; zero if it
// never was.
func (n *Node) Lost(
	ctx context.Context, id replica.ID, p peer.ID,
) (entries int, then time.Time, err error) {
	return n.holders.Lost(ctx, id, p)
}

// LastSync returns when a replica was last the same here and at any peer, after a session of all
// its keys or found so in an overview (to the day), or zero.
func (n *Node) LastSync(ctx context.Context, id replica.ID) (time.Time, error) {
	return n.holders.LastSync(ctx, id)
}

// CompareSoon has sessions run with all connected peers whose replicas differ from those here,
// because entries that were kept out may be taken now.
func (n *Node) CompareSoon() { n.contacts.CompareSoon() }

// introduce asks a peer that has newly connected, and is not known to hold anything, for each of
// our replicas. A peer that does not hold one learns nothing from being asked. Only those nearby
// are asked: in the wide world most are there for other reasons, and whoever holds the same is
// found by other ways. A node that hosts replicas of others waits to be asked.
func (n *Node) introduce(ctx context.Context, p peer.ID) {
	const most = 256
	if n.cfg.Host != nil || !n.isNear(p) {
		return
	}
	count := 0
	for r, err := range n.Replicas.All(ctx) {
		if count++; err != nil || count > most {
			return
		}
		_, err := n.syncWith(ctx, p, r.ID, nil)
		if err != nil && !errors.Is(err, contacts.ErrNotShared) && !errors.Is(err, contacts.ErrBusy) {
			n.log.Debug("introduction", "peer", p, "error", err)
			return
		}
	}
}

// isNear reports it of a connected peer.
func (n *Node) isNear(p peer.ID) bool {
	return slices.ContainsFunc(n.net.Peers(), func(k link.Peer) bool { return k.ID == p && k.Near() })
}

package node

import (
	"context"
	"iter"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/blame"
	"github.com/skerry-sync/skerry/node/clock"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/discovery"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/wanted"
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
			Introduce: func(ctx context.Context, p peer.ID) { n.syncer.Introduce(ctx, p) },
			Compare: func(ctx context.Context, p peer.ID) error {
				return n.syncer.CompareWith(ctx, p)
			},
			Sync: func(ctx context.Context, p peer.ID, id replica.ID, is holders.Standing) error {
				_, err := n.syncer.SyncAs(ctx, p, id, is)
				return err
			},
			News: func(p peer.ID) { n.downloads.DueAgain(p) },
			Gone: func(p peer.ID) { n.syncer.DropOutbox(p) },
		},
	})
	n.clocks = clock.New(clock.Config{Now: n.cfg.Now, Log: n.log, IsFirm: n.contacts.IsFirm})
	held := func(ctx context.Context) iter.Seq2[replica.Replica, error] { return n.replicas.All(ctx) }
	n.lookups = discovery.NewLookups(discovery.LookupConfig{
		Store: n.kv, Self: n.id, Now: n.cfg.Now, Log: n.log, All: held,
		Get: func(ctx context.Context, id replica.ID) (replica.Replica, error) {
			return n.replicas.Get(ctx, id)
		},
	})
	n.discovery = discovery.New(discovery.Config{
		Self: n.id, Hosts: n.cfg.Host != nil, Now: n.cfg.Now, Log: n.log, All: held, Seeds: n.Seeds,
		Here: n.contacts.ConnectedSharing, AnyHere: n.contacts.AnyConnected,
		Connected: n.contacts.IsConnected, Refused: n.blamed.Refused,
		Meet: func(
			proving, all context.Context, limit time.Duration, p peer.AddrInfo, id replica.ID,
		) error {
			_, err := n.syncer.Meet(proving, all, limit, p, id)
			return err
		},
	})
	return n.contacts.Load(ctx)
}

// newSyncer returns what keeps the replicas of a node that is being opened in step with peers.
func (n *Node) newSyncer() *session.Syncer {
	return session.New(session.Config{
		Ctx: n.ctx, Self: n.id, Hosts: n.cfg.Host != nil, Now: n.cfg.Now, Log: n.log,
		Replicas: n.replicas, Holders: n.holders, Contacts: n.contacts, Blamed: n.blamed,
		Lookups:   n.lookups,
		Discovery: n.discovery, Sessions: n.sessions, Go: n.work.Go, Within: n.within,
		Limits: n.limits, Search: n.search, Missed: n.missed,
		Sending: n.handing.Sent,
		Complete: func(ctx context.Context, e *replica.Entry) (bool, error) {
			state, err := n.ContentOf(ctx, e)
			return state == wanted.Complete, err
		},
		KeysChanged: func(ctx context.Context, id replica.ID) error {
			n.keyChanged(id)
			return n.downloads.SealPolicy(ctx, id)
		},
		Given: n.downloads.LookAt, GivenAnywhere: n.downloads.LookEverywhere,
	})
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
	n.lookForTwin(peers)
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
	n.lookForTwin(peers)
	kept, err := n.holders.Hinted(ctx, id, peers)
	if err != nil {
		return err
	}
	for _, p := range kept {
		n.contacts.Note(id, p.ID, p.Is)
	}
	return n.kv.Sync(ctx)
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

// SyncNow runs a session for the replica id, or the keys of it that begin with prefix, with each
// peer that is remembered for it or connected and nearby, or only with the one named, and returns
// when all have ended. If none of them is soon reached, others are looked for. Peers that turn out
// not to hold the replica are left out.
//
// Newcomers (see package holders) cannot hold it up: when one session has succeeded, and those with
// peers that are known have ended, they have newcomerGrace. Who has not ended by then is reported
// as a failure; the node goes on with it by itself.
func (n *Node) SyncNow(
	ctx context.Context, id replica.ID, only peer.ID, prefix []byte,
) ([]session.Result, error) {
	return n.syncer.SyncNow(ctx, id, only, prefix, false)
}

// Holdings asks a peer how much of some entries of a replica it holds: of the first of them, at
// most session.MaxAsked. It connects to the peer if need be. The peer is believed: one that keeps
// nothing of what it is given can say that it does.
func (n *Node) Holdings(
	ctx context.Context, p peer.AddrInfo, id replica.ID, entries []replica.Entry,
) (held []session.Holding, err error) {
	ctx, done := n.within(ctx)
	if n.net == nil {
		return nil, done(link.ErrOffline)
	}
	if !n.net.Connected(p.ID) {
		err = n.net.Connect(ctx, p)
	}
	if err == nil {
		held, err = n.syncer.Holdings(ctx, p.ID, id, entries)
	}
	return held, done(err)
}

// ClockOffset is [clock.Clocks.Offset].
func (n *Node) ClockOffset(ctx context.Context) (ahead time.Duration, answered int) {
	return n.clocks.Offset(ctx)
}

// RecentClockOffset is [clock.Clocks.Recent].
func (n *Node) RecentClockOffset(ctx context.Context) (ahead time.Duration, answered int) {
	return n.clocks.Recent(ctx)
}

// JudgeClock is [clock.Clocks.Judge].
func (n *Node) JudgeClock() clock.Judgement { return n.clocks.Judge() }

// TrustsClock reports whether a person has said that this node's clock is right, whatever peers
// say; see Config.TrustClock.
func (n *Node) TrustsClock() bool { return n.cfg.TrustClock }

// lookForTwin has the network look where others say that this node is.
func (n *Node) lookForTwin(peers []peer.AddrInfo) {
	t, ok := n.net.(link.Twins)
	if !ok {
		return
	}
	for _, p := range peers {
		if p.ID == n.id {
			t.LookForTwin(p.Addrs)
		}
	}
}

// Twin returns where another process runs with this node's key, because the data directory was
// copied; nil if no such process is known.
func (n *Node) Twin() ma.Multiaddr {
	if t, ok := n.net.(link.Twins); ok {
		return t.Twin()
	}
	return nil
}

package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/node/blame"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/discovery"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// syncer keeps replicas the same here and at peers, over streams and by gossip: sessions,
// overviews, and what is pushed as soon as it is written. Its methods may be called from many
// goroutines.
type syncer struct {
	cfg       syncConfig
	ctx       context.Context
	id        peer.ID
	log       *slog.Logger
	Replicas  *replica.Store
	holders   *holders.Book
	contacts  *contacts.Agenda
	blamed    *blame.List
	lookups   *discovery.Lookups
	discovery *discovery.Finder
	sessions  *contacts.Sessions
	net       link.Network // nil while offline

	counters  syncCounters
	active    active
	outboxMu  sync.Mutex
	outboxes  map[peer.ID]*outbox
	laterTold told // that statements of a later version are passed over
	renewTold told // that grants are not renewed
}

// syncConfig is what a syncer needs.
type syncConfig struct {
	// Ctx ends when the node closes.
	Ctx  context.Context
	Self peer.ID
	// Hosts tells that the node holds replicas of others.
	Hosts bool
	Now   func() time.Time
	Log   *slog.Logger

	Holders   *holders.Book
	Contacts  *contacts.Agenda
	Blamed    *blame.List
	Lookups   *discovery.Lookups
	Discovery *discovery.Finder
	Sessions  *contacts.Sessions

	// Go calls a function in a goroutine that the node waits for when it closes.
	Go func(fn func())
	// Within returns a context that ends with the node, too; see Node.within.
	Within func(ctx context.Context) (context.Context, func(error) error)
	// Limits bound what is given to peers and taken from them; Search is passed one at a time, by who
	// has replicas searched through.
	Limits *limits.Limiter
	Search *limits.Gate
	// Missed is told that a peer has asked for what is not here.
	Missed func(s link.Stream)
	// Sending returns what is to be told of each item that is sent to a peer in a session: it tells
	// also, which may be nil.
	Sending func(p peer.ID, also func(*reconcile.Item)) func(*reconcile.Item)
	// KeysChanged is told that epochs or read keys of a replica have come or been made.
	KeysChanged func(ctx context.Context, id replica.ID) error
	// Given is told that peers may have content to give, and GivenAnywhere that any may.
	Given         func(from ...peer.ID)
	GivenAnywhere func()
}

func newSyncer(cfg syncConfig) *syncer {
	return &syncer{
		cfg: cfg, ctx: cfg.Ctx, id: cfg.Self, log: cfg.Log, holders: cfg.Holders,
		contacts: cfg.Contacts, blamed: cfg.Blamed, lookups: cfg.Lookups, discovery: cfg.Discovery,
		sessions: cfg.Sessions, outboxes: map[peer.ID]*outbox{},
		active: active{until: map[replica.ID]time.Time{}},
	}
}

// online gives it a network, before anything else is done.
func (n *syncer) online(network link.Network) { n.net = network }

// syncCounters count since the node was opened.
type syncCounters struct {
	began, asked                 outcomes
	syncSent, syncReceived       atomic.Uint64 // bytes of reconciliation
	entriesSent, entriesReceived atomic.Uint64 // in sessions
	wrongEntries                 atomic.Uint64
	lost                         atomic.Uint64 // entries that peers had had before
}

// syncStats are what a syncer has counted, and what waits.
type syncStats struct {
	Began, Asked SessionStats
	Sent, Got    uint64 // bytes of reconciliation
	EntriesSent  uint64 // in sessions
	EntriesGot   uint64
	EntriesLost  uint64
	WrongEntries uint64
	Outboxes     int // peers to which entries are, or were, pushed
	Outbox       int // entries that wait to be pushed
	Topics       int // that are listened to
}

func (n *syncer) stats() syncStats {
	c := &n.counters
	st := syncStats{
		Began: c.began.stats(), Asked: c.asked.stats(),
		Sent: c.syncSent.Load(), Got: c.syncReceived.Load(),
		EntriesSent: c.entriesSent.Load(), EntriesGot: c.entriesReceived.Load(),
		EntriesLost: c.lost.Load(), WrongEntries: c.wrongEntries.Load(),
	}
	n.outboxMu.Lock()
	st.Outboxes = len(n.outboxes)
	for _, o := range n.outboxes {
		o.mu.Lock()
		st.Outbox += len(o.entries)
		o.mu.Unlock()
	}
	n.outboxMu.Unlock()
	n.active.mu.Lock()
	st.Topics = len(n.active.until)
	n.active.mu.Unlock()
	return st
}

// introduce asks a peer that has newly connected, and is not known to hold anything, for each of
// our replicas. A peer that does not hold one learns nothing from being asked. Only those nearby
// are asked: in the wide world most are there for other reasons, and whoever holds the same is
// found by other ways. A node that hosts replicas of others waits to be asked.
func (n *syncer) introduce(ctx context.Context, p peer.ID) {
	const most = 256
	if n.cfg.Hosts || !n.isNear(p) {
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
func (n *syncer) isNear(p peer.ID) bool {
	return slices.ContainsFunc(n.net.Peers(), func(k link.Peer) bool { return k.ID == p && k.Near() })
}

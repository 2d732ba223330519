// Package session keeps replicas the same here and at peers: by sessions over streams, in which two
// peers reconcile one replica; by overviews, in which they find out which replicas need one; and by
// what is pushed, or told by gossip, as soon as it is written.
//
// What belongs here: these protocols, what a peer has done wrong in them, and what they cost. What
// never belongs here: whom to contact when (package contacts), who holds what (package holders),
// the algorithm of reconciliation (package reconcile), and content (package content). It knows no
// node: what it needs is in [Config].
//
// Start at [Syncer]; session.go runs a session, greet.go begins it. The protocols are described
// beside their code and in docs/protocol.
package session

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/seldom"
	"github.com/skerry-sync/skerry/node/blame"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/discovery"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// Syncer keeps replicas the same here and at peers, over streams and by gossip: sessions,
// overviews, and what is pushed as soon as it is written. Its methods may be called from many
// goroutines.
type Syncer struct {
	cfg       Config
	ctx       context.Context
	id        peer.ID
	log       *slog.Logger
	replicas  *replica.Store
	holders   *holders.Book
	contacts  *contacts.Agenda
	blamed    *blame.List
	lookups   *discovery.Lookups
	discovery *discovery.Finder
	sessions  *contacts.Sessions
	net       link.Network // nil while offline

	counters  counters
	active    active
	outboxMu  sync.Mutex
	outboxes  map[peer.ID]*outbox
	laterTold seldom.Told // that statements of a later version are passed over
	renewTold seldom.Told // that grants are not renewed
}

// Config is what a Syncer needs.
type Config struct {
	// Ctx ends when the node closes.
	Ctx  context.Context
	Self peer.ID
	// Hosts tells that the node holds replicas of others.
	Hosts bool
	Now   func() time.Time
	Log   *slog.Logger

	Replicas  *replica.Store
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
	// Complete reports whether all content of an entry is here.
	Complete func(ctx context.Context, e *replica.Entry) (bool, error)
	// KeysChanged is told that epochs or read keys of a replica have come or been made.
	KeysChanged func(ctx context.Context, id replica.ID) error
	// Given is told that peers may have content to give, and GivenAnywhere that any may.
	Given         func(from ...peer.ID)
	GivenAnywhere func()
}

// New returns a Syncer without a network.
func New(cfg Config) *Syncer {
	return &Syncer{
		cfg: cfg, ctx: cfg.Ctx, id: cfg.Self, log: cfg.Log, replicas: cfg.Replicas, holders: cfg.Holders,
		contacts: cfg.Contacts, blamed: cfg.Blamed, lookups: cfg.Lookups, discovery: cfg.Discovery,
		sessions: cfg.Sessions, outboxes: map[peer.ID]*outbox{},
		active: active{until: map[replica.ID]time.Time{}},
	}
}

// Online gives it a network, before anything else is done.
func (n *Syncer) Online(network link.Network) { n.net = network }

// Introduce asks a peer that has newly connected, and is not known to hold anything, for each of
// our replicas. A peer that does not hold one learns nothing from being asked. Only those nearby
// are asked: in the wide world most are there for other reasons, and whoever holds the same is
// found by other ways. A node that hosts replicas of others waits to be asked.
func (n *Syncer) Introduce(ctx context.Context, p peer.ID) {
	const most = 256
	if n.cfg.Hosts || !n.isNear(p) {
		return
	}
	count := 0
	for r, err := range n.replicas.All(ctx) {
		if count++; err != nil || count > most {
			return
		}
		_, err := n.SyncWith(ctx, p, r.ID, nil)
		if err != nil && !errors.Is(err, contacts.ErrNotShared) && !errors.Is(err, contacts.ErrBusy) {
			n.log.Debug("introduction", "peer", p, "error", err)
			return
		}
	}
}

// isNear reports it of a connected peer.
func (n *Syncer) isNear(p peer.ID) bool {
	return slices.ContainsFunc(n.net.Peers(), func(k link.Peer) bool { return k.ID == p && k.Near() })
}

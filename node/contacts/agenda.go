// Package contacts decides when this node talks to which peer, and knows what the connected peers
// hold.
//
// A peer that holds a replica is dialled when it is gone, and compared with when it is here;
// sessions follow for what differs, so many at a time ([Sessions]). What is remembered beyond a
// connection is kept by package holders.
//
// What belongs here: when, with whom, and how many at once. What never belongs here: what is said
// to a peer. Dialling is up to a [Network], and what is done with a peer to [Work]. Start at
// [Agenda].
package contacts

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

// When to talk to whom is decided for each peer, not for each replica: there may be thousands of
// these. A peer that holds a replica of this node is dialled again when it is gone. When it is
// here, one overview after the other compares all replicas that the two share,
// and only those that differ are synced. Overviews are the rarer the longer nothing happens;
// entries do not wait for them, but are pushed.
const (
	firstRetry = 2 * time.Second
	lastRetry  = 5 * time.Minute
	tick       = 500 * time.Millisecond
	// maxPause is the longest time between two overviews, in sync intervals.
	maxPause = 10
	// slept is a pause after which this machine must have been asleep, or the process stopped: its
	// connections may be dead without its having noticed.
	slept = 15 * time.Second
	// awakeFor is how long after that peers that go are dialled at once.
	awakeFor = 5 * time.Second
	// newDials is how many newcomers are dialled at once. Those that are known do not wait for them.
	newDials = 32
	// maxAsking is how many replicas that a peer seems not to hold are asked for by name after an
	// overview.
	maxAsking = 32
	// maxContacts is how many peers are connected, or are to be dialled, before those that have been
	// gone longest are not dialled any more.
	maxContacts = 4096
	// roomAgain is how often this node looks for room for a connected peer that it could not
	// remember: each look reads all peers of the replica.
	roomAgain = time.Minute
	// maxShared is how many replicas of a peer are read when it connects.
	maxShared = 1 << 20
)

// Agenda decides when to talk to whom, and knows what the connected peers hold. In memory is what
// concerns peers that are connected or to be dialled only, so that a seed with a million replicas
// needs no more than one with ten. Its methods may be called from many goroutines.
type Agenda struct {
	cfg Config
	net Network // nil while offline

	mu       sync.Mutex
	here     map[replica.ID]map[peer.ID]*sharer // the connected peers of a replica
	contacts map[peer.ID]*contact
	awake    time.Time  // when this machine last woke up
	running  background // sessions under way that were due
	dialling int        // newcomers that are being dialled

	wakeUp  chan struct{}
	telling sync.Mutex // held while the network is told of trust: the last word is the newest
}

// Config is what an agenda needs.
type Config struct {
	// Ctx ends when the node closes.
	Ctx  context.Context
	Self peer.ID
	// Interval is the time between two overviews with a peer, as long as something happens.
	Interval time.Duration
	// Hosts tells that the node holds replicas of others: their devices come by themselves.
	Hosts bool
	Now   func() time.Time
	Log   *slog.Logger
	// Holders remembers who holds what.
	Holders *holders.Book
	// Refused reports whether nothing is done with a peer for now.
	Refused func(p peer.ID) bool
	// Sessions are those under way.
	Sessions *Sessions
	// Go calls a function in a goroutine that the node waits for when it closes.
	Go   func(fn func())
	Does Work
}

// Work is what is done with a peer when its time has come, or told of it.
type Work struct {
	// Introduce asks a peer of which nothing is known what it holds.
	Introduce func(ctx context.Context, p peer.ID)
	// Compare runs an overview, which calls Compared if it succeeds.
	Compare func(ctx context.Context, p peer.ID) error
	// Sync runs a session, which calls Shares if it succeeds. Its error is ErrNotShared if the peer
	// does not hold the replica, and ErrBusy if it is in one already.
	Sync func(ctx context.Context, p peer.ID, id replica.ID, is holders.Standing) error
	// News is told that a peer has shown what it holds: content may be fetched from it.
	News func(p peer.ID)
	// Gone is told that a peer is not connected any more.
	Gone func(p peer.ID)
}

// Network is what an agenda needs of a network.
type Network interface {
	Connect(ctx context.Context, p peer.AddrInfo) error
	Connected(p peer.ID) bool
	KnownAddrs(p peer.ID) []ma.Multiaddr
	Origin(p peer.ID) string
	Keep(p peer.ID, trust link.Trust)
	Drop()
}

// New returns an agenda without peers; see [Agenda.Load].
func New(cfg Config) *Agenda {
	return &Agenda{
		cfg:      cfg,
		here:     map[replica.ID]map[peer.ID]*sharer{},
		contacts: map[peer.ID]*contact{},
		wakeUp:   make(chan struct{}, 1),
	}
}

// Load reads who is to be dialled.
func (b *Agenda) Load(ctx context.Context) error {
	// Newcomers are dialled as far as there is room.
	for _, is := range []holders.Standing{holders.Known, holders.Newcomer} {
		all, err := b.cfg.Holders.PeersOf(ctx, is, maxContacts-len(b.contacts))
		if err != nil {
			return err
		}
		for _, p := range all {
			c := b.contactLocked(p)
			c.known, c.firm = true, is == holders.Known
		}
	}
	if len(b.contacts) == maxContacts {
		b.cfg.Log.Info("more peers may be remembered than are dialled", "dialled", maxContacts)
	}
	return nil
}

// Online gives the agenda a network, before run and before anything is told of peers that are
// connected.
func (b *Agenda) Online(net Network) { b.net = net }

// contact is a peer that is connected, or holds a replica of this node.
type contact struct {
	shared    map[replica.ID]*sharer     // while it is connected
	sessions  map[replica.ID]*dueSession // that are to be run
	gone      map[replica.ID]bool        // the peer did not seem to hold, in the last overview
	connected bool
	from      string        // the network of the connection, if it is known
	known     bool          // it is remembered to hold something, or has shown that it does
	firm      bool          // it is known, and no newcomer, for some replica
	named     bool          // a person has named it, for some replica
	stranger  bool          // connected, and not yet asked about our replicas
	busy      bool          // it is being dialled, asked, or compared with
	due       time.Time     // of the next overview, or of the next attempt to connect
	retry     time.Duration // of these attempts
	pause     time.Duration // between overviews
	noted     time.Time     // when all that is the same here and there was last noted
}

// sharer is a connected peer that holds a replica.
type sharer struct {
	seen  bool             // it has shown that it holds the replica since it connected
	kept  bool             // it was remembered then: there was room
	tried time.Time        // when that was last looked at
	is    holders.Standing // as far as is known
	noted uint32           // the day on which that was last remembered
}

// dueSession is a session that is to be run.
type dueSession struct {
	next    time.Time
	retry   time.Duration
	running bool
}

// contactLocked returns what is known of a peer.
func (b *Agenda) contactLocked(p peer.ID) *contact {
	c := b.contacts[p]
	if c == nil {
		c = &contact{
			shared: map[replica.ID]*sharer{}, sessions: map[replica.ID]*dueSession{},
			pause: b.cfg.Interval,
		}
		b.contacts[p] = c
	}
	return c
}

func (c *contact) dueBy(t time.Time) {
	if c.due.IsZero() || c.due.After(t) {
		c.due = t
	}
}

// makeRoomLocked forgets, until they are met again, newcomers, and then those that have been tried
// most often in vain, if there are too many.
func (b *Agenda) makeRoomLocked() {
	for len(b.contacts) > maxContacts {
		worst := peer.ID("")
		var last *contact
		for p, c := range b.contacts {
			switch {
			case c.connected || c.busy || last != nil && c.firm && !last.firm:
			case last == nil || last.firm && !c.firm || c.retry > last.retry:
				worst, last = p, c
			}
		}
		if worst == "" {
			return
		}
		delete(b.contacts, worst)
	}
}

// putLocked enters that a connected peer holds the replica id.
func (b *Agenda) putLocked(id replica.ID, p peer.ID) *sharer {
	c := b.contactLocked(p)
	s := c.shared[id]
	if s == nil {
		s = &sharer{}
		c.shared[id] = s
	}
	if b.here[id] == nil {
		b.here[id] = map[peer.ID]*sharer{}
	}
	b.here[id][p], c.known = s, true
	return s
}

// dropLocked takes that out again.
func (b *Agenda) dropLocked(id replica.ID, p peer.ID) {
	if delete(b.here[id], p); len(b.here[id]) == 0 {
		delete(b.here, id)
	}
	if c := b.contacts[p]; c != nil {
		delete(c.shared, id)
		delete(c.sessions, id)
	}
}

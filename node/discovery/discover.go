// Package discovery finds peers that hold a replica, and lets this node be found, by names that
// only those who know the replica can make (package names).
//
// A [Finder] announces what is held in the distributed hash table, and searches there for holders
// of what nobody who is connected holds; those that claim to be one have to prove it. [Lookups] are
// the names by which a peer that is connected asks for a replica.
//
// What belongs here: announcing, searching, being looked up, and for how long a false claim counts.
// What never belongs here: the table itself, and sessions.
package discovery

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

// Nodes that hold a replica announce it in the distributed hash table (see
// docs/protocol/discovery.md), under a key that is made of the replica's id and the day: whoever
// does not know the id cannot tell what is announced, nor that it is the same as yesterday. Whoever
// holds a replica and is connected to nobody else who does looks there. Those that claim to hold it
// are believed when a session has shown it.
const (
	announceEvery = 6 * time.Hour
	// maxAnnounced is how many replicas are announced in one round; the next round goes on where it
	// ended.
	maxAnnounced = 4096
	// announceAhead is how long before midnight the next day's keys are announced, so that they are
	// there when it comes.
	announceAhead = announceEvery + time.Hour
	// tableRetry is the time after which the table is tried again, if there was none.
	tableRetry = 10 * time.Second

	searchEvery = 5 * time.Second
	firstLook   = 2 * time.Second // when a holder has come or gone: others may follow
	scanEvery   = time.Minute
	// checkEvery is how often it is looked whether a device is still connected, and not seeds only.
	checkEvery     = 5 * time.Minute
	firstSearch    = 30 * time.Second // between two searches for one replica, at first
	lastSearch     = time.Hour
	maxSearches    = 16      // in one round
	maxSearchedFor = 1 << 16 // replicas that are searched for at all

	askAtOnce = 4 // announcements, or searches, at once
	// claimsAtOnce is how many claims of one search are looked into at once.
	claimsAtOnce = 16
	// ClaimTime is how long one that claims to hold a replica has to be reached and to prove it.
	ClaimTime = 15 * time.Second
	// maxClaims is how many of those that claim to hold a replica are asked in one search.
	maxClaims = 32
	// enoughHolders is how many that do hold it are enough.
	enoughHolders = 2
	// secondGrace is how long others are waited for when one has been found.
	secondGrace = 3 * time.Second
	// falseMemory is how long one that falsely claimed it is not asked again, and awayMemory how long
	// one that could not be reached is asked after the others: it has said nothing that is wrong.
	falseMemory = time.Hour
	// slowMemory is how long one is not asked again that was reached and has neither proved its claim
	// nor denied it: its link may be slow, or others hold all places that it has for strangers.
	slowMemory = 5 * time.Minute
	awayMemory = time.Hour
	maxFalse   = 1 << 16
)

// Finder announces replicas, and finds others that hold them. Its methods may be called from many
// goroutines.
type Finder struct {
	cfg Config
	net Table // nil while offline

	mu       sync.Mutex
	searched map[replica.ID]search
	lied     map[claimant]time.Time // until when they are not asked
	away     map[claimant]time.Time // until when they are asked last
	fresh    map[replica.ID]bool    // to be announced before the next round, since they are new here
	news     chan struct{}

	announced, searches, falsehood atomic.Uint64
}

// Config is what a finder needs.
type Config struct {
	Self peer.ID
	// Hosts tells that the node holds replicas of others: it waits for devices to come.
	Hosts bool
	Now   func() time.Time
	Log   *slog.Logger
	// All gives the replicas that are held.
	All func(ctx context.Context) iter.Seq2[replica.Replica, error]
	// Seeds returns the peers that keep a replica for others.
	Seeds func(ctx context.Context, id replica.ID) ([]peer.ID, error)
	// Here returns the connected peers that hold a replica, and AnyHere whether there is one.
	Here    func(id replica.ID) []peer.ID
	AnyHere func(id replica.ID) bool
	// Connected reports whether a peer is connected, whatever it holds.
	Connected func(p peer.ID) bool
	// Refused reports whether a peer is not to be asked.
	Refused func(p peer.ID) bool
	// Meet is for those that are found by searches that nobody waits for.
	Meet Meet
}

// Table is the distributed hash table.
type Table interface {
	Announce(ctx context.Context, key [32]byte) error
	Find(ctx context.Context, key [32]byte) ([]peer.AddrInfo, error)
	Situation() link.Situation
}

// Meet has a peer prove, in a session, that it holds a replica. Proving ends when it need not any
// more, and the peer has no longer than limit for it; session ends when the session is to. It
// returns nil if there was one.
type Meet func(
	proving, session context.Context, limit time.Duration, p peer.AddrInfo, id replica.ID,
) error

type search struct {
	next  time.Time
	wait  time.Duration
	alone bool // no holder is connected
}

type claimant struct {
	p  peer.ID
	id replica.ID
}

// New returns a finder that has nothing to do yet.
func New(cfg Config) *Finder {
	return &Finder{
		cfg: cfg, searched: map[replica.ID]search{}, lied: map[claimant]time.Time{},
		away: map[claimant]time.Time{}, fresh: map[replica.ID]bool{}, news: make(chan struct{}, 1),
	}
}

// Online gives it the table; only AnnounceSoon may be called before.
func (d *Finder) Online(net Table) { d.net = net }

// Stats are what a finder counts, and what waits.
type Stats struct {
	Announced   uint64 // replicas
	Searches    uint64 // for holders
	FalseClaims uint64 // to hold a replica
	Alone       int    // replicas that are searched for, since no holder is connected
}

// Stats returns what has been counted, and what waits.
func (d *Finder) Stats() Stats {
	st := Stats{
		Announced: d.announced.Load(), Searches: d.searches.Load(), FalseClaims: d.falsehood.Load(),
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.searched {
		if x.alone {
			st.Alone++
		}
	}
	return st
}

// AnnounceSoon has a replica announced, and searched for, that has come to be held.
func (d *Finder) AnnounceSoon(id replica.ID) {
	d.mu.Lock()
	if len(d.fresh) < maxAnnounced { // the next round has the others
		d.fresh[id] = true
	}
	if !d.cfg.Hosts {
		d.addLocked(id)
	}
	d.mu.Unlock()
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// Announce announces what is held, until ctx ends.
func (d *Finder) Announce(ctx context.Context) {
	var from replica.ID      // where the next round begins
	var pending []replica.ID // of this round
	var round time.Time
	for {
		var err error
		now := d.cfg.Now()
		if len(pending) == 0 && (now.Sub(round) >= announceEvery || now.Before(round)) {
			round = now
			pending, from, err = d.inTurn(ctx, from)
		}
		if err == nil {
			fresh := d.takeFresh()
			if err = d.announceThese(ctx, append(fresh, pending...)); err == nil {
				pending = nil
			} else {
				d.putBack(fresh)
			}
		}
		wait, news := link.Jitter(announceEvery/24), d.news
		if err != nil {
			news = nil // it has to wait with the others
			if !errors.Is(err, link.ErrNoTable) && ctx.Err() == nil {
				d.cfg.Log.Warn("announcing replicas", "error", err)
			}
			wait = tableRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-news:
		case <-time.After(wait):
		}
	}
}

func (d *Finder) takeFresh() (all []replica.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.fresh {
		all = append(all, id)
	}
	clear(d.fresh)
	return all
}

func (d *Finder) putBack(all []replica.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range all {
		d.fresh[id] = true
	}
}

// inTurn returns the next replicas to announce, beginning after from, and where they end.
func (d *Finder) inTurn(
	ctx context.Context, from replica.ID,
) (all []replica.ID, last replica.ID, err error) {
	var before []replica.ID
	for r, err := range d.cfg.All(ctx) {
		if err != nil {
			return nil, from, err
		}
		switch {
		case len(all) == maxAnnounced:
			return all, all[len(all)-1], nil
		case string(r.ID[:]) > string(from[:]):
			all = append(all, r.ID)
		case len(before) < maxAnnounced:
			before = append(before, r.ID)
		}
	}
	all = append(all, before[:min(len(before), maxAnnounced-len(all))]...)
	if len(all) > 0 {
		last = all[len(all)-1]
	}
	return all, last, nil
}

// announceThese announces replicas under the keys of today and, late in the day, of tomorrow.
func (d *Finder) announceThese(ctx context.Context, all []replica.ID) error {
	now := d.cfg.Now()
	today, soon := names.Day(now), names.Day(now.Add(announceAhead))
	return eachAtOnce(askAtOnce, all, func(id replica.ID) error {
		for day := today; day <= soon; day++ {
			err := d.net.Announce(ctx, names.Provide(id, day))
			if err == nil {
				d.announced.Add(1)
			}
			if errors.Is(err, link.ErrNoTable) || ctx.Err() != nil {
				return err
			} else if err != nil {
				d.cfg.Log.Debug("announcing a replica", "replica", id.Short(), "error", err)
			}
		}
		return nil
	})
}

// eachAtOnce calls fn with each of all, so many at once, until one returns an error.
func eachAtOnce[T any](atOnce int, all []T, fn func(T) error) error {
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	next := 0
	for range min(atOnce, len(all)) {
		wg.Go(func() {
			for {
				mu.Lock()
				if failed != nil || next == len(all) {
					mu.Unlock()
					return
				}
				x := all[next]
				next++
				mu.Unlock()
				if err := fault.Call(func() error { return fn(x) }); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return failed
}

// Search looks for holders of replicas, until ctx ends. A host waits for devices to come.
func (d *Finder) Search(ctx context.Context) {
	var scanned time.Time
	for !d.cfg.Hosts {
		wait := searchEvery
		err := link.ErrNoTable
		if d.net.Situation().TableSize > 0 {
			err = nil // else there is nobody to ask, however many replicas are alone
		}
		if now := d.cfg.Now(); err == nil && (now.Sub(scanned) >= scanEvery || now.Before(scanned)) {
			scanned = now
			err = d.scan(ctx)
		}
		if err == nil {
			err = d.searchSome(ctx)
		}
		if errors.Is(err, link.ErrNoTable) {
			wait = tableRetry
		} else if err != nil && ctx.Err() == nil {
			err = fault.Report(d.cfg.Log, err, "the search for a replica")
			d.cfg.Log.Warn("looking for replicas", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(link.Jitter(wait)):
		}
	}
}

// scan brings what is searched for in line with what is held; what comes meanwhile, announceSoon
// adds.
func (d *Finder) scan(ctx context.Context) error {
	held := map[replica.ID]bool{}
	for r, err := range d.cfg.All(ctx) {
		if err != nil {
			return err
		}
		if len(held) == maxSearchedFor {
			break
		}
		held[r.ID] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.searched {
		if !held[id] {
			delete(d.searched, id)
		}
	}
	for id := range held {
		d.addLocked(id)
	}
	return nil
}

// addLocked has a replica searched for.
func (d *Finder) addLocked(id replica.ID) {
	if _, known := d.searched[id]; !known && len(d.searched) < maxSearchedFor {
		// Its peers may be about to be reached.
		d.searched[id] = search{d.cfg.Now().Add(firstLook), firstSearch / 2, true}
	}
}

// searchSome looks for holders of some of those replicas that are due.
func (d *Finder) searchSome(ctx context.Context) error {
	due, err := d.dueSearches(ctx)
	if err != nil {
		return err
	}
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	return eachAtOnce(askAtOnce, due[:min(len(due), maxSearches)], func(id replica.ID) error {
		err := d.Find(ctx, id, d.cfg.Meet)
		if errors.Is(err, link.ErrNoTable) || ctx.Err() != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if s, held := d.searched[id]; held {
			s.wait = min(2*s.wait, lastSearch)
			s.next = d.cfg.Now().Add(link.Jitter(s.wait))
			d.searched[id] = s
		}
		return nil
	})
}

// dueSearches returns the replicas that are to be searched for: of which no holder is connected or,
// less urgent, seeds only, which pass on what the devices write, but may go, and are slower than a
// device next door.
func (d *Finder) dueSearches(ctx context.Context) (due []replica.ID, err error) {
	for _, id := range d.dueNow() {
		if with := d.cfg.Here(id); len(with) > 0 {
			seeds, err := d.cfg.Seeds(ctx, id)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(with, func(p peer.ID) bool { return !slices.Contains(seeds, p) }) {
				d.mu.Lock()
				d.searched[id] = search{d.cfg.Now().Add(link.Jitter(checkEvery)), firstSearch / 2, false}
				d.mu.Unlock()
				continue
			}
		}
		due = append(due, id)
	}
	return due, nil
}

// dueNow returns the replicas whose time has come. One that has just lost its last connected
// holder, or has one again, begins anew.
func (d *Finder) dueNow() (due []replica.ID) {
	now := d.cfg.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, s := range d.searched {
		if alone := !d.cfg.AnyHere(id); alone != s.alone {
			s = search{now.Add(firstLook), firstSearch / 2, alone}
			if !alone {
				s.next = now.Add(link.Jitter(firstSearch))
			}
			d.searched[id] = s
		}
		if !s.next.After(now) {
			due = append(due, id)
		}
	}
	return due
}

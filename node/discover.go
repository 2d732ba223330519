package node

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/node/link"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/fault"
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

	searchEvery    = 5 * time.Second
	scanEvery      = time.Minute
	checkEvery     = 5 * time.Minute  // whether it is still a device that is connected, and not seeds only
	firstSearch    = 30 * time.Second // between two searches for one replica, at first
	lastSearch     = time.Hour
	maxSearches    = 16      // in one round
	maxSearchedFor = 1 << 16 // replicas that are searched for at all

	askAtOnce = 4 // announcements, or searches, at once
	// claimsAtOnce is how many claims of one search are looked into at once.
	claimsAtOnce = 16
	// claimTime is how long one that claims to hold a replica has to be reached and to prove it.
	claimTime = 15 * time.Second
	// maxClaims is how many of those that claim to hold a replica are asked in one search.
	maxClaims = 32
	// enoughHolders is how many that do hold it are enough.
	enoughHolders = 2
	// falseMemory is how long one that falsely claimed it is not asked again.
	falseMemory = time.Hour
	maxFalse    = 1 << 16
)

// provideKey is what a replica is announced under on one day.
func provideKey(id replica.ID, day uint32) [32]byte {
	return keyed(id, []byte("skerry provide 1\n"), binary.BigEndian.AppendUint32(nil, day))
}

type discovery struct {
	n *Node

	mu       sync.Mutex
	searched map[replica.ID]search
	lied     map[claimant]time.Time // until when they are not asked
	fresh    map[replica.ID]bool    // to be announced before the next round, since they are new here
	news     chan struct{}
}

type search struct {
	next  time.Time
	wait  time.Duration
	alone bool // no holder is connected
}

type claimant struct {
	p  peer.ID
	id replica.ID
}

func newDiscovery(n *Node) *discovery {
	return &discovery{n: n, searched: map[replica.ID]search{}, lied: map[claimant]time.Time{}, fresh: map[replica.ID]bool{}, news: make(chan struct{}, 1)}
}

// announceSoon has a replica announced, and searched for, that has come to be held.
func (d *discovery) announceSoon(id replica.ID) {
	d.mu.Lock()
	if len(d.fresh) < maxAnnounced { // the next round has the others
		d.fresh[id] = true
	}
	if d.n.cfg.Host == nil {
		d.add(id)
	}
	d.mu.Unlock()
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// announce announces what is held, until ctx ends.
func (d *discovery) announce(ctx context.Context) {
	var from replica.ID      // where the next round begins
	var pending []replica.ID // of this round
	var round time.Time
	for {
		var err error
		if now := d.n.cfg.Now(); len(pending) == 0 && (now.Sub(round) >= announceEvery || now.Before(round)) {
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
		wait, news := jitter(announceEvery/24), d.news
		if err != nil {
			news = nil // it has to wait with the others
			if !errors.Is(err, link.ErrNoTable) && ctx.Err() == nil {
				d.n.log.Warn("announcing replicas", "error", err)
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

func (d *discovery) takeFresh() (all []replica.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.fresh {
		all = append(all, id)
	}
	clear(d.fresh)
	return all
}

func (d *discovery) putBack(all []replica.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range all {
		d.fresh[id] = true
	}
}

// inTurn returns the next replicas to announce, beginning after from, and where they end.
func (d *discovery) inTurn(ctx context.Context, from replica.ID) (all []replica.ID, last replica.ID, err error) {
	var before []replica.ID
	for r, err := range d.n.Replicas.All(ctx) {
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
func (d *discovery) announceThese(ctx context.Context, all []replica.ID) error {
	now := d.n.cfg.Now()
	today, soon := dayOf(now), dayOf(now.Add(announceAhead))
	return eachAtOnce(askAtOnce, all, func(id replica.ID) error {
		for day := today; day <= soon; day++ {
			err := d.n.net.Announce(ctx, provideKey(id, day))
			if err == nil {
				d.n.counters.announced.Add(1)
			}
			if errors.Is(err, link.ErrNoTable) || ctx.Err() != nil {
				return err
			} else if err != nil {
				d.n.log.Debug("announcing a replica", "replica", id.Short(), "error", err)
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

// search looks for holders of replicas, until ctx ends. A host waits for devices to come.
func (d *discovery) search(ctx context.Context) {
	var scanned time.Time
	for d.n.cfg.Host == nil {
		wait := searchEvery
		err := link.ErrNoTable
		if d.n.net.Situation().TableSize > 0 { // else there is nobody to ask, however many replicas are alone
			err = nil
		}
		if now := d.n.cfg.Now(); err == nil && (now.Sub(scanned) >= scanEvery || now.Before(scanned)) {
			scanned = now
			err = d.scan(ctx)
		}
		if err == nil {
			err = d.searchSome(ctx)
		}
		if errors.Is(err, link.ErrNoTable) {
			wait = tableRetry
		} else if err != nil && ctx.Err() == nil {
			d.n.log.Warn("looking for replicas", "error", fault.Report(d.n.log, err, "the search for a replica"))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(wait)):
		}
	}
}

// scan brings what is searched for in line with what is held; what comes meanwhile, announceSoon
// adds.
func (d *discovery) scan(ctx context.Context) error {
	held := map[replica.ID]bool{}
	for r, err := range d.n.Replicas.All(ctx) {
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
		d.add(id)
	}
	return nil
}

// add has a replica searched for; the caller holds the lock.
func (d *discovery) add(id replica.ID) {
	if _, known := d.searched[id]; !known && len(d.searched) < maxSearchedFor {
		d.searched[id] = search{d.n.cfg.Now().Add(firstRetry), firstSearch / 2, true} // its peers may be about to be reached
	}
}

// searchSome looks for holders of some of those replicas that are due.
func (d *discovery) searchSome(ctx context.Context) error {
	due, err := d.dueSearches(ctx)
	if err != nil {
		return err
	}
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	return eachAtOnce(askAtOnce, due[:min(len(due), maxSearches)], func(id replica.ID) error {
		_, err := d.find(ctx, id)
		if errors.Is(err, link.ErrNoTable) || ctx.Err() != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if s, held := d.searched[id]; held {
			s.wait = min(2*s.wait, lastSearch)
			s.next = d.n.cfg.Now().Add(jitter(s.wait))
			d.searched[id] = s
		}
		return nil
	})
}

// dueSearches returns the replicas that are to be searched for: of which no holder is connected or,
// less urgent, seeds only, which pass on what the devices write, but may go, and are slower than a
// device next door.
func (d *discovery) dueSearches(ctx context.Context) (due []replica.ID, err error) {
	for _, id := range d.dueNow() {
		if with := d.n.peers.connectedSharing(id); len(with) > 0 {
			seeds, err := d.n.Seeds(ctx, id)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(with, func(p peer.ID) bool { return !slices.Contains(seeds, p) }) {
				d.mu.Lock()
				d.searched[id] = search{d.n.cfg.Now().Add(jitter(checkEvery)), firstSearch / 2, false}
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
func (d *discovery) dueNow() (due []replica.ID) {
	now := d.n.cfg.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, s := range d.searched {
		if alone := !d.n.peers.anyConnected(id); alone != s.alone {
			s = search{now.Add(firstRetry), firstSearch / 2, alone}
			if !alone {
				s.next = now.Add(jitter(firstSearch))
			}
			d.searched[id] = s
		}
		if !s.next.After(now) {
			due = append(due, id)
		}
	}
	return due
}

// find looks for holders of a replica and runs sessions with some. It returns those that succeeded.
func (d *discovery) find(ctx context.Context, id replica.ID) (done []SyncResult, err error) {
	d.n.counters.searches.Add(1)
	claims, err := d.claims(ctx, id)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	enough := errors.New("enough holders have been found")
	looking, stop := context.WithCancel(ctx) // for those that have not proved their claim
	defer stop()
	err = eachAtOnce(claimsAtOnce, claims[:min(len(claims), maxClaims)], func(p peer.AddrInfo) error {
		st, err := d.n.meetAndSync(looking, ctx, claimTime, p, id, asking{})
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			d.n.log.Debug("a peer that claims to hold a replica", "peer", p.ID, "replica", id.Short(), "error", err)
			if looking.Err() == nil && !errors.Is(err, ErrBusy) {
				d.n.counters.falsehood.Add(1)
				d.isFalse(claimant{p.ID, id})
			}
			return ctx.Err()
		}
		switch done = append(done, SyncResult{SyncStats: st}); len(done) {
		case 1: // somebody may wait for this one
			hurry := time.AfterFunc(newcomerGrace, stop)
			context.AfterFunc(looking, func() { hurry.Stop() })
		case enoughHolders:
			stop()
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return done, err
}

// claims returns who claims to hold a replica, in no order. Near midnight clocks may not agree on
// the day.
func (d *discovery) claims(ctx context.Context, id replica.ID) (all []peer.AddrInfo, err error) {
	const off = 2 * time.Hour
	now := d.n.cfg.Now()
	for day := dayOf(now.Add(-off)); day <= dayOf(now.Add(off)); day++ {
		some, err := d.n.net.Find(ctx, provideKey(id, day))
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	seen := map[peer.ID]bool{d.n.id: true}
	for _, p := range d.n.peers.connectedSharing(id) {
		seen[p] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all = slices.DeleteFunc(all, func(p peer.AddrInfo) bool {
		again := seen[p.ID]
		seen[p.ID] = true
		return again || d.lied[claimant{p.ID, id}].After(now) || d.n.peers.isRefused(p.ID)
	})
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all, nil
}

// isFalse remembers a claim that was not true; the caller does not hold the lock.
func (d *discovery) isFalse(c claimant) {
	now := d.n.cfg.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lied) >= maxFalse {
		for k, until := range d.lied { // in no order
			if delete(d.lied, k); until.After(now) {
				break
			}
		}
	}
	d.lied[c] = now.Add(falseMemory)
}

package discovery

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

// Find looks for holders of a replica, and meets some until enough have proved that they are.
func (d *Finder) Find(ctx context.Context, id replica.ID, meet Meet) error {
	d.searches.Add(1)
	claims, err := d.claims(ctx, id)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	done := 0
	enough := errors.New("enough holders have been found")
	looking, stop := context.WithCancel(ctx) // for those that have not proved their claim
	defer stop()
	err = eachAtOnce(claimsAtOnce, claims[:min(len(claims), maxClaims)], func(p peer.AddrInfo) error {
		err := meet(looking, ctx, ClaimTime, p, id)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			d.cfg.Log.Debug("a peer that claims to hold a replica", "peer", p.ID,
				"replica", id.Short(), "error", err)
			if looking.Err() == nil {
				d.noteFailed(claimant{p.ID, id}, err)
			}
			return ctx.Err()
		}
		switch done++; done {
		case 1: // somebody may wait for this one
			hurry := time.AfterFunc(secondGrace, stop)
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
	return err
}

// claims returns who claims to hold a replica, in no order, but those last that could not be
// reached lately. Near midnight clocks may not agree on the day.
func (d *Finder) claims(ctx context.Context, id replica.ID) (all []peer.AddrInfo, err error) {
	const off = 2 * time.Hour
	now := d.cfg.Now()
	for day := names.Day(now.Add(-off)); day <= names.Day(now.Add(off)); day++ {
		some, err := d.net.Find(ctx, names.Provide(id, day))
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	seen := map[peer.ID]bool{d.cfg.Self: true}
	for _, p := range d.cfg.Here(id) {
		seen[p] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all = slices.DeleteFunc(all, func(p peer.AddrInfo) bool {
		again := seen[p.ID]
		seen[p.ID] = true
		return again || d.lied[claimant{p.ID, id}].After(now) || d.cfg.Refused(p.ID)
	})
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	last := func(p peer.AddrInfo) int {
		if d.away[claimant{p.ID, id}].After(now) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(p, q peer.AddrInfo) int { return last(p) - last(q) })
	return all, nil
}

// noteFailed remembers a claim that was not proved: for long, if whoever was asked does not hold
// the replica; for a while, if it was reached and has not said; and else that it could not be
// reached. One that is busy has said that it holds the replica. The caller does not hold the lock.
func (d *Finder) noteFailed(c claimant, err error) {
	if errors.Is(err, contacts.ErrBusy) {
		return
	}
	_, unreached := errors.AsType[*link.UnreachableError](err)
	now := d.cfg.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if unreached && !d.cfg.Connected(c.p) {
		remember(d.away, c, now, awayMemory)
		return
	}
	if !errors.Is(err, contacts.ErrNotShared) {
		remember(d.lied, c, now, slowMemory)
		return
	}
	d.falsehood.Add(1)
	remember(d.lied, c, now, falseMemory)
}

// remember notes a claim for some time. One of the others makes room for it, if there is none.
func remember(claims map[claimant]time.Time, c claimant, now time.Time, long time.Duration) {
	if len(claims) >= maxFalse {
		for k, until := range claims { // in no order
			if delete(claims, k); until.After(now) {
				break
			}
		}
	}
	claims[c] = now.Add(long)
}

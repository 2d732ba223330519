package onnode

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

// Whether what this device has written is elsewhere, too. Peers that are remembered to hold the
// replica are asked, newcomers too: with a ticket, a person's second device is one for some days.

const (
	// askSoon is how long after a write peers are asked, when they have had time to fetch it.
	askSoon = 2 * time.Second
	// While something is pending, they are asked again after askAgain, twice that, and so on.
	askAgain, askSeldom = 5 * time.Second, 10 * time.Minute
	// maxAskedPeers is how many peers are asked in one round.
	maxAskedPeers = 64
	// waitedAtOnce is how many entries are waited for together, more if they have the same time.
	waitedAtOnce = 1 << 12
)

// asker asks peers what they hold of what this device has written.
type asker struct {
	n     *node.Node
	id    replica.ID
	set   *versions.Set
	log   *slog.Logger
	poked chan struct{} // something was written
}

func newAsker(n *node.Node, id replica.ID, set *versions.Set) *asker {
	return &asker{n: n, id: id, set: set, log: n.Log(), poked: make(chan struct{}, 1)}
}

func (a *asker) poke() {
	select {
	case a.poked <- struct{}{}:
	default:
	}
}

// run asks those that are connected after each write, and until nothing is pending.
func (a *asker) run(ctx context.Context) {
	wait := askSoon
	timer := time.NewTimer(wait)
	defer timer.Stop()
	again := askAgain
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.poked:
			again = askAgain
			timer.Reset(askSoon)
			continue
		case <-timer.C:
		}
		pending, err := a.set.AskHeld(ctx, func(
			ctx context.Context, some []replica.Item,
		) ([]bool, error) {
			counts, err := a.count(ctx, some, 1, false)
			held := make([]bool, len(some))
			for i, n := range counts {
				held[i] = n > 0
			}
			return held, err
		})
		if err != nil && ctx.Err() == nil {
			a.log.Warn("asking what peers hold", "replica", a.id.Short(), "error", err)
		}
		if pending > 0 || err != nil {
			timer.Reset(again)
			again = min(2*again, askSeldom)
		}
	}
}

// peers returns whom to ask.
func (a *asker) peers(ctx context.Context, dial bool) ([]peer.AddrInfo, error) {
	firm, newcomers, err := a.n.Holders(ctx, a.id)
	all := slices.Concat(firm, newcomers)
	if !dial {
		connected := map[peer.ID]bool{}
		for _, p := range a.n.Peers() {
			connected[p.ID] = true
		}
		all = slices.DeleteFunc(all, func(p peer.AddrInfo) bool { return !connected[p.ID] })
	}
	return all[:min(len(all), maxAskedPeers)], err
}

// count returns how many peers hold each of some entries with its content; it asks for no more than
// enough. dial has it connect to peers.
func (a *asker) count(
	ctx context.Context, some []replica.Item, enough int, dial bool,
) ([]int, error) {
	counts := make([]int, len(some))
	peers, err := a.peers(ctx, dial)
	if err != nil {
		return counts, err
	}
	for _, p := range peers {
		var asked []int
		var entries []replica.Entry
		for i := range some {
			if counts[i] < enough {
				asked, entries = append(asked, i), append(entries, some[i].Entry)
			}
		}
		for len(entries) > 0 {
			held, err := a.n.Holdings(ctx, p, a.id, entries)
			if ctx.Err() != nil {
				return counts, ctx.Err()
			}
			if err != nil || len(held) == 0 {
				a.log.Debug("asking what a peer holds", "peer", p.ID, "replica", a.id.Short(), "error", err)
				break
			}
			for i, h := range held {
				if h == session.WithContent {
					counts[asked[i]]++
				}
			}
			asked, entries = asked[len(held):], entries[len(held):]
		}
	}
	return counts, nil
}

// WaitHeld waits until copies other peers hold, with their content, what this device has written of
// some keys, or, without keys, all that it had written when WaitHeld was called; those may be
// different peers for each. If one copy is enough, and there are no keys, it waits for what is
// pending alone. What this device writes of the same keys meanwhile is waited for instead. It
// returns link.ErrOffline for a node without a network, and ctx's error with how much is missing.
//
// Peers are believed. Anybody who holds the replica counts, hosts that cannot read it included.
func (s *Set) WaitHeld(ctx context.Context, copies int, keys ...[]byte) error {
	if !s.asker.n.Online() {
		return fmt.Errorf("versions: %w", link.ErrOffline)
	}
	if len(keys) > 0 {
		var all []replica.Item
		for _, key := range keys {
			it, ok, err := s.WrittenAt(ctx, key)
			if err != nil {
				return err
			}
			if ok {
				all = append(all, it)
			}
		}
		return s.asker.waitFor(ctx, all, copies)
	}
	last, err := s.LastWritten(ctx)
	if err != nil {
		return err
	}
	since := uint64(0)
	if copies == 1 {
		since = s.HeldUntil() + 1
	}
	for since <= last {
		var some []replica.Item
		if some, since, err = s.some(ctx, since, last); err != nil {
			return err
		}
		if err := s.asker.waitFor(ctx, some, copies); err != nil {
			return err
		}
	}
	return nil
}

// some returns what this device has written from a time until another, so much that it can be
// waited for together, and the time from which on there may be more.
func (s *Set) some(
	ctx context.Context, since, last uint64,
) (some []replica.Item, next uint64, err error) {
	for it, err := range s.Written(ctx, since) {
		if err != nil {
			return nil, 0, err
		}
		at := it.Entry.Timestamp
		if at > last {
			break
		}
		if n := len(some); n >= waitedAtOnce && at > some[n-1].Entry.Timestamp {
			return some, at, nil
		}
		some = append(some, it)
	}
	return some, last + 1, nil
}

// waitFor waits until copies peers hold each of some entries, or what takes its place here.
func (a *asker) waitFor(ctx context.Context, some []replica.Item, copies int) error {
	const first, most = 100 * time.Millisecond, 10 * time.Second
	for wait := first; len(some) > 0; wait = min(2*wait, most) {
		counts, err := a.count(ctx, some, copies, true)
		if err != nil {
			return missing(err, len(some), copies)
		}
		var left []replica.Item
		for i := range some {
			if counts[i] >= copies {
				continue
			}
			now, ok, err := a.set.WrittenAt(ctx, some[i].Key)
			if err != nil {
				return missing(err, len(some), copies)
			}
			if ok {
				left = append(left, now)
			}
		}
		if some = left; len(some) == 0 {
			return nil
		}
		if wait > first { // what was pushed may have been lost
			within, cancel := context.WithTimeout(ctx, most)
			_, err := a.n.SyncNow(within, a.id, "", nil)
			cancel()
			if err != nil {
				a.log.Debug("a session for what is pending", "replica", a.id.Short(), "error", err)
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return missing(ctx.Err(), len(some), copies)
		}
	}
	return nil
}

func missing(err error, entries, copies int) error {
	return fmt.Errorf("versions: %d entries are not known to be held by %d peers yet: %w", entries,
		copies, err)
}

package onnode

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/clock"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

// Options are for Open; the zero value is fine. But for Changed, they are those of versions.Config.
type Options struct {
	Merge          func(key, base, local, remote []byte) (merged []byte, err error)
	MaxMerge       uint64
	MaxKept        uint64
	DeletionStands bool
	// Changed, if set, is told the keys of items that may have changed by what has come from peers,
	// one call after the other: those of all items once the Set is open, and again if it was too slow.
	// It may use the Set, but must not close it. Whoever wants to know of what is written here, too,
	// or opens the Set together with others, uses Watch.
	Changed func(keys [][]byte)
	// Clock, if set, says what is known of the clock, instead of what the node's known peers say: for
	// whoever lets a person insist that it is right. See versions.Config.
	Clock func() versions.Clock
	// Name is what people call this device; see versions.Config.
	Name string
}

// Set is the versions of a replica of a node. It looks at what comes from peers until it is closed.
type Set struct {
	*versions.Set
	watcher *watcher
	watches watches
	asker   *asker
	cancel  context.CancelFunc
	running sync.WaitGroup
	release func()
	closing sync.Once
}

// Open returns the versions of a replica, as this node reads and writes them. It must be closed
// before the node. From the first time on, until the replica is left, the node keeps versions that
// are displaced; see node.KeepDisplaced. It returns replica.ErrNotFound, and
// node.ErrDisplacedInUse while there is another Set of the replica.
//
// A device that writes its first version, or finds that it was copied, makes an author for itself.
// It can if the node holds a write ticket, or an author with a delegable grant for the whole
// replica; otherwise writing returns versions.ErrNoAuthor.
func Open(ctx context.Context, n *node.Node, id replica.ID, o Options) (_ *Set, err error) {
	displaced, err := n.KeepDisplaced(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("versions: %w", err)
	}
	defer func() {
		if err != nil {
			displaced.Close()
		}
	}()
	of := &slots{n: n, r: n.ReplicaOf(id), displaced: displaced}
	watch, err := of.r.Watch(ctx) // what comes from now on is not missed
	if err != nil {
		return nil, fmt.Errorf("versions: %w", err)
	}
	defer func() {
		if err != nil {
			watch.Close()
		}
	}()
	s := &Set{release: displaced.Close}
	s.Set, err = versions.Open(ctx, versions.Config{
		Slots: of, State: &device{n: n, id: id}, Key: n.Authors().Key, NewKey: of.newKey,
		Merge: o.Merge, MaxMerge: o.MaxMerge, MaxKept: o.MaxKept, DeletionStands: o.DeletionStands,
		Name: o.Name, Clock: clockOf(n, o),
	})
	if err != nil {
		return nil, err
	}
	s.asker = newAsker(n, id, s.Set)
	s.watcher = &watcher{
		n: n, slots: of, set: s.Set, watch: watch, changed: o.Changed, watches: &s.watches,
		wrote: s.asker.poke, log: n.Log(), all: true, waits: map[place]replica.Item{},
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.running.Go(func() {
		defer s.watches.end()
		defer watch.Close()
		fault.Keep(running, n.Log(), "looking at versions", s.watcher.run)
	})
	if n.Online() {
		s.running.Go(func() {
			fault.Keep(running, n.Log(), "asking what peers hold", s.asker.run)
		})
	}
	return s, nil
}

// CatchUp returns when all entries that the replica had when it was called have been looked at:
// Changed has been told of them.
func (s *Set) CatchUp(ctx context.Context) error {
	return s.watcher.looked.wait(ctx, s.watcher.watch.Come())
}

// Close ends the Set, and returns when it looks at nothing any more.
func (s *Set) Close() {
	s.closing.Do(func() {
		s.cancel()
		s.running.Wait()
		s.release()
	})
}

// clockOf returns what says how a node's clock is.
func clockOf(n *node.Node, o Options) func() versions.Clock {
	if o.Clock != nil {
		return o.Clock
	}
	return func() versions.Clock { return clockAs(n.JudgeClock(), n.TrustsClock()) }
}

// clockAs returns what peers say about a clock, unless a person trusts it.
func clockAs(j clock.Judgement, trusted bool) versions.Clock {
	switch {
	case trusted:
		return versions.Clock{Right: true}
	case j.Wrong():
		wrong := &versions.ClockError{Ahead: j.Ahead, Off: j.Off, Answered: j.Answered}
		return versions.Clock{Wrong: wrong}
	}
	return versions.Clock{Right: j.Right()}
}

// newKey makes an author who may write, for this device alone.
func (s *slots) newKey(ctx context.Context) (key replica.SecretKey, err error) {
	view, err := s.look(ctx)
	if err == nil && view.Encrypted() {
		_, err = view.Sealing() // nothing could be written
	}
	if err != nil {
		return key, err
	}
	id := s.r.ID()
	if err = s.n.Replicas().CanGrant(ctx, id, replica.Permission{}); err != nil {
		return key, noAuthor(err)
	}
	// The first key that is kept becomes the default, which others write with who know no versions.
	if _, err = s.n.Authors().Default(ctx); err != nil {
		return key, err
	}
	key = replica.NewSecretKey()
	if err = s.n.Authors().Import(ctx, key); err != nil {
		return key, err
	}
	if _, err = s.n.Grant(ctx, id, key.Author(), replica.Permission{}); err != nil {
		return key, noAuthor(err)
	}
	return key, nil
}

// noAuthor says what a person can do if nobody here may grant.
func noAuthor(err error) error {
	if !errors.Is(err, replica.ErrCannotGrant) {
		return err
	}
	return fmt.Errorf("%w: join with a write ticket, or ask for a grant to an author of this device "+
		"that it may pass on (skerry replica grant NAME AUTHOR --delegable): %w",
		versions.ErrNoAuthor, err)
}

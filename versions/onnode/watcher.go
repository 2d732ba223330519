package onnode

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/internal/seldom"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/versions"
)

// watcher looks at the versions that come from peers. It is for one goroutine.
type watcher struct {
	n       *node.Node
	slots   *slots
	set     *versions.Set
	watch   *node.Watch
	changed func(keys [][]byte)
	watches *watches
	wrote   func() // is told that this node has written
	log     *slog.Logger

	all    bool                   // all entries are to be looked at
	retry  bool                   // and again, since something failed
	waits  map[place]replica.Item // for their content
	key    replica.EpochID        // the newest read key that was here
	logged seldom.Told
	looked progress
	// grant is when to look whether the device may write, and removed whether it might not.
	grant   *time.Timer
	removed bool
}

// progress says how many entries have been looked at since the watch began.
type progress struct {
	mu    sync.Mutex
	count uint64
	moved chan struct{} // is closed when there are more
}

func (p *progress) set(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count = n
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// wait returns when n have been looked at.
func (p *progress) wait(ctx context.Context, n uint64) error {
	for {
		p.mu.Lock()
		if p.count >= n {
			p.mu.Unlock()
			return nil
		}
		if p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// place is where an entry is, in plain.
type place struct {
	key    string
	author replica.AuthorID
}

const (
	// lookAtOnce is how many entries are looked at together.
	lookAtOnce = 1 << 10
	// maxWaits is how many entries wait for their content, one by one. Beyond, all entries are looked
	// at again when that of one of these has come.
	maxWaits = 1 << 13
	// pause is how long the watcher waits after something failed, and how often it looks for another
	// read key.
	pause = time.Minute
	// removedPause is how often a device that may not write looks whether it may again.
	removedPause = 2 * time.Second
	// saySoon is when a device says what it has seen, since it was opened, and sayEvery how often it
	// does afterwards, if there is more.
	saySoon, sayEvery = time.Minute, time.Hour
)

// seen is what a Watch has seen.
type seen struct {
	all    []node.Seen
	missed uint64
	come   uint64 // entries until now
}

func (w *watcher) run(ctx context.Context) {
	defer w.looked.set(math.MaxUint64) // nobody waits for it any more
	ctx, cancel := context.WithCancel(ctx)
	came := make(chan seen)
	go func() {
		defer close(came)
		w.listen(ctx, came)
	}()
	defer func() {
		cancel()
		for range came { // it ends, and then it is closed
		}
	}()
	arrived := w.n.ContentArrived()
	again := time.NewTicker(pause)
	defer again.Stop()
	say := time.NewTimer(saySoon)
	defer say.Stop()
	w.grant = time.NewTimer(pause)
	defer w.grant.Stop()
	w.failed(ctx, w.lookForKey(ctx))
	for ctx.Err() == nil {
		var err error
		if w.all {
			err = w.lookAtAll(ctx)
		}
		w.failed(ctx, err)
		select {
		case x, ok := <-came:
			if !ok {
				return
			}
			if err = w.take(ctx, x); err == nil && w.all {
				err = w.lookAtAll(ctx)
			}
			w.looked.set(x.come)
		case <-arrived:
			arrived = w.n.ContentArrived() // before the look: what comes during it is not missed
			err = w.lookAtWaiting(ctx)
		case <-again.C:
			if w.retry {
				w.all, w.retry = true, false
			}
			err = w.lookForKey(ctx)
		case <-w.grant.C:
			err = w.lookForGrant(ctx)
		case <-say.C:
			say.Reset(sayEvery)
			err = w.set.Acknowledge(ctx)
		case <-ctx.Done():
		}
		w.failed(ctx, err)
	}
}

// listen hands on what comes.
func (w *watcher) listen(ctx context.Context, came chan<- seen) {
	for {
		all, missed, come, err := w.watch.NextUntil(ctx)
		if ctx.Err() != nil || errors.Is(err, node.ErrClosed) {
			return
		}
		if err != nil {
			w.log.Error("watching versions", "replica", w.slots.ID().Short(), "error", err)
			missed++
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
		select {
		case came <- seen{all, missed, come}:
		case <-ctx.Done():
			return
		}
	}
}

// failed has all entries looked at again after an error, a while later.
func (w *watcher) failed(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil || errors.Is(err, node.ErrClosed) {
		return
	}
	w.retry = true
	if w.logged.Again(time.Now()) {
		w.log.Error("looking at versions", "replica", w.slots.ID().Short(), "error", err)
	}
}

// lookForKey has all entries looked at if there is another read key: it may open some that came
// before it. What this device has sealed with older ones, and nobody else has, is sealed anew.
func (w *watcher) lookForKey(ctx context.Context) error {
	r, err := w.n.Replicas().Get(ctx, w.slots.ID())
	if err != nil || !r.Encrypted {
		return err
	}
	key, err := w.n.Replicas().ReadKey(ctx, r.ID)
	if errors.Is(err, replica.ErrNoReadKey) || errors.Is(err, replica.ErrUnprovedKey) {
		return nil
	}
	if err != nil || key.ID() == w.key {
		return err
	}
	n, err := w.set.Reseal(ctx, func(e *replica.Entry) bool {
		epoch, err := seal.EpochOf(e.Key)
		return err == nil && epoch < key.Epoch
	})
	if n > 0 {
		w.log.Info("versions were sealed with the new read key", "replica", r.ID.Short(), "entries", n)
	}
	if errors.Is(err, versions.ErrRemoved) {
		err = nil // it is not asked again
	}
	if err == nil {
		w.key, w.all = key.ID(), true
	}
	return err
}

// lookForGrant has all entries looked at if this device may write again, after it might not: what
// it has not sent may be allowed now.
func (w *watcher) lookForGrant(ctx context.Context) error {
	removed := false
	if author, ok := w.set.Author(); ok {
		err := w.n.Replicas().MayWrite(ctx, w.slots.ID(), author, nil)
		_, removed = errors.AsType[*replica.NotAllowedError](err)
		if err != nil && !removed {
			w.grant.Reset(pause)
			return err
		}
	}
	w.all = w.all || w.removed && !removed
	if w.removed = removed; removed {
		w.grant.Reset(removedPause)
	} else {
		w.grant.Reset(pause)
	}
	return nil
}

// take looks at what has come.
func (w *watcher) take(ctx context.Context, x seen) error {
	if x.missed > 0 {
		w.all = true
		w.watches.lose() // entries that are gone are not among all
		w.wrote()
		return nil
	}
	var here []replica.Item
	var gone, own [][]byte // keys, where there is nothing to look at
	for i := range x.all {
		switch e := &x.all[i]; {
		case e.Dropped:
			gone = append(gone, e.Key)
		case e.From == replica.Local:
			own = append(own, e.Key)
			w.wrote()
		default:
			here = append(here, e.Item)
		}
	}
	if len(gone) > 0 {
		w.grant.Reset(0) // it may be by a revocation of this device
	}
	w.tell(gone)
	w.watches.tell(own)
	for len(here) > 0 {
		n := min(len(here), lookAtOnce)
		if err := w.arrived(ctx, here[:n], w.set.Arrived); err != nil {
			return err
		}
		here = here[n:]
	}
	return nil
}

// tell tells what peers may have changed.
func (w *watcher) tell(keys [][]byte) {
	w.watches.tell(keys)
	if w.changed != nil && len(keys) > 0 {
		w.changed(keys)
	}
}

// arrived gives entries to the set, and has those wait whose content is not here.
func (w *watcher) arrived(
	ctx context.Context, all []replica.Item,
	to func(context.Context, []replica.Item) ([][]byte, error),
) error {
	for i := range all {
		at := place{string(all[i].Key), all[i].Entry.Author}
		delete(w.waits, at)
		if all[i].Entry.IsTombstone() {
			continue
		}
		state, err := w.n.ContentOf(ctx, &all[i].Entry)
		if err != nil {
			return err
		}
		if (state == wanted.Missing || state == wanted.Partial) && len(w.waits) < maxWaits {
			w.waits[at] = all[i]
		}
	}
	keys, err := to(ctx, all)
	w.tell(keys)
	if errors.Is(err, versions.ErrNoAuthor) { // writing says so, until there can be one
		if w.logged.Again(time.Now()) {
			w.log.Warn("looking at versions", "replica", w.slots.ID().Short(), "error", err)
		}
		return nil
	}
	return err
}

// lookAtWaiting looks at what has waited for its content.
func (w *watcher) lookAtWaiting(ctx context.Context) error {
	full := len(w.waits) == maxWaits
	var here []replica.Item
	for _, it := range w.waits {
		state, err := w.n.ContentOf(ctx, &it.Entry)
		if err != nil {
			return err
		}
		if state == wanted.Complete || state == wanted.Refuted {
			here = append(here, it)
		}
	}
	if full && len(here) > 0 { // others may have waited, too
		w.all = true
		return nil
	}
	for len(here) > 0 {
		n := min(len(here), lookAtOnce)
		if err := w.arrived(ctx, here[:n], w.set.Arrived); err != nil {
			return err
		}
		here = here[n:]
	}
	return nil
}

// lookAtAll looks at all entries, and at all that were displaced.
func (w *watcher) lookAtAll(ctx context.Context) error {
	w.all = false
	clear(w.waits)
	if err := w.arrived(ctx, nil, w.set.Arrived); err != nil {
		return err
	}
	var some []replica.Item
	// By time, an encrypted replica is not held in memory.
	for it, err := range w.slots.Entries(ctx, replica.Query{ByTime: true, Tombstones: true}) {
		if err != nil {
			return err
		}
		if some = append(some, it); len(some) == lookAtOnce {
			if err := w.arrived(ctx, some, w.set.LookAgain); err != nil {
				return err
			}
			some = some[:0]
		}
	}
	if len(some) == 0 {
		return ctx.Err()
	}
	return w.arrived(ctx, some, w.set.LookAgain)
}

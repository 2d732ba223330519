package seed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// Seed keeps registered replicas at a node.
type Seed struct {
	n   *node.Node
	reg *Registry
	log *slog.Logger
	now func() time.Time

	// OpenReads lets anybody ask for anybody's status and quota, as OBJECTS does.
	OpenReads bool

	// Only, if not empty, names the identities that may register replicas. It must not change once
	// requests are served.
	Only []identity.ID

	// ProxyHops is how many proxies before the server of HTTP add to X-Forwarded-For. It must not
	// change once requests are served.
	ProxyHops int

	holding   stripes
	onLeaving func() // of tests: between the check and the leaving

	counts counts
	askers askers
	bell   chan struct{} // something may have to be charged
	work   sync.WaitGroup
	stop   context.CancelFunc
}

// How often a seed looks after what nobody tells it of.
const (
	sweepEvery = 10 * time.Minute
	lapseEvery = 24 * time.Hour
	// Content that was refused is tried again this long after there may be room, and so as to take at
	// most a twentieth of the time.
	roomWait  = time.Second
	roomShare = 20
	// chargeAtOnce is how many entries are charged in one transaction.
	chargeAtOnce = 256
)

// New returns a seed at a node whose Config has the registry as its Host. now is the clock; nil is
// time.Now.
func New(n *node.Node, reg *Registry, log *slog.Logger, now func() time.Time) *Seed {
	if now == nil {
		now = time.Now
	}
	return &Seed{n: n, reg: reg, log: log, now: now, bell: make(chan struct{}, 1)}
}

// Start begins to keep what is registered, and goes on with what was not ended; Close ends it.
func (s *Seed) Start(ctx context.Context) {
	ctx, s.stop = context.WithCancel(ctx)
	s.work.Go(func() { s.run(ctx) })
	s.work.Go(func() { s.collectLoose(ctx) })
}

// Close returns when nothing runs any more.
func (s *Seed) Close() {
	if s.stop != nil {
		s.stop()
	}
	s.work.Wait()
}

func (s *Seed) run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var lapsed time.Time
	for {
		if now := s.now(); now.Sub(lapsed) >= lapseEvery {
			lapsed = now
			s.lapse(ctx)
		}
		start := time.Now()
		if err := errors.Join(
			s.resume(ctx), s.chargeAll(ctx), s.sweep(ctx), s.retryRefused(ctx),
		); err != nil && ctx.Err() == nil {
			s.log.Error("looking after registered replicas", "error", err)
		}
		took := time.Since(start)
		select {
		case <-ctx.Done():
			return
		case <-s.bell:
		case <-s.reg.bell:
			select { // until what made room has been committed, and more of it: to try again costs a look at all entries
			case <-ctx.Done():
			case <-time.After(max(roomWait, roomShare*took)):
			}
		case <-tick.C:
		}
	}
}

func (s *Seed) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// scan calls fn with the records whose keys begin with a prefix.
func (s *Seed) scan(ctx context.Context, prefix string, fn func(kv.Pair) error) error {
	for p, err := range paged(ctx, s.n.Store(), []byte(prefix), nil) {
		if err == nil {
			err = fn(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// resume joins what is registered and was not joined, because of a crash.
func (s *Seed) resume(ctx context.Context) error {
	return s.scan(ctx, keyCharging, func(p kv.Pair) error {
		id := replica.ID(p.Key[len(keyCharging):])
		if _, err := s.n.Replicas().Get(ctx, id); !errors.Is(err, replica.ErrNotFound) {
			return err
		}
		g, err := s.anyOf(ctx, id)
		if err != nil {
			return err
		}
		return s.join(ctx, id, g.Ticket)
	})
}

// anyOf returns a registration of a replica.
func (s *Seed) anyOf(ctx context.Context, id replica.ID) (g Registration, err error) {
	err = s.n.Store().View(ctx, func(rd kv.Reader) error {
		all, err := identitiesOf(rd, id)
		if err != nil || len(all) == 0 {
			return errors.Join(err, ErrNotRegistered)
		}
		g, err = getRegistration(rd, all[0], id)
		return err
	})
	return g, err
}

// maxDialled is how many addresses of the ticket in a registration are dialled. Any stranger can
// write a ticket, and devices come to the seed by themselves.
const maxDialled = 8

func (s *Seed) join(ctx context.Context, id replica.ID, text string) error {
	t, err := ticket.ParseDoc(text)
	if err != nil {
		return fmt.Errorf("join registered replica %s: %w", id.Short(), err)
	}
	t.Addrs = t.Addrs[:min(len(t.Addrs), maxDialled)]
	_, err = s.n.Keep(ctx, t, "seed-"+id.String()[:20])
	return err
}

// chargeAll charges the entries of replicas that were here before they were registered.
func (s *Seed) chargeAll(ctx context.Context) error {
	return s.scan(ctx, keyCharging, func(p kv.Pair) error {
		id := replica.ID(p.Key[len(keyCharging):])
		if err := s.charge(ctx, id); err != nil {
			return fmt.Errorf("charge replica %s: %w", id.Short(), err)
		}
		if err := s.reg.Charged(ctx, s.n.Store(), id); err != nil {
			return err
		}
		return s.n.CatchUp(ctx, id)
	})
}

func (s *Seed) charge(ctx context.Context, id replica.ID) error {
	var some []replica.Entry
	flush := func() error {
		err := s.n.Store().Update(ctx, func(tx kv.Txn) error {
			for i := range some {
				// What has been replaced meanwhile has been charged by whoever has replaced it.
				now, err := replica.EntryIn(tx, id, some[i].Key, some[i].Author)
				if errors.Is(err, replica.ErrNotFound) || err == nil && now.ID() != some[i].ID() {
					continue
				}
				if err != nil {
					return err
				}
				if _, err := s.reg.Put(tx, &some[i]); err != nil {
					return err
				}
			}
			return nil
		})
		some = some[:0]
		return err
	}
	err := s.n.Store().Update(ctx, func(tx kv.Txn) error { return s.reg.chargeStatements(tx, id) })
	if err != nil {
		return err
	}
	for e, err := range s.n.Replicas().Entries(ctx, id, replica.Query{Tombstones: true}) {
		if err != nil {
			return err
		}
		if some = append(some, e); len(some) == chargeAtOnce {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// lapse ends registrations of which nobody is heard any more.
func (s *Seed) lapse(ctx context.Context) {
	lapsed, back, err := s.reg.Lapse(ctx, s.n.Store(), s.n.LastSync)
	err = errors.Join(err, s.reg.forget(ctx, s.n.Store()))
	if err != nil && ctx.Err() == nil {
		s.log.Error("looking for registrations of which nobody is heard any more", "error", err)
	}
	if lapsed+back > 0 {
		s.log.Info(
			"registrations of which nobody was heard any more", "ended", lapsed, "taken up again", back,
		)
	}
}

// sweep leaves replicas whose grace period is over.
func (s *Seed) sweep(ctx context.Context) error {
	leave, err := s.reg.Sweep(ctx, s.n.Store())
	for _, id := range leave {
		err = errors.Join(err, s.leave(ctx, id))
	}
	return err
}

// leave leaves a replica, unless somebody has registered it. Nobody can in between.
func (s *Seed) leave(ctx context.Context, id replica.ID) error {
	lock := s.holding.of(id)
	lock.Lock()
	defer lock.Unlock()
	if registered, err := s.anyOf(ctx, id); err == nil {
		s.log.Info(
			"a replica that was to be left was registered again", "replica", registered.Replica.Short(),
		)
		return nil
	}
	s.testLeaving()
	s.log.Info("a replica whose registration ended is left", "replica", id.Short())
	if err := s.n.Leave(ctx, id); err != nil && !errors.Is(err, replica.ErrNotFound) {
		return err
	}
	return s.reg.Left(ctx, s.n.Store(), id)
}

// stripes are held, by replica, by who registers it and by who leaves it.
type stripes [64]sync.Mutex

func (x *stripes) of(id replica.ID) *sync.Mutex { return &x[id[0]%64] }

func (s *Seed) testLeaving() {
	if s.onLeaving != nil {
		s.onLeaving()
	}
}

// retryRefused looks again at what was refused to identities who have room for some of it now.
func (s *Seed) retryRefused(ctx context.Context) error {
	return s.scan(ctx, keyRefused, func(p kv.Pair) error {
		k := p.Key[len(keyRefused):]
		if len(k) != identity.IDSize+32 {
			return errBadRecord
		}
		id, rep := identity.ID(k[:identity.IDSize]), replica.ID(k[identity.IDSize:])
		now := refusal{}
		fits := func(a *account, cost uint64) bool { return cost > 0 && a.fits(cost, false) }
		tried := false
		err := s.n.Store().Update(ctx, func(tx kv.Txn) (err error) {
			a, err := s.reg.account(tx, id, rep)
			if err != nil {
				return err
			}
			if now, err = refusalOf(tx, id, rep); err != nil {
				return err
			}
			if tried = fits(a, now.content) || fits(a, now.entries); !tried {
				return nil
			}
			return tx.Delete(p.Key)
		})
		if err != nil || !tried {
			return err
		}
		if now.entries > 0 {
			s.n.CompareSoon()
		}
		return s.n.CatchUp(ctx, rep) // which refuses again what there is no room for
	})
}

// State is that of a registered replica.
type State int

// The states, by their numbers in OBJECTS.
const (
	Syncing State = 1 // something of it is not here yet
	Synced  State = 2
	Paused  State = 3 // there is no room for new content; entries go on
	Failed  State = 4 // it could not be synced with anybody
	Deleted State = 5 // its registration has ended; it is kept until its deletion
	Full    State = 6 // there is no room for new entries either: some are not here
)

func (s State) String() string {
	return [...]string{"", "SYNCING", "SYNCED", "PAUSED", "ERROR", "DELETED", "QUOTA"}[s]
}

// Status tells how a registered replica is.
type Status struct {
	Replica    replica.ID
	State      State
	Bytes      uint64 // that the identity is charged for it; see Held
	Entries    uint64
	LastSync   time.Time // zero if there was no session yet
	Registered time.Time
	Deletion   time.Time // zero unless Deleted
}

// failedAfter is how long a replica may be registered without any session until that counts as an
// error.
const failedAfter = 10 * time.Minute

// StatusOf returns the state of an identity's registrations, and what it uses.
func (s *Seed) StatusOf(ctx context.Context, id identity.ID) (all []Status, u Usage, err error) {
	regs, u, err := s.reg.Of(ctx, s.n.Store(), id)
	if err != nil {
		return nil, u, err
	}
	for i := range regs {
		st, err := s.status(ctx, &regs[i])
		if err != nil {
			return nil, u, err
		}
		all = append(all, st)
	}
	return all, u, nil
}

func (s *Seed) status(ctx context.Context, g *Registration) (st Status, err error) {
	st = Status{Replica: g.Replica, Registered: g.Registered, Deletion: g.Deletion, State: Synced}
	err = s.n.Store().View(ctx, func(rd kv.Reader) error {
		h, err := heldOf(rd, g.Identity, g.Replica)
		if err != nil {
			return err
		}
		st.Bytes = h.Records + h.Statements + h.Content
		refused, err := refusalOf(rd, g.Identity, g.Replica)
		switch {
		case refused.entries > 0:
			st.State = Full
		case refused.content > 0:
			st.State = Paused
		}
		return err
	})
	if err != nil {
		return st, err
	}
	if !g.Deletion.IsZero() {
		st.State = Deleted
	}
	counts, err := s.n.Replicas().Counts(ctx, g.Replica)
	if errors.Is(err, replica.ErrNotFound) { // it is being joined, or left
		if st.State == Synced {
			st.State = Syncing
		}
		return st, nil
	}
	if err != nil {
		return st, err
	}
	st.Entries = counts.Entries
	if st.LastSync, err = s.n.LastSync(ctx, g.Replica); err != nil || st.State != Synced {
		return st, err
	}
	pending, err := s.n.PendingContent(ctx, g.Replica)
	switch {
	case err != nil:
	case pending > 0:
		st.State = Syncing
	case st.LastSync.IsZero() && s.now().Sub(g.Registered) > failedAfter:
		st.State = Failed
	case st.LastSync.IsZero():
		st.State = Syncing
	}
	return st, err
}

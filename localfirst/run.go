package localfirst

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// ScheduleSync has Run begin a pass soon. It does nothing else: calls that come before that are
// one.
func (e *Engine) ScheduleSync() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// SetIdlePolling has Run look seldom, while the app is in the background. What others write is
// applied when it comes, all the same.
func (e *Engine) SetIdlePolling(idle bool) {
	e.mu.Lock()
	e.idle = idle
	e.mu.Unlock()
	if !idle {
		e.ScheduleSync()
	}
}

// Login ends the back-off of Run: the person or the app says that peers can be reached again.
func (e *Engine) Login(context.Context) error {
	if e.isClosed() {
		return ErrClosed
	}
	select {
	case e.reset <- struct{}{}:
	default:
	}
	e.ScheduleSync()
	return nil
}

// settleFor is how long Run waits after it was woken, so that writes which follow on each other are
// published together.
const settleFor = 2 * time.Millisecond

// Run makes passes until ctx ends or the engine is closed: when the app asks for one, when others
// have written something, and every PollInterval, with jitter. After passes that failed it waits
// longer, up to MaxPollInterval. It returns ctx's error, or nil if the engine was closed.
func (e *Engine) Run(ctx context.Context) error {
	failures := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-e.wake:
			select {
			case <-time.After(settleFor):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if e.isClosed() {
			return nil
		}
		select {
		case <-e.wake: // it came before the pass
		default:
		}
		select {
		case <-e.reset:
			failures = 0
		default:
		}
		waiting, err := e.pass(ctx, false)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			failures++
			e.cfg.Log.Warn("a pass has failed", "error", err)
		default:
			failures = 0
		}
		timer.Reset(e.pause(failures, waiting))
	}
}

// pause returns how long to wait for the next pass.
func (e *Engine) pause(failures int, waiting bool) time.Duration {
	e.mu.Lock()
	idle := e.idle
	e.mu.Unlock()
	wait := e.cfg.PollInterval
	if idle {
		wait = e.cfg.MaxPollInterval
	}
	for range min(failures, 16) {
		wait = min(2*wait, e.cfg.MaxPollInterval)
	}
	if waiting && failures == 0 {
		wait = min(wait, patience)
	}
	return wait - wait/10 + rand.N(wait/5+1)
}

// SyncNow brings all namespaces to what peers have, as far as they can be reached, makes a pass,
// and returns when what it has published is with those peers. Errors of single items are events;
// what it returns kept a collection from being looked at, such as ErrMassDelete.
func (e *Engine) SyncNow(ctx context.Context) error {
	_, err := e.pass(ctx, true)
	return err
}

// Pass makes a pass without asking peers for anything: what has come by itself is applied, and what
// the app has changed is published.
func (e *Engine) Pass(ctx context.Context) error {
	_, err := e.pass(ctx, false)
	return err
}

// pass makes one pass over all that is open. waiting tells that items wait for something.
func (e *Engine) pass(ctx context.Context, meet bool) (waiting bool, err error) {
	e.passing.Lock()
	defer e.passing.Unlock()
	if e.isClosed() {
		return false, ErrClosed
	}
	e.mu.Lock()
	var all []*Namespace
	for _, ns := range e.open {
		all = append(all, ns)
	}
	e.mu.Unlock()
	for _, ns := range all {
		more, failed := ns.pass(ctx, meet)
		waiting = waiting || more
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("namespace %s: %w", ns.id.Short(), failed))
		}
	}
	return waiting, err
}

// pass makes a pass over the collections of a namespace.
func (ns *Namespace) pass(ctx context.Context, meet bool) (waiting bool, err error) {
	if meet {
		if err := ns.space.Sync(ctx); err != nil {
			ns.e.cfg.Log.Info("peers were not reached", "namespace", ns.id.Short(), "error", err)
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	if err := ns.flush(ctx); err != nil { // what the last pass could not write
		return false, err
	}
	in := scopes{}
	var met []Record
	anew := false
	for _, c := range ns.opened() {
		scope, more, failed := c.half(ctx, &met)
		anew = anew || more
		if failed != nil {
			if isFatal(failed) {
				return false, c.failed(failed)
			}
			err = errors.Join(err, c.failed(failed))
			c.mu.Lock()
			c.missed = true
			c.mu.Unlock()
			continue
		}
		in[c.name] = scope
	}
	failed := ns.applyChanged(ctx, in, anew)
	failed = errors.Join(failed, ns.flush(ctx))
	if failed == nil {
		failed = ns.e.cfg.Store.Apply(ctx, met)
	}
	if failed != nil {
		return false, errors.Join(err, failed)
	}
	if meet && err == nil {
		if failed := ns.space.Sync(ctx); failed != nil && ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	return len(ns.due()) > 0, err
}

// half publishes what the app has changed, and returns the scope of the collection. anew says that
// all items must be looked at, since that has changed. What is to be remembered when they have been
// is added to met. On first contact, what others have is brought first.
func (c *collection) half(
	ctx context.Context, met *[]Record,
) (scope map[string]bool, anew bool, err error) {
	c.mu.Lock()
	stopped := c.stopped
	c.mu.Unlock()
	if stopped != nil {
		return nil, false, stopped
	}
	scope, hash, err := c.scopeOf(ctx)
	if err != nil {
		return nil, false, err
	}
	last, known, err := c.lastScope(ctx)
	if err != nil {
		return nil, false, err
	}
	if !known {
		if err := c.ns.space.Sync(ctx); err != nil {
			if ctx.Err() != nil {
				return nil, false, ctx.Err()
			}
			c.ns.e.cfg.Log.Info("first contact without peers", "collection", c.name, "error", err)
		}
	}
	token := ""
	if known && hash == last {
		if token, err = c.lastToken(ctx); err != nil {
			return nil, false, err
		}
	}
	next, err := c.publish(ctx, scope, token)
	if errors.Is(err, ErrMassDelete) || errors.Is(err, ErrOldCopy) {
		c.mu.Lock()
		c.stopped = err
		c.mu.Unlock()
	}
	if err != nil {
		return nil, false, err
	}
	c.mu.Lock()
	anew, c.missed = c.missed, false
	c.mu.Unlock()
	if !known || hash != last {
		anew = true
		*met = append(*met, Record{c.scopeName(), hash[:]})
	}
	if next != token {
		*met = append(*met, Record{c.tokenName(), []byte(next)})
	}
	return scope, anew, nil
}

// tokenName is where the token is kept with which the app's store tells what has changed.
func (c *collection) tokenName() Name {
	return Name{Kind: NamespaceRecord, Namespace: c.ns.name, Collection: c.name, Key: "token"}
}

func (c *collection) lastToken(ctx context.Context) (string, error) {
	b, err := c.ns.e.cfg.Store.Get(ctx, c.tokenName())
	if errors.Is(err, ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("the engine's store: %w", err)
	}
	return string(b), nil
}

func (c *collection) scopeName() Name {
	return Name{Kind: NamespaceRecord, Namespace: c.ns.name, Collection: c.name}
}

// lastScope returns the hash of the scope of the last pass; known is false if there was none.
func (c *collection) lastScope(ctx context.Context) (hash [32]byte, known bool, err error) {
	b, err := c.ns.e.cfg.Store.Get(ctx, c.scopeName())
	switch {
	case errors.Is(err, ErrNotFound), err == nil && len(b) != len(hash):
		return hash, false, nil
	case err != nil:
		return hash, false, fmt.Errorf("the engine's store: %w", err)
	}
	return [32]byte(b), true, nil
}

// applyChanged applies what others have changed.
func (ns *Namespace) applyChanged(ctx context.Context, in scopes, all bool) (err error) {
	keys, more, err := ns.takeChanged(ctx)
	if err != nil {
		return err
	}
	keys = append(keys, ns.due()...)
	defer func() {
		if err != nil {
			ns.giveBack(keys, all || more)
		}
	}()
	if all || more {
		return ns.applyAll(ctx, in)
	}
	return ns.applySome(ctx, keys, in)
}

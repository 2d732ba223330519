// Package embedded gives an engine (package localfirst) the node of its own process.
//
// What belongs here: the node's calls in the engine's words. What never belongs here: what the
// engine does.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/onnode"
)

// Client returns a node as an engine uses it, with the Sets of the node: of skerry.Node they are
// Versions. There should be one for all engines of a node. Engines must be closed before the node.
func Client(n *node.Node, sets *onnode.Sets) localfirst.Client {
	c := &client{n: n, sets: sets, open: map[replica.ID]localfirst.SpaceOptions{}}
	sets.Add(c)
	return c
}

// client implements localfirst.Client, and onnode.User: it tells others who use the versions of a
// namespace how they are merged, and what their items are called.
type client struct {
	n    *node.Node
	sets *onnode.Sets

	mu   sync.Mutex
	open map[replica.ID]localfirst.SpaceOptions
}

// Kind implements onnode.User.
func (c *client) Kind() string { return "app" }

// Options implements onnode.User.
func (c *client) Options(
	_ context.Context, id replica.ID,
) (onnode.Options, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.open[id]
	return onnode.Options{Merge: o.Merge, Name: o.Device}, ok, nil
}

// Name implements onnode.User.
func (c *client) Name(ctx context.Context, id replica.ID, key []byte) (string, error) {
	c.mu.Lock()
	o, ok := c.open[id]
	c.mu.Unlock()
	if !ok {
		return "", nil
	}
	return o.Name(ctx, key)
}

// Found implements localfirst.Client.
func (c *client) Found(
	ctx context.Context, name string, owner replica.SecretKey, first seal.ReadKey,
) error {
	held, err := c.Holds(ctx, owner.Replica())
	if held || err != nil {
		return err
	}
	_, err = c.n.Found(ctx, name, owner, first)
	return err
}

// Create implements localfirst.Client.
func (c *client) Create(ctx context.Context, name string) (replica.ID, error) {
	r, err := c.n.CreateReplica(ctx, name, true)
	return r.ID, err
}

// Holds implements localfirst.Client.
func (c *client) Holds(ctx context.Context, id replica.ID) (bool, error) {
	_, err := c.n.Replicas().Get(ctx, id)
	if errors.Is(err, replica.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Open implements localfirst.Client.
func (c *client) Open(
	ctx context.Context, id replica.ID, o localfirst.SpaceOptions,
) (localfirst.Space, error) {
	c.mu.Lock()
	_, used := c.open[id]
	if !used {
		c.open[id] = o
	}
	c.mu.Unlock()
	if used {
		return nil, localfirst.ErrInUse
	}
	forget := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, id)
	}
	set, release, err := c.sets.Open(ctx, id)
	if err != nil {
		forget()
		return nil, fmt.Errorf("its versions: %w", err)
	}
	s := &space{Set: set, n: c.n, id: id, close: func() { release(); forget() }}
	for _, w := range []**onnode.Watch{&s.changes, &s.wakes} {
		if *w, err = set.Watch(ctx); err != nil {
			s.Close()
			return nil, fmt.Errorf("its versions: %w", err)
		}
	}
	s.running.Go(func() {
		for {
			if _, _, err := s.wakes.Next(context.Background()); err != nil {
				return // it was closed
			}
			o.Changed()
		}
	})
	return s, nil
}

type space struct {
	*onnode.Set
	n              *node.Node
	id             replica.ID
	changes, wakes *onnode.Watch
	running        sync.WaitGroup
	close          func()
}

// Close implements localfirst.Space.
func (s *space) Close() {
	for _, w := range []*onnode.Watch{s.changes, s.wakes} {
		if w != nil {
			w.Close()
		}
	}
	s.running.Wait()
	s.close()
}

// Versions implements localfirst.Space.
func (s *space) Versions() *versions.Set { return s.Set.Set }

// Changes implements localfirst.Space.
func (s *space) Changes(ctx context.Context) (keys [][]byte, all bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	now, cancel := context.WithCancel(ctx)
	cancel()
	keys, all, err = s.changes.Next(now)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return keys, all, err
}

// Arrived implements localfirst.Space.
func (s *space) Arrived(ctx context.Context) (bool, error) {
	pending, err := s.n.PendingContent(ctx, s.id)
	return pending == 0, err
}

// syncTime is how long peers may take to be reached and to send what they have.
const syncTime = time.Minute

// Sync implements localfirst.Space.
func (s *space) Sync(ctx context.Context) error {
	reached, err := syncNow(ctx, s.n, s.id)
	if err != nil || len(reached) == 0 {
		return err
	}
	within, cancel := context.WithTimeout(ctx, contentTime)
	defer cancel()
	_ = s.WaitHeld(within, 1) // they fetch content by themselves, if it takes longer
	return s.CatchUp(ctx)
}

// syncNow brings a replica to what peers have, with its content, and returns those that were
// reached.
func syncNow(
	ctx context.Context, n *node.Node, id replica.ID,
) (reached []peer.ID, err error) {
	if !n.Online() {
		return nil, nil
	}
	within, cancel := context.WithTimeout(ctx, syncTime)
	defer cancel()
	results, err := n.SyncNow(within, id, "", nil)
	if err != nil {
		return nil, err
	}
	came := false
	for _, r := range results {
		if r.Err == nil {
			reached = append(reached, r.Peer)
		}
		came = came || r.EntriesReceived > 0
	}
	if came { // their content follows
		arrive(within, n, id)
	}
	return reached, nil
}

// contentTime is how long Sync waits for content that has been announced.
const contentTime = 10 * time.Second

// arrive waits for content.
func arrive(ctx context.Context, n *node.Node, id replica.ID) {
	ctx, cancel := context.WithTimeout(ctx, contentTime)
	defer cancel()
	for ctx.Err() == nil {
		arrived := n.ContentArrived()
		if pending, err := n.PendingContent(ctx, id); pending == 0 || err != nil {
			return
		}
		select {
		case <-arrived:
		case <-ctx.Done():
		}
	}
}

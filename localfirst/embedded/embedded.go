// Package embedded gives an engine (package localfirst) the node of its own process.
//
// What belongs here: the node's calls in the engine's words. What never belongs here: what the
// engine does.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/onnode"
)

// Client returns a node as an engine uses it. The engine must be closed before the node.
func Client(n *node.Node) localfirst.Client { return client{n} }

type client struct{ n *node.Node }

// Found implements localfirst.Client.
func (c client) Found(
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
func (c client) Create(ctx context.Context, name string) (replica.ID, error) {
	r, err := c.n.CreateReplica(ctx, name, true)
	return r.ID, err
}

// Holds implements localfirst.Client.
func (c client) Holds(ctx context.Context, id replica.ID) (bool, error) {
	_, err := c.n.Replicas().Get(ctx, id)
	if errors.Is(err, replica.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Open implements localfirst.Client.
func (c client) Open(
	ctx context.Context, id replica.ID, o localfirst.SpaceOptions,
) (localfirst.Space, error) {
	set, err := onnode.Open(ctx, c.n, id, onnode.Options{
		Merge: o.Merge, Changed: o.Changed, Name: o.Device,
	})
	if errors.Is(err, node.ErrDisplacedInUse) {
		return nil, fmt.Errorf("%w: %w", localfirst.ErrInUse, err)
	}
	if err != nil {
		return nil, err
	}
	return &space{set, c.n, id}, nil
}

type space struct {
	*onnode.Set
	n  *node.Node
	id replica.ID
}

// Versions implements localfirst.Space.
func (s *space) Versions() *versions.Set { return s.Set.Set }

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

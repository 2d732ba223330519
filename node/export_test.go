package node

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/replica"
)

// ReplicaStore gives tests the store itself, to write what a handle would not.
func (n *Node) ReplicaStore() *replica.Store { return n.replicas }

// PushTo lets tests push entries of their own making.
func (n *Node) PushTo(
	ctx context.Context, p peer.ID, id replica.ID, entries []replica.Entry,
) error {
	return n.syncer.PushTo(ctx, p, id, entries)
}

// Listeners returns the peers that listen to a replica's topic.
func Listeners(n *Node, id replica.ID) []peer.ID { return n.net.Listeners(names.Topic(id)) }

// PublishRaw publishes whatever bytes it is given.
func PublishRaw(ctx context.Context, n *Node, id replica.ID, grants, entries [][]byte) error {
	return n.net.Publish(
		ctx, names.Topic(id),
		session.SealGossip(id, bundle.Append(bundle.Append(nil, grants), entries)),
	)
}

// Refuses reports whether n refuses p.
func Refuses(n *Node, p peer.ID) bool { return n.blamed.Refused(p) }

// LimitMisses lets a peer ask n for no more than so many replicas at once that n does not hold, and
// for none later: a test that takes its time must not earn it another.
func LimitMisses(n *Node, most int) {
	n.limits.Retune(func(f *limits.Figures) { f.Misses = limits.Rate{PerSecond: 1e-9, AtOnce: most} })
}

// RaceDetector tells that a test runs under it, which makes nodes so slow that their limits do not
// say how fast they are.
const RaceDetector = raceDetector

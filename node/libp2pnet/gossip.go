package libp2pnet

import (
	"context"
	"errors"
	"fmt"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/node/link"
)

// Gossip is GossipSub 1.1. Messages carry no sender and no signature: the entries in them do.
const (
	// A peer's score falls by badMessage times the square of the number of its bad messages, of which
	// a tenth is forgotten each minute. Below noGossip it is told nothing more about messages, below
	// noPublish sent none, and below noWord not listened to.
	badMessage = -20
	noGossip   = -10
	noPublish  = -40
	noWord     = -80
	// noNames is a score that no peer reaches: from none does gossip take the names and addresses of
	// others to dial. The node finds peers by other ways, which are rationed.
	noNames = 10
	// A stranger has a score below zero: it is sent messages, and is listened to, but takes none of
	// the places among the few peers that pass messages on to each other at once. Of those that hold
	// such a place, the ones whose score is best keep it when there are too many. Every minute two
	// better ones get a place while most have a score below fineScore.
	strangerScore = -1
	fineScore     = 1
	historyScore  = 1
	namedScore    = 2
	// maxChecking is how many messages are being checked and stored at a time; more are dropped,
	// which the next session mends.
	maxChecking = 128
	// rpcRoom is what a message may be longer than what it carries.
	rpcRoom = 64 << 10
)

// topic is a topic that has been joined.
type topic struct {
	t    *pubsub.Topic
	stop pubsub.RelayCancelFunc
}

func (n *Network) startGossip() error {
	score := &pubsub.PeerScoreParams{
		SkipAtomicValidation: true, Topics: map[string]*pubsub.TopicScoreParams{},
		AppSpecificScore: n.standing, AppSpecificWeight: 1,
		DecayInterval: time.Minute, DecayToZero: 0.01, RetainScore: time.Hour,
	}
	limits := &pubsub.PeerScoreThresholds{
		SkipAtomicValidation: true, GossipThreshold: noGossip, PublishThreshold: noPublish,
		GraylistThreshold: noWord, AcceptPXThreshold: noNames,
		OpportunisticGraftThreshold: fineScore,
	}
	ps, err := pubsub.NewGossipSub(n.ctx, gossipHost{n.host, n},
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string {
			h := blake3.Sum256(m.Data)
			return string(h[:16])
		}),
		pubsub.WithFloodPublish(true), // what this node writes goes to all that listen at once
		pubsub.WithPeerScore(score, limits),
		pubsub.WithSubscriptionFilter(newInterests(n.host)),
		pubsub.WithValidateThrottle(maxChecking),
		pubsub.WithMaxMessageSize(link.MaxGossip+rpcRoom),
	)
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	n.gossip, n.topics = ps, map[string]topic{}
	return nil
}

// standing is the score of a peer of whose messages none was bad.
func (n *Network) standing(p peer.ID) float64 {
	switch who := n.known(p); {
	case who.Named:
		return namedScore
	case who.Known:
		return historyScore
	case who.Proved:
		return 0
	}
	return strangerScore
}

// Join implements link.Network.
func (n *Network) Join(
	name string, take func(ctx context.Context, from peer.ID, msg []byte) link.Verdict,
) error {
	n.topicsMu.Lock()
	defer n.topicsMu.Unlock()
	if _, ok := n.topics[name]; ok {
		return nil
	}
	validate := func(ctx context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		if from == n.ID() {
			return pubsub.ValidationAccept
		}
		if !n.enter() { // the network is being closed, and what take would use with it
			return pubsub.ValidationIgnore
		}
		defer n.work.Done()
		switch take(ctx, from, m.Data) {
		case link.Accept:
			return pubsub.ValidationAccept
		case link.Reject:
			return pubsub.ValidationReject
		}
		return pubsub.ValidationIgnore
	}
	if err := n.gossip.RegisterTopicValidator(name, validate); err != nil {
		return fmt.Errorf("join topic: %w", err)
	}
	t, err := n.gossip.Join(name)
	if err != nil {
		return errors.Join(fmt.Errorf("join topic: %w", err), n.gossip.UnregisterTopicValidator(name))
	}
	err = t.SetScoreParams(
		&pubsub.TopicScoreParams{
			SkipAtomicValidation: true, TopicWeight: 1, TimeInMeshQuantum: time.Second,
			InvalidMessageDeliveriesWeight: badMessage, InvalidMessageDeliveriesDecay: 0.9,
		},
	)
	var stop pubsub.RelayCancelFunc
	if err == nil {
		stop, err = t.Relay() // the validator has the messages already
	}
	if err != nil {
		return errors.Join(
			fmt.Errorf("join topic: %w", err), t.Close(), n.gossip.UnregisterTopicValidator(name),
		)
	}
	n.topics[name] = topic{t, stop}
	return nil
}

// Part implements link.Network.
func (n *Network) Part(name string) {
	n.topicsMu.Lock()
	defer n.topicsMu.Unlock()
	t, ok := n.topics[name]
	if !ok {
		return
	}
	delete(n.topics, name)
	t.stop()
	if err := errors.Join(n.gossip.UnregisterTopicValidator(name), t.t.Close()); err != nil &&
		n.ctx.Err() == nil {
		n.cfg.Log.Warn("leaving a topic", "error", err)
	}
}

// Publish implements link.Network.
func (n *Network) Publish(ctx context.Context, name string, msg []byte) error {
	n.topicsMu.Lock()
	t, ok := n.topics[name]
	n.topicsMu.Unlock()
	if !ok {
		return errors.New("publish: the topic has not been joined")
	}
	return t.t.Publish(ctx, msg)
}

// Listeners implements link.Network.
func (n *Network) Listeners(name string) []peer.ID {
	n.topicsMu.Lock()
	t, ok := n.topics[name]
	n.topicsMu.Unlock()
	if !ok {
		return nil
	}
	return t.t.ListPeers()
}

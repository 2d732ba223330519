package libp2pnet

import (
	"errors"
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// maxTopics is how many topics a peer may listen to; a node listens to those of its active
	// replicas, at most 512.
	maxTopics = 1024
	// maxAllTopics is how many all connected peers may listen to, together.
	maxAllTopics = 1 << 17
	// topicLength is the length of the longest name of a topic: "/skerry/gossip/3/" and 32 hex
	// digits.
	topicLength = 17 + 32
)

// interests bounds the topics that peers say they listen to, which pubsub keeps as long as they are
// connected.
type interests struct {
	mu  sync.Mutex
	of  map[peer.ID]map[string]bool
	all int
}

var _ pubsub.SubscriptionFilter = (*interests)(nil)

func newInterests(h host.Host) *interests {
	x := &interests{of: map[peer.ID]map[string]bool{}}
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if p := c.RemotePeer(); len(n.ConnsToPeer(p)) == 0 {
			x.forget(p)
		}
	}})
	return x
}

func (x *interests) forget(p peer.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all -= len(x.of[p])
	delete(x.of, p)
}

// CanSubscribe implements pubsub.SubscriptionFilter.
func (x *interests) CanSubscribe(topic string) bool { return len(topic) <= topicLength }

var errTooManyTopics = errors.New("a peer listens to too many topics")

// FilterIncomingSubscriptions implements pubsub.SubscriptionFilter. Of what is beyond a limit,
// nothing is taken.
func (x *interests) FilterIncomingSubscriptions(
	p peer.ID, subs []*pb.RPC_SubOpts,
) ([]*pb.RPC_SubOpts, error) {
	if len(subs) > maxTopics {
		return nil, errTooManyTopics
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	mine := x.of[p]
	var out []*pb.RPC_SubOpts
	for _, s := range subs {
		t := s.GetTopicid()
		switch {
		case !x.CanSubscribe(t):
		case !s.GetSubscribe():
			if mine[t] {
				delete(mine, t)
				x.all--
			}
			out = append(out, s)
		case mine[t]:
		case len(mine) >= maxTopics || x.all >= maxAllTopics:
			return out, nil
		default:
			if mine == nil {
				mine = map[string]bool{}
				x.of[p] = mine
			}
			mine[t] = true
			x.all++
			out = append(out, s)
		}
	}
	if len(mine) == 0 {
		delete(x.of, p)
	}
	return out, nil
}

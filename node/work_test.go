package node

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/skerry-sync/skerry/node/link"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/skerry-sync/skerry/node/admission"
)

// A host makes as many ids that prove to know a replica as it likes, and with patience as many with
// a history. All of a kind together make this node work no more than a few peers may; one that a
// person has named does not wait for them.
func TestCrowdsShareTheirWork(t *testing.T) {
	const perSecond, atOnce, peers, units = 100, 1000, 20, 1000
	for _, who := range []admission.Party{{Proved: true}, {Proved: true, Known: true}} {
		t.Run(fmt.Sprintf("known=%v", who.Known), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := simNodeOf(t, newSimNet(1))
				n.limits.proved = rate.NewLimiter(perSecond, atOnce)
				n.limits.unnamed = rate.NewLimiter(perSecond, atOnce)
				work := func(who admission.Party) time.Duration {
					v, err := n.room.Enter(blobProtocol, who)
					require.NoError(t, err)
					defer v.Leave()
					start := time.Now()
					err = n.worked(context.Background(), link.NewGuest(pipeStream{remote: who.Peer}, v), units)
					require.NoError(t, err)
					return time.Since(start)
				}
				var all sync.WaitGroup
				var mu sync.Mutex
				longest := time.Duration(0)
				for i := range peers {
					one := who
					one.Peer, one.Net = peer.ID(fmt.Sprint(i)), fmt.Sprint(i)
					all.Go(func() {
						took := work(one)
						mu.Lock()
						defer mu.Unlock()
						longest = max(longest, took)
					})
				}
				time.Sleep(time.Second)
				require.Zero(t, work(admission.Party{Peer: "friend", Known: true, Named: true}))
				all.Wait()
				require.GreaterOrEqual(t, longest, (peers*units-atOnce)/perSecond*time.Second)
			})
		})
	}
}

// Who goes first at a gate.
func TestRanks(t *testing.T) {
	order := []admission.Party{
		{Proved: true, Known: true, Named: true}, {Proved: true, Known: true}, {Proved: true}, {},
	}
	last := rank(-1)
	for _, background := range []bool{false, true} {
		for _, who := range order {
			r := rankOf(who, background)
			require.Equal(t, last+1, r)
			last = r
		}
	}
	require.Equal(t, ranks-1, last)
}

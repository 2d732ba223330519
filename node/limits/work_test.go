package limits

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/link"
)

// stream is one of which only the peer matters.
type stream struct {
	link.Stream
	remote peer.ID
}

func (s stream) Remote() peer.ID { return s.remote }

func limiter(cfg Config) *Limiter { return New(cfg, DefaultFigures()) }

// A host makes as many ids that prove to know a replica as it likes, and with patience as many with
// a history. All of a kind together make this node work no more than a few peers may; one that a
// person has named does not wait for them.
func TestCrowdsShareTheirWork(t *testing.T) {
	const perSecond, atOnce, peers, units = 100, 1000, 20, 1000
	for _, who := range []admission.Party{{Proved: true}, {Proved: true, Known: true}} {
		t.Run(fmt.Sprintf("known=%v", who.Known), func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) {
				few := Rate{perSecond, atOnce}
				l := New(Config{}, DefaultFigures())
				l.Retune(func(f *Figures) { f.Proved, f.Unnamed = few, few })
				every := admission.Share{Peer: 100, Net: 100, All: 100}
				all := admission.Shares{Strangers: every, Proved: every, Known: every}
				room := admission.New(admission.Config{
					Bytes: all, Streams: map[string]admission.Shares{"p": all},
				})
				work := func(who admission.Party) time.Duration {
					v, err := room.Enter("p", who)
					require.NoError(t, err)
					defer v.Leave()
					start := time.Now()
					s := link.NewGuest(stream{remote: who.Peer}, v)
					require.NoError(t, l.Worked(t.Context(), s, units))
					return time.Since(start)
				}
				var crowd sync.WaitGroup
				var mu sync.Mutex
				longest := time.Duration(0)
				for i := range peers {
					one := who
					one.Peer, one.Net = peer.ID(fmt.Sprint(i)), fmt.Sprint(i)
					crowd.Go(func() {
						took := work(one)
						mu.Lock()
						defer mu.Unlock()
						longest = max(longest, took)
					})
				}
				time.Sleep(time.Second)
				require.Zero(t, work(admission.Party{Peer: "friend", Known: true, Named: true}))
				crowd.Wait()
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
	last := Rank(-1)
	for _, background := range []bool{false, true} {
		for _, who := range order {
			r := RankOf(who, background)
			require.Equal(t, last+1, r)
			last = r
		}
	}
	require.Equal(t, ranks-1, last)
}

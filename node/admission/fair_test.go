package admission

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
)

// A few networks that take all places of strangers do not keep others out: the oldest stream of the
// network that has the most goes, until all have as many. The same holds for proved peers.
func TestPlacesAreShared(t *testing.T) {
	for _, isProved := range []bool{false, true} {
		r := New(Config{Streams: map[string]Shares{
			"/p/1": {Strangers: Share{Net: 4, All: 8}, Proved: Share{All: 8}, Known: Share{All: 8}},
		}})
		var yielded []peer.ID
		visits := map[peer.ID]*Visit{}
		enter := func(p, net string) error {
			who := Party{Peer: peer.ID(p), Net: net, Proved: isProved}
			v, err := r.EnterFairly("/p/1", who, func() {
				r.Held() // what ends a stream may ask the room
				yielded = append(yielded, who.Peer)
			})
			if err == nil {
				visits[who.Peer] = v
			}
			return err
		}
		for i := range 4 {
			require.NoError(t, enter(fmt.Sprint("a", i), "a"))
			require.NoError(t, enter(fmt.Sprint("b", i), "b"))
		}
		require.Error(t, enter("a4", "a"), "its network has its share")
		for _, net := range []string{"c", "d"} {
			for i := range 2 {
				require.NoError(t, enter(fmt.Sprint(net, i), net))
			}
		}
		require.Len(t, yielded, 4)
		require.ElementsMatch(t, []peer.ID{"a0", "a1", "b0", "b1"}, yielded, "the oldest")
		require.Error(t, enter("a4", "a"), "no place goes to and fro")
		require.NoError(t, enter("e0", "e"))
		require.Error(t, enter("e1", "e"))
		require.Len(t, yielded, 5)
		for i := range 3 {
			require.NoError(t, enter("f"+fmt.Sprint(i), "f"+fmt.Sprint(i)))
		}
		require.Len(t, yielded, 8)
		require.Error(t, enter("g", "g"), "each has one")

		if !isProved {
			require.Error(t, visits["a0"].Proved(), "it has no place")
		}
		for _, v := range visits {
			require.NoError(t, v.Take(10), "memory is counted until one leaves")
			v.Leave()
			v.Leave()
		}
		for _, s := range r.streams["/p/1"] {
			require.Zero(t, s.all)
			require.Empty(t, s.lines)
		}
		for _, b := range r.bytes {
			require.Zero(t, b.all)
		}
	}
}

// A stranger that has proved itself gives no place to strangers any more; a stream that keeps its
// place and a known peer never do.
func TestWhoKeepsItsPlace(t *testing.T) {
	r := New(Config{Streams: map[string]Shares{
		"/p/1": {Strangers: Share{All: 3}, Proved: Share{All: 2}, Known: Share{All: 2}},
	}})
	never := func() { t.Fatal("it keeps its place") }
	for i := range 2 {
		who := Party{Peer: "friend", Net: "a", Known: true, Named: true}
		_, err := r.EnterFairly("/p/1", who, never)
		require.NoError(t, err, i)
	}
	_, err := r.EnterFairly("/p/1", Party{Peer: "g", Net: "g", Known: true, Named: true}, never)
	require.Error(t, err)

	for range 2 {
		v, err := r.EnterFairly("/p/1", Party{Peer: "p", Net: "a"}, never)
		require.NoError(t, err)
		require.NoError(t, v.Proved())
	}
	for range 3 {
		_, err := r.Enter("/p/1", Party{Peer: "s", Net: "a"})
		require.NoError(t, err)
	}
	_, err = r.EnterFairly("/p/1", Party{Peer: "t", Net: "t"}, never)
	require.Error(t, err)
}

package admission

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
)

func room() *Room {
	return New(Config{
		Bytes:   Shares{Strangers: Share{Peer: 100, Net: 200, All: 300}, Known: Share{Peer: 1000, All: 1500}},
		Streams: map[string]Shares{"/p/1": {Strangers: Share{Peer: 2, Net: 3, All: 5}, Known: Share{Peer: 4}}},
	})
}

func full(t *testing.T, err error, whose string) {
	t.Helper()
	var f *FullError
	require.ErrorAs(t, err, &f)
	require.Equal(t, whose, f.Whose)
}

// One identity, one host with many, and many hosts each reach a limit of their own, and a known
// peer is not kept out.
func TestStreams(t *testing.T) {
	r := room()
	var all []*Visit
	enter := func(p, net string, known bool) error {
		v, err := r.Enter("/p/1", Party{peer.ID(p), net, known})
		if err == nil {
			all = append(all, v)
		}
		return err
	}
	require.NoError(t, enter("a", "1", false))
	require.NoError(t, enter("a", "1", false))
	full(t, enter("a", "1", false), "peer")
	require.NoError(t, enter("b", "1", false))
	full(t, enter("c", "1", false), "network")
	require.NoError(t, enter("c", "2", false))
	require.NoError(t, enter("d", "2", false))
	full(t, enter("e", "3", false), "strangers")
	for range 4 {
		require.NoError(t, enter("friend", "1", true))
	}
	full(t, enter("friend", "1", true), "peer")
	_, err := r.Enter("/other/1", Party{Peer: "a"})
	require.Error(t, err, "a protocol without limits admits nobody")
	for _, v := range all {
		v.Leave()
		v.Leave()
	}
	require.NoError(t, enter("a", "1", false))
	require.Len(t, r.streams["/p/1"][strangers].peers, 1, "what is not held is not counted")
}

// Memory is bounded for each peer, for each network and for all strangers, and what a visit holds
// is given back once.
func TestBytes(t *testing.T) {
	r := room()
	var all []*Visit
	for i := range 4 {
		v, err := r.Enter("/p/1", Party{peer.ID(fmt.Sprint(i)), fmt.Sprint(i / 2), false})
		require.NoError(t, err)
		all = append(all, v)
	}
	require.NoError(t, all[0].Take(60))
	full(t, all[0].Take(41), "peer")
	require.NoError(t, all[0].Take(40))
	require.NoError(t, all[1].Take(100))
	require.NoError(t, all[2].Take(100))
	full(t, all[3].Take(1), "strangers")
	all[2].Give(50)
	require.NoError(t, all[3].Take(50))
	all[3].Give(1000)
	s, k := r.Held()
	require.EqualValues(t, 250, s)
	require.Zero(t, k)
	for _, v := range all {
		v.Leave()
		v.Leave()
	}
	s, _ = r.Held()
	require.Zero(t, s)
}

// A peer that has shown what it knows takes no place of strangers any more.
func TestProved(t *testing.T) {
	r := room()
	a, err := r.Enter("/p/1", Party{"a", "1", false})
	require.NoError(t, err)
	require.False(t, a.Known())
	require.NoError(t, a.Take(100))
	require.NoError(t, a.Proved())
	require.NoError(t, a.Proved())
	require.True(t, a.Known())
	require.NoError(t, a.Take(900))
	full(t, a.Take(1), "peer")
	s, k := r.Held()
	require.Zero(t, s)
	require.EqualValues(t, 1000, k)
	b, err := r.Enter("/p/1", Party{"b", "1", false})
	require.NoError(t, err)
	require.NoError(t, b.Take(100))
	c, err := r.Enter("/p/1", Party{"c", "9", true})
	require.NoError(t, err)
	require.NoError(t, c.Take(500))
	full(t, b.Proved(), "known peers")
	require.False(t, b.Known())
	for _, v := range []*Visit{a, b, c} {
		v.Leave()
	}
	s, k = r.Held()
	require.Zero(t, s)
	require.Zero(t, k)
	require.Empty(t, r.streams["/p/1"][known].peers)
	require.Empty(t, r.streams["/p/1"][strangers].peers)
}

// Large pieces of memory leave room for small ones.
func TestRoomForSmall(t *testing.T) {
	const limit = 64 * Small
	r := New(Config{
		Bytes:   Shares{Strangers: Share{All: limit}},
		Streams: map[string]Shares{"/p/1": {}},
	})
	v, err := r.Enter("/p/1", Party{"a", "1", false})
	require.NoError(t, err)
	for range limit / 8 * 7 / (2 * Small) {
		require.NoError(t, v.Take(2*Small))
	}
	full(t, v.Take(2*Small), "strangers")
	for range limit / 8 / Small {
		require.NoError(t, v.Take(Small))
	}
	full(t, v.Take(1), "strangers")
}

func TestNoVisit(t *testing.T) {
	var v *Visit
	require.NoError(t, v.Take(1<<40))
	require.NoError(t, v.Proved())
	require.True(t, v.Known())
	v.Give(1)
	v.Leave()
}

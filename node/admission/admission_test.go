package admission

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
)

func room() *Room {
	return New(Config{
		Bytes: Shares{
			Strangers: Share{Peer: 100, Net: 200, All: 300}, Known: Share{Peer: 1000, All: 1500},
		},
		Streams: map[string]Shares{
			"/p/1": {Strangers: Share{Peer: 2, Net: 3, All: 5}, Known: Share{Peer: 4}},
		},
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
		v, err := r.Enter("/p/1", Party{Peer: peer.ID(p), Net: net, Known: known})
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
		v, err := r.Enter("/p/1", Party{Peer: peer.ID(fmt.Sprint(i)), Net: fmt.Sprint(i / 2)})
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
	a, err := r.Enter("/p/1", Party{Peer: "a", Net: "1"})
	require.NoError(t, err)
	require.True(t, a.Stranger())
	require.NoError(t, a.Take(100))
	require.NoError(t, a.Proved())
	require.NoError(t, a.Proved())
	require.False(t, a.Stranger())
	require.Equal(t, Party{Peer: "a", Net: "1", Proved: true}, a.Who())
	require.NoError(t, a.Take(900))
	full(t, a.Take(1), "peer")
	s, k := r.Held()
	require.Zero(t, s)
	require.EqualValues(t, 1000, k)
	b, err := r.Enter("/p/1", Party{Peer: "b", Net: "1"})
	require.NoError(t, err)
	require.NoError(t, b.Take(100))
	c, err := r.Enter("/p/1", Party{Peer: "c", Net: "9", Proved: true})
	require.NoError(t, err)
	require.NoError(t, c.Take(500))
	full(t, b.Proved(), "proved peers")
	require.True(t, b.Stranger())
	for _, v := range []*Visit{a, b, c} {
		v.Leave()
	}
	s, k = r.Held()
	require.Zero(t, s)
	require.Zero(t, k)
	require.Empty(t, r.streams["/p/1"][proved].peers)
	require.Empty(t, r.streams["/p/1"][strangers].peers)
}

// Large pieces of memory leave room for small ones.
func TestRoomForSmall(t *testing.T) {
	const limit = 64 * Small
	r := New(Config{
		Bytes:   Shares{Strangers: Share{All: limit}},
		Streams: map[string]Shares{"/p/1": {}},
	})
	v, err := r.Enter("/p/1", Party{Peer: "a", Net: "1"})
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

// What is asked for after the end of a visit is refused: nothing would give it back.
func TestNothingIsTakenAfterLeave(t *testing.T) {
	r := room()
	v, err := r.Enter("/p/1", Party{Peer: "a", Net: "1"})
	require.NoError(t, err)
	v.Leave()
	full(t, v.Take(1), "peer")
	v.Give(1)
	v.Leave()
	s, _ := r.Held()
	require.Zero(t, s)
	require.Empty(t, r.bytes[strangers].peers)
}

func TestNoVisit(t *testing.T) {
	var v *Visit
	require.NoError(t, v.Take(1<<40))
	require.NoError(t, v.Proved())
	require.False(t, v.Stranger())
	require.True(t, v.Who().Named)
	v.Give(1)
	v.Leave()
}

// Whoever has met the id of a replica can make any number of peers that prove it. They fill what is
// kept for such peers, and known peers go on.
func TestProvedPeersTakeNothingOfKnownOnes(t *testing.T) {
	r := New(Config{
		Bytes: Shares{
			Strangers: Share{All: 100}, Proved: Share{Peer: 60, Net: 100, All: 150}, Known: Share{All: 200},
		},
		Streams: map[string]Shares{"/p/1": {Known: Share{Peer: 1}}},
	})
	enter := func(who Party) *Visit {
		v, err := r.Enter("/p/1", who)
		require.NoError(t, err)
		return v
	}
	a, b, c := enter(
		Party{Peer: "a", Net: "1"},
	), enter(Party{Peer: "b", Net: "1"}), enter(Party{Peer: "c", Net: "2"})
	for _, v := range []*Visit{a, b, c} {
		require.NoError(t, v.Proved())
	}
	require.NoError(t, a.Take(60))
	full(t, a.Take(1), "peer")
	require.NoError(t, b.Take(40))
	full(t, b.Take(1), "network")
	require.NoError(t, c.Take(50))
	full(t, c.Take(1), "proved peers")
	friend := enter(Party{Peer: "friend", Net: "1", Proved: true, Known: true, Named: true})
	require.NoError(t, friend.Take(200))
	require.NoError(t, friend.Proved())
	full(t, friend.Take(1), "known peers")
	_, err := r.Enter("/p/1", Party{Peer: "a", Net: "1", Proved: true})
	full(t, err, "peer")
	_, others := r.Held()
	require.EqualValues(t, 350, others)
}

// Whoever comes back on several days with many identities has as many histories. They fill half of
// what is kept for known peers, and those from one network a quarter; peers that a person has named
// go on.
func TestHistoriesTakeNothingOfNamedPeers(t *testing.T) {
	r := New(Config{
		Bytes:   Shares{Strangers: Share{All: 100}, Known: Share{Peer: 100, All: 400}},
		Streams: map[string]Shares{"/p/1": {Known: Share{Peer: 4, All: 16}}},
	})
	var all []*Visit
	enter := func(p, net string, named bool) error {
		v, err := r.Enter(
			"/p/1", Party{Peer: peer.ID(p), Net: net, Proved: true, Known: true, Named: named},
		)
		if err == nil {
			all = append(all, v)
		}
		return err
	}
	const whose = "known peers that nobody has named"
	for i := range 4 {
		require.NoError(t, enter(fmt.Sprint(i), "1", false))
	}
	full(t, enter("5", "1", false), "network")
	for i := range 4 {
		require.NoError(t, enter(fmt.Sprint(10+i), "2", false))
	}
	full(t, enter("15", "3", false), whose)
	for i := range 8 {
		require.NoError(t, enter([]string{"mine", "yours"}[i/4], "1", true))
	}
	full(t, enter("ours", "1", true), "known peers")
	require.NoError(t, all[0].Take(100))
	full(t, all[0].Take(1), "peer")
	full(t, all[1].Take(1), "network")
	require.NoError(t, all[4].Take(100))
	full(t, all[5].Take(1), "network")
	require.NoError(t, all[8].Take(100))
	require.NoError(t, all[12].Take(100))
	full(t, all[9].Take(1), "peer")
	_, held := r.Held()
	require.EqualValues(t, 400, held, "what is refused is not counted")
	all[0].Give(50)
	require.NoError(t, all[1].Take(50))
	for _, v := range all {
		v.Leave()
	}
	_, held = r.Held()
	require.Zero(t, held)
	for _, of := range []*tally{
		r.bytes[known], r.bytes[unnamed], r.streams["/p/1"][known], r.streams["/p/1"][unnamed],
	} {
		require.Zero(t, of.all)
		require.Empty(t, of.peers)
		require.Empty(t, of.nets)
	}
}

// A part of a small limit is a limit still.
func TestPartsOfSmallLimits(t *testing.T) {
	r := New(Config{
		Bytes:   Shares{Strangers: Share{All: 100}, Known: Share{All: 100}},
		Streams: map[string]Shares{"/p/1": {Known: Share{Peer: 4, All: 3}}},
	})
	known := Party{Peer: "1", Net: "1", Proved: true, Known: true}
	_, err := r.Enter("/p/1", known)
	require.NoError(t, err)
	_, err = r.Enter("/p/1", known)
	full(t, err, "network")
	known.Net = "2"
	_, err = r.Enter("/p/1", known)
	full(t, err, "known peers that nobody has named")
}

package libp2pnet

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
)

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// longAddr is an address of so many bytes, as strangers may make it.
func longAddr(t *testing.T, n int) ma.Multiaddr {
	a, err := ma.NewMultiaddr("/dns4/" + strings.Repeat("a", n) + "/tcp/1")
	require.NoError(t, err)
	return a
}

// However long the addresses are that peers claim to be at, and however many peers and keys there
// are, claims stay within their budget of memory; and one peer has its share.
func TestClaimsKeepToTheirBudget(t *testing.T) {
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics())
	require.NoError(t, err)
	defer h.Close()
	c := newClaims(h, time.Now)
	key := func(i int) []byte { return binary.BigEndian.AppendUint64(bytes.Repeat([]byte{1}, 70), uint64(i)) }
	before := heap()
	many := []ma.Multiaddr{longAddr(t, 8_000)}
	for range 20 {
		many = append(many, longAddr(t, maxClaimAddr-20))
	}
	for i := range 10_000 {
		require.NoError(t, c.AddProvider(t.Context(), key(i), peer.AddrInfo{ID: "one", Addrs: many}))
	}
	require.LessOrEqual(t, c.bytes["one"], maxPeerBytes)
	require.Less(t, c.size(), 2000)
	for i := range 60_000 {
		p := peer.ID(fmt.Sprint("peer ", i))
		require.NoError(t, c.AddProvider(t.Context(), key(1_000_000+i), peer.AddrInfo{ID: p, Addrs: many}))
	}
	require.LessOrEqual(t, c.total, maxClaimBytes)
	require.Greater(t, c.total, maxClaimBytes/2)
	require.Less(t, heap()-before, uint64(maxClaimBytes)*5/4, "the bytes that are counted are those that are held")
	got, err := c.GetProviders(t.Context(), key(1_059_999))
	require.NoError(t, err)
	require.Len(t, got, 1, "the newest is there")
	require.Len(t, got[0].Addrs, maxClaimAddrs)
	for _, a := range got[0].Addrs {
		require.LessOrEqual(t, len(a.Bytes()), maxClaimAddr)
	}
	for k, of := range c.keys { // all that is counted is given back
		for p := range of {
			c.drop(k, p)
		}
	}
	require.Zero(t, c.total)
	require.Empty(t, c.bytes)
}

// scripted is a stream from which given bytes are read.
type scripted struct {
	network.Stream
	io.Reader
	reset bool
}

func (s *scripted) Read(b []byte) (int, error) { return s.Reader.Read(b) }
func (s *scripted) Reset() error               { s.reset = true; return nil }

// A message to the hash table that would be too long fails before it is read; others pass as they
// are, however they are cut.
func TestLongQuestionsToTheTable(t *testing.T) {
	var good []byte
	for _, n := range []int{0, 1, 127, 128, 5000, maxQuestion} {
		good = append(binary.AppendUvarint(good, uint64(n)), bytes.Repeat([]byte{0xff}, n)...)
	}
	for _, at := range []int{1, 2, 3, 100, len(good)} {
		q := &questions{Stream: &scripted{Reader: bytes.NewReader(good)}}
		var got []byte
		b := make([]byte, at)
		for {
			n, err := q.Read(b)
			got = append(got, b[:n]...)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
		}
		require.Equal(t, good, got)
	}
	for _, head := range [][]byte{
		binary.AppendUvarint(nil, maxQuestion+1), binary.AppendUvarint(nil, 4<<20), bytes.Repeat([]byte{0x80}, 10), bytes.Repeat([]byte{0xff}, 11),
	} {
		s := &scripted{Reader: bytes.NewReader(append(bytes.Clone(good), head...))}
		_, err := io.Copy(io.Discard, io.Reader(&questions{Stream: s}))
		require.ErrorIs(t, err, errLongQuestion)
		require.True(t, s.reset)
	}
}

// What peers say they listen to is bounded, for each and for all, and goes when they go.
func TestInterestsAreBounded(t *testing.T) {
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics())
	require.NoError(t, err)
	defer h.Close()
	x := newInterests(h)
	subs := func(from, n int, on bool) (out []*pb.RPC_SubOpts) {
		for i := range n {
			name := fmt.Sprintf("/skerry/gossip/2/%032x", from+i)
			out = append(out, &pb.RPC_SubOpts{Subscribe: &on, Topicid: &name})
		}
		return out
	}
	long, on := strings.Repeat("x", 1<<20), true
	got, err := x.FilterIncomingSubscriptions("p", []*pb.RPC_SubOpts{{Subscribe: &on, Topicid: &long}})
	require.NoError(t, err)
	require.Empty(t, got, "a topic with such a name is none of ours")
	_, err = x.FilterIncomingSubscriptions("p", subs(0, maxTopics+1, true))
	require.ErrorIs(t, err, errTooManyTopics)
	taken := 0
	for i := range 50 {
		got, err := x.FilterIncomingSubscriptions("p", subs(100*i, 100, true))
		require.NoError(t, err)
		taken += len(got)
	}
	require.Equal(t, maxTopics, taken)
	got, err = x.FilterIncomingSubscriptions("p", subs(0, 10, false))
	require.NoError(t, err)
	require.Len(t, got, 10)
	got, err = x.FilterIncomingSubscriptions("p", subs(0, 20, true))
	require.NoError(t, err)
	require.Len(t, got, 10, "there is room again")
	for i := range 2 * maxAllTopics / maxTopics {
		_, err := x.FilterIncomingSubscriptions(peer.ID(fmt.Sprint(i)), subs(0, maxTopics, true))
		require.NoError(t, err)
	}
	require.Equal(t, maxAllTopics, x.all)
	for p := range x.of {
		x.forget(p)
	}
	require.Zero(t, x.all)
}

// On a connection that somebody else has opened, a stream takes no more unread bytes than the
// resource manager counts for it.
func TestUnreadBytesAreBounded(t *testing.T) {
	for _, server := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			us, err := muxer{}.NewConn(ours, server, nil)
			require.NoError(t, err)
			them, err := muxer{}.NewConn(theirs, !server, nil)
			require.NoError(t, err)
			defer us.Close()
			defer them.Close()
			s, err := them.OpenStream(context.Background())
			require.NoError(t, err)
			var sent atomic.Int64
			go func() {
				for {
					n, err := s.Write(make([]byte, 16<<10))
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			}()
			in, err := us.AcceptStream()
			require.NoError(t, err)
			synctest.Wait() // until nothing more can be sent
			if server {
				require.LessOrEqual(t, sent.Load(), int64(256<<10))
			} else {
				require.Greater(t, sent.Load(), int64(8<<20), "whom this node has dialled may send much at once")
			}
			_ = in.Reset()
			_ = s.Reset()
		})
	}
}

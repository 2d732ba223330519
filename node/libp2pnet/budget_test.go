package libp2pnet

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/link"
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
	testkit.OneGoroutine(t)
	h := bareHost(t)
	c := newClaims(h, time.Now)
	key := func(i int) []byte {
		return binary.BigEndian.AppendUint64(bytes.Repeat([]byte{1}, 70), uint64(i))
	}
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
		require.NoError(
			t, c.AddProvider(t.Context(), key(1_000_000+i), peer.AddrInfo{ID: p, Addrs: many}),
		)
	}
	require.LessOrEqual(t, c.total, maxClaimBytes)
	require.Greater(t, c.total, maxClaimBytes/2)
	require.Less(
		t, heap()-before, uint64(maxClaimBytes)*5/4, "the bytes that are counted are those that are held",
	)
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

func (s *scripted) Read(b []byte) (int, error)      { return s.Reader.Read(b) }
func (s *scripted) Reset() error                    { s.reset = true; return nil }
func (s *scripted) Close() error                    { return nil }
func (s *scripted) SetReadDeadline(time.Time) error { return nil }

// A message to gossip or the hash table that is too long, or has too many parts, fails before it is
// passed on, and others pass as they are, however they are cut. What they take in memory is
// bounded, and given back.
func TestMessagesToLibrariesAreBounded(t *testing.T) {
	room := newFrameRoom()
	open := func(b []byte, who admission.Party) (*frames, *scripted) {
		s := &scripted{Reader: bytes.NewReader(b)}
		return &frames{Stream: s, in: &gossipMessages, room: room, who: func() admission.Party {
			return who
		}}, s
	}
	framed := func(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }
	data := func(n int) []byte { // publish: a message with so many bytes of data
		inner := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), make([]byte, n))
		return protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), inner)
	}
	empty := []byte{0x12, 0} // publish: an empty message
	var good []byte
	for _, m := range [][]byte{
		nil, data(1), data(200), data(link.MaxGossip), bytes.Repeat(empty, gossipMessages.items),
	} {
		good = append(good, framed(m)...)
	}
	for _, at := range []int{1, 2, 3, 1000, len(good)} {
		f, s := open(good, admission.Party{Peer: "p", Net: "1"})
		var got []byte
		b := make([]byte, at)
		for {
			n, err := f.Read(b)
			got = append(got, b[:n]...)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(good, got))
		require.False(t, s.reset)
	}
	inControl := func(n int) []byte { // control: ihave: ids
		ids := bytes.Repeat(empty, n)
		have := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), ids)
		return protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), have)
	}
	for name, bad := range map[string][]byte{
		"too long":                binary.AppendUvarint(nil, uint64(gossipMessages.most)+1),
		"far too long":            binary.AppendUvarint(nil, 1<<62),
		"no length":               bytes.Repeat([]byte{0xff}, 11),
		"too many parts":          framed(bytes.Repeat(empty, gossipMessages.items+1)),
		"too many parts of one":   framed(inControl(gossipMessages.items)),
		"cut off":                 binary.AppendUvarint(nil, 100),
		"a part that goes on":     framed([]byte{0x12, 5}),
		"a tag that is not one":   framed([]byte{0}),
		"a part of a part is bad": framed([]byte{0x12, 1, 0x12}),
	} {
		f, s := open(append(bytes.Clone(good), bad...), admission.Party{Peer: "p", Net: "1"})
		_, err := io.Copy(io.Discard, io.Reader(f))
		require.Error(t, err, name)
		if name != "no length" {
			require.True(t, s.reset, name)
		}
		_ = f.Close()
	}
	strangers, others := room.Held()
	require.Zero(t, strangers)
	require.Zero(t, others)

	// Strangers from many networks hold messages that they do not end.
	most := framed(bytes.Repeat(empty, gossipMessages.items))
	var held []*frames
	refused := 0
	for i := range 200 {
		f, _ := open(most, admission.Party{Peer: peer.ID(fmt.Sprint(i)), Net: fmt.Sprint(i)})
		held = append(held, f)
		if _, err := f.Read(make([]byte, 1)); err != nil {
			require.ErrorAs(t, err, new(*admission.FullError))
			refused++
		}
	}
	require.Positive(t, refused)
	strangers, _ = room.Held()
	require.LessOrEqual(t, strangers, int64(framesOfStrangers))
	friend, _ := open(most, admission.Party{Peer: "friend", Net: "1", Known: true, Named: true})
	_, err := friend.Read(make([]byte, 1))
	require.NoError(t, err)
	for _, f := range append(held, friend) {
		_ = f.Reset()
	}
	strangers, others = room.Held()
	require.Zero(t, strangers)
	require.Zero(t, others)
}

// FuzzParts holds the count of parts against hostile bytes.
func FuzzParts(f *testing.F) {
	f.Add([]byte{0x12, 2, 0x12, 0, 0x0a, 0}, 3)
	f.Add([]byte{0x1a, 4, 0x0a, 2, 0x12, 0}, 2)
	f.Fuzz(func(t *testing.T, b []byte, most int) {
		parts, err := gossipMessages.shape.count(b, most)
		if err == nil && (parts > max(most, 0) || parts > len(b)) {
			t.Errorf("%d parts in %d bytes, at most %d", parts, len(b), most)
		}
	})
}

// What peers say they listen to is bounded, for each and for all, and goes when they go.
func TestInterestsAreBounded(t *testing.T) {
	h := bareHost(t)
	x := newInterests(h)
	subs := func(from, n int, on bool) (out []*pb.RPC_SubOpts) {
		for i := range n {
			name := fmt.Sprintf("/skerry/gossip/3/%032x", from+i)
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
				require.Greater(
					t, sent.Load(), int64(8<<20), "whom this node has dialled may send much at once",
				)
			}
			_ = in.Reset()
			_ = s.Reset()
		})
	}
}

// A length that is announced holds no more than what is read first: it costs three bytes.
func TestAnnouncedLengthsHoldLittle(t *testing.T) {
	room := newFrameRoom()
	read, write := io.Pipe()
	defer func() { _ = write.Close() }()
	f := &frames{Stream: &scripted{Reader: read}, in: &gossipMessages, room: room,
		who: func() admission.Party { return admission.Party{Peer: "p", Net: "1"} }}
	done := make(chan error, 1)
	go func() {
		_, err := f.Read(make([]byte, 1))
		done <- err
	}()
	held := func() int {
		strangers, others := room.Held()
		return int(strangers + others)
	}
	_, err := write.Write(binary.AppendUvarint(nil, uint64(gossipMessages.most)))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return held() > 0 }, 10*time.Second, time.Millisecond)
	require.LessOrEqual(t, held(), 2*firstPiece)
	sent := 64 << 10
	_, err = write.Write(make([]byte, sent))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return held() > sent }, 10*time.Second, time.Millisecond)
	require.LessOrEqual(t, held(), 5*sent)
	require.NoError(t, write.Close())
	require.Error(t, <-done)
	require.Zero(t, held())
}

// bareHost is a host that listens nowhere.
func bareHost(t *testing.T) host.Host {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	n, err := New(Config{Key: key, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n.host
}

package libp2pnet

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	multistream "github.com/multiformats/go-multistream"
	"github.com/stretchr/testify/require"
)

// The port is chosen once and kept; while somebody else has it, others are used and the kept one is
// not forgotten.
func TestDefaultListenKeepsThePort(t *testing.T) {
	dir := t.TempDir()
	first, err := DefaultListen(dir)
	require.NoError(t, err)
	require.Len(t, first, 4)
	again, err := DefaultListen(dir)
	require.NoError(t, err)
	require.Equal(t, first, again)
	port, err := first[0].ValueForProtocol(ma.P_TCP)
	require.NoError(t, err)

	l, err := net.Listen("tcp", ":"+port)
	require.NoError(t, err)
	other, err := DefaultListen(dir)
	require.NoError(t, err)
	require.Equal(t, "/ip4/0.0.0.0/tcp/0", other[0].String())
	require.NoError(t, l.Close())
	again, err = DefaultListen(dir)
	require.NoError(t, err)
	require.Equal(t, first, again)

	require.NoError(t, os.WriteFile(filepath.Join(dir, portFile), []byte("x"), 0o600))
	_, err = DefaultListen(dir)
	require.ErrorContains(t, err, "not a port")
}

func TestTCPIsDialledFirst(t *testing.T) {
	var addrs []ma.Multiaddr
	for _, s := range []string{
		"/ip4/192.0.2.1/udp/1/quic-v1", "/ip4/192.0.2.1/tcp/1", "/ip6/2001:db8::1/tcp/1",
	} {
		a, err := ma.NewMultiaddr(s)
		require.NoError(t, err)
		addrs = append(addrs, a)
	}
	for _, d := range tcpFirst(addrs) {
		want := time.Duration(0)
		if strings.Contains(fmt.Sprint(d.Addr), "quic") {
			want = quicDelay
		}
		require.Equal(t, want, d.Delay)
	}
}

// Nodes that dial each other at the same moment, as those do that have found each other by
// multicast, meet over TCP all the same.
func TestSimultaneousDialsUseTCP(t *testing.T) {
	network := func() *Network {
		_, key, err := ed25519.GenerateKey(nil)
		require.NoError(t, err)
		var listen []ma.Multiaddr
		for _, s := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
			a, err := ma.NewMultiaddr(s)
			require.NoError(t, err)
			listen = append(listen, a)
		}
		n, err := New(Config{Key: key, Listen: listen, Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.NoError(t, n.Start(func(peer.ID, bool) {}))
		return n
	}
	// A round in which TCP had more time than its head start says nothing: the machine is busy.
	const enough = 20
	told := 0
	for round := 0; round < 10*enough && told < enough; round++ {
		a, b := network(), network()
		infoA, err := peer.AddrInfosFromP2pAddrs(a.Addrs()...)
		require.NoError(t, err)
		infoB, err := peer.AddrInfosFromP2pAddrs(b.Addrs()...)
		require.NoError(t, err)
		start, done := make(chan struct{}), make(chan error, 2)
		go func() { <-start; done <- a.Connect(t.Context(), infoB[0]) }()
		go func() { <-start; done <- b.Connect(t.Context(), infoA[0]) }()
		began := time.Now()
		close(start)
		require.NoError(t, errors.Join(<-done, <-done))
		if time.Since(began) < 200*time.Millisecond {
			told++
			require.Equal(t, "tcp", a.Peers()[0].Transport)
			require.Equal(t, "tcp", b.Peers()[0].Transport)
		}
		require.NoError(t, errors.Join(a.Close(), b.Close()))
	}
	require.Positive(t, told)
}

// What others say of a peer's addresses, as in the hash table, is not taken for what it says
// itself.
func TestKnownAddrsAreThePeersOwn(t *testing.T) {
	network := func() *Network {
		_, key, err := ed25519.GenerateKey(nil)
		require.NoError(t, err)
		listen, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
		require.NoError(t, err)
		n, err := New(
			Config{Key: key, Listen: []ma.Multiaddr{listen}, Log: slog.New(slog.DiscardHandler)},
		)
		require.NoError(t, err)
		require.NoError(t, n.Start(func(peer.ID, bool) {}))
		t.Cleanup(func() { require.NoError(t, n.Close()) })
		return n
	}
	a, b := network(), network()
	info, err := peer.AddrInfosFromP2pAddrs(b.Addrs()...)
	require.NoError(t, err)
	for _, end := range [][2]*Network{{a, b}, {b, a}} { // also for the one that did not dial
		require.NoError(t, a.Connect(t.Context(), info[0]))
		from, to := end[0], end[1]
		require.Eventually(t, func() bool { // it says where it is, and soon to who did not dial, too
			return len(from.KnownAddrs(to.ID())) > 0
		}, 10*time.Second, time.Millisecond)
		claimed := peer.AddrInfo{ID: to.ID()}
		for i := range 60 {
			wrong, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/198.51.100.%d/tcp/1", i))
			require.NoError(t, err)
			claimed.Addrs = append(claimed.Addrs, wrong)
		}
		require.NoError(t, from.Connect(t.Context(), claimed))
		var own []string
		for _, m := range to.host.Addrs() {
			own = append(own, m.String())
		}
		var got []string
		for _, m := range from.KnownAddrs(to.ID()) {
			got = append(got, m.String())
		}
		require.ElementsMatch(t, own, got)
	}
}

// slowLine is what a stream is written to that takes 4 KiB until its time is up.
type slowLine struct {
	network.Stream
	took bytes.Buffer
}

func (s *slowLine) Write(b []byte) (int, error) {
	if len(b) > 4<<10+64 {
		n, _ := s.took.Write(b[:4<<10])
		return n, os.ErrDeadlineExceeded
	}
	return s.took.Write(b)
}

// Read has nothing: nobody answers.
func (s *slowLine) Read([]byte) (int, error) { return 0, io.EOF }

// A long first write that was cut off by the time goes on: it is not in one piece with the names of
// protocols, an error of which would stay.
func TestLongFirstWriteGoesOn(t *testing.T) {
	line := &slowLine{}
	s := &lazyStream{stream: stream{line}, rw: multistream.NewMSSelect(line, protocol.ID("/x"))}
	text := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	for rest := text; len(rest) > 0; {
		n, err := s.Write(rest)
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NotZero(t, n)
		}
		rest = rest[n:]
	}
	require.True(t, bytes.HasSuffix(line.took.Bytes(), text))
}

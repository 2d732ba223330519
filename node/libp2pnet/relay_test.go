package libp2pnet

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	holepb "github.com/libp2p/go-libp2p/p2p/protocol/holepunch/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/link"
)

// through returns where p is reached by the relay.
func through(t *testing.T, relay peer.AddrInfo, p peer.ID) peer.AddrInfo {
	t.Helper()
	return peer.AddrInfo{
		ID:    p,
		Addrs: []ma.Multiaddr{addr(t, fmt.Sprintf("%s/p2p/%s/p2p-circuit", relay.Addrs[0], relay.ID))},
	}
}

// startRelay starts a relay.
func startRelay(t *testing.T, cfg Config) *Network {
	cfg.Relay = true
	return startWith(t, cfg)
}

// reserve gets a place for n at a relay.
func reserve(t *testing.T, n, relay *Network) {
	t.Helper()
	require.NoError(t, n.Connect(t.Context(), relay.info(t)))
	require.Eventually(t, func() bool { // the relay begins when it has been told that it is reachable
		_, err := client.Reserve(t.Context(), n.host, relay.info(t))
		return err == nil
	}, 20*time.Second, 20*time.Millisecond)
}

// Whatever is relayed is counted, and does not go on before the meter lets it.
func TestRelayedBytesAreMetered(t *testing.T) {
	const proto, room, sent = "/skerry/test/1", 100 << 10, 4 << 20
	relay, from := startRelay(t, Config{}), startWith(t, Config{})
	_, key := newKey(t)
	to, err := New(Config{Key: key, Listen: loopback(t), Log: silent})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, to.Close()) })
	var came atomic.Int64
	to.host.SetStreamHandler(proto, func(s network.Stream) {
		b := make([]byte, 4096)
		for {
			n, err := s.Read(b)
			came.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	require.NoError(t, to.Start(func(peer.ID, bool) {}))

	var counted atomic.Int64
	full, open := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	relay.MeterRelay(func(ctx context.Context, n int) error {
		if counted.Add(int64(n)) < room {
			return nil
		}
		if once.CompareAndSwap(false, true) {
			close(full)
		}
		select {
		case <-open:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	reserve(t, to, relay)
	require.NoError(t, from.Connect(t.Context(), through(t, relay.info(t), to.ID())))
	raw, err := from.host.NewStream(network.WithAllowLimitedConn(t.Context(), "test"), to.ID(), proto)
	require.NoError(t, err)
	wrote := make(chan error, 1)
	go func() {
		_, err := io.CopyN(raw, zeros{}, sent)
		wrote <- err
	}()
	select {
	case <-full:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was counted")
	}
	// Each direction may have had one more piece on its way when the meter closed.
	require.Less(t, came.Load(), int64(room+64<<10))
	require.Less(t, counted.Load(), int64(room+64<<10))
	close(open)
	require.NoError(t, <-wrote)
	require.Eventually(t, func() bool { return came.Load() == sent }, 20*time.Second, time.Millisecond)
	require.GreaterOrEqual(t, counted.Load(), int64(sent))
	require.NoError(t, raw.Reset())
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// Who comes through a relay is let in, or not, for what it is, wherever the relay is.
func TestListsAndRelayedPeers(t *testing.T) {
	relay, friend, other := startRelay(t, Config{}), startWith(t, Config{}), startWith(t, Config{})
	for name, tt := range map[string]struct {
		cfg           Config
		friend, other bool
	}{
		"the relay and its address are let in": {Config{
			Allow: append(who(t, "127.0.0.2", "127.0.0.0/8"), Who{Peer: relay.ID()}),
		}, false, false},
		"a friend and the relay are let in": {Config{
			Allow: []Who{{Peer: friend.ID()}, {Peer: relay.ID()}},
		}, true, false},
		"a friend is denied": {Config{Deny: []Who{{Peer: friend.ID()}}}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := startWith(t, tt.cfg)
			reserve(t, n, relay)
			for _, x := range []struct {
				from *Network
				ok   bool
			}{{friend, tt.friend}, {other, tt.other}} {
				err := x.from.Connect(link.Named(t.Context()), through(t, relay.info(t), n.ID()))
				require.Equal(t, x.ok, err == nil && stays(t, n, x.from), "%v", err)
			}
		})
	}
}

// stays reports whether a connection from another node stays: the other may think that it is
// connected before this one has refused. It asks over that connection, so it need not wait.
func stays(t *testing.T, n, other *Network) bool {
	t.Helper()
	s, err := other.host.NewStream(
		network.WithAllowLimitedConn(network.WithNoDial(t.Context(), "test"), "test"), n.ID(),
		identify.ID,
	)
	if err != nil {
		return false
	}
	defer func() { _ = s.Reset() }()
	_, err = s.Write(make([]byte, 32))
	if err == nil {
		_, err = io.ReadFull(s, make([]byte, 32))
	}
	return err == nil
}

// Who is behind a relay, and says where to make a hole for a direct connection, cannot have a node
// dial addresses of the node's own network.
func TestHolesAreMadeToPublicAddressesOnly(t *testing.T) {
	relay := startRelay(t, Config{})
	n := startWith(t, Config{Relays: []peer.AddrInfo{relay.info(t)}})
	at, calls := victim(t)
	seer := startWith(t, Config{})
	seesAt(t, seer, "/ip4/8.8.4.4/tcp/4001")
	n.voices.know(seer.ID())
	meet(t, seer, n)
	require.Eventually(t, func() bool { // so that it makes holes
		n.puncher.mu.Lock()
		defer n.puncher.mu.Unlock()
		return n.puncher.svc != nil
	}, 30*time.Second, time.Millisecond)
	reserve(t, n, relay)

	attacker := startWith(t, Config{})
	asked := make(chan struct{}, 64)
	attacker.host.SetStreamHandler(holepunch.Protocol, func(s network.Stream) {
		defer s.Close()
		asked <- struct{}{}
		var m holepb.HolePunch
		if err := pbio.NewDelimitedReader(s, 4096).ReadMsg(&m); err != nil {
			return
		}
		m.ObsAddrs = [][]byte{at.Bytes()}
		if err := pbio.NewDelimitedWriter(s).WriteMsg(&m); err == nil {
			_, _ = io.ReadAll(s) // until the node has dialled, or gives up
		}
	})
	require.NoError(t, attacker.Connect(t.Context(), through(t, relay.info(t), n.ID())))
	for range 3 { // the first two attempts have ended
		select {
		case <-asked:
		case <-time.After(30 * time.Second):
			t.Fatal("the node makes no hole")
		}
	}
	require.Zero(t, calls.Load())

	var many []ma.Multiaddr
	for i := range 100 {
		many = append(many, addr(t, fmt.Sprintf("/ip4/8.8.8.8/tcp/%d", i+1)))
	}
	private := addr(t, "/ip4/10.0.0.1/tcp/1")
	name := addr(t, "/dns4/example.com/tcp/1")
	got := punchable{}.FilterRemote("p", append([]ma.Multiaddr{private, name}, many...))
	require.Equal(t, many[:maxPunched], got)
	require.Equal(t, many, punchable{}.FilterLocal("p", many))
}

package libp2pnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/zeroconf/v2"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
)

// ether is a local network on which services are announced again and again.
type ether struct {
	packets func(i int) *zeroconf.ServiceEntry // the i-th, counted over all clients; nil is none now
	sent    int
	clients int
	most    int // bytes of texts that a client has kept
}

// browse is a client that keeps what it has seen, and does not look at a name again, as
// zeroconf.Browse does with services that say that they last.
func (e *ether) browse(ctx context.Context, seen chan<- *zeroconf.ServiceEntry) error {
	e.clients++
	defer close(seen)
	kept, bytes := map[string]bool{}, 0
	for ctx.Err() == nil {
		x := e.packets(e.sent)
		e.sent++
		if x == nil || kept[x.Instance] {
			time.Sleep(time.Second)
			continue
		}
		seen <- x
		kept[x.Instance] = true
		for _, t := range x.Text {
			bytes += len(t)
		}
		e.most = max(e.most, bytes)
	}
	return nil
}

// service announces a peer at some addresses.
func service(name string, texts ...string) *zeroconf.ServiceEntry {
	x := &zeroconf.ServiceEntry{Text: texts}
	x.Instance = name
	return x
}

// told is the text that says that a peer listens at a port.
func told(port int, p peer.ID) string {
	return fmt.Sprintf("dnsaddr=/ip4/192.0.2.1/tcp/%d/p2p/%s", port, p)
}

// Whoever floods the local network with services that last for ever fills no memory, and a node
// that is announced there is found all the same.
func TestFloodOnTheLocalNetwork(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		friend, forger := stranger(t), stranger(t)
		large := strings.Repeat("a", 8000)
		e := &ether{packets: func(i int) *zeroconf.ServiceEntry {
			switch {
			case i == 5000:
				return service("friend", told(1, friend))
			case i > 50_000:
				return nil
			}
			return service(fmt.Sprint(i), told(1, forger), large)
		}}
		ctx, cancel := context.WithCancel(t.Context())
		met := map[peer.ID]int{}
		go func() {
			found := func(p peer.AddrInfo) { met[p.ID]++ }
			lookAround(ctx, e.browse, browsePause, found, slog.New(slog.DiscardHandler))
		}()
		time.Sleep(time.Minute)
		cancel()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.LessOrEqual(t, e.most, browseBytes+len(large))
		require.Greater(t, e.sent, 10_000)
		require.InDelta(t, 60, e.clients, 2, "each asks the network: no more than one a second")
		require.Equal(t, 1, met[friend])
	})
}

// A forged announcement under another's name, to last for ever, hides that other for ten minutes at
// most.
func TestForgedNameOnTheLocalNetwork(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		friend, forger := stranger(t), stranger(t)
		e := &ether{packets: func(i int) *zeroconf.ServiceEntry {
			if i == 0 {
				return service("friend", told(1, forger))
			}
			return service("friend", told(1, friend))
		}}
		ctx, cancel := context.WithCancel(t.Context())
		met := make(chan peer.ID, 8)
		go func() {
			found := func(p peer.AddrInfo) { met <- p.ID }
			lookAround(ctx, e.browse, browsePause, found, slog.New(slog.DiscardHandler))
		}()
		time.Sleep(browseTime - time.Minute)
		synctest.Wait()
		require.Equal(t, forger, <-met)
		require.Empty(t, met)
		time.Sleep(2 * time.Minute)
		cancel()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, friend, <-met)
		require.Empty(t, met)
		require.Equal(t, 2, e.clients)
	})
}

// Without multicast, a search says so once, and begins when there is some.
func TestNoMulticast(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		starts := 0
		look := func(ctx context.Context, seen chan<- *zeroconf.ServiceEntry) error {
			if starts++; starts < 4 {
				return errors.New("no multicast here")
			}
			defer close(seen)
			seen <- &zeroconf.ServiceEntry{Text: []string{told(1, stranger(t))}}
			<-ctx.Done()
			return nil
		}
		var told bytes.Buffer
		found := 0
		lookAround(ctx, look, time.Second, func(peer.AddrInfo) {
			found++
			cancel()
		}, slog.New(slog.NewTextHandler(&told, nil)))
		require.Equal(t, 1, found, "once there is a network")
		require.Equal(t, 4, starts)
		require.Equal(t, 1, strings.Count(told.String(), "no multicast here"))
	})
}

// Without a network, a node is announced once there is one, and until it closes.
func TestAnnouncedOnceThereIsANetwork(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var told bytes.Buffer
		tries, ended := 0, false
		began, done := time.Now(), make(chan struct{})
		go func() {
			defer close(done)
			announce(ctx, func() (func(), error) {
				if tries++; tries < 4 {
					return nil, errors.New("no interface here")
				}
				return func() { ended = true }, nil
			}, slog.New(slog.NewTextHandler(&told, nil)))
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 4, tries)
		require.False(t, ended)
		cancel()
		<-done
		require.True(t, ended)
		require.Equal(t, time.Hour, time.Since(began))
		require.Equal(t, 1, strings.Count(told.String(), "no interface here"))
	})
}

// An announcement names one peer at a few addresses.
func TestAnnouncedPeer(t *testing.T) {
	a, b := stranger(t), stranger(t)
	var many, peers []string
	for i := range 700 {
		many = append(many, told(i+1, a))
		peers = append(peers, told(1, stranger(t)))
	}
	for _, tt := range []struct {
		name  string
		texts []string
		addrs int // 0 is refused
	}{
		{"one address", []string{told(1, a)}, 1},
		{"other texts are for others", []string{"txtvers=1", told(1, a), ""}, 1},
		{"seven hundred addresses", many, maxFoundAddrs},
		{"seven hundred peers", peers, 0},
		{"two peers", []string{told(1, a), told(1, b)}, 0},
		{"no address", []string{"txtvers=1"}, 0},
		{"an address without a peer", []string{"dnsaddr=/ip4/192.0.2.1/tcp/1"}, 0},
		{"no multiaddr", []string{"dnsaddr=192.0.2.1"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := announcedPeer(service("x", tt.texts...))
			if tt.addrs == 0 {
				require.ErrorContains(t, err, `"x"`)
				return
			}
			require.NoError(t, err)
			require.Equal(t, a, p.ID)
			require.Len(t, p.Addrs, tt.addrs)
		})
	}
}

// What a node announces is what it, or another, reads from it again.
func TestAnnouncement(t *testing.T) {
	me := stranger(t)
	var full []ma.Multiaddr
	for _, s := range []string{
		"/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/udp/1/quic-v1", "/ip6/fd00::1/tcp/1",
		"/dns4/example.com/tcp/1",
		"/ip4/10.0.0.3/tcp/1/p2p/" + stranger(t).String() + "/p2p-circuit",
	} {
		full = append(full, ma.StringCast(s+"/p2p/"+me.String()))
	}
	texts, ips := announcement(full)
	require.Equal(t, []string{"10.0.0.1", "fd00::1"}, ips)
	p, err := announcedPeer(service("x", texts...))
	require.NoError(t, err)
	require.Equal(t, me, p.ID)
	require.Len(t, p.Addrs, 3)
}

// Addresses that are announced on the local network, and lead nowhere, are not kept.
func TestAnnouncedAddressesAreForgotten(t *testing.T) {
	n := startWith(t, Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	p := stranger(t)
	n.found(
		peer.AddrInfo{
			ID: p, Addrs: []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port))},
		},
	)
	require.Eventually(t, func() bool {
		return n.finds.len() == 0 && len(n.host.Peerstore().Addrs(p)) == 0
	}, 10*time.Second, time.Millisecond)
}

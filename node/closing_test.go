package node_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// silent listens, takes connections and says nothing, so that a dial goes on until it is given up.
// dialled is told of the first one.
func silent(t *testing.T) (at peer.AddrInfo, dialled chan struct{}) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dialled = make(chan struct{})
	ended := make(chan struct{})
	var conns []net.Conn
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if conns = append(conns, c); len(conns) == 1 {
				close(dialled)
			}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
		for _, c := range conns {
			c.Close()
		}
	})
	at.ID, err = peer.Decode("12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2")
	require.NoError(t, err)
	addr := l.Addr().(*net.TCPAddr)
	at.Addrs = []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/" + strconv.Itoa(addr.Port))}
	return at, dialled
}

// Whoever waits for something of a node that is closed learns of it, at once.
func TestClosedNodeEndsWaits(t *testing.T) {
	for name, wait := range map[string]func(context.Context, *node.Node, replica.ID, peer.AddrInfo) error{
		"an entry": func(ctx context.Context, n *node.Node, id replica.ID, _ peer.AddrInfo) error {
			w, err := n.ReplicaOf(id).Watch(ctx)
			require.NoError(t, err)
			defer w.Close()
			_, _, err = w.Next(ctx)
			return err
		},
		"content": func(ctx context.Context, n *node.Node, _ replica.ID, _ peer.AddrInfo) error {
			return n.WaitContent(ctx, blobs.Hash{1}, 5)
		},
		"a value": func(ctx context.Context, n *node.Node, id replica.ID, _ peer.AddrInfo) error {
			_, err := n.ReplicaOf(id).Within(time.Hour).Get(ctx, []byte("away"), 100)
			return err
		},
		"a dial": func(ctx context.Context, n *node.Node, _ replica.ID, at peer.AddrInfo) error {
			_, err := n.Get(ctx, blobs.Hash{1}, content.Raw, []peer.AddrInfo{at}, nil)
			return err
		},
		"a join": func(ctx context.Context, n *node.Node, _ replica.ID, at peer.AddrInfo) error {
			secret := replica.NewSecretKey()
			addrs, err := peer.AddrInfoToP2pAddrs(&at)
			require.NoError(t, err)
			_, err = n.Join(ctx, &ticket.Doc{Replica: secret.Replica(),
				Capability: replica.Read, Addrs: addrs}, "away")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, stop := start(t, t.TempDir())
			r, err := n.ReplicaStore().Create(t.Context(), "r")
			require.NoError(t, err)
			_, err = n.ReplicaStore().Write(t.Context(), r.ID, replica.NewSecretKey(), []replica.Change{
				{Key: []byte("away"), Hash: blobs.Hash{7}, Size: 5},
			})
			require.NoError(t, err)
			at, dialled := silent(t)
			ended := make(chan error)
			go func() { ended <- wait(t.Context(), n, r.ID, at) }()
			if name == "a dial" || name == "a join" {
				<-dialled
			}
			stop()
			require.ErrorIs(t, <-ended, node.ErrClosed)
		})
	}
}

func TestZeroNetworkIsRefused(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer n.Close()
	require.Error(t, n.GoOnline(nil))
	require.False(t, n.Online())
}

package node

import (
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/simnet"
)

// A stream whose handler has a fault ends, and the node goes on, with nothing held for it.
func TestFaultOfAHandlerEndsItsStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := simnet.New(3)
		n, err := Open(t.Context(), Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewMem()}})
		require.NoError(t, err)
		n.Serve(testService, func(s link.Stream) {
			var b [1]byte
			if _, err := io.ReadFull(s, b[:]); err != nil || b[0] == 0 {
				panic("a fault")
			}
			if _, err := s.Write(b[:]); err != nil {
				t.Error(err)
			}
			_ = s.Close()
		})
		require.NoError(t, n.GoOnline(net.End(n.ID())))
		stranger := net.End("stranger")
		require.NoError(t, stranger.Start(func(peer.ID, bool) {}))
		ask := func(x byte) error {
			require.NoError(t, stranger.Connect(t.Context(), peer.AddrInfo{ID: n.ID()}))
			s, err := stranger.Open(t.Context(), n.ID(), testService)
			require.NoError(t, err)
			_, err = s.Write([]byte{x})
			require.NoError(t, err)
			_, err = io.ReadFull(s, make([]byte, 1))
			_ = s.Reset()
			return err
		}
		for range 3 {
			require.Error(t, ask(0))
			require.NoError(t, ask(1))
		}
		held, _ := n.room.Held()
		require.Zero(t, held)
		require.NoError(t, stranger.Close())
		require.NoError(t, n.Close())
	})
}

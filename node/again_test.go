package node

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/simnet"
)

// breaks is a network whose connections are lost just as the next streams of content are opened.
type breaks struct {
	*simnet.End
	left int
}

func (b *breaks) Open(ctx context.Context, p peer.ID, protocol string) (link.Stream, error) {
	s, err := b.End.Open(ctx, p, protocol)
	if err == nil && protocol == wire.Protocol && b.left > 0 {
		b.left--
		b.Drop()
	}
	return s, err
}

// A fetch over a connection that has died unnoticed goes on over another one, once.
func TestFetchOverADeadConnection(t *testing.T) {
	for lost, arrives := range map[int]bool{0: true, 1: true, 2: false} {
		bubble(t, func(t *testing.T) {
			w := newClaimWorld(t)
			defer w.close()
			require.NoError(t, w.fresh.Close())
			n, err := Open(context.Background(), Config{
				Dir: w.fresh.dir, Store: pebble.Options{FS: w.fresh.disk}, Now: time.Now,
			})
			require.NoError(t, err)
			w.fresh.Node = n
			require.NoError(t, n.GoOnline(&breaks{w.End(n.ID()), lost}))
			info, err := w.old.blobs.ImportBytes(context.Background(), []byte("content"))
			require.NoError(t, err)
			_, err = n.Get(
				context.Background(), info.Hash, content.Raw, []peer.AddrInfo{{ID: w.old.ID()}}, nil,
			)
			require.Equal(t, arrives, err == nil, "%d lost: %v", lost, err)
		})
	}
}

package content

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs/blobstest"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
)

// A fetch at a fair pace asks nobody else, however long it takes. One that is slow asks others, and
// those that sent something wrong before only if nothing comes at all.
func TestWhoIsAskedInALongFetch(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		x, liars := offline(t), map[peer.ID]bool{}
		x.cfg.Lied = func(p peer.ID) bool { return liars[p] }
		x.GoOnline(nobody{})
		info := func(names ...string) (out []peer.AddrInfo) {
			for _, name := range names {
				out = append(out, peer.AddrInfo{ID: peer.ID(name)})
			}
			return out
		}
		for _, liar := range info("known liar", "liar of relief") {
			liars[liar.ID] = true
		}
		f := x.newFetcher(
			context.Background(), x.blobs, info("known liar", "first"), info("fallback"), true, nil,
		)
		f.relief = func() []peer.ID { return []peer.ID{"liar of relief", "relief"} }
		asked := func() (out []string) {
			for _, p := range f.providers {
				p.mu.Lock()
				if p.running {
					out = append(out, string(p.info.ID))
				}
				p.mu.Unlock()
			}
			return out
		}
		after := func(bytes int) []string {
			f.came(bytes)
			f.look()
			return asked()
		}
		require.True(t, f.startNext())
		require.Equal(t, []string{"first"}, asked())
		for range 2 * manyLooks {
			require.Equal(t, []string{"first"}, after(fairBytes))
		}
		for range 2 {
			require.Equal(t, []string{"first", "fallback", "relief"}, after(fairBytes-1))
		}
		require.Len(t, after(stallBytes-1), 5)
		_, err := f.close()
		require.NoError(t, err)

		f = x.newFetcher(context.Background(), x.blobs, info("known liar"), nil, true, nil)
		require.True(t, f.startNext())
		require.Equal(t, []string{"known liar"}, asked(), "there is nobody else")
		_, err = f.close()
		require.NoError(t, err)
	})
}

// nobody is a network in which nobody answers.
type nobody struct{}

func (nobody) Peers() []link.Peer { return nil }

func (nobody) Connected(peer.ID) bool { return true }

func (nobody) Connect(ctx context.Context, _ peer.AddrInfo) error {
	<-ctx.Done()
	return ctx.Err()
}

func (nobody) Open(context.Context, peer.ID, string) (link.Stream, error) {
	return nil, errors.New("nobody answers")
}

// offline returns an exchange with an empty store.
func offline(t *testing.T) *Exchange {
	return New(Config{
		Blobs: blobstest.New(t), Log: slog.New(slog.DiscardHandler),
		Limits: limits.New(limits.Config{}, limits.DefaultFigures()),
	})
}

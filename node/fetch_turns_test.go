package node

import (
	"context"
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
)

// A fetch at a fair pace asks nobody else, however long it takes. One that is slow asks others, and
// those that sent something wrong before only if nothing comes at all.
func TestWhoIsAskedInALongFetch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := simNodeOf(t, newSimNet(1))
		info := func(names ...string) (out []peer.AddrInfo) {
			for _, name := range names {
				out = append(out, peer.AddrInfo{ID: peer.ID(name)})
			}
			return out
		}
		for _, liar := range info("known liar", "liar of relief") {
			n.noteLie(liar.ID, errors.New("it lied"))
		}
		f := n.newFetcher(context.Background(), info("known liar", "first"), info("fallback"), true, nil)
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

		f = n.newFetcher(context.Background(), info("known liar"), nil, true, nil)
		require.True(t, f.startNext())
		require.Equal(t, []string{"known liar"}, asked(), "there is nobody else")
		_, err = f.close()
		require.NoError(t, err)
	})
}

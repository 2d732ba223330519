package gateway

import (
	"io"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node"
)

// A web page can have a gateway fetch any amount of content. What the gateway has fetched takes no
// more room than it leaves: it goes, unless something keeps it, and what is larger is not fetched
// as a whole.
func TestFetchedContentGoes(t *testing.T) {
	const piece, disk = 512 << 10, 4 << 20
	a, _ := start(t)
	var used atomic.Pointer[func() uint64]
	n, g, l := startWith(t, node.Config{Store: pebble.Options{
		Reserve: 1,
		FreeBytes: func(dir string) (uint64, error) {
			if filepath.Base(dir) == "kv" {
				return 1 << 40, nil
			}
			if now := used.Load(); now != nil {
				return disk - min((*now)(), disk), nil
			}
			return disk, nil
		},
	}})
	now := n.StorageUsed
	used.Store(&now)
	g.came.look = 64 << 10
	g.came.nextCheck = 0
	connect(t, n, a)
	ctx := t.Context()
	fetch := func(h blobs.Hash) (status, length int) {
		resp, b := get(t, l, "/blobs/"+h.String())
		return resp.StatusCode, len(b)
	}
	own, err := n.Blobs().ImportBytes(ctx, testkit.Random(99, piece))
	require.NoError(t, err)
	var pinned blobs.Hash
	for i := range 24 {
		info, err := a.Blobs().ImportBytes(ctx, testkit.Random(i, piece))
		require.NoError(t, err)
		status, length := fetch(info.Hash)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, piece, length)
		require.Less(t, n.StorageUsed(), uint64(disk*3/4))
		if i == 0 {
			pinned = info.Hash
			require.NoError(t, n.Blobs().Pin(ctx, blobs.Pin{Name: "p", Hash: pinned}))
		}
	}
	for _, h := range []blobs.Hash{own.Hash, pinned} {
		has, err := n.Blobs().Has(ctx, h)
		require.NoError(t, err)
		require.True(t, has, "not fetched by the gateway, or kept")
	}
	require.LessOrEqual(t, len(g.came.blobs), 24)

	info, err := a.Blobs().ImportBytes(ctx, testkit.Random(100, 2*disk))
	require.NoError(t, err)
	at := l.URL + "/blobs/" + info.Hash.String()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	came, err := io.Copy(io.Discard, resp.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "it ends before the disk is full")
	require.NoError(t, resp.Body.Close())
	require.Greater(t, came, int64(piece))
	require.Less(t, n.StorageUsed(), uint64(disk*3/4))
	info, err = a.Blobs().ImportBytes(ctx, testkit.Random(101, piece))
	require.NoError(t, err)
	status, length := fetch(info.Hash)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, piece, length)
}

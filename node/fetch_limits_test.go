package node_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// Limits of bandwidth are kept, of a whole node and of one peer, in both directions; a limit of
// storage refuses more, and says so.
func TestLimits(t *testing.T) {
	ctx := t.Context()
	data := testkit.Random(8, 3<<20)
	for name, limits := range map[string][2]limits.Config{
		"upload":        {{Upload: 2 << 20}, {}},
		"peer upload":   {{PeerUpload: 2 << 20}, {}},
		"download":      {{}, {Download: 2 << 20}},
		"peer download": {{}, {PeerDownload: 2 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := startWith(t, limits[0]), startWith(t, limits[1])
			info, err := a.Blobs().ImportBytes(t.Context(), data)
			require.NoError(t, err)
			began := time.Now()
			_, err = b.Get(t.Context(), info.Hash, content.Raw, infoOf(t, a), nil)
			require.NoError(t, err)
			require.Greater(
				t, time.Since(began), time.Second, "3 MiB at 2 MiB a second, of which a tenth may come at once",
			)
		})
	}
	a, _ := start(t, t.TempDir())
	info, err := a.Blobs().ImportBytes(ctx, data)
	require.NoError(t, err)
	b := startWith(t, limits.Config{Storage: 1 << 20})
	_, err = b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), nil)
	var full *files.LimitError
	require.ErrorAs(t, err, &full)
	_, err = b.Blobs().ImportBytes(ctx, data)
	require.ErrorAs(t, err, &full)
	require.ErrorContains(t, err, "storage limit")
	require.NoError(t, b.Blobs().Delete(ctx, info.Hash))
	_, err = b.Blobs().ImportBytes(ctx, testkit.Random(9, 700_000))
	require.NoError(t, err, "there is room again")
}

// What one peer makes a node fetch without being asked is limited; what a person asks for is not.
func TestPeerStorageLimit(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	b := startWith(t, limits.Config{PeerStorage: 70_000})
	r, err := a.ReplicaStore().Create(ctx, "r")
	require.NoError(t, err)
	tk, err := a.Ticket(ctx, r, replica.Read)
	require.NoError(t, err)
	_, err = b.Join(ctx, tk, "r")
	require.NoError(t, err)
	set(t, a, r.ID, "1", string(testkit.Random(1, 60_000)))
	eventually(t, "the first", func() bool {
		return has(b, r.ID, "1", string(testkit.Random(1, 60_000)))
	})
	more := string(testkit.Random(2, 20_000))
	set(t, a, r.ID, "2", more)
	eventually(t, "its entry", func() bool {
		_, err := b.ReplicaStore().LatestOf(ctx, r.ID, []byte("2"))
		return err == nil
	})
	require.Never(t, func() bool {
		return has(b, r.ID, "2", more)
	}, 500*time.Millisecond, 50*time.Millisecond)
	set(t, a, r.ID, "3", "what still fits")
	eventually(t, "the third", func() bool { return has(b, r.ID, "3", "what still fits") })
	_, err = b.Get(ctx, blobs.HashOf([]byte(more)), content.Raw, infoOf(t, a), nil)
	require.NoError(t, err)
}

// Under a limit of what one peer makes a node fetch, claims are decided as they are without one,
// and content that nobody has takes no room from what is there.
func TestPeerStorageLimitAndClaims(t *testing.T) {
	for _, what := range []string{"wrong sizes", "nothing there"} {
		t.Run(what, func(t *testing.T) {
			ctx := t.Context()
			a, _ := start(t, t.TempDir())
			b := startWith(t, limits.Config{PeerStorage: 1_000_000})
			r, err := a.ReplicaStore().Create(ctx, "r")
			require.NoError(t, err)
			value := string(testkit.Random(1, 700))
			var changes []replica.Change
			if what == "wrong sizes" {
				for i := range 600 {
					changes = append(
						changes,
						replica.Change{
							Key: fmt.Append(nil, "wrong", i), Hash: blobs.HashOf([]byte(value)), Size: uint64(i + 1),
						},
					)
				}
			} else {
				changes = append(
					changes, replica.Change{Key: []byte("nowhere"), Hash: blobs.Hash{0, 0, 0, 1}, Size: 1_000_000},
				)
			}
			author, err := a.ReplicaStore().DefaultAuthor(ctx)
			require.NoError(t, err)
			secret, err := a.ReplicaStore().AuthorKey(ctx, author)
			require.NoError(t, err)
			_, err = a.ReplicaStore().Write(ctx, r.ID, secret, changes)
			require.NoError(t, err)
			set(t, a, r.ID, "k", value)
			tk, err := a.Ticket(ctx, r, replica.Read)
			require.NoError(t, err)
			_, err = b.Join(ctx, tk, "r")
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				return has(b, r.ID, "k", value)
			}, 15*time.Second, 20*time.Millisecond)
			if what == "wrong sizes" {
				eventually(t, "all wrong claims", func() bool {
					wrong := 0
					require.NoError(t, b.RefutedClaims(ctx, r.ID, func(wanted.RefutedClaim) error {
						wrong++
						return nil
					}))
					return wrong == len(changes)
				})
			}
		})
	}
}

// A reader that reads nothing makes nobody's memory grow: the provider waits.
func TestSlowReaderIsWaitedFor(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	info, err := a.Blobs().ImportBytes(ctx, testkit.Random(1, 64<<20))
	require.NoError(t, err)
	b := startWith(t, limits.Config{Download: 1 << 20})
	ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	_, err = b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	st, err := b.Blobs().Stat(t.Context(), info.Hash)
	require.NoError(t, err)
	require.Less(t, st.Present, uint64(8<<20))
}

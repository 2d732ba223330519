package server

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/content"
)

// collecting is an answer whose client has the node collect garbage whenever it is told of
// progress, which the operation waits for.
type collecting struct {
	t     *testing.T
	n     *skerry.Node
	a     *answer
	times int
}

func collectingAnswer(t *testing.T, n *skerry.Node) *collecting {
	c := &collecting{t: t, n: n}
	c.a = &answer{w: c}
	return c
}

func (c *collecting) Header() http.Header { return http.Header{} }

func (c *collecting) WriteHeader(int) {}

func (c *collecting) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(`"progress"`)) && c.times < 10 {
		c.times++
		_, err := c.n.Collect(c.t.Context(), false, nil)
		require.NoError(c.t, err)
	}
	c.a.last = time.Time{} // so that it is told of the next one; whoever writes has the lock
	return len(b), nil
}

// tree makes a directory with some files and returns its path.
func tree(t *testing.T, seed uint64) string {
	dir := filepath.Join(t.TempDir(), "tree")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for i := range 40 {
		size := 3000 + i
		if i%10 == 3 {
			size = blobs.SegmentSize + i
		}
		name := filepath.Join(dir, strconv.Itoa(i))
		require.NoError(t, os.WriteFile(name, testkit.Random(seed+uint64(i), size), 0o600))
	}
	return dir
}

// What one operation adds without a pin is there until all of it has been added.
func TestWhatIsAddedTogetherIsNotCollected(t *testing.T) {
	_, n := open(t)
	c := collectingAnswer(t, n)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, testkit.Random(1, 5000), 0o600))
	s := New(n, "test")
	_, err := s.blobAdd(
		t.Context(), api.AddRequest{Paths: []string{file, tree(t, 2)}, NoPin: true}, c.a,
	)
	require.NoError(t, err)
	require.Greater(t, c.times, 1)
	has, err := n.Blobs().Has(t.Context(), blobs.HashOf(testkit.Random(1, 5000)))
	require.NoError(t, err)
	require.True(t, has)
	for i := range 40 {
		size := 3000 + i
		if i%10 == 3 {
			size = blobs.SegmentSize + i
		}
		has, err := n.Blobs().Has(t.Context(), blobs.HashOf(testkit.Random(2+uint64(i), size)))
		require.NoError(t, err)
		require.True(t, has, "file %d", i)
	}
	_, err = n.Collect(t.Context(), false, nil)
	require.NoError(t, err)
	left, err := n.Blobs().Totals(t.Context())
	require.NoError(t, err)
	require.Zero(t, left.Count, "nothing holds it now")
}

// What is written to a directory is not collected before all of it has been written, though nothing
// keeps it.
func TestWhatIsExportedIsNotCollected(t *testing.T) {
	client, n := open(t)
	from := tree(t, 1)
	var hash blobs.Hash
	add := api.AddRequest{Paths: []string{from}, NoPin: true}
	require.NoError(t, client.BlobAdd(t.Context(), add, func(a api.Added) error {
		hash = a.Hash
		return nil
	}))
	c, to := collectingAnswer(t, n), filepath.Join(t.TempDir(), "out")
	_, err := New(n, "test").fetchTo(t.Context(), hash, content.Sequence, nil, to, c.a)
	require.NoError(t, err)
	require.Positive(t, c.times)
	for i := range 40 {
		want, err := os.ReadFile(filepath.Join(from, strconv.Itoa(i)))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(to, strconv.Itoa(i)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "file %d", i)
	}
	_, err = n.Collect(t.Context(), false, nil)
	require.NoError(t, err)
	_, err = n.Blobs().Stat(t.Context(), hash)
	require.ErrorIs(t, err, blobs.ErrNotFound, "nothing holds it now")
}

// A value that is being read is not collected before all of it has been read, though another has
// taken its place.
func TestAValueThatIsReadIsNotCollected(t *testing.T) {
	client, n := open(t)
	ctx := t.Context()
	for name, encrypted := range map[string]bool{"plain": false, "sealed": true} {
		_, err := n.CreateReplica(ctx, name, encrypted)
		require.NoError(t, err)
		for _, size := range []int{chunked.Threshold - 1, 5 * chunked.Threshold} {
			data := testkit.Random(uint64(size), size)
			set := api.SetRequest{Name: name, Key: api.Key("k")}
			old, err := client.SetValue(ctx, set, bytes.NewReader(data))
			require.NoError(t, err)
			var got bytes.Buffer
			require.NoError(
				t, client.ReadValue(ctx, name, api.Key("k"), writerFunc(func(b []byte) (int, error) {
					if got.Len() == 0 {
						_, err := client.SetValue(ctx, set, bytes.NewReader([]byte("new")))
						require.NoError(t, err)
						_, err = n.Collect(ctx, false, nil)
						require.NoError(t, err)
					}
					return got.Write(b)
				})),
			)
			require.True(t, bytes.Equal(data, got.Bytes()), "%s, %d bytes", name, size)
			require.Eventually(t, func() bool { // it lets go of it after its last byte
				_, err := n.Collect(ctx, false, nil)
				require.NoError(t, err)
				has, err := n.Blobs().Has(ctx, old.Hash)
				require.NoError(t, err)
				return !has
			}, 20*time.Second, time.Millisecond)
		}
	}
}

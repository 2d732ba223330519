package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/replica"
)

// yielding yields so many changes, and then err if there is one.
func yielding(n int, err error) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for i := range n {
			c := Change{Key: fmt.Appendf(nil, "k/%d", i), Value: fmt.Appendf(nil, "v%d", i)}
			if !yield(c, nil) {
				return
			}
		}
		if err != nil {
			yield(Change{}, err)
		}
	}
}

func countEntries(t *testing.T, r *Replica) (n int) {
	t.Helper()
	for _, err := range r.Latest(t.Context(), replica.Query{}) {
		require.NoError(t, err)
		n++
	}
	return n
}

// What was made before an import ends with an error stays, and is told.
func TestImportOfChanges(t *testing.T) {
	forBoth(t, func(t *testing.T, n *Node, r *Replica) {
		ctx := t.Context()
		var told []int
		made, err := r.Import(ctx, WriteOptions{}, yielding(2*importBatch+5, nil),
			func(made int) { told = append(told, made) })
		require.NoError(t, err)
		require.Equal(t, 2*importBatch+5, made)
		require.Equal(t, []int{importBatch, 2 * importBatch, 2*importBatch + 5}, told)
		require.Equal(t, made, countEntries(t, r))
		got, err := r.Get(ctx, []byte("k/2000"), 100)
		require.NoError(t, err)
		require.Equal(t, "v2000", string(got))

		ends := errors.New("the source ends")
		made, err = r.Import(ctx, WriteOptions{}, yielding(importBatch+1, ends), nil)
		require.ErrorIs(t, err, ends)
		require.Equal(t, importBatch, made)

		empty := func(yield func(Change, error) bool) {
			_ = yield(Change{Key: []byte("x"), Value: []byte("1")}, nil) &&
				yield(Change{Key: []byte("y")}, nil)
		}
		made, err = r.Import(ctx, WriteOptions{}, empty, nil)
		refused, ok := errors.AsType[*ChangeError](err)
		require.True(t, ok)
		require.Equal(t, 1, refused.N)
		require.ErrorIs(t, err, replica.ErrEmptyValue)
		require.Zero(t, made)
		_, err = r.Get(ctx, []byte("x"), 100)
		require.ErrorIs(t, err, replica.ErrNotFound, "it was in the batch that was not written")
	})
}

// An export has a file for each key that can be one, also of content in chunks, and says what it
// leaves out.
func TestExportOfAReplica(t *testing.T) {
	forBoth(t, func(t *testing.T, n *Node, r *Replica) {
		ctx := t.Context()
		large := strings.Repeat("0123456789abcdef", 1<<17) // more than one chunk
		values := map[string]string{"a/b": "ab", "c": "c", "large": large}
		for key, value := range values {
			_, err := r.Set(ctx, []byte(key), []byte(value))
			require.NoError(t, err)
		}
		for _, key := range []string{"a", "../out", strings.Repeat("x", 300)} {
			_, err := r.Set(ctx, []byte(key), []byte("left out"))
			require.NoError(t, err)
		}
		taken := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(taken, "f"), nil, 0o600))
		_, err := r.Export(ctx, taken, nil)
		require.ErrorIs(t, err, fs.ErrExist)

		out := filepath.Join(t.TempDir(), "out")
		done, err := r.Export(ctx, out, nil)
		require.NoError(t, err)
		require.Equal(t, len(values), done.Files)
		require.Len(t, done.Left, 3)
		require.Equal(t, LeftOut{[]byte("a"), "other keys lie below it"}, done.Left[2])
		for key, want := range values {
			got, err := os.ReadFile(filepath.Join(out, key))
			require.NoError(t, err)
			require.True(t, want == string(got), key)
		}

		// What is elsewhere is not left out in silence.
		author, err := n.replicas.DefaultAuthor(ctx)
		require.NoError(t, err)
		key, err := n.replicas.AuthorKey(ctx, author)
		require.NoError(t, err)
		view, err := n.replicas.Plain(ctx, r.ID())
		require.NoError(t, err)
		away := replica.Change{Key: []byte("z"), Hash: blobs.HashOf([]byte("away")), Size: 300}
		_, err = n.replicas.WritePlain(ctx, view, key, []replica.Change{away})
		require.NoError(t, err)
		none := filepath.Join(t.TempDir(), "none")
		_, err = r.Within(time.Millisecond).Export(ctx, none, nil)
		_, late := errors.AsType[*LateError](err)
		require.True(t, late, "%v", err)
		require.NoDirExists(t, none)
	})
}

// What an export is going to write is not collected before, though it is deleted meanwhile.
func TestExportHoldsWhatItWrites(t *testing.T) {
	forBoth(t, func(t *testing.T, n *Node, r *Replica) {
		ctx := t.Context()
		var changes []Change
		for i := range 20 {
			size := 3000
			if i%10 == 3 {
				size = chunked.Threshold + 1
			}
			changes = append(
				changes, Change{Key: fmt.Append(nil, i), Value: testkit.Random(uint64(i), size)},
			)
		}
		_, err := r.Apply(ctx, WriteOptions{}, changes...)
		require.NoError(t, err)
		collect := func() {
			_, err := r.DeletePrefix(ctx, WriteOptions{}, nil)
			require.NoError(t, err)
			_, err = n.Collect(ctx, false, nil)
			require.NoError(t, err)
		}
		var once sync.Once
		out := filepath.Join(t.TempDir(), "out")
		_, err = r.Export(ctx, out, func(directory.Progress) { once.Do(collect) })
		require.NoError(t, err)
		for i, c := range changes {
			got, err := os.ReadFile(filepath.Join(out, string(c.Key)))
			require.NoError(t, err)
			require.True(t, bytes.Equal(c.Value, got), "file %d", i)
		}
		collect()
		all, err := n.blobs.Totals(ctx)
		require.NoError(t, err)
		require.Zero(t, all.Count, "nothing holds it now")
	})
}

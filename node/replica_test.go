package node

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

// forBoth runs a test with a replica that is encrypted and one that is not.
func forBoth(t *testing.T, test func(t *testing.T, n *Node, r *Replica)) {
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
			n := offline(t, &now)
			made, err := n.CreateReplica(t.Context(), "notes", encrypted)
			require.NoError(t, err)
			r, err := n.Replica(t.Context(), "notes")
			require.NoError(t, err)
			require.Equal(t, made.ID, r.ID())
			test(t, n, r)
		})
	}
}

func TestReplicaHandle(t *testing.T) {
	forBoth(t, func(t *testing.T, n *Node, r *Replica) {
		ctx := t.Context()
		it, err := r.Set(ctx, []byte("a"), []byte("one"))
		require.NoError(t, err)
		require.Equal(t, "a", string(it.Key))
		got, err := r.Get(ctx, []byte("a"), 3)
		require.NoError(t, err)
		require.Equal(t, "one", string(got))
		_, err = r.Get(ctx, []byte("a"), 2)
		require.ErrorIs(t, err, blobs.ErrTooLarge)
		_, err = r.Get(ctx, []byte("b"), 3)
		require.ErrorIs(t, err, replica.ErrNotFound)

		_, err = r.Set(ctx, []byte("a"), nil)
		require.ErrorIs(t, err, replica.ErrEmptyValue)
		_, err = r.Set(ctx, bytes.Repeat([]byte("k"), replica.MaxKey+1), []byte("v"))
		require.ErrorIs(t, err, replica.ErrKeyTooLong)
		_, err = r.Apply(ctx, WriteOptions{}, Change{Key: []byte("a"), Stream: strings.NewReader("")})
		require.ErrorIs(t, err, replica.ErrEmptyValue)

		require.ErrorIs(t, r.Delete(ctx, []byte("b")), replica.ErrNotFound)
		require.NoError(t, r.Delete(ctx, []byte("a")))
		_, err = r.Get(ctx, []byte("a"), 3)
		require.ErrorIs(t, err, replica.ErrNotFound)

		_, err = n.Replica(ctx, "nobody")
		require.ErrorIs(t, err, replica.ErrNotFound)
		_, err = n.ReplicaOf(replica.NewSecretKey().Replica()).Set(ctx, []byte("a"), []byte("v"))
		require.ErrorIs(t, err, replica.ErrNotFound)
	})
}

// Content comes as bytes, files and streams, small and in chunks, and is read back the same.
func TestBatchOfAllKinds(t *testing.T) {
	forBoth(t, func(t *testing.T, n *Node, r *Replica) {
		large := testkit.Random(1, chunked.Threshold+100_000)
		name := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(name, large, 0o600))
		f, err := disk.OpenRegular(name)
		require.NoError(t, err)
		defer f.Close()
		segment := testkit.Random(2, blobs.SegmentSize+1)
		want := map[string][]byte{"file": large, "stream": large, "short stream": []byte("x"),
			"bytes": []byte("y"), "segment": segment}
		read := uint64(0)
		b, err := r.Batch(t.Context(), WriteOptions{Progress: func(n uint64) { read = n }})
		require.NoError(t, err)
		defer b.Close()
		for _, c := range []Change{
			{Key: []byte("file"), File: f}, {Key: []byte("stream"), Stream: bytes.NewReader(large)},
			{Key: []byte("short stream"), Stream: strings.NewReader("x")},
			{Key: []byte("bytes"), Value: []byte("y"), Hash: blobs.HashOf([]byte("y"))},
			{Key: []byte("segment"), Value: segment},
		} {
			require.NoError(t, b.Add(c))
		}
		require.NotZero(t, read)
		require.Equal(t, 5, b.Len())
		items, err := b.Commit()
		require.NoError(t, err)
		require.Len(t, items, 5)
		require.Zero(t, b.Len())
		for key, value := range want {
			got, err := r.Get(t.Context(), []byte(key), uint64(len(value)))
			require.NoError(t, err, key)
			require.True(t, bytes.Equal(value, got), key)
		}
		count, err := n.wanted.Count(t.Context())
		require.NoError(t, err)
		require.Zero(t, count, "content is wanted that is here")
		require.NoError(t, b.Add(Change{Key: []byte("later"), Value: []byte("z")}))
		require.NoError(t, b.Add(Change{Key: []byte("bytes"), Delete: true}))
		_, err = b.Write()
		require.NoError(t, err)
		removed, err := r.DeletePrefix(t.Context(), WriteOptions{}, []byte("s"))
		require.NoError(t, err)
		require.Equal(t, 3, removed)
		var keys []string
		for it, err := range r.Latest(t.Context(), replica.Query{}) {
			require.NoError(t, err)
			keys = append(keys, string(it.Key))
		}
		require.ElementsMatch(t, []string{"file", "later"}, keys)
	})
}

// A collection between Add and Write removes nothing of what was added; one after Close removes
// what was not written.
func TestBatchHoldsContent(t *testing.T) {
	forBoth(t, func(t *testing.T, n *Node, r *Replica) {
		b, err := r.Batch(t.Context(), WriteOptions{})
		require.NoError(t, err)
		large := testkit.Random(3, chunked.Threshold+1)
		require.NoError(t, b.Add(Change{Key: []byte("small"), Value: []byte("v")}))
		require.NoError(t, b.Add(Change{Key: []byte("large"), Stream: bytes.NewReader(large)}))
		collect := func() {
			_, err := n.Collect(t.Context(), false, nil)
			require.NoError(t, err)
		}
		collect()
		_, err = b.Commit()
		require.NoError(t, err)
		require.NoError(t, b.Add(Change{Key: []byte("never"), Stream: bytes.NewReader(large[1:])}))
		b.Close()
		collect()
		for key, value := range map[string][]byte{"small": []byte("v"), "large": large} {
			got, err := r.Get(t.Context(), []byte(key), uint64(len(value)))
			require.NoError(t, err, key)
			require.True(t, bytes.Equal(value, got), key)
		}
	})
}

// Nothing but the handle writes entries: not the doors, not what is built upon the node. Only
// measurements of the set itself, in package bench, go below it, where no node is.
func TestOneHomeForAWrite(t *testing.T) {
	home, calls := filepath.Join("node", "replica.go"), 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, ".."+string(filepath.Separator))
		top, _, _ := strings.Cut(name, string(filepath.Separator))
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 ||
			top == "replica" || top == "bench"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			// An io.Writer has one argument, replica.Store.Write four.
			f, ok := call.Fun.(*ast.SelectorExpr)
			if ok && (f.Sel.Name == "WritePlain" || f.Sel.Name == "Write" && len(call.Args) > 2) {
				calls++
				require.Equal(t, home, name, "a write beside the handle")
			}
			return true
		})
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 1, calls, "the handle writes in one place")
}

// What could not be written is still there, and is written when the cause has gone.
func TestBatchAfterAnError(t *testing.T) {
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
			n := offline(t, &now)
			made, err := n.CreateReplica(t.Context(), "notes", encrypted)
			require.NoError(t, err)
			r := n.ReplicaOf(made.ID)
			_, err = r.Set(t.Context(), []byte("k"), []byte("old"))
			require.NoError(t, err)
			b, err := r.Batch(t.Context(), WriteOptions{})
			require.NoError(t, err)
			defer b.Close()
			require.NoError(t, b.Add(Change{Key: []byte("k"), Value: []byte("new")}))
			now = now.Add(-48 * time.Hour) // the clock was ahead when the old value was written
			for range 2 {
				_, err = b.Commit()
				var clock *replica.ClockError
				require.ErrorAs(t, err, &clock)
				require.Equal(t, 1, b.Len())
			}
			now = now.Add(72 * time.Hour)
			items, err := b.Commit()
			require.NoError(t, err)
			require.Len(t, items, 1)
			got, err := r.Get(t.Context(), []byte("k"), 3)
			require.NoError(t, err)
			require.Equal(t, "new", string(got))
		})
	}
}

// A batch that goes on after the read key has changed seals with the new one.
func TestBatchFollowsTheReadKey(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := offline(t, &now)
	made, err := n.CreateReplica(t.Context(), "letters", true)
	require.NoError(t, err)
	b, err := n.ReplicaOf(made.ID).Batch(t.Context(), WriteOptions{})
	require.NoError(t, err)
	defer b.Close()
	epochOf := func(key string) uint32 {
		require.NoError(t, b.Add(Change{Key: []byte(key), Value: []byte("v")}))
		items, err := b.Commit()
		require.NoError(t, err)
		epoch, err := seal.EpochOf(items[0].Entry.Key)
		require.NoError(t, err)
		return epoch
	}
	first := epochOf("a")
	now = now.Add(time.Hour)
	_, err = n.Rotate(t.Context(), made.ID)
	require.NoError(t, err)
	epochOf("b") // what is sealed already may still have the key from before
	require.Greater(t, epochOf("c"), first)
}

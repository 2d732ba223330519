package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
)

// A project lives in a replica by its handle, of either sort.
func TestProjectInAReplica(t *testing.T) {
	forBoth(t, func(t *testing.T, n *Node, r *Replica) {
		ctx := t.Context()
		p := project.New(r.ID(), "P", identity.ID{9}, time.Unix(1, 0))
		require.NoError(t, project.Create(ctx, r, p))
		o, err := project.Open(ctx, r, nil)
		require.NoError(t, err)
		name := filepath.Join(t.TempDir(), "a.txt")
		for _, text := range []string{"one", "two"} {
			require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
			f, err := disk.OpenRegular(name)
			require.NoError(t, err)
			_, err = o.AddAsset(ctx, project.NewAsset{FileName: name}, f)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
		history, err := o.History(ctx, "a-txt")
		require.NoError(t, err)
		require.Len(t, history, 2)
		require.True(t, history[0].Here && history[1].Here)
	})
}

// Update writes everything that it is given, or nothing.
func TestUpdateOfAReplica(t *testing.T) {
	forBoth(t, func(t *testing.T, n *Node, r *Replica) {
		ctx := t.Context()
		stop := errors.New("stop")
		err := r.Update(ctx, nil, func(b project.Batch) error {
			require.NoError(t, b.Set([]byte("a"), []byte("1")))
			return stop
		})
		require.ErrorIs(t, err, stop)
		_, err = r.Get(ctx, []byte("a"), 10)
		require.ErrorIs(t, err, replica.ErrNotFound)
		_, err = r.Has(ctx, []byte("a"))
		require.ErrorIs(t, err, replica.ErrNotFound)

		require.NoError(t, r.Update(ctx, nil, func(b project.Batch) error {
			return errors.Join(b.Set([]byte("a"), []byte("1")),
				b.SetFrom([]byte("b"), strings.NewReader("22")))
		}))
		for key, want := range map[string]string{"a": "1", "b": "22"} {
			got, err := r.Get(ctx, []byte(key), 10)
			require.NoError(t, err)
			require.Equal(t, want, string(got))
			has, err := r.Has(ctx, []byte(key))
			require.NoError(t, err)
			require.True(t, has)
		}
	})
}

// A handle that waits within a time says what has not come by then; a node that is offline waits
// for nothing.
func TestWithin(t *testing.T) {
	forBoth(t, func(t *testing.T, n *Node, r *Replica) {
		ctx := t.Context()
		author, err := n.replicas.DefaultAuthor(ctx)
		require.NoError(t, err)
		key, err := n.replicas.AuthorKey(ctx, author)
		require.NoError(t, err)
		view, err := n.replicas.Plain(ctx, r.ID())
		require.NoError(t, err)
		away := blobs.HashOf([]byte("elsewhere"))
		_, err = n.replicas.WritePlain(
			ctx, view, key, []replica.Change{{Key: []byte("k"), Hash: away, Size: 300}},
		)
		require.NoError(t, err)
		late := func(most time.Duration) *LateError {
			_, err := r.Within(most).Get(ctx, []byte("k"), 1000)
			late, ok := errors.AsType[*LateError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, away, late.Hash)
			return late
		}
		require.Equal(t, time.Millisecond, late(time.Millisecond).Waited)
		n.net = nil // offline
		require.Zero(t, late(time.Hour).Waited)
		_, err = r.Get(ctx, []byte("k"), 1000)
		require.ErrorIs(t, err, blobs.ErrNotFound, "which says no more than that")
		has, err := r.Has(ctx, []byte("k"))
		require.NoError(t, err)
		require.False(t, has)
	})
}

// A handle for reading looks up the read keys once: it does not know of an epoch that begins later,
// and reads what there was all the same.
func TestReadingLooksUpKeysOnce(t *testing.T) {
	forBoth(t, func(t *testing.T, n *Node, r *Replica) {
		ctx := t.Context()
		_, err := r.Set(ctx, []byte("old"), []byte("1"))
		require.NoError(t, err)
		in, err := r.Reading(ctx)
		require.NoError(t, err)
		require.Equal(t, r.ID(), in.ID())
		kept, err := n.replicas.Get(ctx, r.ID())
		require.NoError(t, err)
		if kept.Encrypted {
			_, err = n.Rotate(ctx, r.ID())
			require.NoError(t, err)
		}
		_, err = r.Set(ctx, []byte("new"), []byte("2"))
		require.NoError(t, err)
		for key, here := range map[string]bool{"old": true, "new": !kept.Encrypted} {
			_, err := r.Get(ctx, []byte(key), 10)
			require.NoError(t, err)
			has, errHas := in.Within(time.Hour).Has(ctx, []byte(key))
			_, err = in.Get(ctx, []byte(key), 10)
			if !here {
				require.ErrorIs(t, err, replica.ErrNotFound)
				require.ErrorIs(t, errHas, replica.ErrNotFound)
				continue
			}
			require.NoError(t, errors.Join(err, errHas))
			require.True(t, has)
		}
		_, err = n.ReplicaOf(replica.ID{1}).Reading(ctx)
		require.ErrorIs(t, err, replica.ErrNotFound)
	})
}

package replicas_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
)

// whileLocked runs do while nobody can write to a replica, as during replica verify.
func whileLocked(t *testing.T, m *member, do func()) {
	locked, unlock := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var checked sync.WaitGroup
	checked.Go(func() {
		_, err := m.n.ReplicaOf(m.id).Check(context.Background(), false, func(uint64) {
			once.Do(func() { close(locked) })
			<-unlock
		})
		require.NoError(t, err)
	})
	<-locked
	do()
	close(unlock)
	checked.Wait()
}

// Content that has been stored, and whose entry has to wait, is not garbage: the document has been
// acknowledged, and its journal is emptied once the entry is there.
func TestAcknowledgedContentIsNotCollected(t *testing.T) {
	small, large := bytes.Repeat([]byte("s"), 5000), bytes.Repeat([]byte("l"), blobs.SegmentSize+1)
	for name, body := range map[string][]byte{"small": small, "large": large} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := founded(t, dir)
			ctx := t.Context()
			whileLocked(t, m, func() {
				o := &store.Object{Body: body, Type: "text/plain"}
				require.NoError(t, m.Put(ctx, "files/a", o, store.Condition{}))
				eventuallyStored(t, m, body)
				_, err := m.n.Collect(ctx, false, nil)
				require.NoError(t, err)
			})
			require.NoError(t, m.Close())
			m = founded(t, dir)
			defer func() { require.NoError(t, m.Close()) }()
			o, err := m.Get(ctx, "files/a")
			require.NoError(t, err)
			require.Equal(t, body, o.Body)
		})
	}
}

// The same of what is written beside documents, such as rules.
func TestEntriesBesideDocumentsAreNotCollected(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	ctx, body := t.Context(), bytes.Repeat([]byte("r"), 5000)
	author, err := m.n.Authors().Default(ctx)
	require.NoError(t, err)
	key, err := m.n.Authors().Key(ctx, author)
	require.NoError(t, err)
	var written sync.WaitGroup
	whileLocked(t, m, func() {
		written.Go(func() {
			require.NoError(t, replicas.WriteEntry(ctx, m.n, m.id, key, "beside", body))
		})
		eventuallyStored(t, m, body)
		_, err := m.n.Collect(ctx, false, nil)
		require.NoError(t, err)
	})
	written.Wait()
	got, err := m.n.Blobs().ReadAll(ctx, blobs.HashOf(body), uint64(len(body)))
	require.NoError(t, err)
	require.Equal(t, body, got)
}

// eventuallyStored waits until some content is in the blob store.
func eventuallyStored(t *testing.T, m *member, body []byte) {
	require.Eventually(t, func() bool {
		i, err := m.n.Blobs().Stat(t.Context(), blobs.HashOf(body))
		return err == nil && i.Complete
	}, 20*time.Second, time.Millisecond)
}

package node_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// crashDir, in the environment, makes the test binary a process that is there to be killed: see
// TestStoreSurvivesKills.
const crashDir = "SKERRY_CRASH_TEST_DIR"

// writeUntilKilled stores blobs of many sizes and entries that point at them, and says so on
// standard output when each is acknowledged.
func writeUntilKilled(dir string) error {
	ctx := context.Background()
	n, err := node.Open(ctx, node.Config{Dir: dir})
	if err != nil {
		return err
	}
	r, err := n.ReplicaStore().Resolve(ctx, "crash")
	if err != nil {
		if r, err = n.ReplicaStore().Create(ctx, "crash"); err != nil {
			return err
		}
	}
	author, err := n.ReplicaStore().DefaultAuthor(ctx)
	if err != nil {
		return err
	}
	key, err := n.ReplicaStore().AuthorKey(ctx, author)
	if err != nil {
		return err
	}
	collecting := make(chan error, 1)
	go func() { // beside the writing, until the process ends
		for {
			if _, err := n.Collect(ctx, false, nil); err != nil {
				collecting <- err
				return
			}
		}
	}()
	sizes := []int{10, 5000, 20_000, 600_000, 3 << 20}
	for i := range 100_000 {
		select {
		case err := <-collecting:
			return err
		default:
		}
		// garbage, so that there is something to collect
		if _, err := n.Blobs().ImportBytes(ctx, testkit.Random(byte(i), 7000+i)); err != nil {
			return err
		}
		held, release := n.Blobs().Hold()
		data := testkit.Random(byte(i), sizes[i%len(sizes)])
		binary.BigEndian.PutUint64(data, uint64(time.Now().UnixNano()))
		info, err := held.ImportBytes(ctx, data)
		if err != nil {
			return err
		}
		name := info.Hash.String()
		if _, err := n.ReplicaStore().Write(
			ctx, r.ID, key, []replica.Change{{Key: []byte(name), Hash: info.Hash, Size: info.Size}},
		); err != nil {
			return err
		}
		release()
		if err := n.Blobs().Sync(ctx); err != nil {
			return err
		}
		if i%7 == 6 { // deletions are interrupted, too
			if err := n.Blobs().Delete(ctx, info.Hash); err != nil {
				return err
			}
			continue
		}
		fmt.Println(name)
	}
	return nil
}

// A process that is killed at any moment loses nothing that it acknowledged, and leaves nothing
// half-done.
func TestStoreSurvivesKills(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for round := range testkit.Few(5, 3) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 5 + 13*round {
			require.True(t, lines.Scan(), "the writer ended by itself")
			acknowledged = append(acknowledged, lines.Text())
		}
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() { // what it had acknowledged before the kill
			if len(lines.Text()) == 64 {
				acknowledged = append(acknowledged, lines.Text())
			}
		}
		err = cmd.Wait()
		require.True(t, err != nil && strings.Contains(err.Error(), "killed"), "%v", err)

		n, err := node.Open(t.Context(), node.Config{Dir: dir})
		require.NoError(t, err)
		r, err := n.ReplicaStore().Resolve(t.Context(), "crash")
		require.NoError(t, err)
		for _, name := range acknowledged {
			h, err := blobs.ParseHash(name)
			require.NoError(t, err)
			damage, err := n.Blobs().Verify(t.Context(), h, nil)
			require.NoError(t, err, "round %d", round)
			require.Empty(t, damage)
			e, err := n.ReplicaStore().LatestOf(t.Context(), r.ID, []byte(name))
			require.NoError(t, err)
			require.NoError(t, e.Verify())
		}
		counts, err := n.ReplicaStore().Counts(t.Context(), r.ID)
		require.NoError(t, err)
		var entries uint64
		for e, err := range n.ReplicaStore().Entries(t.Context(), r.ID, replica.Query{ByTime: true}) {
			require.NoError(t, err)
			require.NotEmpty(t, e.Key)
			entries++
		}
		require.Equal(t, counts.Entries, entries, "the index of time, the entries and their count agree")
		got, err := n.Collect(t.Context(), false, nil)
		require.NoError(t, err)
		again, err := n.Collect(t.Context(), true, nil)
		require.NoError(t, err)
		require.Zero(t, again.Removed)
		require.Zero(t, again.Freed, "all garbage is gone, whatever the kill interrupted")
		require.GreaterOrEqual(t, got.Kept, len(acknowledged))
		require.NoError(t, n.Close())
	}
}

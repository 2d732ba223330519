package repair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/chunked/chunkedtest"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/datadir"
	"github.com/skerry-sync/skerry/replica"
)

// After sixteen bytes of a table have been flipped, Store keeps everything but a few records,
// and the replica agrees with itself. A store that is whole stays as it is.
func TestStore(t *testing.T) {
	testkit.SeenElsewhere(t)
	ctx := context.Background()
	cfg := node.Config{Dir: t.TempDir()}
	n, err := node.Open(ctx, cfg)
	require.NoError(t, err)
	r, err := n.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	author := replica.NewSecretKey()
	_, err = n.Grant(ctx, r.ID, author.Author(), replica.Permission{})
	require.NoError(t, err)
	const count = 2000
	batch, err := n.ReplicaOf(r.ID).Batch(ctx, node.WriteOptions{As: author})
	require.NoError(t, err)
	for i := range count {
		require.NoError(t, batch.Add(node.Change{
			Key: fmt.Appendf(nil, "key/%d", i), Value: fmt.Appendf(nil, "value %d", i),
		}))
		if batch.Len() == 500 {
			_, err = batch.Write()
			require.NoError(t, err)
		}
	}
	batch.Close()
	require.NoError(t, n.Store().Compact(ctx))
	_, err = Store(ctx, cfg, nil)
	var inUse *datadir.InUseError
	require.ErrorAs(t, err, &inUse, "the node must be stopped")
	require.NoError(t, n.Close())
	got, err := Store(ctx, cfg, nil)
	require.NoError(t, err)
	require.Empty(t, got.Damaged)
	require.Empty(t, got.Old)

	tables, err := filepath.Glob(filepath.Join(cfg.Dir, "kv", "*.sst"))
	require.NoError(t, err)
	largest, size := "", int64(0)
	for _, name := range tables {
		st, err := os.Stat(name)
		require.NoError(t, err)
		if st.Size() > size {
			largest, size = name, st.Size()
		}
	}
	b, err := os.ReadFile(largest)
	require.NoError(t, err)
	for i := range 16 {
		b[len(b)*3/4+i] ^= 0xff
	}
	require.NoError(t, os.WriteFile(largest, b, 0o600))
	got, err = Store(ctx, cfg, nil)
	require.NoError(t, err)
	require.NotEmpty(t, got.Damaged)
	require.NotEmpty(t, got.Damaged[0].Kinds)
	require.DirExists(t, got.Old)
	n, err = node.Open(ctx, cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	rep, err := n.ReplicaOf(r.ID).Check(ctx, false, nil)
	require.NoError(t, err)
	require.Empty(t, rep.Faults)
	require.Greater(t, rep.Entries, uint64(count-200))
}

// What lies in a file that is out of reach stays known: the disk that it is on may be mounted
// again.
func TestStoreKeepsFilesInPlace(t *testing.T) {
	ctx := context.Background()
	cfg := node.Config{Dir: t.TempDir()}
	n, err := node.Open(ctx, cfg)
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, []byte("in place"), 0o600))
	info, err := n.Blobs().ImportFile(ctx, name, blobs.ImportOptions{Reference: true})
	require.NoError(t, err)
	require.NoError(t, n.Close())
	require.NoError(t, os.Rename(name, name+".away"))
	got, err := Store(ctx, cfg, nil)
	require.NoError(t, err)
	require.Equal(t, []blobs.Hash{info.Hash}, got.Lost)
	require.NoError(t, os.Rename(name+".away", name))
	n, err = node.Open(ctx, cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	b, err := n.Blobs().ReadAll(ctx, info.Hash, 100)
	require.NoError(t, err)
	require.Equal(t, "in place", string(b))
}

// One blob that cannot be read keeps nothing else from being repaired, and is not deleted. What is
// lost is named with its replica and key.
func TestStoreGoesOnBesideWhatCannotBeRead(t *testing.T) {
	ctx := context.Background()
	cfg := node.Config{Dir: t.TempDir()}
	n, err := node.Open(ctx, cfg)
	require.NoError(t, err)
	r, err := n.CreateReplica(ctx, "notes", false)
	require.NoError(t, err)
	author := replica.NewSecretKey()
	_, err = n.Grant(ctx, r.ID, author.Author(), replica.Permission{})
	require.NoError(t, err)
	content := map[string][]byte{"damaged": testkit.Random(1, 5000), "away": testkit.Random(2, 2<<20)}
	for key, b := range content {
		_, err = n.ReplicaOf(r.ID).Apply(
			ctx, node.WriteOptions{As: author}, node.Change{Key: []byte(key), Value: b},
		)
		require.NoError(t, err)
	}
	require.NoError(t, n.Close())
	testkit.FlipIn(t, cfg.Dir, content["damaged"], 1234)
	own, err := filepath.Glob(filepath.Join(cfg.Dir, "*", "own", "*", "*"))
	require.NoError(t, err)
	require.Len(t, own, 1)
	require.NoError(t, os.Rename(own[0], own[0]+".away"))
	require.NoError(t, os.Mkdir(own[0], 0o700)) // opening it fails, although it is there
	got, err := Store(ctx, cfg, nil)
	require.NoError(t, err)
	lost := blobs.HashOf(content["damaged"])
	require.Equal(t, []blobs.Hash{lost}, got.Lost)
	require.Equal(t, []LostEntry{{"notes", "damaged", lost}}, got.Entries)
	require.Len(t, got.Unread, 1)
	require.Contains(t, got.Unread[0].What, blobs.HashOf(content["away"]).String())
	require.NoError(t, os.Remove(own[0]))
	require.NoError(t, os.Rename(own[0]+".away", own[0]))
	got, err = Store(ctx, cfg, nil)
	require.NoError(t, err)
	require.Empty(t, got.Unread)
	n, err = node.Open(ctx, cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	has, err := n.Blobs().Has(ctx, blobs.HashOf(content["away"]))
	require.NoError(t, err)
	require.True(t, has)
}

// If the entries of a replica cannot be read, nobody knows which damaged blobs are lists of its
// content: all stay, and the other replicas are repaired all the same.
func TestStoreGoesOnBesideAReplicaThatCannotBeRead(t *testing.T) {
	ctx := context.Background()
	cfg := node.Config{Dir: t.TempDir()}
	n, err := node.Open(ctx, cfg)
	require.NoError(t, err)
	content := testkit.Random(1, 5000)
	info, err := n.Blobs().ImportBytes(ctx, content)
	require.NoError(t, err)
	for _, name := range []string{"broken", "other"} {
		r, err := n.CreateReplica(ctx, name, false)
		require.NoError(t, err)
		_, err = n.ReplicaOf(r.ID).Set(ctx, []byte("key of "+name), content)
		require.NoError(t, err)
	}
	err = n.Store().Update(ctx, func(tx kv.Txn) error {
		for p, err := range tx.Scan(kv.Prefix([]byte("ro")), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if bytes.Contains(p.Key, []byte("key of broken")) {
				return tx.Set(bytes.Clone(p.Key), []byte("no entry"))
			}
		}
		return errors.New("the entry was not found")
	})
	require.NoError(t, err)
	require.NoError(t, n.Close())
	testkit.FlipIn(t, cfg.Dir, content, 1234)
	got, err := Store(ctx, cfg, nil)
	require.NoError(t, err)
	require.Len(t, got.Unread, 1)
	require.Equal(t, "replica broken", got.Unread[0].What)
	require.Equal(t, []blobs.Hash{info.Hash}, got.Lost)
	require.Equal(t, []LostEntry{{"other", "key of other", info.Hash}}, got.Entries)
	n, err = node.Open(ctx, cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	has, err := n.Blobs().Has(ctx, info.Hash)
	require.NoError(t, err)
	require.True(t, has)
}

// A damaged sequence or list tells which chunks to keep, as far as it can be read: it stays until a
// peer has another, and so do its chunks.
func TestStoreKeepsChunksOfDamagedLists(t *testing.T) {
	for name, ofList := range map[string]bool{"list": true, "sequence": false} {
		for way, harm := range map[string]func(file string, at int) error{
			"is changed": nil,
			"is gone":    func(file string, _ int) error { return os.Remove(file) },
			"is cut off": func(file string, at int) error { return os.Truncate(file, int64(at)+100) },
		} {
			t.Run(name+" "+way, func(t *testing.T) { testRepairOfLists(t, ofList, harm) })
		}
	}
}

// testRepairOfLists repairs a store in which harm was done to the file of a list or a sequence,
// from an offset on; or to one byte.
func testRepairOfLists(t *testing.T, ofList bool, harm func(file string, at int) error) {
	ctx := context.Background()
	cfg := node.Config{Dir: t.TempDir()}
	n, err := node.Open(ctx, cfg)
	require.NoError(t, err)
	r, err := n.CreateReplica(ctx, "notes", false)
	require.NoError(t, err)
	author := replica.NewSecretKey()
	_, err = n.Grant(ctx, r.ID, author.Author(), replica.Permission{})
	require.NoError(t, err)
	h, size, list, sequence := chunkedtest.Store(t, n.Blobs())
	e := replica.Entry{
		Replica: r.ID, Author: author.Author(), Timestamp: uint64(time.Now().UnixMicro()),
		Key: []byte("k"), Hash: h, Size: size,
	}
	e.Sign(author)
	taken, err := n.TakeEntries(ctx, r.ID, []replica.Entry{e}, replica.Origin{})
	require.NoError(t, err)
	require.Len(t, taken.Added, 1)
	pinned := blobs.Pin{Name: "p", Hash: h, Sequence: true}
	require.NoError(t, n.Blobs().Pin(ctx, pinned))
	require.NoError(t, n.Close())
	stored := sequence
	if ofList {
		stored = list
	}
	names, err := blobs.ParseSequence(sequence)
	require.NoError(t, err)
	all := append(blobs.Sequence{h}, names...)
	lost := map[blobs.Hash]bool{blobs.HashOf(stored): true}
	if harm == nil {
		testkit.FlipIn(t, cfg.Dir, stored[:1000], 5)
	} else {
		file, at := testkit.FileOf(t, cfg.Dir, stored[:1000])
		require.NoError(t, harm(file, at))
		for _, b := range [][]byte{list, sequence, testkit.Random(3, chunked.MinChunk)} {
			if len(testkit.FilesOf(t, cfg.Dir, b)) == 0 {
				lost[blobs.HashOf(b)] = true
			}
		}
	}
	got, err := Store(ctx, cfg, nil)
	require.NoError(t, err)
	require.ElementsMatch(t, slices.Collect(maps.Keys(lost)), got.Lost)
	require.Empty(t, got.Unread)

	n, err = node.Open(ctx, cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	_, _ = n.Collect(ctx, false, nil) // it may refuse
	for _, h := range all {
		if lost[h] && h != all[0] && (h != all[1] || lost[all[0]]) {
			continue // it keeps nothing else, or nothing here says that it does
		}
		has, err := n.Blobs().Has(ctx, h)
		require.NoError(t, err)
		require.True(t, has, h.Short())
	}
	pending, err := n.PendingContent(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, 1, pending, "it is to be fetched")
}

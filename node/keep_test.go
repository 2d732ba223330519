package node

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/replica"
)

// What a collection and a listing read does not grow with the number of entries that claim
// something about a blob, whatever they claim.
func TestClaimsCostNoReading(t *testing.T) {
	ctx := context.Background()
	n, err := Open(ctx, Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewCrashableMem()}})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	r, err := n.replicas.Create(ctx, "r")
	require.NoError(t, err)
	author := replica.NewSecretKey()
	_, err = n.Grant(ctx, r.ID, author.Author(), replica.Permission{})
	require.NoError(t, err)
	data := make([]byte, 8<<20) // a blob that could be a sequence
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	large, err := n.blobs.ImportBytes(ctx, data)
	require.NoError(t, err)
	file, err := chunked.Import(ctx, n.blobs, bytes.NewReader(data[5:]), nil)
	require.NoError(t, err)
	chunks, err := chunked.Load(ctx, n.blobs, file.Hash)
	require.NoError(t, err)
	written := 0
	claim := func(h blobs.Hash, size uint64) replica.Entry {
		written++
		entries, err := n.replicas.Write(
			ctx, r.ID, author, []replica.Change{{Key: fmt.Append(nil, written), Hash: h, Size: size}},
		)
		require.NoError(t, err)
		return entries[0]
	}
	cost := func() uint64 {
		before := n.blobs.BytesRead()
		got, err := n.Collect(ctx, false, nil)
		require.NoError(t, err)
		require.Zero(t, got.Removed, "the chunks are kept, too")
		states := n.ContentStates()
		for e, err := range n.replicas.Entries(ctx, r.ID, replica.Query{}) {
			require.NoError(t, err)
			_, err := states.Of(ctx, &e)
			require.NoError(t, err)
		}
		return n.blobs.BytesRead() - before
	}
	claim(large.Hash, large.Size)
	claim(file.Hash, file.Size)
	claim(large.Hash, large.Size<<11) // as a list it could be the one of such content
	one := cost()
	require.Less(t, one, uint64(len(chunks.Hashes)*100+1000))
	for i := range uint64(150) {
		claim(large.Hash, large.Size+1+i<<20) // from 8 MiB to 158 MiB
		claim(large.Hash, i+1)
		claim(large.Hash, large.Size<<11)
		claim(file.Hash, file.Size)
		claim(file.Hash, 1+i)
		claim(file.Hash, 1<<40+i)
	}
	require.Equal(t, one, cost())
	require.NoError(t, n.CatchUp(ctx, r.ID))
}

// A host keeps chunks for an entry that claims the size of the content, and not for one that
// claims, and is charged, the size of the list. A node of one's own keeps the chunks also while the
// list of their lengths is missing.
func TestChunksThatAreKept(t *testing.T) {
	for _, hosts := range []bool{false, true} {
		for _, claimed := range []string{"content", "sequence"} {
			t.Run(fmt.Sprint(hosts, claimed), func(t *testing.T) {
				ctx := context.Background()
				cfg := Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewCrashableMem()}}
				if hosts {
					cfg.Host = keepsAll{}
				}
				n, err := Open(ctx, cfg)
				require.NoError(t, err)
				defer func() { require.NoError(t, n.Close()) }()
				r, err := n.replicas.Create(ctx, "r")
				require.NoError(t, err)
				author := replica.NewSecretKey()
				_, err = n.Grant(ctx, r.ID, author.Author(), replica.Permission{})
				require.NoError(t, err)
				data := make([]byte, 5<<20)
				for i := range data {
					data[i] = byte(i * i >> 7)
				}
				file, err := chunked.Import(ctx, n.blobs, bytes.NewReader(data), nil)
				require.NoError(t, err)
				chunks, err := chunked.Load(ctx, n.blobs, file.Hash)
				require.NoError(t, err)
				size := file.Size
				if claimed == "sequence" {
					size = uint64(len(chunks.Hashes)+1) * blobs.HashSize
				}
				_, err = n.replicas.Write(
					ctx, r.ID, author, []replica.Change{{Key: []byte("k"), Hash: file.Hash, Size: size}},
				)
				require.NoError(t, err)
				if !hosts {
					seq, err := n.blobs.ReadAll(ctx, file.Hash, 1<<20)
					require.NoError(t, err)
					require.NoError(t, n.blobs.Delete(ctx, blobs.Hash(seq[:blobs.HashSize])))
				}
				_, err = n.Collect(ctx, false, nil)
				require.NoError(t, err)
				has, err := n.blobs.Has(ctx, file.Hash)
				require.NoError(t, err)
				require.True(t, has, "the sequence")
				for _, h := range chunks.Hashes {
					has, err := n.blobs.Has(ctx, h)
					require.NoError(t, err)
					require.Equal(t, !hosts || claimed == "content", has)
				}
			})
		}
	}
}

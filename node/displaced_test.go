package node

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/replica"
)

// displacing is a node with a replica, and an author of it who also writes elsewhere.
type displacing struct {
	t      *testing.T
	dir    string
	disk   *vfs.MemFS
	n      *Node
	r      replica.Replica
	author replica.SecretKey
	d      *Displaced
}

func newDisplacing(t *testing.T, encrypted bool) *displacing {
	x := &displacing{
		t: t, dir: t.TempDir(), disk: vfs.NewCrashableMem(), author: replica.NewSecretKey(),
	}
	x.open()
	t.Cleanup(func() { require.NoError(t, x.n.Close()) })
	var err error
	x.r, err = x.n.CreateReplica(t.Context(), "r", encrypted)
	require.NoError(t, err)
	require.NoError(t, x.n.Authors().Import(t.Context(), x.author))
	x.keep()
	return x
}

func (x *displacing) open() {
	var err error
	x.n, err = Open(x.t.Context(), Config{Dir: x.dir, Store: pebble.Options{FS: x.disk}})
	require.NoError(x.t, err)
}

func (x *displacing) keep() {
	var err error
	x.d, err = x.n.KeepDisplaced(x.t.Context(), x.r.ID)
	require.NoError(x.t, err)
}

// write sets a key here.
func (x *displacing) write(key string, value []byte) replica.Entry {
	items, err := x.n.ReplicaOf(x.r.ID).Apply(
		x.t.Context(), WriteOptions{As: x.author},
		Change{Key: []byte(key), Stream: bytes.NewReader(value)},
	)
	require.NoError(x.t, err)
	return items[0].Entry
}

// comes has an entry of the same author come from elsewhere in the place of one.
func (x *displacing) comes(over replica.Entry) replica.Entry {
	e := over
	e.Timestamp++
	e.Hash = blobs.HashOf(e.Hash[:])
	e.Sign(x.author)
	in, err := x.n.TakeEntries(
		x.t.Context(), x.r.ID, []replica.Entry{e}, replica.Origin{Peer: "elsewhere"},
	)
	require.NoError(x.t, err)
	require.Len(x.t, in.Added, 1)
	return e
}

func (x *displacing) all(key []byte) (all []replica.Item) {
	for it, err := range x.d.All(x.t.Context(), key) {
		require.NoError(x.t, err)
		all = append(all, it)
	}
	return all
}

// What is displaced by entries from elsewhere is found by its key in plain, with all of its
// content, however often garbage is collected, until it is forgotten. What is replaced here is not.
func TestDisplacedContentIsKept(t *testing.T) {
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			x := newDisplacing(t, encrypted)
			large := testkit.Random(1, 5<<20)
			x.write("k", []byte("replaced here"))
			old := x.write("k", large)
			x.write("l", []byte("stays"))
			require.Empty(t, x.all(nil))
			newer := x.comes(old)
			x.comes(newer)
			for _, key := range [][]byte{nil, []byte("k")} {
				all := x.all(key)
				require.Len(t, all, 2)
				require.Equal(t, "k", string(all[0].Key))
				require.Equal(t, old, all[0].Entry)
				require.Equal(t, newer, all[1].Entry)
			}
			require.Empty(t, x.all([]byte("l")))
			before, err := x.n.Collect(ctx, false, nil)
			require.NoError(t, err)
			require.NotZero(t, before.Removed, "what was replaced here")
			view, err := x.n.replicas.Plain(ctx, x.r.ID)
			require.NoError(t, err)
			in, err := x.n.OpenPlain(ctx, view, &x.all(nil)[0].Entry)
			require.NoError(t, err)
			got := make([]byte, len(large))
			_, err = in.ReadAt(got, 0)
			require.NoError(t, err)
			require.True(t, bytes.Equal(large, got))
			require.NoError(t, x.d.Forget(ctx, x.all(nil)...))
			require.Empty(t, x.all(nil))
			after, err := x.n.Collect(ctx, false, nil)
			require.NoError(t, err)
			require.Greater(t, after.Removed, 3, "the chunks as well")
		})
	}
}

// Collecting in the middle of what displaces entries never removes what they name.
func TestCollectBesideDisplacing(t *testing.T) {
	x := newDisplacing(t, false)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := x.n.Collect(t.Context(), false, nil); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := range testkit.Few(150, 40) {
		e := x.write("k", testkit.Random(i, 3000))
		x.comes(e)
		all := x.all([]byte("k"))
		require.Equal(t, e, all[len(all)-1].Entry)
		_, err := x.n.Blobs().ReadAll(t.Context(), e.Hash, 1<<20)
		require.NoError(t, err)
	}
	cancel()
	require.NoError(t, <-done)
	for _, it := range x.all(nil) {
		_, err := x.n.Blobs().ReadAll(t.Context(), it.Entry.Hash, 1<<20)
		require.NoError(t, err)
	}
}

// After the loss of power, an entry is in its place or displaced, whatever has reached the disk.
func TestDisplacedAfterLossOfPower(t *testing.T) {
	for seed := range testkit.Few(20, 5) {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		x := newDisplacing(t, false)
		old := x.write("k", []byte("mine"))
		require.NoError(t, x.n.kv.Sync(t.Context()))
		newer := x.comes(old)
		if seed%3 == 0 {
			require.NoError(t, x.n.kv.Sync(t.Context()))
		}
		disk := x.disk.CrashClone(
			vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(100), RNG: rng},
		)
		require.NoError(t, x.n.Close())
		x.disk = disk
		x.open()
		x.keep()
		e, err := x.n.replicas.LatestOf(t.Context(), x.r.ID, []byte("k"))
		require.NoError(t, err)
		all := x.all([]byte("k"))
		if e.Hash == old.Hash {
			require.Empty(t, all)
			require.NotZero(t, seed%3)
			continue
		}
		require.Equal(t, newer, e)
		require.Len(t, all, 1)
		require.Equal(t, old, all[0].Entry)
		_, err = x.n.Collect(t.Context(), false, nil)
		require.NoError(t, err)
		_, err = x.n.Blobs().ReadAll(t.Context(), old.Hash, 100)
		require.NoError(t, err)
	}
}

// One at a time has the displaced entries of a replica. That they are kept does not end with it,
// but with the replica.
func TestDisplacedOfOne(t *testing.T) {
	ctx := t.Context()
	x := newDisplacing(t, false)
	_, err := x.n.KeepDisplaced(ctx, x.r.ID)
	require.ErrorIs(t, err, ErrDisplacedInUse)
	_, err = x.n.KeepDisplaced(ctx, replica.ID{5})
	require.ErrorIs(t, err, replica.ErrNotFound)
	x.d.Close()
	x.comes(x.write("k", []byte("v")))
	x.keep()
	require.Len(t, x.all(nil), 1)
	require.NoError(t, x.n.Leave(ctx, x.r.ID))
	require.Empty(t, x.all(nil))
	x.d.Close()
	_, err = x.n.replicas.Join(ctx, x.r)
	require.NoError(t, err)
	e := x.write("k", []byte("v"))
	x.comes(e)
	x.keep()
	require.Empty(t, x.all(nil), "nobody has asked for it again")
	x.comes(x.write("k", []byte("w")))
	require.Len(t, x.all(nil), 1)
}

// What a revocation has made void is not shown, nor kept, of authors whose keys are elsewhere.
func TestDisplacedAndVoid(t *testing.T) {
	ctx := t.Context()
	x := newDisplacing(t, false)
	x.author = replica.NewSecretKey()
	_, err := x.n.Grant(ctx, x.r.ID, x.author.Author(), replica.Permission{})
	require.NoError(t, err)
	info, err := x.n.Blobs().ImportBytes(ctx, []byte("v"))
	require.NoError(t, err)
	x.comes(x.comes(replica.Entry{
		Replica: x.r.ID, Author: x.author.Author(), Key: []byte("k"), Hash: info.Hash, Size: info.Size,
		Timestamp: 1,
	}))
	require.Len(t, x.all(nil), 1)
	_, err = x.n.Revoke(ctx, x.r.ID, x.author.Author(), 0)
	require.NoError(t, err)
	require.Empty(t, x.all(nil))
	require.False(t, x.n.displaced.Any(x.r.ID))
	got, err := x.n.Collect(ctx, false, nil)
	require.NoError(t, err)
	require.NotZero(t, got.Removed)
}

// What a revocation makes void is kept of authors of this node, also when it is opened again, with
// its content, until it is forgotten. It is not among what was displaced, unless it may be written
// again. Of others, nothing is kept.
func TestVoidEntriesOfOwnAuthorsAreKept(t *testing.T) {
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			x := newDisplacing(t, encrypted)
			stranger := replica.NewSecretKey()
			_, err := x.n.Grant(ctx, x.r.ID, stranger.Author(), replica.Permission{})
			require.NoError(t, err)
			mine := x.write("k", testkit.Random(1, 3000))
			_, err = x.n.ReplicaOf(x.r.ID).Apply(ctx, WriteOptions{As: stranger},
				Change{Key: []byte("k"), Value: []byte("theirs")})
			require.NoError(t, err)
			displaced := x.write("l", []byte("displaced"))
			last := x.comes(displaced)
			for _, a := range []replica.AuthorID{x.author.Author(), stranger.Author()} {
				_, err = x.n.Revoke(ctx, x.r.ID, a, 0)
				require.NoError(t, err)
			}
			void := func() (all []replica.Entry) {
				for it, err := range x.d.Void(ctx) {
					require.NoError(t, err)
					all = append(all, it.Entry)
				}
				return all
			}
			want := []replica.Entry{mine, displaced, last}
			require.Empty(t, x.all(nil))
			require.ElementsMatch(t, want, void())
			x.d.Close()
			require.NoError(t, x.n.Close())
			x.open()
			x.keep()
			require.ElementsMatch(t, want, void())
			_, err = x.n.Collect(ctx, false, nil)
			require.NoError(t, err)
			_, err = x.n.Blobs().ReadAll(ctx, mine.Hash, 1<<20)
			require.NoError(t, err)

			_, err = x.n.Grant(ctx, x.r.ID, x.author.Author(), replica.Permission{})
			require.NoError(t, err)
			require.Empty(t, void())
			require.Len(t, x.all(nil), 3)
			require.NoError(t, x.d.Forget(ctx, x.all(nil)...))
			require.Empty(t, x.all(nil))
		})
	}
}

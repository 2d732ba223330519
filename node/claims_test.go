package node

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// claimWorld is a node with a replica to which a victim and a hostile author write, and a new node
// that joins.
type claimWorld struct {
	*simnet.Net
	t               *testing.T
	old, fresh      *simNode
	replica         replica.Replica
	victim, hostile replica.SecretKey
	clock           uint64
	lies            int
}

func newClaimWorld(t *testing.T) *claimWorld {
	w := &claimWorld{
		Net:     simnet.New(1),
		t:       t,
		victim:  replica.NewSecretKey(),
		hostile: replica.NewSecretKey(),
		clock:   uint64(time.Now().UnixMicro()),
	}
	w.Lose(0)
	open := func() *simNode {
		n := &simNode{dir: t.TempDir(), disk: vfs.NewCrashableMem()}
		w.reopen(n)
		return n
	}
	w.old, w.fresh = open(), open()
	var err error
	w.replica, err = w.old.replicas.Create(context.Background(), "r")
	require.NoError(t, err)
	for _, a := range []replica.SecretKey{w.victim, w.hostile} {
		_, err := w.old.Grant(context.Background(), w.replica.ID, a.Author(), replica.Permission{})
		require.NoError(t, err)
	}
	return w
}

func (w *claimWorld) reopen(n *simNode) {
	(&simWorld{Net: w.Net, t: w.t}).open(n)
}

func (w *claimWorld) close() {
	require.NoError(w.t, w.fresh.Close())
	require.NoError(w.t, w.old.Close())
}

// join has the new node join.
func (w *claimWorld) join(policy wanted.Policy) {
	ctx := context.Background()
	r := w.replica
	r.Capability, r.Secret = replica.Read, replica.SecretKey{}
	_, err := w.fresh.replicas.Join(ctx, r)
	require.NoError(w.t, err)
	require.NoError(w.t, w.fresh.SetPolicy(ctx, r.ID, policy))
	require.NoError(
		w.t, w.fresh.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: w.old.ID()}}),
	)
}

func (w *claimWorld) put(
	author replica.SecretKey, key string, h blobs.Hash, size uint64,
) replica.Entry {
	w.clock++
	e := replica.Entry{
		Replica: w.replica.ID, Key: []byte(key), Timestamp: w.clock, Hash: h, Size: size,
	}
	e.Sign(author)
	_, err := w.old.replicas.Insert(
		context.Background(), w.replica.ID, []replica.Entry{e}, replica.Local,
	)
	require.NoError(w.t, err)
	return e
}

// lie puts an entry that claims another size of the content of e.
func (w *claimWorld) lie(e *replica.Entry, size uint64) replica.Entry {
	w.lies++
	return w.put(w.hostile, fmt.Sprintf("m/%d", w.lies), e.Hash, size)
}

func (w *claimWorld) blob(n int) blobs.Info {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	info, err := w.old.blobs.ImportBytes(context.Background(), b)
	require.NoError(w.t, err)
	return info
}

func (w *claimWorld) has(e *replica.Entry) bool {
	h, err := w.fresh.blobs.Has(context.Background(), e.Hash)
	require.NoError(w.t, err)
	return h
}

// contentOf says what the new node says of an entry.
func (w *claimWorld) contentOf(e *replica.Entry) string {
	state, err := w.fresh.ContentOf(context.Background(), e)
	require.NoError(w.t, err)
	return state.String()
}

// Entries that claim wrong sizes for the content of others do not keep a new node from it; the node
// says whose they are, and does not ask for what they claim again.
func TestWrongSizesDoNotDenyContent(t *testing.T) {
	// a record, a pack, a file, and several requests
	for _, size := range []int{100, 40_000, 700_000, 3 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newClaimWorld(t)
				defer w.close()
				info := w.blob(size)
				e := w.put(w.victim, "victim", info.Hash, info.Size)
				lies := []replica.Entry{
					w.lie(&e, info.Size-1),
					w.lie(&e, 1),
					w.lie(&e, info.Size+1),
					w.lie(&e, 1<<40),
				}
				w.join(wanted.Policy{})
				time.Sleep(10 * time.Minute)
				require.True(t, w.has(&e), "the true content has come")
				require.Equal(t, "complete", w.contentOf(&e))
				for i := range lies {
					require.Equal(t, "wrong size", w.contentOf(&lies[i]))
				}
				w.requireRefuted(info, lies)
				opened := w.opensOf(wire.Protocol)
				time.Sleep(3 * time.Hour)
				require.Equal(t, opened, w.opensOf(wire.Protocol), "nothing is asked for again")
				require.NoError(t, w.fresh.Close())
				w.reopen(w.fresh)
				time.Sleep(time.Hour)
				w.requireRefuted(info, lies)
				require.Equal(t, opened, w.opensOf(wire.Protocol), "nor after a restart")
			})
		})
	}
}

func (w *claimWorld) opensOf(protocol string) int {
	return w.Opened()[protocol]
}

func (w *claimWorld) requireRefuted(info blobs.Info, lies []replica.Entry) {
	ctx := context.Background()
	pending, err := w.fresh.PendingContent(ctx, w.replica.ID)
	require.NoError(w.t, err)
	require.Zero(w.t, pending)
	claimed := map[uint64]bool{}
	require.NoError(w.t, w.fresh.RefutedClaims(ctx, w.replica.ID, func(c wanted.RefutedClaim) error {
		require.Equal(w.t, w.hostile.Author(), c.Author)
		require.Equal(w.t, info.Hash, c.Hash)
		require.Equal(w.t, info.Size, c.Proved)
		claimed[c.Claimed] = true
		return nil
	}))
	require.Len(w.t, claimed, len(lies))
}

// A wrong claim alone brings nothing of the content, and is replaced by a right one.
func TestWrongSizeBringsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newClaimWorld(t)
		defer w.close()
		info := w.blob(5 << 20)
		small := w.blob(9_000)
		lies := []replica.Entry{
			w.put(w.hostile, "large", info.Hash, 1), w.put(w.hostile, "small", small.Hash, 1),
		}
		w.join(wanted.Policy{MaxSize: 1000})
		time.Sleep(10 * time.Minute)
		for i := range lies {
			require.Equal(t, "wrong size", w.contentOf(&lies[i]))
			_, err := w.fresh.blobs.Stat(context.Background(), lies[i].Hash)
			require.ErrorIs(t, err, blobs.ErrNotFound,
				"a small claim does not slip a large blob past the policy")
		}
		require.NoError(t, w.fresh.SetPolicy(context.Background(), w.replica.ID, wanted.Policy{}))
		e := w.put(w.hostile, "large", info.Hash, info.Size)
		time.Sleep(10 * time.Minute)
		require.True(t, w.has(&e), "the same author and key, with the right size")
		left := 0
		require.NoError(
			t,
			w.fresh.RefutedClaims(
				context.Background(), w.replica.ID, func(wanted.RefutedClaim) error { left++; return nil },
			),
		)
		require.Equal(t, 1, left)
	})
}

// Content in chunks is not denied by entries about its sequence, nor by lists that lie, lack their
// chunks or are no lists.
func TestWrongListsDoNotDenyContent(t *testing.T) {
	testkit.SeenElsewhere(t)
	bubble(t, func(t *testing.T) {
		w := newClaimWorld(t)
		defer w.close()
		ctx := context.Background()
		data := make([]byte, 6<<20)
		rng := rand.New(rand.NewPCG(7, 7))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		file, err := chunked.Import(ctx, w.old.blobs, bytes.NewReader(data), nil)
		require.NoError(t, err)
		e := w.put(w.victim, "victim", file.Hash, file.Size)
		lies := []replica.Entry{
			w.lie(&e, file.Size-1), w.lie(&e, file.Size+1), w.lie(&e, 1<<40),
		}
		chunk := w.blob(chunked.MinChunk)
		sequence := func(sizes []uint64, chunks ...blobs.Hash) blobs.Hash {
			list, err := w.old.blobs.ImportBytes(ctx, chunked.List(sizes))
			require.NoError(t, err)
			seq, err := w.old.blobs.ImportBytes(
				ctx, append(blobs.Sequence{list.Hash}, chunks...).Bytes(),
			)
			require.NoError(t, err)
			return seq.Hash
		}
		var all []blobs.Hash
		var wrong, right []uint64
		for range 16 {
			all, wrong = append(all, chunk.Hash), append(wrong, chunked.MaxChunk)
			right = append(right, chunked.MaxChunk)
		}
		lies = append(
			lies, w.put(w.hostile, "m/sizes", sequence(wrong, all...), 16*chunked.MaxChunk),
		)
		noList := blobs.Sequence{w.blob(3 << 20).Hash}
		for range 16 {
			noList = append(noList, chunk.Hash)
		}
		noListInfo, err := w.old.blobs.ImportBytes(ctx, noList.Bytes())
		require.NoError(t, err)
		lies = append(lies, w.put(w.hostile, "m/nolist", noListInfo.Hash, 16*chunked.MaxChunk))
		nowhere := make([]blobs.Hash, 16)
		for i := range nowhere {
			nowhere[i] = blobs.Hash{byte(i), 1}
		}
		lacking := w.put(w.hostile, "m/nowhere", sequence(right, nowhere...), 16*chunked.MaxChunk)
		first, err := w.old.blobs.ImportBytes(ctx, append(blobs.Sequence{{9}}, all...).Bytes())
		require.NoError(t, err)
		lacksList := w.put(w.hostile, "m/nolistatall", first.Hash, 16*chunked.MaxChunk)
		var others []replica.Entry
		for i := range 20 {
			other, err := chunked.Import(ctx, w.old.blobs, bytes.NewReader(data[i*1000:]), nil)
			require.NoError(t, err)
			others = append(others, w.put(w.victim, fmt.Sprint("other", i), other.Hash, other.Size))
		}
		w.join(wanted.Policy{})
		time.Sleep(10 * time.Minute)
		require.Equal(t, "complete", w.contentOf(&e))
		for i := range others {
			require.Equal(t, "complete", w.contentOf(&others[i]))
		}
		for i := range lies {
			require.Equal(t, "wrong size", w.contentOf(&lies[i]), "%s", lies[i].Key)
		}
		require.Equal(t, "partial", w.contentOf(&lacking))
		require.Equal(t, "partial", w.contentOf(&lacksList))
		require.False(t, w.has(&replica.Entry{Hash: noList[0]}),
			"what is too large for a list is not fetched as one")
	})
}

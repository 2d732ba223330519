package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// leastRefusals is how many refusals are remembered of each peer in any case, and batch is how much
// is asked of one at a time: those of package downloads.
const (
	leastRefusals = 64
	batch         = 512
)

func numbered(i int) (h blobs.Hash) {
	binary.BigEndian.PutUint64(h[:], uint64(i))
	return h
}

// A stream that breaks in the middle of a round does not end the round.
func TestRoundsGoOnAfterAFailedFetch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s := simnet.New(1)
		honest, looking := simNodeOf(t, s), simNodeOf(t, s)
		looking.downloads.Retune(8, 8)
		r, err := honest.replicas.Create(ctx, "r")
		require.NoError(t, err)
		author := replica.NewSecretKey()
		var changes []replica.Change
		var last blobs.Hash // of what is here, in the order of what is wanted
		for i := range 3 * batch {
			c := replica.Change{Key: fmt.Appendf(nil, "%d", i), Hash: numbered(i + 1), Size: 5}
			if i < batch {
				info, err := honest.blobs.ImportBytes(ctx, fmt.Appendf(nil, "content %d", i))
				require.NoError(t, err)
				c.Hash, c.Size = info.Hash, info.Size
				if bytes.Compare(info.Hash[:], last[:]) > 0 {
					last = info.Hash
				}
			}
			changes = append(changes, c)
		}
		_, err = honest.replicas.Write(ctx, r.ID, author, changes)
		require.NoError(t, err)
		opened := new(atomic.Int32)
		s.Intercept(honest.ID(), wire.Protocol, func(serve func(link.Stream)) func(link.Stream) {
			return func(st link.Stream) {
				if opened.Add(1) == 2 {
					_ = st.Reset()
					return
				}
				serve(st)
			}
		})
		_, err = looking.replicas.Join(ctx, r)
		require.NoError(t, err)
		require.NoError(t, looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: honest.ID()}}))
		time.Sleep(30 * time.Second)
		require.Greater(t, opened.Load(), int32(2))
		has, err := looking.blobs.Has(ctx, last)
		require.NoError(t, err)
		require.True(t, has)
	})
}

// Entries that name content which is nowhere do not keep what comes after them from a peer that has
// it, though they are too many to remember.
func TestContentBehindMuchThatIsNowhere(t *testing.T) {
	testkit.SeenElsewhere(t)
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s := simnet.New(1)
		honest, looking := simNodeOf(t, s), simNodeOf(t, s)
		looking.downloads.Retune(8, leastRefusals)
		r, err := honest.replicas.Create(ctx, "r")
		require.NoError(t, err)
		author := replica.NewSecretKey()
		var changes []replica.Change
		for i := range batch + 100 { // before all others in the order of what is wanted
			changes = append(
				changes,
				replica.Change{Key: fmt.Appendf(nil, "nowhere %d", i), Hash: numbered(i + 1), Size: 5},
			)
		}
		_, err = honest.replicas.Write(ctx, r.ID, author, changes)
		require.NoError(t, err)
		_, err = looking.replicas.Join(ctx, r)
		require.NoError(t, err)
		require.NoError(t, looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: honest.ID()}}))
		time.Sleep(20 * time.Second)
		require.NotZero(t, looking.downloads.Stats().Rounds)
		for i := range 3 {
			info, err := honest.blobs.ImportBytes(ctx, fmt.Appendf(nil, "content %d", i))
			require.NoError(t, err)
			_, err = honest.replicas.Write(
				ctx, r.ID, author,
				[]replica.Change{{Key: fmt.Appendf(nil, "here %d", i), Hash: info.Hash, Size: info.Size}},
			)
			require.NoError(t, err)
			time.Sleep(30 * time.Second)
			has, err := looking.blobs.Has(ctx, info.Hash)
			require.NoError(t, err)
			require.True(t, has, i)
			require.LessOrEqual(t, looking.downloads.Stats().Refused, 8)
		}
	})
}

// A peer that lacks very much gives files in chunks all the same: that it lacks their neighbours in
// the order of what is wanted does not keep their chunks from being asked for.
func TestFilesInChunksComeFromWhoLacksMuch(t *testing.T) {
	testkit.SeenElsewhere(t)
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s := simnet.New(1)
		honest, looking := simNodeOf(t, s), simNodeOf(t, s)
		looking.downloads.Retune(8, leastRefusals)
		r, err := honest.replicas.Create(ctx, "r")
		require.NoError(t, err)
		var changes []replica.Change
		for i := range 300 {
			h := blake3.Sum256(fmt.Append(nil, "nowhere ", i))
			changes = append(changes, replica.Change{
				Key: fmt.Appendf(nil, "nowhere %d", i), Hash: h, Size: 5,
			})
		}
		var files []chunked.File
		for i := range 3 {
			content := testkit.Random(i, 5<<20)
			c, err := chunked.Import(ctx, honest.blobs, bytes.NewReader(content), nil)
			require.NoError(t, err)
			files = append(files, c)
			changes = append(changes, replica.Change{
				Key: fmt.Appendf(nil, "film %d", i), Hash: c.Hash, Size: c.Size,
			})
		}
		_, err = honest.replicas.Write(ctx, r.ID, replica.NewSecretKey(), changes)
		require.NoError(t, err)
		_, err = looking.replicas.Join(ctx, r)
		require.NoError(t, err)
		peers := []peer.AddrInfo{{ID: honest.ID()}}
		require.NoError(t, looking.Remember(ctx, []replica.ID{r.ID}, peers))
		time.Sleep(5 * time.Minute)
		require.NotZero(t, looking.downloads.Stats().Rounds)
		for i, c := range files {
			state, err := looking.ContentState(ctx, c.Hash, c.Size)
			require.NoError(t, err)
			require.Equal(t, wanted.Complete, state, i)
		}
	})
}

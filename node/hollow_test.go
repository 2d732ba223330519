package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3/guts"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked/chunkedtest"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// hollow is a blob of any size, of which nobody has more than the last chunk group and what proves
// it.
type hollow struct {
	hash  blobs.Hash
	size  uint64 // a multiple of the chunk group's
	proof []byte // the stream of the last group
}

func newHollow(size uint64, number int) hollow {
	wordsOf := func(b []byte) (w [8]uint32) {
		for i := range w {
			w[i] = binary.LittleEndian.Uint32(b[4*i:])
		}
		return w
	}
	appendWords := func(b []byte, w [8]uint32) []byte {
		for _, x := range w {
			b = binary.LittleEndian.AppendUint32(b, x)
		}
		return b
	}
	groups := size / blobs.GroupSize
	var group [blobs.GroupSize]byte
	binary.LittleEndian.PutUint64(group[:], uint64(number))
	first := (groups - 1) * (blobs.GroupSize / guts.ChunkSize)
	value := guts.ChainingValue(guts.CompressBuffer(&group, blobs.GroupSize, &guts.IV, first, 0))
	parents := 0 // above the last group
	for n := groups; n > 1; parents++ {
		left := uint64(1)
		for 2*left < n {
			left *= 2
		}
		n -= left
	}
	proof := group[:]
	for i := range parents {
		left := make([]byte, blobs.HashSize) // of nothing that anybody knows
		left[0], left[1] = 1, byte(i)
		flags := uint32(0)
		if i == parents-1 {
			flags = guts.FlagRoot
		}
		proof = append(appendWords(left, value), proof...)
		value = guts.ChainingValue(guts.ParentNode(wordsOf(left), value, &guts.IV, flags))
	}
	return hollow{blobs.Hash(appendWords(nil, value)), size, proof}
}

// servesHollow has a node serve hollow blobs and nothing else: it proves their size, and says that
// it has no more of them.
func servesHollow(e *simnet.End, all map[blobs.Hash]hollow) {
	e.Handle(wire.Protocol, func(s link.Stream) {
		defer func() { _ = s.Close() }()
		for r := bufio.NewReader(s); ; {
			_, reqs, _, err := wire.ReadRequests(r, nil)
			if err != nil {
				return
			}
			for _, q := range reqs {
				answer := []byte{wire.StatusNotHere}
				if x, ok := all[q.Hash]; ok && q.ProveSize {
					head := wire.Head{Status: wire.StatusHere, Size: x.size} // no ranges
					answer, _ = head.Append(nil)
					answer = append(answer, x.proof...)
				}
				if _, err := s.Write(answer); err != nil {
					return
				}
			}
		}
	})
}

// holder adds a node to a world that holds the replica, fetches nothing, and has met the old node.
func (w *claimWorld) holder(network func(*simnet.End) link.Network) *simNode {
	ctx := context.Background()
	n := &simNode{dir: w.t.TempDir(), disk: vfs.NewCrashableMem()}
	var err error
	n.Node, err = Open(ctx, Config{Dir: n.dir})
	require.NoError(w.t, err)
	_, err = n.replicas.Join(ctx, w.replica)
	require.NoError(w.t, err)
	require.NoError(w.t, n.SetPolicy(ctx, w.replica.ID, wanted.Policy{Nothing: true}))
	n.end = w.End(n.ID())
	require.NoError(w.t, n.GoOnline(network(n.end)))
	w.meets(n, w.old)
	return n
}

func (w *claimWorld) meets(n, other *simNode) {
	require.NoError(w.t, n.Remember(
		context.Background(), []replica.ID{w.replica.ID}, []peer.AddrInfo{{ID: other.ID()}},
	))
}

// putMany puts entries of honest content.
func (w *claimWorld) putMany(count int) (out []replica.Entry) {
	for i := range count {
		info := w.blob(50_000 + i)
		out = append(out, w.put(w.victim, fmt.Sprintf("v/%d", i), info.Hash, info.Size))
	}
	return out
}

func (w *claimWorld) requireAll(entries []replica.Entry) {
	w.t.Helper()
	lacks := 0
	for i := range entries {
		if !w.has(&entries[i]) {
			lacks++
		}
	}
	require.Zero(w.t, lacks, "pieces of honest content that have not come")
}

// Claims of sizes that no file can have, which somebody can prove, keep nobody from other content.
func TestBlobsLongerThanAFileDenyNoContent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newClaimWorld(t)
		defer w.close()
		all := map[blobs.Hash]hollow{}
		evil := w.holder(func(e *simnet.End) link.Network { servesHollow(e, all); return onlyOnce{e} })
		defer func() { require.NoError(t, evil.Close()) }()
		for i := range 20 {
			x := newHollow(blobs.MaxSize/2, i)
			all[x.hash] = x
			w.put(w.hostile, fmt.Sprintf("m/%d", i), x.hash, x.size)
		}
		honest := w.putMany(40)
		time.Sleep(time.Minute)
		w.join(wanted.Policy{})
		w.meets(w.fresh, evil)
		time.Sleep(10 * time.Minute)
		w.requireAll(honest)
	})
}

// onlyOnce is a network on which what is handled first is handled so for good.
type onlyOnce struct{ *simnet.End }

func (e onlyOnce) Handle(protocol string, fn func(link.Stream)) {
	if !e.Handles(protocol) {
		e.End.Handle(protocol, fn)
	}
}

// Huge blobs of which a node has next to nothing cost it no more than small ones to answer for, and
// keep nobody from what is asked for together with them.
func TestHugeBlobsOfWhichNobodyHasMuchDenyNoContent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newClaimWorld(t)
		defer w.close()
		all := map[blobs.Hash]hollow{}
		evil := w.holder(func(e *simnet.End) link.Network { servesHollow(e, all); return onlyOnce{e} })
		for i := range 40 {
			x := newHollow(2<<40, i) // every file system has files of this size
			all[x.hash] = x
			w.put(w.hostile, fmt.Sprintf("m/%d", i), x.hash, x.size)
		}
		time.Sleep(10 * time.Minute)
		require.NoError(t, evil.Close())
		for h, x := range all {
			info, err := w.old.blobs.Stat(context.Background(), h)
			require.NoError(t, err)
			require.Equal(t, x.size, info.Size)
		}
		honest := w.putMany(40)
		w.join(wanted.Policy{})
		time.Sleep(time.Minute)
		w.requireAll(honest)
	})
}

// Content that the only peer cannot read any more does not keep what is asked for behind it from
// coming.
func TestUnreadableContentDeniesNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newClaimWorld(t)
		defer w.close()
		dir := t.TempDir()
		for i := range 12 {
			name := filepath.Join(dir, fmt.Sprint(i))
			require.NoError(t, os.WriteFile(name, testkit.Random(uint64(i), 300_000), 0o600))
			info, err := w.old.blobs.ImportFile(
				context.Background(), name, blobs.ImportOptions{Reference: true},
			)
			require.NoError(t, err)
			w.put(w.victim, fmt.Sprintf("p/%d", i), info.Hash, info.Size)
			require.NoError(t, os.WriteFile(name, testkit.Random(uint64(100+i), 300_000), 0o600))
		}
		honest := w.putMany(40)
		w.join(wanted.Policy{})
		time.Sleep(10 * time.Minute)
		w.requireAll(honest)
	})
}

// A holder that gives large content slowly, which another lacks, does not keep this node from what
// that other has later.
func TestTricklingHolderKeepsNothingOfOthersAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newClaimWorld(t)
		defer w.close()
		log := &events{}
		evil := w.holder(func(e *simnet.End) link.Network { return trickles{e, log} })
		defer func() { require.NoError(t, evil.Close()) }()
		offer := func(number int) {
			info, err := evil.blobs.ImportBytes(ctx, testkit.Random(uint64(number), 64<<20))
			require.NoError(t, err)
			w.put(w.hostile, fmt.Sprintf("m/%d", number), info.Hash, info.Size)
		}
		offer(1)
		time.Sleep(time.Minute)
		w.join(wanted.Policy{})
		w.meets(w.fresh, evil)
		time.Sleep(5 * time.Minute)
		require.True(t, log.has("trickles"))
		offer(2) // of which the old node is asked, since the other one is busy
		time.Sleep(5 * time.Minute)
		honest := w.putMany(40)
		time.Sleep(5 * time.Minute)
		w.requireAll(honest)
	})
}

// A holder that is asked for much and gives one piece slowly keeps nothing of the rest away, not
// even files in chunks, which take several rounds.
func TestTricklingHolderGivesUpWhatItClaims(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newClaimWorld(t)
		defer w.close()
		log := &events{}
		evil := w.holder(func(e *simnet.End) link.Network { return trickles{e, log} })
		defer func() { require.NoError(t, evil.Close()) }()
		info, err := evil.blobs.ImportBytes(ctx, testkit.Random(1, 64<<20))
		require.NoError(t, err)
		w.put(w.hostile, "m/1", info.Hash, info.Size)
		h, size, _, _ := chunkedtest.Store(t, w.old.blobs)
		e := w.put(w.victim, "file", h, size)
		honest := w.putMany(40)
		time.Sleep(time.Minute)
		r := w.replica
		r.Capability, r.Secret = replica.Read, replica.SecretKey{}
		_, err = w.fresh.replicas.Join(ctx, r)
		require.NoError(t, err)
		w.meets(w.fresh, evil)
		for !log.has("trickles") {
			time.Sleep(time.Second)
		}
		w.meets(w.fresh, w.old)
		time.Sleep(5 * time.Minute)
		w.requireAll(honest)
		require.Equal(t, "complete", w.contentOf(&e))
	})
}

// What another holder gives of what a peer is asked for counts for that holder's limit, and not for
// the peer's: it could use up the limits of others, and evade its own.
func TestGivenContentCountsForItsGiver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newClaimWorld(t)
		defer w.close()
		other := w.holder(func(e *simnet.End) link.Network { return e })
		defer func() { require.NoError(t, other.Close()) }()
		require.NoError(t, w.old.SetPolicy(ctx, w.replica.ID, wanted.Policy{Nothing: true}))
		const size = 16 << 20
		require.NoError(t, w.fresh.Close())
		w.fresh.bounds = limits.Config{PeerStorage: 10 * size}
		w.reopen(w.fresh)
		var entries []replica.Entry
		for i, at := range []*simNode{w.old, other} {
			info, err := at.blobs.ImportBytes(ctx, testkit.Random(uint64(i), size))
			require.NoError(t, err)
			entries = append(entries, w.put(w.hostile, fmt.Sprintf("m/%d", i), info.Hash, info.Size))
		}
		time.Sleep(time.Minute)
		w.join(wanted.Policy{Nothing: true})
		w.meets(w.fresh, other)
		time.Sleep(time.Minute)
		// Both are wanted at once, so one of the two is asked for both.
		require.NoError(t, w.fresh.SetPolicy(ctx, w.replica.ID, wanted.Policy{}))
		time.Sleep(5 * time.Minute)
		w.requireAll(entries)
		for _, giver := range []*simNode{w.old, other} {
			require.EqualValues(t, size, w.fresh.downloads.Taken(ctx, giver.ID()))
		}
	})
}

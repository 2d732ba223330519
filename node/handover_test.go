package node

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/handover"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// handOverWorld is a node that goes away after a session, and a peer with a policy.
func handOverWorld(
	t *testing.T, bounds limits.Config, policy wanted.Policy,
) (leaving, peer *Node, r replica.Replica) {
	ctx := context.Background()
	s := simnet.New(1)
	s.Lose(0)
	open := func(hands bool, bounds limits.Config) *Node {
		n, err := Open(ctx, Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewCrashableMem()},
			HandsOver: hands, Limits: bounds})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, n.Close()) })
		require.NoError(t, n.GoOnline(s.End(n.ID())))
		return n
	}
	leaving, peer = open(true, bounds), open(false, limits.Config{})
	r, err := leaving.replicas.Create(ctx, "r")
	require.NoError(t, err)
	_, err = peer.replicas.Join(ctx, r)
	require.NoError(t, err)
	require.NoError(t, peer.SetPolicy(ctx, r.ID, policy))
	return leaving, peer, r
}

// writeChanges writes as the default author.
func writeChanges(t *testing.T, n *Node, id replica.ID, changes ...replica.Change) {
	ctx := context.Background()
	author, err := n.replicas.DefaultAuthor(ctx)
	require.NoError(t, err)
	secret, err := n.replicas.AuthorKey(ctx, author)
	require.NoError(t, err)
	_, err = n.replicas.Write(ctx, id, secret, changes)
	require.NoError(t, err)
}

// setContents writes keys with contents, of which those of 4 MiB and more are in chunks.
func setContents(t *testing.T, n *Node, id replica.ID, contents map[string][]byte) {
	ctx := context.Background()
	var changes []replica.Change
	for key, b := range contents {
		c := replica.Change{Key: []byte(key)}
		if len(b) >= chunked.Threshold {
			file, err := chunked.Import(ctx, n.blobs, bytes.NewReader(b), nil)
			require.NoError(t, err)
			c.Hash, c.Size = file.Hash, file.Size
		} else {
			info, err := n.blobs.ImportBytes(ctx, b)
			require.NoError(t, err)
			c.Hash, c.Size = info.Hash, info.Size
		}
		changes = append(changes, c)
	}
	writeChanges(t, n, id, changes...)
}

func syncTo(t *testing.T, n, p *Node, id replica.ID) {
	ctx := context.Background()
	require.NoError(t, n.Remember(ctx, []replica.ID{id}, []peer.AddrInfo{{ID: p.ID()}}))
	got, err := n.SyncNow(ctx, id, p.ID(), nil)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.NoError(t, got[0].Err)
}

// requireContents requires that a node has the content of all entries of a replica.
func requireContents(t *testing.T, n *Node, id replica.ID, count int) {
	ctx := context.Background()
	for e, err := range n.replicas.Entries(ctx, id, replica.Query{}) {
		require.NoError(t, err)
		state, err := n.ContentOf(ctx, &e)
		require.NoError(t, err)
		require.Equal(t, wanted.Complete, state, string(e.Key))
		count--
	}
	require.Zero(t, count)
}

// A node that goes away after a session waits until the peer has all that it was told of, however
// slowly that goes.
func TestHandOverWaitsForTheContent(t *testing.T) {
	for _, rate := range []uint64{0, 64 << 10} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := context.Background()
				a, b, r := handOverWorld(t, limits.Config{Upload: rate}, wanted.Policy{})
				contents := map[string][]byte{
					"file": testkit.Random(1, 5<<20), "large": testkit.Random(2, 1<<20),
				}
				for i := range 300 {
					contents[fmt.Sprint(i)] = fmt.Append(nil, "value ", i)
				}
				setContents(t, a, r.ID, contents)
				syncTo(t, a, b, r.ID)
				left, err := a.HandOver(ctx, 5*time.Second)
				require.NoError(t, err)
				require.Empty(t, left)
				requireContents(t, b, r.ID, len(contents))
				began := time.Now()
				left, err = a.HandOver(ctx, 5*time.Second)
				require.NoError(t, err)
				require.Empty(t, left)
				require.Zero(t, time.Since(began), "nothing is owed any more")
			})
		})
	}
}

// What the peer does not want is told, and only that. What is not here itself is not waited for.
func TestHandOverTellsWhatIsNotTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, r := handOverWorld(t, limits.Config{}, wanted.Policy{Prefixes: [][]byte{[]byte("some/")}})
		setContents(t, a, r.ID, map[string][]byte{
			"some/1": testkit.Random(1, 100), "some/2": testkit.Random(2, 5<<20),
			"other/1": testkit.Random(3, 1000), "other/2": testkit.Random(4, 5<<20),
			"other/3": testkit.Random(3, 1000),
		})
		writeChanges(t, a, r.ID, replica.Change{Key: []byte("nowhere"), Hash: [32]byte{1}, Size: 7})
		syncTo(t, a, b, r.ID)
		left, err := a.HandOver(context.Background(), 5*time.Second)
		require.NoError(t, err)
		require.Equal(t, []handover.Untaken{{Peer: b.ID(), Entries: 3, Bytes: 1000 + 5<<20}}, left)
	})
}

// A command that is interrupted does not go on waiting.
func TestHandOverEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, r := handOverWorld(t, limits.Config{}, wanted.Policy{Prefixes: [][]byte{[]byte("some/")}})
		setContents(t, a, r.ID, map[string][]byte{"other": testkit.Random(1, 100)})
		syncTo(t, a, b, r.ID)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		left, err := a.HandOver(ctx, time.Hour)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []handover.Untaken{{Peer: b.ID(), Entries: 1, Bytes: 100}}, left)
		require.Less(t, time.Since(began), time.Minute, "on a clock of its own")
	})
}

// answer has a peer of n answer questions about blobs otherwise.
func answer(n *Node, p peer.ID, by func(link.Stream)) {
	n.net.(*simnet.End).Net().Intercept(
		p, wire.Protocol, func(func(link.Stream)) func(link.Stream) { return by },
	)
}

// handOverToLiar hands over content to a peer that answers each question about blobs by say, which
// is given this node, and how often it was asked.
func handOverToLiar(
	t *testing.T, content []byte, say func(a *Node, asked int, reqs []wire.Request) []wire.Head,
) ([]handover.Untaken, error) {
	a, b, r := handOverWorld(t, limits.Config{}, wanted.Policy{Prefixes: [][]byte{[]byte("none")}})
	setContents(t, a, r.ID, map[string][]byte{"file": content})
	syncTo(t, a, b, r.ID)
	asked := 0
	answer(a, b.ID(), func(s link.Stream) {
		defer func() { _ = s.Close() }()
		_, reqs, _, err := wire.ReadRequests(bufio.NewReader(s), link.VisitOf(s))
		if err != nil {
			return
		}
		asked++
		var out []byte
		for _, head := range say(a, asked, reqs) {
			if out, err = head.Append(out); err != nil {
				return
			}
		}
		_, _ = s.Write(out) // whoever asked may have gone
	})
	ctx, cancel := context.WithTimeout(context.Background(), 12*time.Hour)
	defer cancel()
	return a.HandOver(ctx, 5*time.Second)
}

// A peer that shows the same progress again and again, or next to none, does not hold for ever a
// node that wants to go away.
func TestHandOverEndsWithAPeerThatLies(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int
		say  func(a *Node, asked int, reqs []wire.Request) []wire.Head
	}{
		{"it has a sequence and does not answer about its chunks", 5 << 20,
			func(a *Node, _ int, reqs []wire.Request) []wire.Head {
				info, err := a.blobs.Stat(context.Background(), reqs[0].Hash)
				if err != nil || len(reqs) > 1 {
					return nil
				}
				return []wire.Head{{
					Status: wire.StatusHere, Size: info.Size, Ranges: blobs.Ranges{{End: info.Size}},
				}}
			}},
		{"it has a byte more each time", 1 << 20,
			func(_ *Node, asked int, _ []wire.Request) []wire.Head {
				return []wire.Head{{
					Status: wire.StatusHere, Size: 1 << 20, Ranges: blobs.Ranges{{End: uint64(asked)}},
				}}
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				left, err := handOverToLiar(t, testkit.Random(1, tt.size), tt.say)
				require.NoError(t, err)
				require.Len(t, left, 1)
				require.EqualValues(t, tt.size, left[0].Bytes)
			})
		})
	}
}

// A peer that dribbles its answers about each of many files in chunks does not hold a node for the
// time of all these answers.
func TestHandOverEndsWithAPeerThatDribbles(t *testing.T) {
	testkit.SeenElsewhere(t)
	const files, patience = 40, 5 * time.Second
	const believedFor = 120 // times the patience; see package handover
	bubble(t, func(t *testing.T) {
		a, b, r := handOverWorld(t, limits.Config{}, wanted.Policy{Prefixes: [][]byte{[]byte("none")}})
		contents := map[string][]byte{}
		for i := range files {
			contents[fmt.Sprint(i)] = testkit.Random(byte(i), 4<<20)
		}
		setContents(t, a, r.ID, contents)
		syncTo(t, a, b, r.ID)
		answer(a, b.ID(), func(s link.Stream) {
			defer func() { _ = s.Close() }()
			_, reqs, _, err := wire.ReadRequests(bufio.NewReader(s), link.VisitOf(s))
			for i := 0; i < len(reqs) && err == nil; i++ {
				info, err := a.blobs.Stat(context.Background(), reqs[i].Hash)
				if err != nil {
					return
				}
				head := wire.Head{
					Status: wire.StatusHere, Size: info.Size, Ranges: blobs.Ranges{{End: info.Size}},
				}
				if i > 0 && i == len(reqs)-1 {
					head = wire.Head{Status: wire.StatusNotHere}
				}
				out, err := head.Append(nil)
				for j := 0; j < len(out) && err == nil; j++ {
					if len(reqs) < files { // it is about chunks
						time.Sleep(2 * time.Second)
					}
					_, err = s.Write(out[j : j+1])
				}
			}
		})
		start := time.Now()
		left, err := a.HandOver(context.Background(), patience)
		require.NoError(t, err)
		require.Len(t, left, 1)
		require.Less(t, time.Since(start), 2*(believedFor*patience+content.DescribeTime))
	})
}

// A peer that dribbles its answer about many blobs ends it, or is cut off.
func TestDescriptionsDribbledEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := simnet.New(1)
		asking, dribbling := simNodeOf(t, s), simNodeOf(t, s)
		answer(asking, dribbling.ID(), func(st link.Stream) {
			defer func() { _ = st.Close() }()
			for err := error(nil); err == nil; time.Sleep(1500 * time.Millisecond) {
				_, err = st.Write([]byte{wire.StatusNotHere})
			}
		})
		ctx, cancel := context.WithTimeout(context.Background(), 2*content.DescribeTime)
		defer cancel()
		require.NoError(t, asking.net.Connect(ctx, peer.AddrInfo{ID: dribbling.ID()}))
		_, err := asking.content.Describe(ctx, dribbling.ID(), make([]blobs.Hash, wire.MaxItems))
		require.Error(t, err)
		require.NoError(t, ctx.Err())
	})
}

package node

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/chunked/chunkedtest"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/wanted"
)

// A list of chunks or a sequence that is damaged here does not refute what its author has claimed:
// its chunks are kept, by a host, too, and the list is fetched again.
func TestDamageHereRefutesNobody(t *testing.T) {
	for name, c := range map[string]struct {
		list bool
		at   int
	}{"list": {true, 3}, "length": {true, 500}, "sequence": {false, 5}, "hash": {false, 320}} {
		for _, hosts := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " of a host"}[hosts], func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					ctx := context.Background()
					w := newClaimWorld(t)
					defer w.close()
					if hosts {
						require.NoError(t, w.fresh.Close())
						var err error
						w.fresh.Node, err = Open(
							ctx, Config{Dir: w.fresh.dir, Store: pebble.Options{FS: w.fresh.disk},
								Now: time.Now, Host: keepsAll{}},
						)
						require.NoError(t, err)
						require.NoError(t, w.fresh.GoOnline(w.End(w.fresh.ID())))
					}
					h, size, list, sequence := chunkedtest.Store(t, w.old.blobs)
					e := w.put(w.victim, "file", h, size)
					w.join(wanted.Policy{})
					time.Sleep(10 * time.Minute)
					require.Equal(t, "complete", w.contentOf(&e))
					chunk := blobs.Hash(sequence[blobs.HashSize:])

					stored := sequence
					if c.list {
						stored = list
					}
					testkit.FlipIn(t, w.fresh.dir, stored[:1000], c.at)
					require.Equal(t, "partial", w.contentOf(&e))
					_, err := w.fresh.OpenContent(ctx, h, size)
					var damage *blobs.DamageError
					require.ErrorAs(t, err, &damage)
					_, err = w.fresh.Collect(ctx, false, nil)
					if !c.list {
						require.ErrorAs(t, err, &damage, "which chunks to keep is not known")
					}
					has, err := w.fresh.blobs.Has(ctx, chunk)
					require.NoError(t, err)
					require.True(t, has)
					require.NoError(t, w.fresh.RefutedClaims(ctx, w.replica.ID, func(c wanted.RefutedClaim) error {
						t.Errorf("%s is blamed for what is damaged here", c.Author)
						return nil
					}))

					require.NoError(t, w.fresh.CatchUp(ctx, w.replica.ID))
					time.Sleep(10 * time.Minute)
					require.Equal(t, "complete", w.contentOf(&e))
					for _, b := range [][]byte{list, sequence} {
						require.NoError(t, w.fresh.blobs.Check(ctx, blobs.HashOf(b), blobs.Everything))
					}
				})
			})
		}
	}
}

// A list with millions of chunks, which anybody who may write can name, is looked at in little
// memory.
func TestLargestListCostsLittleMemory(t *testing.T) {
	testkit.SeenElsewhere(t)
	ctx := context.Background()
	n, err := Open(ctx, Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewCrashableMem()}})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	chunk, err := n.blobs.ImportBytes(ctx, make([]byte, chunked.MinChunk))
	require.NoError(t, err)
	const count = blobs.MaxChildren / 4
	sizes, seq := make([]uint64, count), make(blobs.Sequence, count+1)
	for i := range sizes {
		sizes[i], seq[i+1] = chunked.MinChunk, chunk.Hash
	}
	list, err := n.blobs.ImportBytes(ctx, chunked.List(sizes))
	require.NoError(t, err)
	seq[0] = list.Hash
	root, err := n.blobs.ImportBytes(ctx, seq.Bytes())
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = n.OpenContent(ctx, root.Hash, count*chunked.MinChunk)
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	// In all, and less at any time. The sequence and its list have 37 MiB.
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
	state, err := n.ContentState(ctx, root.Hash, count*chunked.MinChunk)
	require.NoError(t, err)
	require.Equal(t, wanted.Complete, state)
}

// A damaged sequence or list that nobody else has is not thrown away: it protects the chunks.
func TestDamageThatNobodyCanMend(t *testing.T) {
	for name, ofList := range map[string]bool{"list": true, "sequence": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := context.Background()
				w := newClaimWorld(t)
				defer w.close()
				h, size, list, sequence := chunkedtest.Store(t, w.old.blobs)
				e := w.put(w.victim, "file", h, size)
				w.join(wanted.Policy{})
				time.Sleep(10 * time.Minute)
				require.Equal(t, "complete", w.contentOf(&e))
				stored := sequence
				if ofList {
					stored = list
				}
				require.NoError(t, w.old.blobs.Delete(ctx, blobs.HashOf(stored)))
				testkit.FlipIn(t, w.fresh.dir, stored[:1000], 5)
				require.NoError(t, w.fresh.CatchUp(ctx, w.replica.ID))
				time.Sleep(10 * time.Minute)
				_, _ = w.fresh.Collect(ctx, false, nil) // it may refuse
				for at := blobs.HashSize; at < len(sequence); at += blobs.HashSize {
					has, err := w.fresh.blobs.Has(ctx, blobs.Hash(sequence[at:]))
					require.NoError(t, err)
					require.True(t, has, at/blobs.HashSize)
				}
				has, err := w.fresh.blobs.Has(ctx, blobs.HashOf(stored))
				require.NoError(t, err)
				require.True(t, has, "what is left of it stays")
			})
		})
	}
}

// What is damaged here is fetched again by whoever asks for it, and does not pass for a plain
// sequence.
func TestGetMendsDamagedLists(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newClaimWorld(t)
		defer w.close()
		h, size, list, sequence := chunkedtest.Store(t, w.old.blobs)
		from := []peer.AddrInfo{{ID: w.old.ID()}}
		for _, stored := range [][]byte{nil, list, sequence} {
			if stored != nil {
				testkit.FlipIn(t, w.fresh.dir, stored[:1000], 3)
				session := w.fresh.NewSession(ctx, nil)
				_, err := session.Chunks(h)
				var damage *blobs.DamageError
				require.ErrorAs(t, err, &damage)
				_, err = session.Close()
				require.NoError(t, err)
			}
			got, err := w.fresh.Get(ctx, h, content.Unknown, from, nil)
			require.NoError(t, err)
			require.NotNil(t, got.Chunks)
			require.Equal(t, size, got.Size)
		}
	})
}

// liesAboutBlobs has a node say that it has all of every blob that another has, and give nothing of
// it.
func liesAboutBlobs(of *simNode, size uint64, asked *int) {
	of.end.Handle(wire.Protocol, func(s link.Stream) {
		r := bufio.NewReader(s)
		for {
			_, reqs, _, err := wire.ReadRequests(r, nil)
			if err != nil {
				_ = s.CloseWrite()
				return
			}
			for _, q := range reqs {
				head := wire.Head{
					Status: wire.StatusHere, Size: size, Ranges: blobs.Ranges{{Start: 0, End: size}},
				}
				if q.ProveSize {
					head.Ranges = head.Ranges.Without(wire.LastGroup(size))
				}
				b, _ := head.Append(nil) // of one range
				if _, err := s.Write(b); err != nil {
					return
				}
				if q.Describe {
					continue
				}
				*asked++
				_, _ = s.Write(make([]byte, 1<<17)) // it may have gone
			}
		}
	})
}

// A peer that says that it has what is damaged here, and does not give it, costs nothing of what is
// here: neither if somebody repairs it, nor in a get, nor in the background.
func TestALiarCostsNothingOfWhatIsDamaged(t *testing.T) {
	for _, way := range []string{"repair", "get", "background"} {
		for name, ofList := range map[string]bool{"list": true, "sequence": false} {
			t.Run(way+" "+name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					ctx := context.Background()
					w := newClaimWorld(t)
					defer w.close()
					h, size, list, sequence := chunkedtest.Store(t, w.old.blobs)
					e := w.put(w.victim, "file", h, size)
					w.join(wanted.Policy{})
					time.Sleep(10 * time.Minute)
					require.Equal(t, "complete", w.contentOf(&e))
					stored := sequence
					if ofList {
						stored = list
					}
					root := blobs.HashOf(stored)
					testkit.FlipIn(t, w.fresh.dir, stored[:1000], 5)
					asked := 0
					liesAboutBlobs(w.old, uint64(len(stored)), &asked)
					switch way {
					case "repair":
						damage, err := w.fresh.blobs.Verify(ctx, root, nil)
						require.NoError(t, err)
						require.Error(t, w.fresh.Repair(ctx, root, damage))
					case "get":
						_, err := w.fresh.Get(ctx, h, content.Sequence, []peer.AddrInfo{{ID: w.old.ID()}}, nil)
						require.Error(t, err)
					default:
						require.NoError(t, w.fresh.CatchUp(ctx, w.replica.ID))
						time.Sleep(10 * time.Minute)
					}
					require.Positive(t, asked)
					has, err := w.fresh.blobs.Has(ctx, root)
					require.NoError(t, err)
					require.True(t, has, "what is left of it stays")
					_, _ = w.fresh.Collect(ctx, false, nil) // it may refuse
					for at := blobs.HashSize; at < len(sequence); at += blobs.HashSize {
						has, err := w.fresh.blobs.Has(ctx, blobs.Hash(sequence[at:]))
						require.NoError(t, err)
						require.True(t, has, at/blobs.HashSize)
					}
				})
			})
		}
	}
}

// A file in place that has changed is given up for a copy of this node's own only when a peer has
// shown that it has what is missing.
func TestRepairOfAFileInPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newClaimWorld(t)
		defer w.close()
		content := testkit.Random(9, 2<<20)
		info, err := w.old.blobs.ImportBytes(ctx, content)
		require.NoError(t, err)
		name := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(name, content, 0o600))
		_, err = w.fresh.blobs.ImportFile(ctx, name, blobs.ImportOptions{Reference: true})
		require.NoError(t, err)
		testkit.FlipIn(t, filepath.Dir(name), content[:1000], 1<<20)
		damage, err := w.fresh.blobs.Verify(ctx, info.Hash, nil)
		require.NoError(t, err)
		require.NotEmpty(t, damage)
		w.join(wanted.Policy{})
		time.Sleep(time.Minute)

		asked := 0
		liesAboutBlobs(w.old, info.Size, &asked)
		require.Error(t, w.fresh.Repair(ctx, info.Hash, damage))
		require.Positive(t, asked)
		has, err := w.fresh.blobs.Has(ctx, info.Hash)
		require.NoError(t, err)
		require.True(t, has)

		w.old.end.Handle(wire.Protocol, w.old.serveBlobs)
		require.NoError(t, w.fresh.Repair(ctx, info.Hash, damage))
		require.NoError(t, w.fresh.blobs.Check(ctx, info.Hash, blobs.Everything))
		now, err := w.fresh.blobs.Stat(ctx, info.Hash)
		require.NoError(t, err)
		require.Empty(t, now.Reference)
	})
}

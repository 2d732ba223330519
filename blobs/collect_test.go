package blobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// diskUse adds up the bytes of the store's files.
func diskUse(t require.TestingT, s *Store) (n int64) {
	err := filepath.WalkDir(s.files.Dir(), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		n += st.Size()
		return err
	})
	require.NoError(t, err)
	return n
}

func mustImport(t require.TestingT, s *Store, data []byte) Hash {
	info, err := s.ImportBytes(bg, data)
	require.NoError(t, err)
	return info.Hash
}

func TestCollectKeepsWhatIsPinned(t *testing.T) {
	s := newStore(t)
	a, b, c := mustImport(
		t, s, testkit.Random(1, 3*SegmentSize),
	), mustImport(t, s, testkit.Random(2, 100)), mustImport(t, s, testkit.Random(3, 5*GroupSize))
	var seq Sequence
	for i := range 50 {
		seq = append(seq, mustImport(t, s, testkit.Random(uint64(100+i), 4096)))
	}
	root := mustImport(t, s, seq.Bytes())
	require.NoError(t, s.Pin(bg, Pin{Name: "a", Hash: a}))
	require.NoError(t, s.Pin(bg, Pin{Name: "tree", Hash: root, Sequence: true}))
	require.ErrorIs(t, s.Pin(bg, Pin{Name: "x", Hash: Hash{1}}), ErrNotFound)
	require.ErrorContains(t, s.Pin(bg, Pin{Hash: a}), "name")

	dry, err := s.Collect(bg, CollectOptions{DryRun: true})
	require.NoError(t, err)
	require.Equal(t, 2, dry.Removed)
	_, err = s.Stat(bg, b)
	require.NoError(t, err, "a dry run removes nothing")

	keepB := func(_ context.Context, m *Marks) error {
		require.True(t, m.Keep(b))
		require.False(t, m.Keep(b), "it is looked at once")
		require.False(t, m.Keep(Hash{1}), "nor is what is not stored")
		return nil
	}
	got, err := s.Collect(bg, CollectOptions{Keep: keepB})
	require.NoError(t, err)
	require.Equal(t, 1, got.Removed)
	require.EqualValues(t, 5*GroupSize, got.RemovedBytes)
	_, err = s.Stat(bg, c)
	require.ErrorIs(t, err, ErrNotFound)
	for _, h := range append(seq, a, b, root) {
		_, err := s.ReadAll(bg, h, 10*SegmentSize)
		require.NoError(t, err)
	}

	require.NoError(t, s.Unpin(bg, "tree"))
	require.ErrorIs(t, s.Unpin(bg, "tree"), ErrPinNotFound)
	got, err = s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	require.Equal(t, 52, got.Removed)
	require.LessOrEqual(t, diskUse(t, s), int64(3*SegmentSize))
	name, err := s.PinNew(bg, Pin{Name: "a", Hash: a, Sequence: true})
	require.NoError(t, err)
	require.Equal(t, "a#2", name)
}

// After any deletions, packs hold at most a tenth of waste, and everything that stays can be read.
func TestCompactionProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newStore(t)
		kept := map[Hash][]byte{}
		var live int64
		im := s.NewImporter(bg)
		for i := range rapid.IntRange(1, 200).Draw(rt, "blobs") {
			data := testkit.Random(uint64(i), rapid.IntRange(InlineSize+1, 40_000).Draw(rt, "size"))
			h, err := im.Add(data)
			require.NoError(rt, err)
			if rapid.Bool().Draw(rt, "keep") {
				kept[h] = data
				live += int64(len(data) + treeBytes(int(groupCount(uint64(len(data))))))
			}
		}
		require.NoError(rt, im.Flush())
		_, err := s.Collect(bg, CollectOptions{Keep: func(_ context.Context, m *Marks) error {
			for h := range kept {
				m.Keep(h)
			}
			return nil
		}})
		require.NoError(rt, err)
		require.LessOrEqual(rt, float64(diskUse(rt, s)), float64(live)/0.9+1)
		for h, data := range kept {
			got, err := s.ReadAll(bg, h, uint64(len(data)))
			require.NoError(rt, err)
			require.True(rt, bytes.Equal(data, got))
		}
	})
}

// A sequence is read once, a part at a time, however often it is kept.
func TestMarkingReadsEachSequenceOnce(t *testing.T) {
	s := newStore(t)
	var seq Sequence
	kept := mustImport(t, s, testkit.Random(1, 100))
	for len(seq) < 3*childrenBuffer/HashSize+7 {
		seq = append(seq, Hash(testkit.Random(uint64(len(seq)), HashSize)))
	}
	seq[len(seq)-1] = kept
	root := mustImport(t, s, seq.Bytes())
	before := s.BytesRead()
	got, err := s.Collect(bg, CollectOptions{Keep: func(_ context.Context, m *Marks) error {
		for range 1000 {
			m.Keep(root)
			require.NoError(t, m.Children(root))
		}
		require.Len(t, m.keys, 2, "memory is for what is stored, not for what is named")
		return nil
	}})
	require.NoError(t, err)
	require.Equal(t, 2, got.Kept)
	require.EqualValues(t, len(seq)*HashSize, s.BytesRead()-before)
}

// Collect runs beside imports, readers and a download; nothing that is held, pinned or being
// received is lost.
func TestCollectBesideWork(t *testing.T) {
	source, s := newStore(t), newStore(t)
	large := testkit.Random(7, 6*SegmentSize)
	info, err := source.ImportBytes(bg, large)
	require.NoError(t, err)
	held, release := s.Hold()
	defer release()
	held.Touch(info.Hash)
	transfer(t, source, s, info.Hash, nil) // a download that has begun
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, err := s.Collect(bg, CollectOptions{})
				if !errors.Is(err, nil) {
					t.Error(err)
					return
				}
			}
		}
	})
	for w := range 3 {
		wg.Go(func() {
			for i := range 60 {
				held, release := s.Hold()
				data := testkit.Random(uint64(i), 2000+i) // the others store the same
				info, err := held.Import(bg, bytes.NewReader(data), ImportOptions{})
				if err == nil {
					err = held.Pin(bg, Pin{Name: fmt.Sprint(w, " ", i), Hash: info.Hash})
				}
				release()
				got, readErr := s.ReadAll(bg, info.Hash, 1<<20)
				if err = errors.Join(err, readErr); err != nil || !bytes.Equal(got, data) {
					t.Errorf("blob %d of %d: %v", i, w, err)
					return
				}
				if i%3 == 0 {
					if err := s.Unpin(bg, fmt.Sprint(w, " ", i)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for at := uint64(0); at < 6; at++ {
		transfer(t, source, s, info.Hash, Ranges{{at * SegmentSize, (at + 1) * SegmentSize}})
	}
	st, err := s.Stat(bg, info.Hash)
	require.NoError(t, err)
	require.True(t, st.Complete)
	require.Eventually(t, func() bool {
		return len(collectPins(t, s)) >= 120 ||
			t.Failed()
	}, 1<<36, 1<<20)
	close(stop)
	wg.Wait()
	_, err = s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	for _, p := range collectPins(t, s) {
		damage, err := s.Verify(bg, p.Hash, nil)
		require.NoError(t, err, p.Name)
		require.Empty(t, damage)
	}
}

func collectPins(t *testing.T, s *Store) (out []Pin) {
	for p, err := range s.Pins(bg) {
		require.NoError(t, err)
		out = append(out, p)
	}
	return out
}

// A file that no record points at, as a loss of power may leave one, goes; one of an import under
// way does not.
func TestCollectRemovesOrphans(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.files.Create(12345))
	id, err := s.newFile(bg)
	require.NoError(t, err)
	_, err = s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	left, err := s.files.Files()
	require.NoError(t, err)
	require.Equal(t, []files.File{{ID: id}}, left)
}

// A referenced file is read where it lies, each group is verified, and a change is told and never
// served.
func TestReference(t *testing.T) {
	s, to := newStore(t), newStore(t)
	for _, n := range sizes[1:] {
		data := testkit.Random(uint64(n)+1, n)
		name := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(name, data, 0o600))
		info, err := s.ImportFile(bg, name, ImportOptions{Reference: true})
		require.NoError(t, err)
		require.Equal(t, HashOf(data), info.Hash, "size %d", n)
		require.Equal(t, name, info.Reference)
		require.Zero(t, diskUse(t, s), "nothing is copied")
		got, err := s.ReadAll(bg, info.Hash, uint64(n))
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		transfer(t, s, to, info.Hash, Everything)
		damage, err := s.Verify(bg, info.Hash, nil)
		require.NoError(t, err)
		require.Empty(t, damage)

		// One byte is changed: the group that holds it is refused, whatever asks for it.
		bad := bytes.Clone(data)
		bad[n-1] ^= 1
		require.NoError(t, os.WriteFile(name, bad, 0o600))
		var changed *ReferenceError
		_, err = s.ReadAll(bg, info.Hash, uint64(n))
		require.ErrorAs(t, err, &changed)
		require.ErrorContains(t, err, "has changed")
		var served bytes.Buffer
		require.ErrorAs(t, s.Encode(bg, &served, info.Hash, Everything), &changed)
		require.ErrorIs(
			t, Decode(&served, info.Hash, uint64(n), Everything, make(memoryFile, n)), io.ErrUnexpectedEOF,
			"cut short, never wrong",
		)
		damage, err = s.Verify(bg, info.Hash, nil)
		require.NoError(t, err)
		require.Len(t, damage, 1)

		require.NoError(t, os.WriteFile(name, data[:n-1], 0o600))
		_, err = s.ReadAll(bg, info.Hash, uint64(n))
		require.ErrorContains(t, err, "has changed")
		require.NoError(t, os.Remove(name))
		_, err = s.ReadAll(bg, info.Hash, uint64(n))
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, "no longer there")

		// It can be added again: from another place, or with its content.
		other := filepath.Join(t.TempDir(), "other")
		require.NoError(t, os.WriteFile(other, data, 0o600))
		info, err = s.ImportFile(bg, other, ImportOptions{Reference: true})
		require.NoError(t, err)
		require.Equal(t, other, info.Reference)
		info, err = s.Import(bg, bytes.NewReader(data), ImportOptions{})
		require.NoError(t, err)
		require.NoError(t, os.Remove(other))
		got, err = s.ReadAll(bg, info.Hash, uint64(n))
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		require.NoError(t, s.Delete(bg, info.Hash))
		_, err = s.Collect(bg, CollectOptions{})
		require.NoError(t, err)
		requireEmpty(t, s)
	}
}

// A full disk at any write fails the operation with an error that says so, loses nothing that was
// there, and leaves nothing behind.
func TestDiskFullAtAnyWrite(t *testing.T) {
	source := newStore(t)
	large, small := testkit.Random(1, 3*SegmentSize+77), testkit.Random(2, 5000)
	info, err := source.ImportBytes(bg, large)
	require.NoError(t, err)
	boom := errors.New("no space left on device, injected")
	for _, op := range []struct {
		name string
		run  func(s *Store) error
	}{
		{"import large", func(s *Store) error {
			_, err := s.Import(bg, bytes.NewReader(large), ImportOptions{})
			return err
		}},
		{"import small", func(s *Store) error { _, err := s.ImportBytes(bg, small); return err }},
		{"receive", func(s *Store) error {
			r, w := io.Pipe()
			go func() {
				last := Ranges{{info.Size - 1, info.Size}}
				err := source.Encode(bg, w, info.Hash, last)
				w.CloseWithError(
					errors.Join(err, source.Encode(bg, w, info.Hash, Ranges{{0, 3 * SegmentSize}})),
				)
			}()
			rc := s.NewReceiver(bg)
			err := rc.ReceiveNew(readerOf(r), info.Hash, info.Size, Ranges{{0, 3 * SegmentSize}}, Hooks{})
			_, _ = io.Copy(io.Discard, r)
			return errors.Join(err, rc.Close())
		}},
		{"sync", func(s *Store) error {
			_, err := s.ImportBytes(bg, small)
			return errors.Join(err, s.Sync(bg))
		}},
	} {
		for failAt := 1; ; failAt++ {
			var mu sync.Mutex
			count, armed := 0, false
			db, err := pebble.Open("", pebble.Options{})
			require.NoError(t, err)
			s := openStore(t, db, files.Options{Fault: func(what string) error {
				mu.Lock()
				defer mu.Unlock()
				if !armed || what == "remove" {
					return nil
				}
				if count++; count == failAt {
					return boom
				}
				return nil
			}})
			before := mustImport(t, s, testkit.Random(3, 2*SegmentSize))
			mu.Lock()
			armed = true
			mu.Unlock()
			err = op.run(s)
			mu.Lock()
			armed = false
			reached := count >= failAt
			mu.Unlock()
			if !reached {
				require.NoError(t, err, op.name)
				require.NoError(t, db.Close())
				require.Greater(t, failAt, 1, "%s never wrote", op.name)
				break
			}
			require.ErrorIs(t, err, boom, "%s, write %d", op.name, failAt)
			damage, err := s.Verify(bg, before, nil)
			require.NoError(t, err)
			require.Empty(t, damage)
			for info, err := range s.List(bg) {
				require.NoError(t, err)
				damage, err := s.Verify(bg, info.Hash, nil)
				require.NoError(t, err)
				require.Empty(t, damage, "%s, write %d: what is noted is there", op.name, failAt)
			}
			require.NoError(t, op.run(s), "with room again")
			require.NoError(t, s.Sync(bg))
			require.NoError(t, db.Close())
		}
	}
}

// Under a hold, the children of a sequence that is going to be read stay as well, whether the hold
// began before the collection or while it runs; and when the hold ends, they go.
func TestHeldSequences(t *testing.T) {
	s := newStore(t)
	var seq Sequence
	for i := range 20 {
		seq = append(seq, mustImport(t, s, testkit.Random(uint64(i), 1000)))
	}
	root := mustImport(t, s, seq.Bytes())
	here := func() (n int) {
		for _, h := range append(Sequence{root}, seq...) {
			has, err := s.Has(bg, h)
			require.NoError(t, err)
			if has {
				n++
			}
		}
		return n
	}
	held, release := s.Hold()
	require.NoError(t, held.TouchSequence(bg, root))
	_, err := held.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	require.Equal(t, 21, here())
	ended := false
	_, err = s.Collect(bg, CollectOptions{Keep: func(context.Context, *Marks) error {
		release()
		held, release = held.Hold() // which has ended, so that this is another
		ended = true
		return held.TouchSequence(bg, root) // now that marks have been made
	}})
	require.NoError(t, err)
	require.True(t, ended)
	require.Equal(t, 21, here())
	release()
	_, err = s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	require.Zero(t, here())
}

// Of a sequence of which a part is going to be read, that part stays and nothing else, whether the
// hold began before the collection or while it runs. What the collection is told of is in
// proportion to the part, also if many hold parts that overlap.
func TestHeldChildren(t *testing.T) {
	for _, during := range []bool{false, true} {
		s := newStore(t)
		var seq Sequence
		for i := range 20 {
			seq = append(seq, mustImport(t, s, testkit.Random(uint64(i), 1000)))
		}
		root := mustImport(t, s, seq.Bytes())
		held, release := s.Hold()
		touch := func() {
			require.NoError(t, held.TouchChildren(bg, root, 5, 2))
			require.NoError(t, held.TouchChildren(bg, root, 19, 7), "more than there are")
			require.NoError(t, held.TouchChildren(bg, root, 20, 1), "none of them")
		}
		if !during {
			touch()
			for range 10 { // others ask for parts that overlap
				other, end := s.Hold()
				defer end()
				require.NoError(t, other.TouchChildren(bg, root, 6, 1))
				require.NoError(t, other.TouchChildren(bg, root, 5, 2))
			}
		}
		_, err := s.Collect(bg, CollectOptions{Keep: func(context.Context, *Marks) error {
			if during {
				touch()
				require.Len(t, s.touches.collecting, 4)
			} else {
				require.EqualValues(t, 2+7, s.touches.sequences[root].Count())
			}
			return nil
		}})
		require.NoError(t, err)
		for i, h := range seq {
			has, err := s.Has(bg, h)
			require.NoError(t, err)
			require.Equal(t, i == 5 || i == 6 || i == 19, has, "child %d", i)
		}
		has, err := s.Has(bg, root)
		require.NoError(t, err)
		require.True(t, has)
		release()
	}
}

// Of a sequence with a hole, the children on both sides of it are found.
func TestChildrenBesideAHole(t *testing.T) {
	s := newStore(t)
	seq := make(Sequence, 4*GroupSize/HashSize)
	for i := range seq {
		binary.BigEndian.PutUint32(seq[i][:], uint32(i))
	}
	h := mustImport(t, s, append(seq.Bytes(), make([]byte, SegmentSize)...))
	require.NoError(t, s.Drop(bg, h, []Damage{{Hash: h, Range: Range{GroupSize, 2 * GroupSize}}}))
	found := map[uint32]bool{}
	require.NoError(t, s.EachChild(bg, h, func(c Hash) error {
		found[binary.BigEndian.Uint32(c[:])] = true
		return nil
	}))
	group := GroupSize / HashSize
	require.True(t, found[uint32(group-1)])
	require.False(t, found[uint32(group)])
	require.False(t, found[uint32(2*group-1)])
	require.True(t, found[uint32(2*group)])
	require.True(t, found[uint32(4*group-1)])
}

package blobs

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// transfer moves ranges of h from one store to another the way a download does: the last group
// first if it is unknown.
func transfer(t require.TestingT, from, to *Store, h Hash, ranges Ranges) {
	info, err := from.Stat(bg, h)
	require.NoError(t, err)
	rc := to.NewReceiver(bg)
	last := Ranges{{max(info.Size, 1) - 1, max(info.Size, 1)}}
	if _, err := to.Stat(bg, h); errors.Is(err, ErrNotFound) {
		rest := ranges.groupsOf(info.Size).Without(last.groupsOf(info.Size)).bytesOf(info.Size)
		var stream bytes.Buffer
		require.NoError(t, from.Encode(bg, &stream, h, last))
		require.NoError(t, from.Encode(bg, &stream, h, rest))
		proved := false
		require.NoError(
			t,
			rc.ReceiveNew(
				bufio.NewReaderSize(&stream, decodeBuffer), h, info.Size, rest, Hooks{Proved: func() error {
					proved = true
					return nil
				}},
			),
		)
		require.True(t, proved)
	} else {
		var stream bytes.Buffer
		require.NoError(t, from.Encode(bg, &stream, h, ranges))
		require.NoError(
			t, rc.Receive(bufio.NewReaderSize(&stream, decodeBuffer), h, info.Size, ranges, Hooks{}),
		)
	}
	require.NoError(t, rc.Close())
}

// A blob that arrives in any pieces, in any order, with overlaps, knows at each step what it has,
// serves that to a third store, and is whole in the end.
func TestPartialBlobProperty(t *testing.T) {
	source := newStore(t)
	infos := map[int]Info{}
	for _, n := range sizes {
		info, err := source.ImportBytes(bg, testkit.Random(uint64(n), n))
		require.NoError(t, err)
		infos[n] = info
	}
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.SampledFrom(sizes).Draw(rt, "size")
		info, data := infos[n], testkit.Random(uint64(n), n)
		to, third := newStore(t), newStore(t)
		have := Ranges{{max(info.Size, 1) - 1, max(info.Size, 1)}}.groupsOf(info.Size)
		for range rapid.IntRange(1, 4).Draw(rt, "steps") {
			ranges := rangesOf(rt, n)
			transfer(rt, source, to, info.Hash, ranges)
			have = have.Union(ranges.groupsOf(info.Size))
			present, err := to.Present(bg, info.Hash)
			require.NoError(rt, err)
			require.Equal(rt, have.bytesOf(info.Size), present)
			st, err := to.Stat(bg, info.Hash)
			require.NoError(rt, err)
			require.Equal(rt, have.Count() == groupCount(info.Size), st.Complete)
			require.Equal(rt, uint64(n), st.Size)
			damage, err := to.Verify(bg, info.Hash, nil)
			require.NoError(rt, err)
			require.Empty(rt, damage)

			transfer(rt, to, third, info.Hash, present)
			r, err := third.Reader(bg, info.Hash)
			require.NoError(rt, err)
			for _, x := range present {
				p := make([]byte, x.End-x.Start)
				_, err := r.ReadAt(p, int64(x.Start))
				require.NoError(rt, err)
				require.True(rt, bytes.Equal(data[x.Start:x.End], p))
			}
			if missing := (Ranges{{0, info.Size}}).Without(present); len(missing) > 0 {
				_, err := r.ReadAt(make([]byte, 1), int64(missing[0].Start))
				require.ErrorIs(rt, err, ErrIncomplete)
				require.ErrorIs(rt, to.Encode(bg, io.Discard, info.Hash, missing), ErrIncomplete)
			}
		}
		transfer(rt, source, to, info.Hash, Everything)
		got, err := to.ReadAll(bg, info.Hash, info.Size)
		require.NoError(rt, err)
		require.True(rt, bytes.Equal(data, got))
		require.Zero(rt, countKeys(rt, to, keyMask), "masks go when the blob is whole")
	})
}

// A deep tree: more than 32 segments, so that there are two levels of blocks above them.
func TestDeepTree(t *testing.T) {
	source, to := newStore(t), newStore(t)
	data := testkit.Random(4, 33*SegmentSize+5)
	info, err := source.Import(bg, bytes.NewReader(data), ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, HashOf(data), info.Hash)
	require.Equal(t, 2, newGeometry(info.Size).top())
	transfer(
		t, source, to, info.Hash,
		Ranges{{20 * SegmentSize, 21 * SegmentSize}, {32*SegmentSize - 1, 32*SegmentSize + 1}},
	)
	transfer(t, source, to, info.Hash, Everything)
	got, err := to.ReadAll(bg, info.Hash, info.Size)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	damage, err := to.Verify(bg, info.Hash, nil)
	require.NoError(t, err)
	require.Empty(t, damage)
}

func TestUnprovedSizeIsNotStored(t *testing.T) {
	source, to := newStore(t), newStore(t)
	info, err := source.ImportBytes(bg, testkit.Random(1, 3*SegmentSize))
	require.NoError(t, err)
	var stream bytes.Buffer
	require.NoError(t, source.Encode(bg, &stream, info.Hash, Ranges{{0, 10}}))
	rc := to.NewReceiver(bg)
	require.ErrorIs(
		t,
		rc.Receive(
			bufio.NewReaderSize(&stream, decodeBuffer), info.Hash, info.Size, Ranges{{0, 10}}, Hooks{},
		),
		ErrSizeNotProved,
	)
	require.ErrorIs(t, rc.Close(), ErrSizeNotProved)
	_, err = to.Stat(bg, info.Hash)
	require.ErrorIs(t, err, ErrNotFound)
}

// What was verified before the stream failed is kept, also inside a segment.
func TestReceiverKeepsWhatCameBeforeAnError(t *testing.T) {
	source, to := newStore(t), newStore(t)
	data := testkit.Random(2, SegmentSize+10*GroupSize)
	info, err := source.ImportBytes(bg, data)
	require.NoError(t, err)
	transfer(t, source, to, info.Hash, nil)
	var stream bytes.Buffer
	require.NoError(t, source.Encode(bg, &stream, info.Hash, Everything))
	bad := stream.Bytes()
	bad[len(bad)-2*GroupSize] ^= 1
	verified := 0
	rc := to.NewReceiver(bg)
	err = rc.Receive(
		bufio.NewReaderSize(&stream, decodeBuffer), info.Hash, info.Size, Everything,
		Hooks{Verified: func(n int) {
			verified += n
		}},
	)
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.NoError(t, rc.Close())
	present, err := to.Present(bg, info.Hash)
	require.NoError(t, err)
	require.Equal(
		t, Ranges{{0, corrupt.Offset}, {uint64(len(data)) - GroupSize, uint64(len(data))}}, present,
	)
	require.EqualValues(t, verified, corrupt.Offset)
}

func TestTwoReceiversOfOneBlob(t *testing.T) {
	source, to := newStore(t), newStore(t)
	data := testkit.Random(2, 6*SegmentSize+10)
	info, err := source.ImportBytes(bg, data)
	require.NoError(t, err)
	transfer(t, source, to, info.Hash, nil)
	done := make(chan error, 2)
	for range 2 {
		go func() {
			var stream bytes.Buffer
			err := source.Encode(bg, &stream, info.Hash, Everything)
			rc := to.NewReceiver(bg)
			err = errors.Join(
				err,
				rc.Receive(
					bufio.NewReaderSize(&stream, decodeBuffer), info.Hash, info.Size, Everything, Hooks{},
				),
				rc.Close(),
			)
			done <- err
		}()
	}
	require.NoError(t, errors.Join(<-done, <-done))
	got, err := to.ReadAll(bg, info.Hash, info.Size)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
}

// A blob that is deleted while it arrives stays deleted, and leaves nothing behind.
func TestDeletionDuringDownload(t *testing.T) {
	source, to := newStore(t), newStore(t)
	info, err := source.ImportBytes(bg, testkit.Random(1, 8*SegmentSize))
	require.NoError(t, err)
	transfer(t, source, to, info.Hash, nil)
	rc := to.NewReceiver(bg)
	receive := func(r Ranges) error {
		var stream bytes.Buffer
		require.NoError(t, source.Encode(bg, &stream, info.Hash, r))
		return rc.Receive(bufio.NewReaderSize(&stream, decodeBuffer), info.Hash, info.Size, r, Hooks{})
	}
	require.NoError(t, receive(Ranges{{0, 4 * SegmentSize}}))
	require.Eventually(t, func() bool {
		present, err := to.Present(bg, info.Hash)
		return err == nil && present.Count() > 4*SegmentSize
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, to.Delete(bg, info.Hash))
	_ = receive(Ranges{{4 * SegmentSize, 7 * SegmentSize}}) // may fail already, or in Close
	require.ErrorIs(t, rc.Close(), ErrSizeNotProved)
	requireEmpty(t, to)
}

// However a process ends, at most one segment of a stream that was verified is not stored.
func TestAtMostOneSegmentIsNotStored(t *testing.T) {
	source, to := newStore(t), newStore(t)
	info, err := source.ImportBytes(bg, testkit.Random(3, 9*SegmentSize+5))
	require.NoError(t, err)
	transfer(t, source, to, info.Hash, nil)
	var stream bytes.Buffer
	require.NoError(t, source.Encode(bg, &stream, info.Hash, Everything))
	before, err := to.Stat(bg, info.Hash)
	require.NoError(t, err)
	rc := to.NewReceiver(bg)
	verified, looked := uint64(0), 0
	require.NoError(
		t,
		rc.Receive(
			bufio.NewReaderSize(&stream, decodeBuffer), info.Hash, info.Size, Everything,
			Hooks{Verified: func(n int) {
				verified += uint64(n)
				st, err := to.Stat(bg, info.Hash)
				require.NoError(t, err)
				require.LessOrEqual(t, verified, st.Present-before.Present+SegmentSize)
				looked++
			}},
		),
	)
	require.NoError(t, rc.Close())
	require.Equal(t, 9*fanOut+1, looked)

	// Of small blobs, not more either.
	small := make([]Info, 300)
	stream.Reset()
	for i := range small {
		small[i], err = source.ImportBytes(bg, testkit.Random(uint64(i), 5000+i))
		require.NoError(t, err)
		require.NoError(t, source.Encode(bg, &stream, small[i].Hash, Everything))
	}
	r := bufio.NewReaderSize(&stream, decodeBuffer)
	stored := func() uint64 {
		total, err := to.Totals(bg)
		require.NoError(t, err)
		return total.Bytes
	}
	base, sum := stored(), uint64(0)
	rc = to.NewReceiver(bg)
	for _, s := range small {
		require.NoError(t, rc.ReceiveNew(r, s.Hash, s.Size, nil, Hooks{}))
		sum += s.Size
		require.LessOrEqual(t, sum, stored()-base+SegmentSize)
	}
	require.NoError(t, rc.Close())
	require.Equal(t, sum, stored()-base)
}

// A blob that is longer than a file can be is refused alone: what else is being received is stored.
func TestBlobsLongerThanAFileAreRefusedAlone(t *testing.T) {
	source := newStore(t)
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	refuse := true
	to := openStore(t, db, files.Options{Fault: func(op string) error {
		if refuse && op == "write" {
			refuse = false
			return syscall.EFBIG
		}
		return nil
	}})
	rc := to.NewReceiver(bg)
	receive := func(seed uint64) (Hash, error) {
		info, err := source.ImportBytes(bg, testkit.Random(seed, 3*SegmentSize))
		require.NoError(t, err)
		last := Ranges{{info.Size - 1, info.Size}}
		rest := Everything.Without(Ranges{{info.Size - GroupSize, info.Size}}).
			Intersect(Ranges{{0, info.Size}})
		var stream bytes.Buffer
		require.NoError(t, source.Encode(bg, &stream, info.Hash, last))
		require.NoError(t, source.Encode(bg, &stream, info.Hash, rest))
		return info.Hash, rc.ReceiveNew(bufio.NewReader(&stream), info.Hash, info.Size, rest, Hooks{})
	}
	long, err := receive(1)
	var refused *FileSizeError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, long, refused.Hash)
	require.NoError(t, rc.Err())
	other, err := receive(2)
	require.NoError(t, err)
	require.NoError(t, rc.Close())
	has, err := to.Has(bg, other)
	require.NoError(t, err)
	require.True(t, has)
}

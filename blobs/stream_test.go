package blobs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/internal/testkit"
)

// The parents in the stream of a whole blob are the pre-order outboard of the
// vectors.
func TestOutboardVectors(t *testing.T) {
	s := newStore(t)
	for _, c := range loadVectors(t).Bao16.Cases {
		data := pattern(c.Length)
		info, err := s.ImportBytes(bg, data)
		require.NoError(t, err)
		require.Equal(t, c.Root, info.Hash)
		var stream bytes.Buffer
		require.NoError(t, s.Encode(bg, &stream, c.Root, Everything))
		outboard := withoutContent(t, stream.Bytes(), c.Length)
		require.Len(t, outboard, c.OutboardLength)
		require.Equal(t, c.OutboardBlake3, HashOf(outboard))
		if c.Outboard != nil {
			require.Equal(t, *c.Outboard, hex.EncodeToString(outboard))
		}
	}
}

// withoutContent drops the groups from the stream of a whole blob.
func withoutContent(t *testing.T, stream []byte, size int) (outboard []byte) {
	var walk func(n int)
	walk = func(n int) {
		if n <= GroupSize {
			stream = stream[n:]
			return
		}
		outboard = append(outboard, stream[:parentSize]...)
		stream = stream[parentSize:]
		groups := (n + GroupSize - 1) / GroupSize
		l := leftCount(groups) * GroupSize
		walk(l)
		walk(n - l)
	}
	walk(size)
	require.Empty(t, stream)
	return outboard
}

// rangesOf draws byte ranges around a blob of n bytes: overlapping, empty and beyond its end among
// them.
func rangesOf(t *rapid.T, n int) Ranges {
	var rs []Range
	for range rapid.IntRange(0, 4).Draw(t, "ranges") {
		start := rapid.Uint64Range(0, uint64(n)+2*GroupSize).Draw(t, "start")
		rs = append(rs, Range{start, start + rapid.Uint64Range(0, uint64(n)+1).Draw(t, "length")})
	}
	return NewRanges(rs...)
}

type memoryFile []byte

// Any set of ranges of any blob arrives, and only its groups.
func TestEncodeDecodeProperty(t *testing.T) {
	s := newStore(t)
	infos := map[int]Info{}
	for _, n := range sizes {
		info, err := s.ImportBytes(bg, testkit.Random(uint64(n), n))
		require.NoError(t, err)
		infos[n] = info
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom(sizes).Draw(t, "size")
		ranges := rangesOf(t, n)
		var stream bytes.Buffer
		require.NoError(t, s.Encode(bg, &stream, infos[n].Hash, ranges))
		out := make(memoryFile, n)
		rest := bufio.NewReaderSize(
			io.MultiReader(&stream, bytes.NewReader([]byte("next"))), decodeBuffer,
		)
		err := Decode(rest, infos[n].Hash, uint64(n), ranges, out)
		if len(ranges.groupsOf(uint64(n))) == 0 && n > 0 {
			require.ErrorIs(t, err, ErrUnproved)
		} else {
			require.NoError(t, err)
		}
		after, err := io.ReadAll(rest)
		require.NoError(t, err)
		require.Equal(t, "next", string(after), "exactly the stream is read")

		want := make([]byte, n)
		data := testkit.Random(uint64(n), n)
		for _, r := range ranges.groupsOf(uint64(n)).bytesOf(uint64(n)) {
			copy(want[r.Start:r.End], data[r.Start:r.End])
		}
		require.True(t, bytes.Equal(want, out))
	})
}

// One flipped bit anywhere is refused within the group or parent that holds it, and nothing
// wrong comes through.
func TestFlippedBitIsRefused(t *testing.T) {
	s := newStore(t)
	data := testkit.Random(9, SegmentSize+3*GroupSize+100)
	info, err := s.ImportBytes(bg, data)
	require.NoError(t, err)
	var stream bytes.Buffer
	require.NoError(t, s.Encode(bg, &stream, info.Hash, Everything))
	rapid.Check(t, func(t *rapid.T) {
		bad := bytes.Clone(stream.Bytes())
		at := rapid.IntRange(0, len(bad)-1).Draw(t, "at")
		bad[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		read := &countingReader{r: bytes.NewReader(bad)}
		out := make(memoryFile, len(data))
		err := Decode(read, info.Hash, uint64(len(data)), Everything, out)
		var corrupt *CorruptError
		require.ErrorAs(t, err, &corrupt)
		require.LessOrEqual(t, read.n, at+GroupSize+decodeBuffer, "refused at once")
		require.True(t, bytes.Equal(data[:corrupt.Offset], out[:corrupt.Offset]))
		require.True(
			t, bytes.Equal(make([]byte, len(data)-int(corrupt.Offset)), out[corrupt.Offset:]),
			"nothing after the lie",
		)
	})
	for _, cut := range []int{0, 63, 64, 5000, stream.Len() - 1} {
		err := Decode(
			bytes.NewReader(stream.Bytes()[:cut]), info.Hash, info.Size, Everything,
			make(memoryFile, len(data)),
		)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func TestWrongSizeIsRefused(t *testing.T) {
	s := newStore(t)
	data := testkit.Random(3, 3*GroupSize+100)
	info, err := s.ImportBytes(bg, data)
	require.NoError(t, err)
	last := Ranges{{info.Size - 1, info.Size}}
	var stream bytes.Buffer
	require.NoError(t, s.Encode(bg, &stream, info.Hash, last))
	for _, size := range []uint64{
		1, GroupSize, info.Size - 1, info.Size + 1, info.Size + GroupSize, 100 * SegmentSize, MaxSize,
	} {
		rc := newStore(t).NewReceiver(bg)
		err := rc.ReceiveNew(
			bufio.NewReaderSize(io.MultiReader(bytes.NewReader(stream.Bytes()), zeroReader{}), decodeBuffer),
			info.Hash, size, nil, Hooks{},
		)
		var corrupt *CorruptError
		require.ErrorAs(t, err, &corrupt, "size %d", size)
		require.NoError(t, rc.Close())
		_, err = rc.s.Stat(bg, info.Hash)
		require.ErrorIs(t, err, ErrNotFound, "nothing is stored")
	}
	rc := newStore(t).NewReceiver(bg)
	require.ErrorContains(
		t, rc.ReceiveNew(bufio.NewReader(zeroReader{}), info.Hash, MaxSize+1, nil, Hooks{}), "limit",
	)
	require.NoError(t, rc.Close())
}

type zeroReader struct{}

// FuzzDecode feeds a decoder anything: it must end, and write nothing but the true content.
func FuzzDecode(f *testing.F) {
	s := newStore(f)
	data := testkit.Random(1, 5*GroupSize+100)
	info, err := s.ImportBytes(bg, data)
	require.NoError(f, err)
	var stream bytes.Buffer
	require.NoError(f, s.Encode(bg, &stream, info.Hash, Everything))
	f.Add(stream.Bytes(), info.Size)
	f.Add(stream.Bytes()[:70], info.Size-1)
	f.Add([]byte{}, uint64(MaxSize))
	f.Fuzz(func(t *testing.T, b []byte, size uint64) {
		w := &checkingWriter{data: data}
		err := Decode(bytes.NewReader(b), info.Hash, size, Everything, w)
		require.False(t, w.wrong, "unverified bytes came through")
		if err == nil {
			require.Equal(t, info.Size, size)
		}
	})
}

type checkingWriter struct {
	data  []byte
	wrong bool
}

// A size that a sender claims so that all ranges lie beyond it proves nothing, and is no success.
func TestDecodeOfNothingProvesNothing(t *testing.T) {
	h, beyond := HashOf([]byte("something")), Ranges{{Start: 5, End: 10}}
	require.ErrorIs(t, Decode(bytes.NewReader(nil), h, 0, beyond, make(memoryFile, 10)), ErrUnproved)
	require.ErrorIs(t, Decode(bytes.NewReader(nil), h, 5, beyond, make(memoryFile, 10)), ErrUnproved)
	require.Error(t, Decode(bytes.NewReader(nil), h, 0, Everything, make(memoryFile, 10)))
	require.NoError(t, Decode(bytes.NewReader(nil), EmptyHash, 0, beyond, make(memoryFile, 0)))
}

package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/internal/testkit"
)

// SealBytes gives what a Writer gives, written in pieces of any size.
func TestSealBytes(t *testing.T) {
	for _, size := range sizes {
		content := testkit.Random(2, size)
		want := sealed(t, key, 7, content)
		b, err := key.SealBytes([]byte("before"), 7, content)
		require.NoError(t, err)
		require.Equal(t, append([]byte("before"), want...), b, size)
		for _, piece := range []int{1000, SegmentSize - 1, SegmentSize, SegmentSize + 1} {
			var out bytes.Buffer
			w, err := key.Seal(&out, 7, blake3.Sum256(content))
			require.NoError(t, err)
			for rest := content; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				n, err := w.Write(rest[:min(piece, len(rest))])
				require.NoError(t, err)
				require.Equal(t, min(piece, len(rest)), n)
			}
			require.NoError(t, w.Close())
			require.Equal(t, want, out.Bytes(), "%d in pieces of %d", size, piece)
		}
	}
}

// The sealed range of a part holds all segments that the part touches, and no other.
func TestSealedRange(t *testing.T) {
	const sealedSegment = SegmentSize + tagSize
	for _, from := range []uint64{
		0, 1, SegmentSize - 1, SegmentSize, SegmentSize + 1, 2 * SegmentSize,
	} {
		for _, length := range []uint64{
			0, 1, SegmentSize - 1, SegmentSize, SegmentSize + 1, 3 * SegmentSize,
		} {
			start, end := SealedRange(from, from+length)
			if length == 0 {
				require.Equal(t, [2]uint64{HeadSize, HeadSize}, [2]uint64{start, end})
				continue
			}
			first, last := from/SegmentSize, (from+length-1)/SegmentSize
			require.Equal(t, HeadSize+first*sealedSegment, start, "%d and %d more", from, length)
			require.Equal(t, HeadSize+(last+1)*sealedSegment, end, "%d and %d more", from, length)
		}
	}
	start, end := SealedRange(5, 4)
	require.Equal(t, [2]uint64{HeadSize, HeadSize}, [2]uint64{start, end})
}

// The greatest content has a sealed size; more has none.
func TestMaxContent(t *testing.T) {
	size, err := ContentSize(SealedSize(MaxContent))
	require.NoError(t, err)
	require.EqualValues(t, MaxContent, size)
	_, err = ContentSize(SealedSize(MaxContent) + 1)
	require.ErrorIs(t, err, ErrSealed)
	size, err = ContentSize(HeadSize + tagSize)
	require.NoError(t, err)
	require.Zero(t, size)
	_, err = ContentSize(HeadSize + tagSize - 1)
	require.ErrorIs(t, err, ErrSealed)
	// What ends in the middle of a tag holds no content.
	for _, segments := range []uint64{1, 2, 3} {
		whole := SealedSize(segments * SegmentSize)
		for more := uint64(1); more <= tagSize; more++ {
			_, err := ContentSize(whole + more)
			require.ErrorIs(t, err, ErrSealed, "%d segments and %d bytes", segments, more)
		}
		size, err := ContentSize(whole + tagSize + 1)
		require.NoError(t, err)
		require.Equal(t, segments*SegmentSize+1, size)
	}
}

// brokenAt reads like a file up to a place, and fails from there with an error of its own.
type brokenAt struct {
	b   []byte
	at  int64
	err error
}

func (r brokenAt) ReadAt(b []byte, off int64) (int, error) {
	n := copy(b, r.b[min(off, int64(len(r.b))):])
	if off+int64(n) > r.at {
		return max(0, int(r.at-off)), r.err
	}
	return n, nil
}

// What is cut short ends unexpectedly; any other failure is told as it is.
func TestBrokenReads(t *testing.T) {
	content := testkit.Random(3, 1000)
	b := sealed(t, key, 7, content)
	broken := errors.New("broken")
	for given, want := range map[error]error{io.EOF: io.ErrUnexpectedEOF, broken: broken} {
		r, err := key.Open(brokenAt{b, int64(len(b)) - 1, given}, uint64(len(b)))
		require.NoError(t, err)
		_, err = r.ReadAt(make([]byte, 10), 0)
		require.ErrorIs(t, err, want)
	}
}

// Names at the limits of their forms.
func TestNameLimits(t *testing.T) {
	n := key.Names(9)
	shortest, err := n.Seal(nil)
	require.NoError(t, err)
	epoch, err := EpochOf(shortest)
	require.NoError(t, err)
	require.EqualValues(t, 9, epoch)
	require.Len(t, shortest, epochLen+partHead+partPad)
	_, err = EpochOf(shortest[:len(shortest)-1])
	require.ErrorIs(t, err, ErrSealed)

	// A part fills its padding, or begins another.
	for length := range 5 * partPad {
		name := bytes.Repeat([]byte("x"), length)
		b, err := n.Seal(name)
		require.NoError(t, err)
		back, err := n.Open(b)
		require.NoError(t, err, length)
		require.Equal(t, name, back)
		padded := int(binary.BigEndian.Uint16(b[epochLen+sivSize:]))
		require.GreaterOrEqual(t, padded, length+2)
		require.Less(t, padded, length+2+partPad)
	}
	for cut := range len(shortest) {
		_, err := n.Open(shortest[:cut])
		require.ErrorIs(t, err, ErrSealed, cut)
	}

	// forge makes a part whose length and padding are as given, which only a holder of the key can.
	forge := func(length, size int) []byte {
		padded := make([]byte, size)
		binary.BigEndian.PutUint16(padded, uint16(length))
		b := binary.BigEndian.AppendUint32(nil, 9)
		at := n.siv(b, padded)
		b = binary.BigEndian.AppendUint16(append(b, at...), uint16(size))
		n.crypt(at, padded)
		return append(b, padded...)
	}
	for _, size := range []int{partPad, 2 * partPad} {
		for length := range size + 5 {
			_, err := n.Open(forge(length, size))
			one := length+2 <= size && length+2 > size-partPad
			require.Equal(t, one, err == nil, "%d bytes in %d", length, size)
		}
	}

	longest, err := n.Seal(bytes.Repeat([]byte("x"), MaxName))
	require.NoError(t, err)
	require.LessOrEqual(t, len(longest), MaxSealedName)
	_, err = n.Open(longest)
	require.NoError(t, err)

	// What Seal refuses Open refuses, too: nobody could write or delete it.
	most, many := bytes.Repeat([]byte("/"), MaxParts-1), bytes.Repeat([]byte("/"), MaxParts)
	back, err := n.Open(n.seal(most))
	require.NoError(t, err)
	require.Equal(t, most, back)
	for _, name := range [][]byte{many, bytes.Repeat([]byte("x"), MaxName+1)} {
		_, err = n.Seal(name)
		require.ErrorIs(t, err, ErrName)
		_, err = n.Open(n.seal(name))
		require.ErrorIs(t, err, ErrSealed)
	}
}

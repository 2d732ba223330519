package chunked

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/blobstest"
	"github.com/skerry-sync/skerry/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

func TestImportReadBack(t *testing.T) {
	s := blobstest.New(t)
	for _, n := range []int{1, MinChunk, MaxChunk, MaxChunk + 1, 9<<20 + 17} {
		data := testkit.Random(byte(n), n)
		f, err := Import(bg, s, bytes.NewReader(data), nil)
		require.NoError(t, err)
		require.EqualValues(t, n, f.Size)
		c, err := Load(bg, s, f.Hash)
		require.NoError(t, err)
		require.EqualValues(t, n, c.Size())
		for i, size := range c.Sizes {
			require.LessOrEqual(t, size, uint64(MaxChunk))
			if i < len(c.Sizes)-1 {
				require.GreaterOrEqual(t, size, uint64(MinChunk))
			}
			info, err := s.Stat(bg, c.Hashes[i])
			require.NoError(t, err)
			require.Equal(t, size, info.Size)
		}
		r := NewReader(bg, FromStore(s), c)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got), "size %d", n)
		_, err = r.Seek(0, io.SeekStart)
		require.NoError(t, err)
		var all bytes.Buffer
		_, err = r.WriteTo(&all)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, all.Bytes()))
		rapid.Check(t, func(t *rapid.T) {
			off := rapid.IntRange(0, n+10).Draw(t, "off")
			p := make([]byte, rapid.IntRange(0, 2*MaxChunk).Draw(t, "n"))
			m, err := r.ReadAt(p, int64(off))
			want := data[min(off, n):min(off+len(p), n)]
			require.True(t, bytes.Equal(want, p[:m]))
			require.Equal(t, len(want) < len(p) || len(p) == 0 && off >= n, err == io.EOF)
		})
	}
	_, err := Import(bg, s, bytes.NewReader(nil), nil)
	require.ErrorContains(t, err, "nothing")
}

var goldenSizes = []uint64{335936, 165373, 253852, 328386, 381361, 311773, 320471}

const goldenHash = "ff14744d23981d1d5b5c279505768f427d30aaa57b388bd6b5d58da48b9d0580"

// The cuts are part of the format: were they to change, nodes of two versions would share no
// chunks.
func TestGoldenCuts(t *testing.T) {
	s := blobstest.New(t)
	f, err := Import(bg, s, bytes.NewReader(testkit.Random(1, 2<<20)), nil)
	require.NoError(t, err)
	c, err := Load(bg, s, f.Hash)
	require.NoError(t, err)
	require.Equal(t, goldenSizes, c.Sizes)
	require.Equal(t, goldenHash, hex.EncodeToString(f.Hash[:]))
}

// An edit in the middle changes few chunks, also if it moves everything behind it.
func TestEditKeepsMostChunks(t *testing.T) {
	testkit.OneGoroutine(t)
	s := blobstest.New(t)
	data := testkit.Random(7, 32<<20)
	before, err := Split(bg, s, bytes.NewReader(data), nil)
	require.NoError(t, err)
	known := map[blobs.Hash]bool{}
	for _, h := range before.Hashes {
		known[h] = true
	}
	edited := append(
		append(bytes.Clone(data[:15<<20]), testkit.Random(8, 1000)...), data[15<<20+10:]...,
	)
	after, err := Split(bg, s, bytes.NewReader(edited), nil)
	require.NoError(t, err)
	var fresh uint64
	for i, h := range after.Hashes {
		if !known[h] {
			fresh += after.Sizes[i]
		}
	}
	require.Positive(t, fresh)
	require.LessOrEqual(t, fresh, uint64(3*MaxChunk))
}

func TestLoadRefusesWhatIsNot(t *testing.T) {
	s := blobstest.New(t)
	add := func(b []byte) blobs.Hash {
		info, err := s.ImportBytes(bg, b)
		require.NoError(t, err)
		return info.Hash
	}
	content := add(testkit.Random(1, 100))
	for _, h := range []blobs.Hash{
		content, add(make([]byte, 32)), add(blobs.Sequence{content, content}.Bytes()),
	} {
		_, err := Load(bg, s, h)
		require.ErrorIs(t, err, ErrNotChunked)
	}
	_, err := Load(bg, s, add(blobs.Sequence{add(List([]uint64{100, 100})), content}.Bytes()))
	require.ErrorContains(t, err, "list has 2")
	_, err = Load(bg, s, add(blobs.Sequence{{9}, content}.Bytes()))
	require.ErrorIs(t, err, blobs.ErrNotFound)

	// A chunk that is not as long as the list says is told when it is read.
	c, err := Load(bg, s, add(blobs.Sequence{add(List([]uint64{200})), content}.Bytes()))
	require.NoError(t, err)
	_, err = io.ReadAll(NewReader(bg, FromStore(s), c))
	require.ErrorContains(t, err, "shorter")
}

func FuzzParseList(f *testing.F) {
	f.Add(List([]uint64{1, MaxChunk}))
	f.Add([]byte(magic + "\x01\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sizes, err := ParseList(b)
		if err == nil {
			again, err := ParseList(List(sizes))
			require.NoError(t, err)
			require.Equal(t, sizes, again)
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	data := testkit.Random(1, 64<<20)
	b.SetBytes(int64(len(data)))
	for range b.N {
		b.StopTimer()
		s := blobstest.New(b)
		b.StartTimer()
		_, err := Split(bg, s, bytes.NewReader(data), nil)
		require.NoError(b, err)
	}
}

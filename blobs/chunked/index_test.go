package chunked

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/blobstest"
	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// storeIn is newStore with the directory of its content.
func storeIn(t testing.TB) (*blobs.Store, string) {
	t.Helper()
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	dir := t.TempDir()
	content, err := files.Open(dir, files.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, content.Close()) })
	s, err := blobs.Open(bg, db, content)
	require.NoError(t, err)
	return s, dir
}

// flip changes a byte of every place in the store's files where some bytes are stored.
func flip(t *testing.T, dir string, what []byte, at int) {
	t.Helper()
	found := 0
	require.NoError(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		if i := bytes.Index(b, what); i >= 0 {
			found++
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{b[i+at] ^ 1}, int64(i+at))
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
		return nil
	}))
	require.Equal(t, 1, found)
}

// hostile stores a sequence of n children that are not here, with a list of lengths as it says; it
// needs little memory for that.
func hostile(t testing.TB, s *blobs.Store, n int, size uint64) blobs.Hash {
	t.Helper()
	list := binary.AppendUvarint([]byte(magic), uint64(n))
	for range n {
		list = binary.AppendUvarint(list, size)
	}
	l, err := s.ImportBytes(bg, list)
	require.NoError(t, err)
	children := io.LimitReader(endless{}, int64(n)*blobs.HashSize)
	seq, err := s.Import(
		bg, io.MultiReader(bytes.NewReader(l.Hash[:]), children), blobs.ImportOptions{},
	)
	require.NoError(t, err)
	return seq.Hash
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i)
	}
	return len(p), nil
}

// The largest sequence and list that there can be take little memory, however they are looked at.
func TestIndexOfTheLargestListTakesLittleMemory(t *testing.T) {
	testkit.OneGoroutine(t)
	s := blobstest.New(t)
	const n = blobs.MaxChildren - 1
	h := hostile(t, s, n, MinChunk)
	most := uint64(0)
	watch := func() {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	watch()
	before := most
	x, err := Open(bg, s, h)
	require.NoError(t, err)
	require.Equal(t, n, x.Len())
	require.EqualValues(t, MaxSize, x.Size())
	watch()
	count := 0
	require.NoError(t, x.Each(bg, func(c Chunks) error {
		if count%(1<<20) == 0 {
			watch()
		}
		count += len(c.Hashes)
		return nil
	}))
	require.Equal(t, n, count)
	for _, first := range []int{n - blockChunks - 1, n - 1, n} {
		count = 0
		require.NoError(t, x.EachFrom(bg, first, func(c Chunks) error {
			count += len(c.Hashes)
			return nil
		}))
		require.Equal(t, n-first, count)
	}
	r := x.Reader(bg, FromStore(s))
	_, err = r.ReadAt(make([]byte, 1), int64(x.Size()-1))
	require.ErrorIs(t, err, blobs.ErrNotFound)
	watch()
	runtime.KeepAlive(x)
	require.Less(t, most-before, uint64(4<<20))

	// What is allocated in all is in proportion to what one look needs, too: several may be under way.
	var m, after runtime.MemStats
	runtime.ReadMemStats(&m)
	_, err = Open(bg, s, h)
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-m.TotalAlloc, uint64(16<<20))
}

// A file reads the same through an index, whose blocks it crosses, as through all of its chunks.
func TestIndexReadsLikeChunks(t *testing.T) {
	s := blobstest.New(t)
	var parts [][]byte
	for i := range byte(40) {
		part := testkit.Random(i, 1+int(i)*7)
		_, err := s.ImportBytes(bg, part)
		require.NoError(t, err)
		parts = append(parts, part)
	}
	var seq blobs.Sequence
	var sizes []uint64
	var data []byte
	for i := range 2*blockChunks + 100 {
		part := parts[i*i%40]
		seq, sizes = append(seq, blobs.HashOf(part)), append(sizes, uint64(len(part)))
		data = append(data, part...)
	}
	list, err := s.ImportBytes(bg, List(sizes))
	require.NoError(t, err)
	root, err := s.ImportBytes(bg, append(blobs.Sequence{list.Hash}, seq...).Bytes())
	require.NoError(t, err)
	x, err := Open(bg, s, root.Hash)
	require.NoError(t, err)
	all, err := Load(bg, s, root.Hash)
	require.NoError(t, err)
	require.Equal(t, Chunks{seq, sizes}, all)
	r := x.Reader(bg, FromStore(s))
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.IntRange(0, len(data)+10).Draw(t, "off")
		p := make([]byte, rapid.IntRange(0, len(data)).Draw(t, "n"))
		m, err := r.ReadAt(p, int64(off))
		want := data[min(off, len(data)):min(off+len(p), len(data))]
		require.True(t, bytes.Equal(want, p[:m]))
		require.Equal(t, len(want) < len(p) || len(p) == 0 && off >= len(data), err == io.EOF)
	})
	half, err := x.Resized(bg, func(n uint64) (uint64, error) { return (n + 1) / 2, nil })
	require.NoError(t, err)
	total := uint64(0)
	require.NoError(t, half.Each(bg, func(c Chunks) error {
		for _, n := range c.Sizes {
			total += n
		}
		return nil
	}))
	require.Equal(t, total, half.Size())
}

// What Open accepts and refuses is what ParseList does.
func TestIndexAgreesWithParseList(t *testing.T) {
	s := blobstest.New(t)
	rapid.Check(t, func(t *rapid.T) {
		list := List(rapid.SliceOfN(rapid.Uint64Range(1, MaxChunk), 1, 5).Draw(t, "sizes"))
		switch rapid.IntRange(0, 3).Draw(t, "change") {
		case 0:
			list = list[:rapid.IntRange(len(magic), len(list)).Draw(t, "cut")]
		case 1:
			list = append(list, rapid.SliceOfN(rapid.Byte(), 1, 12).Draw(t, "more")...)
		case 2:
			i := rapid.IntRange(len(magic), len(list)-1).Draw(t, "at")
			list[i] = rapid.Byte().Draw(t, "byte")
		}
		sizes, wrong := ParseList(list)
		count := rapid.IntRange(1, 5).Draw(t, "children")
		if wrong == nil && rapid.Bool().Draw(t, "fits") {
			count = len(sizes)
		}
		l, err := s.ImportBytes(bg, list)
		require.NoError(t, err)
		seq := blobs.Sequence{l.Hash}
		for i := range count {
			seq = append(seq, blobs.Hash{byte(i)})
		}
		root, err := s.ImportBytes(bg, seq.Bytes())
		require.NoError(t, err)
		c, err := Load(bg, s, root.Hash)
		switch longest := LongestList(uint64(len(seq)) * blobs.HashSize); {
		case uint64(len(list)) > longest:
			require.ErrorIs(t, err, ErrNotChunked)
		case wrong != nil || len(sizes) != count:
			require.ErrorIs(t, err, ErrBadList)
		default:
			require.NoError(t, err)
			require.Equal(t, sizes, c.Sizes)
		}
	})
}

// A list or a sequence that is damaged here is damage, and never a verdict about what others have
// written.
func TestDamageIsNoVerdict(t *testing.T) {
	var sizes []uint64
	children := blobs.Sequence{{}}
	for i := range uint64(600) { // so that neither fits in a record, which has checksums of its own
		sizes = append(sizes, MinChunk+i*300)
		children = append(children, blobs.HashOf(List(sizes)))
	}
	list := List(sizes)
	first := blobs.HashOf(list)
	children[0] = first
	seq := children.Bytes()
	for name, at := range map[string]struct {
		list bool
		byte int
	}{
		"magic of the list":            {true, 3},
		"count of the list":            {true, len(magic)},
		"a length in the list":         {true, len(magic) + 7},
		"first hash of the sequence":   {false, 5},
		"another hash of the sequence": {false, 700},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := storeIn(t)
			for _, b := range [][]byte{list, seq} {
				_, err := s.ImportBytes(bg, b)
				require.NoError(t, err)
			}
			root := blobs.HashOf(seq)
			x, err := Open(bg, s, root)
			require.NoError(t, err)
			require.Equal(t, 600, x.Len())
			damaged, stored := root, seq
			if at.list {
				damaged, stored = first, list
			}
			// The first group of the sequence is looked for; its hash tree lies before it.
			flip(t, dir, stored[:1000], at.byte)
			_, err = Open(bg, s, root)
			var damage *blobs.DamageError
			require.ErrorAs(t, err, &damage)
			require.Equal(t, damaged, damage.Hash)
			if at.byte < len(magic) {
				_, err = IsSequence(bg, s, root)
				require.ErrorAs(t, err, &damage)
			}
		})
	}
}

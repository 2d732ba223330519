package blobs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/badger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

func newStore(t testing.TB) *Store {
	t.Helper()
	db, err := badger.Open("", badger.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s, err := Open(bg, db)
	require.NoError(t, err)
	return s
}

// pattern is the content of the shared vectors: byte i is i mod 251.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// sizes around every edge of the tree: groups, segments, and blocks of segments.
var sizes = []int{0, 1, 1023, 1024, 1025, 16383, 16384, 16385, 2 * GroupSize, 3*GroupSize + 5, 31 * GroupSize,
	SegmentSize - 1, SegmentSize, SegmentSize + 1, SegmentSize + GroupSize, 2*SegmentSize + 777, 5 * SegmentSize}

type vectors struct {
	Blake3 struct {
		Cases []struct {
			Length int
			Hash   Hash
		}
	}
	Bao16 struct {
		Cases []struct {
			Length         int
			Root           Hash
			OutboardLength int  `json:"outboard_length"`
			OutboardBlake3 Hash `json:"outboard_blake3"`
			Outboard       *string
		}
	}
}

func loadVectors(t *testing.T) (v vectors) {
	b, err := os.ReadFile("../testdata/objects-vectors.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.Blake3.Cases)
	require.NotEmpty(t, v.Bao16.Cases)
	return v
}

// OBJ-B1: the name is the plain BLAKE3 hash.
func TestHashVectors(t *testing.T) {
	s := newStore(t)
	for _, c := range loadVectors(t).Blake3.Cases {
		require.Equal(t, c.Hash, HashOf(pattern(c.Length)), "length %d", c.Length)
		info, err := s.Import(bg, bytes.NewReader(pattern(c.Length)), ImportOptions{})
		require.NoError(t, err)
		require.Equal(t, Info{c.Hash, uint64(c.Length), true, uint64(c.Length)}, info)
	}
}

// OBJ-B5: the parents in the stream of a whole blob are the pre-order outboard of the vectors.
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

func TestImportReadBack(t *testing.T) {
	s := newStore(t)
	for _, n := range sizes {
		data := random(uint64(n), n)
		// A reader that gives a few bytes at a time must not matter.
		info, err := s.Import(bg, &dribble{data}, ImportOptions{})
		require.NoError(t, err)
		require.Equal(t, Hash(blake3.Sum256(data)), info.Hash, "size %d", n)
		got, err := s.ReadAll(bg, info.Hash, uint64(n))
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got), "size %d", n)
		damage, err := s.Verify(bg, info.Hash, nil)
		require.NoError(t, err)
		require.Empty(t, damage)
	}
	if _, err := s.ReadAll(bg, HashOf(random(5*SegmentSize, 5*SegmentSize)), 1000); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("limit not kept: %v", err)
	}
}

type dribble struct{ b []byte }

func (d *dribble) Read(p []byte) (int, error) {
	if len(d.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 70_001)], d.b)
	d.b = d.b[n:]
	return n, nil
}

func TestReaderSeeks(t *testing.T) {
	s := newStore(t)
	data := random(1, 2*SegmentSize+777)
	info, err := s.ImportBytes(bg, data)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		r, err := s.Reader(bg, info.Hash)
		require.NoError(t, err)
		off := rapid.IntRange(0, len(data)+10).Draw(t, "off")
		n := rapid.IntRange(0, SegmentSize+100).Draw(t, "n")
		p := make([]byte, n)
		got, err := r.ReadAt(p, int64(off))
		want := data[min(off, len(data)):min(off+n, len(data))]
		require.True(t, bytes.Equal(want, p[:got]))
		require.Equal(t, len(want) < n, errors.Is(err, io.EOF))

		_, err = r.Seek(int64(-min(off, len(data))), io.SeekEnd)
		require.NoError(t, err)
		var tail bytes.Buffer
		_, err = io.Copy(&tail, r)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data[len(data)-min(off, len(data)):], tail.Bytes()))
	})
}

// rangesOf draws byte ranges around a blob of n bytes: overlapping, empty and beyond its end among them.
func rangesOf(t *rapid.T, n int) Ranges {
	var rs []Range
	for range rapid.IntRange(0, 4).Draw(t, "ranges") {
		start := rapid.Uint64Range(0, uint64(n)+2*GroupSize).Draw(t, "start")
		rs = append(rs, Range{start, start + rapid.Uint64Range(0, uint64(n)+1).Draw(t, "length")})
	}
	return NewRanges(rs...)
}

type memoryFile []byte

func (m memoryFile) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// OBJ-B4: any set of ranges of any blob arrives, and only its groups.
func TestEncodeDecodeProperty(t *testing.T) {
	s := newStore(t)
	infos := map[int]Info{}
	for _, n := range sizes {
		info, err := s.ImportBytes(bg, random(uint64(n), n))
		require.NoError(t, err)
		infos[n] = info
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom(sizes).Draw(t, "size")
		ranges := rangesOf(t, n)
		var stream bytes.Buffer
		require.NoError(t, s.Encode(bg, &stream, infos[n].Hash, ranges))
		out := make(memoryFile, n)
		rest := bufio.NewReaderSize(io.MultiReader(&stream, bytes.NewReader([]byte("next"))), decodeBuffer)
		require.NoError(t, Decode(rest, infos[n].Hash, uint64(n), ranges, out))
		after, err := io.ReadAll(rest)
		require.NoError(t, err)
		require.Equal(t, "next", string(after), "exactly the stream is read")

		want := make([]byte, n)
		data := random(uint64(n), n)
		for _, r := range ranges.groupsOf(uint64(n)).bytesOf(uint64(n)) {
			copy(want[r.Start:r.End], data[r.Start:r.End])
		}
		require.True(t, bytes.Equal(want, out))
	})
}

// OBJ-B3: one flipped bit anywhere is refused within the group or parent that holds it, and nothing wrong comes through.
func TestFlippedBitIsRefused(t *testing.T) {
	s := newStore(t)
	data := random(9, SegmentSize+3*GroupSize+100)
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
		require.True(t, bytes.Equal(make([]byte, len(data)-int(corrupt.Offset)), out[corrupt.Offset:]), "nothing after the lie")
	})
	for _, cut := range []int{0, 63, 64, 5000, stream.Len() - 1} {
		err := Decode(bytes.NewReader(stream.Bytes()[:cut]), info.Hash, info.Size, Everything, make(memoryFile, len(data)))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestWrongSizeIsRefused(t *testing.T) {
	s := newStore(t)
	data := random(3, 3*GroupSize+100)
	info, err := s.ImportBytes(bg, data)
	require.NoError(t, err)
	last := Ranges{{info.Size - 1, info.Size}}
	var stream bytes.Buffer
	require.NoError(t, s.Encode(bg, &stream, info.Hash, last))
	for _, size := range []uint64{1, GroupSize, info.Size - 1, info.Size + 1, info.Size + GroupSize, 100 * SegmentSize, MaxSize} {
		rc := newStore(t).NewReceiver(bg, nil)
		err := rc.ReceiveLast(bufio.NewReader(io.MultiReader(bytes.NewReader(stream.Bytes()), zeroReader{})), info.Hash, size)
		var corrupt *CorruptError
		require.ErrorAs(t, err, &corrupt, "size %d", size)
		require.NoError(t, rc.Close())
		_, err = rc.s.Stat(bg, info.Hash)
		require.ErrorIs(t, err, ErrNotFound, "nothing is stored")
	}
	rc := newStore(t).NewReceiver(bg, nil)
	require.ErrorContains(t, rc.ReceiveLast(bufio.NewReader(zeroReader{}), info.Hash, MaxSize+1), "limit")
	require.NoError(t, rc.Close())
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// transfer moves ranges of h from one store to another the way a download does: the last group first if it is unknown.
func transfer(t require.TestingT, from, to *Store, h Hash, ranges Ranges) {
	info, err := from.Stat(bg, h)
	require.NoError(t, err)
	rc := to.NewReceiver(bg, nil)
	if _, err := to.Stat(bg, h); errors.Is(err, ErrNotFound) {
		var stream bytes.Buffer
		require.NoError(t, from.Encode(bg, &stream, h, Ranges{{max(info.Size, 1) - 1, max(info.Size, 1)}}))
		require.NoError(t, rc.ReceiveLast(bufio.NewReader(&stream), h, info.Size))
	}
	if info.Size > GroupSize {
		var stream bytes.Buffer
		require.NoError(t, from.Encode(bg, &stream, h, ranges))
		require.NoError(t, rc.Receive(bufio.NewReader(&stream), h, info.Size, ranges))
	}
	require.NoError(t, rc.Close())
}

// A blob that arrives in any pieces, in any order, with overlaps, knows at each step what it has, serves that to a third
// store, and is whole in the end.
func TestPartialBlobProperty(t *testing.T) {
	source := newStore(t)
	infos := map[int]Info{}
	for _, n := range sizes {
		info, err := source.ImportBytes(bg, random(uint64(n), n))
		require.NoError(t, err)
		infos[n] = info
	}
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.SampledFrom(sizes).Draw(rt, "size")
		info, data := infos[n], random(uint64(n), n)
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
	data := random(4, 33*SegmentSize+5)
	info, err := source.Import(bg, bytes.NewReader(data), ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, HashOf(data), info.Hash)
	require.Equal(t, 2, newGeometry(info.Size).top())
	transfer(t, source, to, info.Hash, Ranges{{20 * SegmentSize, 21 * SegmentSize}, {32*SegmentSize - 1, 32*SegmentSize + 1}})
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
	info, err := source.ImportBytes(bg, random(1, 3*SegmentSize))
	require.NoError(t, err)
	var stream bytes.Buffer
	require.NoError(t, source.Encode(bg, &stream, info.Hash, Ranges{{0, 10}}))
	rc := to.NewReceiver(bg, nil)
	require.NoError(t, rc.Receive(bufio.NewReader(&stream), info.Hash, info.Size, Ranges{{0, 10}}))
	require.ErrorIs(t, rc.Close(), ErrSizeNotProved)
	_, err = to.Stat(bg, info.Hash)
	require.ErrorIs(t, err, ErrNotFound)
}

// What was verified before the stream failed is kept, also inside a segment.
func TestReceiverKeepsWhatCameBeforeAnError(t *testing.T) {
	source, to := newStore(t), newStore(t)
	data := random(2, SegmentSize+10*GroupSize)
	info, err := source.ImportBytes(bg, data)
	require.NoError(t, err)
	transfer(t, source, to, info.Hash, nil)
	var stream bytes.Buffer
	require.NoError(t, source.Encode(bg, &stream, info.Hash, Everything))
	bad := stream.Bytes()
	bad[len(bad)-2*GroupSize] ^= 1
	verified := 0
	rc := to.NewReceiver(bg, func(n int) { verified += n })
	err = rc.Receive(bufio.NewReader(&stream), info.Hash, info.Size, Everything)
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.NoError(t, rc.Close())
	present, err := to.Present(bg, info.Hash)
	require.NoError(t, err)
	require.Equal(t, Ranges{{0, corrupt.Offset}, {uint64(len(data)) - GroupSize, uint64(len(data))}}, present)
	require.EqualValues(t, verified, corrupt.Offset)
}

func TestTwoReceiversOfOneBlob(t *testing.T) {
	source, to := newStore(t), newStore(t)
	data := random(2, 6*SegmentSize+10)
	info, err := source.ImportBytes(bg, data)
	require.NoError(t, err)
	transfer(t, source, to, info.Hash, nil)
	done := make(chan error, 2)
	for range 2 {
		go func() {
			var stream bytes.Buffer
			err := source.Encode(bg, &stream, info.Hash, Everything)
			rc := to.NewReceiver(bg, nil)
			err = errors.Join(err, rc.Receive(bufio.NewReader(&stream), info.Hash, info.Size, Everything), rc.Close())
			done <- err
		}()
	}
	require.NoError(t, errors.Join(<-done, <-done))
	got, err := to.ReadAll(bg, info.Hash, info.Size)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
}

func countKeys(t require.TestingT, s *Store, prefix string) (n int) {
	require.NoError(t, s.kv.View(bg, func(r kv.Reader) error {
		for _, err := range r.Scan(kv.Prefix([]byte(prefix)), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	}))
	return n
}

func TestFailedImportLeavesNothing(t *testing.T) {
	s := newStore(t)
	boom := errors.New("boom")
	_, err := s.Import(bg, io.MultiReader(bytes.NewReader(random(1, 3*SegmentSize)), failingReader{boom}), ImportOptions{})
	require.ErrorIs(t, err, boom)
	ctx, cancel := context.WithCancel(bg)
	_, err = s.Import(ctx, zeroReader{}, ImportOptions{Progress: func(n uint64) {
		if n > 4*SegmentSize {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, countKeys(t, s, "b"))
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

func TestImportTwiceStoresOnce(t *testing.T) {
	s := newStore(t)
	data := random(1, 3*SegmentSize)
	for range 2 { // OBJ-B7
		_, err := s.ImportBytes(bg, data)
		require.NoError(t, err)
	}
	require.Equal(t, 3, countKeys(t, s, keySegment)-1, "three segments and one block above them")
	require.Zero(t, countKeys(t, s, keyGarbage))
}

func TestImportCompletesPartial(t *testing.T) {
	source, s := newStore(t), newStore(t)
	data := random(1, 3*SegmentSize)
	info, err := source.ImportBytes(bg, data)
	require.NoError(t, err)
	transfer(t, source, s, info.Hash, Ranges{{0, 1}})
	got, err := s.ImportBytes(bg, data)
	require.NoError(t, err)
	require.True(t, got.Complete)
	require.Equal(t, 4, countKeys(t, s, keySegment))
	require.Zero(t, countKeys(t, s, keyMask)+countKeys(t, s, keyGarbage))
}

func TestDelete(t *testing.T) {
	s := newStore(t)
	for _, n := range []int{100, 3 * SegmentSize} {
		info, err := s.ImportBytes(bg, random(1, n))
		require.NoError(t, err)
		r, err := s.Reader(bg, info.Hash)
		require.NoError(t, err)
		require.NoError(t, s.Delete(bg, info.Hash))
		require.ErrorIs(t, s.Delete(bg, info.Hash), ErrNotFound)
		_, err = io.ReadAll(r)
		require.ErrorIs(t, err, ErrNotFound)
	}
	require.Zero(t, countKeys(t, s, "b"))
}

func TestResolve(t *testing.T) {
	s := newStore(t)
	info, err := s.ImportBytes(bg, []byte("hello"))
	require.NoError(t, err)
	full := info.Hash.String()
	for _, n := range []int{8, 9, 31, 64} {
		got, err := s.Resolve(bg, full[:n])
		require.NoError(t, err)
		require.Equal(t, info.Hash, got)
	}
	_, err = s.Resolve(bg, full[:7])
	require.ErrorIs(t, err, ErrNotHash)
	_, err = s.Resolve(bg, "zzzzzzzzzz")
	require.ErrorIs(t, err, ErrNotHash)
	_, err = s.Resolve(bg, "00000000")
	require.ErrorIs(t, err, ErrNotFound)
	other := info.Hash
	other[31] ^= 1
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error { return putInline(tx, other, []byte("x")) }))
	_, err = s.Resolve(bg, full[:20])
	require.ErrorIs(t, err, ErrAmbiguous)
}

func TestVerifyFindsDamage(t *testing.T) {
	s := newStore(t)
	data := random(1, 2*SegmentSize+5)
	info, err := s.ImportBytes(bg, data)
	require.NoError(t, err)
	small, err := s.ImportBytes(bg, []byte("small"))
	require.NoError(t, err)
	var rec record
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		rec, err = getRecord(tx, info.Hash)
		require.NoError(t, err)
		v, err := tx.Get(blockKey(rec.id, 0, 1))
		require.NoError(t, err)
		v[maskBytes+treeBytes(fanOut)+3*GroupSize+7] ^= 1
		return errors.Join(tx.Set(blockKey(rec.id, 0, 1), v), tx.Set(inlineKey(small.Hash), []byte("snall")))
	}))
	damage, err := s.Verify(bg, info.Hash, nil)
	require.NoError(t, err)
	at := uint64(SegmentSize + 3*GroupSize)
	require.Equal(t, []Damage{{info.Hash, Range{at, at + GroupSize}, "content does not match"}}, damage)
	damage, err = s.Verify(bg, small.Hash, nil)
	require.NoError(t, err)
	require.Len(t, damage, 1)

	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error { return tx.Delete(blockKey(rec.id, 0, 2)) }))
	damage, err = s.Verify(bg, info.Hash, nil)
	require.NoError(t, err)
	require.Len(t, damage, 2)
	_, err = s.Verify(bg, Hash{1}, nil)
	require.ErrorIs(t, err, ErrNotFound)
}

func TestExport(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	data := random(1, 2*SegmentSize+5)
	info, err := s.ImportFile(bg, writeFile(t, dir, data), ImportOptions{})
	require.NoError(t, err)
	out := filepath.Join(dir, "out")
	require.NoError(t, s.Export(bg, info.Hash, out, nil))
	got, err := os.ReadFile(out)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))

	require.ErrorIs(t, s.Export(bg, Hash{1}, filepath.Join(dir, "no"), nil), ErrNotFound)
	require.Error(t, s.Export(bg, info.Hash, filepath.Join(dir, "missing", "x"), nil))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 2, "no temporary file stays")
}

func writeFile(t *testing.T, dir string, data []byte) string {
	name := filepath.Join(dir, "in")
	require.NoError(t, os.WriteFile(name, data, 0o600))
	return name
}

func TestList(t *testing.T) {
	source, s := newStore(t), newStore(t)
	for _, n := range []int{10, SegmentSize} {
		_, err := s.ImportBytes(bg, random(1, n))
		require.NoError(t, err)
	}
	info, err := source.ImportBytes(bg, random(5, 3*GroupSize))
	require.NoError(t, err)
	transfer(t, source, s, info.Hash, nil)
	total, err := s.Totals(bg)
	require.NoError(t, err)
	require.Equal(t, Totals{Count: 3, Partial: 1, Bytes: 10 + SegmentSize + GroupSize}, total)
}

func TestRangesAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (Ranges, map[uint64]bool) {
			m := map[uint64]bool{}
			var rs []Range
			for range rapid.IntRange(0, 5).Draw(t, label) {
				r := Range{rapid.Uint64Range(0, 30).Draw(t, "s"), rapid.Uint64Range(0, 30).Draw(t, "e")}
				rs = append(rs, r)
				for i := r.Start; i < r.End; i++ {
					m[i] = true
				}
			}
			return NewRanges(rs...), m
		}
		a, ma := draw("a")
		b, mb := draw("b")
		check := func(name string, got Ranges, want func(i uint64) bool) {
			require.Equal(t, NewRanges(got...), got, "%s is in normal form", name)
			for i := range uint64(32) {
				require.Equal(t, want(i), got.Overlaps(Range{i, i + 1}), "%s at %d", name, i)
			}
		}
		check("union", a.Union(b), func(i uint64) bool { return ma[i] || mb[i] })
		check("intersect", a.Intersect(b), func(i uint64) bool { return ma[i] && mb[i] })
		check("without", a.Without(b), func(i uint64) bool { return ma[i] && !mb[i] })
		require.EqualValues(t, len(ma), a.Count())

		wire, err := a.AppendBinary(nil)
		require.NoError(t, err)
		back, err := ReadRanges(bytes.NewReader(wire))
		require.NoError(t, err)
		require.Equal(t, a, back)
	})
}

func FuzzReadRanges(f *testing.F) {
	for _, r := range []Ranges{nil, Everything, {{0, 1}, {5, 9}}, {{3, maxPosition}}} {
		b, err := r.AppendBinary(nil)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadRanges(bytes.NewReader(b))
		if err != nil {
			require.ErrorIs(t, err, ErrBadRanges)
			return
		}
		require.Equal(t, NewRanges(r...), r, "only the normal form is accepted")
	})
}

// FuzzDecode feeds a decoder anything: it must end, and write nothing but the true content.
func FuzzDecode(f *testing.F) {
	s := newStore(f)
	data := random(1, 5*GroupSize+100)
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

func (w *checkingWriter) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(w.data)) || !bytes.Equal(w.data[off:off+int64(len(p))], p) {
		w.wrong = true
	}
	return len(p), nil
}

func TestSequence(t *testing.T) {
	seq := Sequence{HashOf([]byte("a")), EmptyHash}
	back, err := ParseSequence(seq.Bytes())
	require.NoError(t, err)
	require.Equal(t, seq, back)
	_, err = ParseSequence(make([]byte, 33))
	require.ErrorIs(t, err, ErrNotSequence)
}

func TestParseHash(t *testing.T) {
	for _, bad := range []string{"", "xyz", fmt.Sprintf("%064s", "g")} {
		_, err := ParseHash(bad)
		require.ErrorIs(t, err, ErrNotHash)
	}
}

// A blob that is deleted while it arrives stays deleted, and leaves nothing behind.
func TestDeletionDuringDownload(t *testing.T) {
	source, to := newStore(t), newStore(t)
	info, err := source.ImportBytes(bg, random(1, 8*SegmentSize))
	require.NoError(t, err)
	transfer(t, source, to, info.Hash, nil)
	rc := to.NewReceiver(bg, nil)
	receive := func(r Ranges) error {
		var stream bytes.Buffer
		require.NoError(t, source.Encode(bg, &stream, info.Hash, r))
		return rc.Receive(bufio.NewReader(&stream), info.Hash, info.Size, r)
	}
	require.NoError(t, receive(Ranges{{0, 4 * SegmentSize}}))
	require.Eventually(t, func() bool {
		present, err := to.Present(bg, info.Hash)
		return err == nil && present.Count() > 4*SegmentSize
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, to.Delete(bg, info.Hash))
	_ = receive(Ranges{{4 * SegmentSize, 7 * SegmentSize}}) // may fail already, or in Close
	require.ErrorIs(t, rc.Close(), ErrSizeNotProved)
	require.Zero(t, countKeys(t, to, "b"))
}

// Segments that were written for a blob that is gone by the time they are noted are cleared; those of a blob that is there are not.
func TestStaleSegmentsAreDropped(t *testing.T) {
	source, s := newStore(t), newStore(t)
	info, err := source.ImportBytes(bg, random(1, 3*SegmentSize))
	require.NoError(t, err)
	transfer(t, source, s, info.Hash, nil)
	var rec record
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		rec, err = getRecord(tx, info.Hash)
		return errors.Join(err, tx.Set(blockKey(77, 0, 0), []byte("stale")), tx.Set(maskKey(77, 0), []byte("1234")))
	}))
	before := countKeys(t, s, keySegment)
	require.NoError(t, s.dropStale(bg, map[Hash]contentID{info.Hash: 77, {9}: 78}))
	require.Equal(t, before-1, countKeys(t, s, keySegment))
	require.NoError(t, s.dropStale(bg, map[Hash]contentID{info.Hash: rec.id}))
	require.Equal(t, before-1, countKeys(t, s, keySegment))
}

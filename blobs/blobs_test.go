package blobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
	"github.com/skerry-sync/skerry/kv/pebble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

func newStore(t testing.TB) *Store {
	t.Helper()
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return openStore(t, kvtest.Rerun(db), files.Options{}) // everything must bear a conflict
}

func openStore(t testing.TB, db kv.Store, o files.Options) *Store {
	t.Helper()
	fs, err := files.Open(t.TempDir(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, fs.Close()) })
	s, err := Open(bg, db, fs)
	require.NoError(t, err)
	s.settleTime = 0
	return s
}

// requireEmpty checks that the store holds nothing: no record but its own, and no file but packs.
func requireEmpty(t require.TestingT, s *Store) {
	left, err := s.files.Files()
	require.NoError(t, err)
	require.Empty(t, left)
	for _, kind := range []string{keyRecord, keyInline, keyTree, keyMask, keyGarbage} {
		require.Zero(t, countKeys(t, s, kind), "records of %q", kind)
	}
}

// pattern is the content of the shared vectors: byte i is i mod 251.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// sizes around every edge of the tree: groups, segments, and blocks of segments.
var sizes = []int{
	0, 1, 1023, 1024, 1025, 16383, 16384, 16385, 2 * GroupSize, 3*GroupSize + 5, 31 * GroupSize,
	SegmentSize - 1, SegmentSize, SegmentSize + 1, SegmentSize + GroupSize, 2*SegmentSize + 777,
	5 * SegmentSize,
}

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

// The name is the plain BLAKE3 hash.
func TestHashVectors(t *testing.T) {
	s := newStore(t)
	for _, c := range loadVectors(t).Blake3.Cases {
		require.Equal(t, c.Hash, HashOf(pattern(c.Length)), "length %d", c.Length)
		info, err := s.Import(bg, bytes.NewReader(pattern(c.Length)), ImportOptions{})
		require.NoError(t, err)
		require.Equal(
			t, Info{Hash: c.Hash, Size: uint64(c.Length), Complete: true, Present: uint64(c.Length)}, info,
		)
	}
}

func TestImportReadBack(t *testing.T) {
	s := newStore(t)
	for _, n := range sizes {
		data := testkit.Random(uint64(n), n)
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
	if _, err := s.ReadAll(
		bg, HashOf(testkit.Random(5*SegmentSize, 5*SegmentSize)), 1000,
	); !errors.Is(err, ErrTooLarge) {
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
	data := testkit.Random(1, 2*SegmentSize+777)
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

func (m memoryFile) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

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
	_, err := s.Import(
		bg, io.MultiReader(bytes.NewReader(testkit.Random(1, 3*SegmentSize)), failingReader{boom}),
		ImportOptions{},
	)
	require.ErrorIs(t, err, boom)
	ctx, cancel := context.WithCancel(bg)
	_, err = s.Import(ctx, zeroReader{}, ImportOptions{Progress: func(n uint64) {
		if n > 4*SegmentSize {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	requireEmpty(t, s)
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

func TestImportTwiceStoresOnce(t *testing.T) {
	s := newStore(t)
	data := testkit.Random(1, 3*SegmentSize)
	for range 2 {
		_, err := s.ImportBytes(bg, data)
		require.NoError(t, err)
	}
	require.Equal(t, 3, countKeys(t, s, keyTree)-1, "three segments and one block above them")
	require.Zero(t, countKeys(t, s, keyGarbage))
	stored, err := s.files.Files()
	require.NoError(t, err)
	require.Len(t, stored, 1)
}

func TestImportCompletesPartial(t *testing.T) {
	source, s := newStore(t), newStore(t)
	data := testkit.Random(1, 3*SegmentSize)
	info, err := source.ImportBytes(bg, data)
	require.NoError(t, err)
	transfer(t, source, s, info.Hash, Ranges{{0, 1}})
	got, err := s.ImportBytes(bg, data)
	require.NoError(t, err)
	require.True(t, got.Complete)
	require.Equal(t, 4, countKeys(t, s, keyTree))
	require.Zero(t, countKeys(t, s, keyMask)+countKeys(t, s, keyGarbage))
}

func TestDelete(t *testing.T) {
	s := newStore(t)
	for _, n := range []int{100, 3 * SegmentSize} {
		info, err := s.ImportBytes(bg, testkit.Random(1, n))
		require.NoError(t, err)
		r, err := s.Reader(bg, info.Hash)
		require.NoError(t, err)
		require.NoError(t, s.Delete(bg, info.Hash))
		require.ErrorIs(t, s.Delete(bg, info.Hash), ErrNotFound)
		_, err = io.ReadAll(r)
		require.ErrorIs(t, err, ErrNotFound)
	}
	requireEmpty(t, s)
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
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		return tx.Set(recordKey(other), record{state: stateInline, size: 1}.marshal())
	}))
	_, err = s.Resolve(bg, full[:20])
	require.ErrorIs(t, err, ErrAmbiguous)
}

func TestVerifyFindsDamage(t *testing.T) {
	s := newStore(t)
	data := testkit.Random(1, 2*SegmentSize+5)
	info, err := s.ImportBytes(bg, data)
	require.NoError(t, err)
	small, err := s.ImportBytes(bg, []byte("small"))
	require.NoError(t, err)
	packed, err := s.ImportBytes(bg, testkit.Random(2, 5*GroupSize))
	require.NoError(t, err)
	rec, err := s.lookUp(bg, info.Hash)
	require.NoError(t, err)
	flip := func(path string, at int64) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		var b [1]byte
		_, err = f.ReadAt(b[:], at)
		require.NoError(t, err)
		b[0] ^= 1
		_, err = f.WriteAt(b[:], at)
		require.NoError(t, errors.Join(err, f.Close()))
	}
	digits := fmt.Sprintf("%016x", uint64(rec.id))
	flip(filepath.Join(s.files.Dir(), "own", digits[:2], digits), SegmentSize+3*GroupSize+7)
	flip(filepath.Join(s.files.Dir(), "packs", "00000001"), int64(treeBytes(5))+2*GroupSize)
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		return tx.Set(inlineKey(small.Hash), []byte("snall"))
	}))
	damage, err := s.Verify(bg, info.Hash, nil)
	require.NoError(t, err)
	at := uint64(SegmentSize + 3*GroupSize)
	require.Equal(
		t, []Damage{{Hash: info.Hash, Range: Range{at, at + GroupSize}, Cause: "content does not match"}},
		damage,
	)
	for _, h := range []Hash{small.Hash, packed.Hash} {
		damage, err := s.Verify(bg, h, nil)
		require.NoError(t, err)
		require.Len(t, damage, 1)
		require.NoError(t, s.Drop(bg, h, damage))
		_, err = s.Stat(bg, h)
		require.ErrorIs(t, err, ErrNotFound, "a small blob is dropped whole")
	}

	// What is damaged is dropped, and only that, and can be fetched again.
	source := newStore(t)
	_, err = source.ImportBytes(bg, data)
	require.NoError(t, err)
	require.NoError(t, s.Drop(bg, info.Hash, damage))
	present, err := s.Present(bg, info.Hash)
	require.NoError(t, err)
	require.Equal(t, Ranges{{0, at}, {at + GroupSize, info.Size}}, present)
	transfer(t, source, s, info.Hash, Ranges{{at, at + 1}})
	got, err := s.ReadAll(bg, info.Hash, info.Size)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))

	// A damaged tree takes its segment with it.
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		v, err := tx.Get(blockKey(rec.id, 0, 1))
		require.NoError(t, err)
		v[70] ^= 1
		return tx.Set(blockKey(rec.id, 0, 1), v)
	}))
	damage, err = s.Verify(bg, info.Hash, nil)
	require.NoError(t, err)
	require.NotEmpty(t, damage)
	require.True(t, damage[0].Tree)
	require.NoError(t, s.Drop(bg, info.Hash, damage))
	damage, err = s.Verify(bg, info.Hash, nil)
	require.NoError(t, err)
	require.Empty(t, damage)
	transfer(t, source, s, info.Hash, Ranges{{SegmentSize, 2 * SegmentSize}})
	st, err := s.Stat(bg, info.Hash)
	require.NoError(t, err)
	require.True(t, st.Complete)

	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		return tx.Delete(blockKey(rec.id, 1, 0))
	}))
	damage, err = s.Verify(bg, info.Hash, nil)
	require.NoError(t, err)
	require.Len(t, damage, 1)
	require.NoError(t, s.Drop(bg, info.Hash, damage))
	requireEmpty(t, s)
	_, err = s.Verify(bg, Hash{1}, nil)
	require.ErrorIs(t, err, ErrNotFound)
}

func TestExport(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	data := testkit.Random(1, 2*SegmentSize+5)
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
		_, err := s.ImportBytes(bg, testkit.Random(1, n))
		require.NoError(t, err)
	}
	info, err := source.ImportBytes(bg, testkit.Random(5, 3*GroupSize))
	require.NoError(t, err)
	transfer(t, source, s, info.Hash, nil)
	total, err := s.Totals(bg)
	require.NoError(t, err)
	require.Equal(t, Totals{Count: 3, Partial: 1, Bytes: 10 + SegmentSize + GroupSize}, total)
}

func (w *checkingWriter) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(w.data)) || !bytes.Equal(w.data[off:off+int64(len(p))], p) {
		w.wrong = true
	}
	return len(p), nil
}

// An ordered list of hashes.
func TestSequence(t *testing.T) {
	seq := Sequence{HashOf([]byte("a")), EmptyHash}
	back, err := ParseSequence(seq.Bytes())
	require.NoError(t, err)
	require.Equal(t, seq, back)
	_, err = ParseSequence(make([]byte, 33))
	require.ErrorIs(t, err, ErrNotSequence)
}

package blobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/badger"
	"github.com/skerry-sync/skerry/kv/kvtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

func newStore(t testing.TB) *Store {
	t.Helper()
	db, err := badger.Open("", badger.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s, err := Open(bg, kvtest.Rerun(db)) // everything must bear a conflict
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

package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/internal/testkit"
)

var key = ReadKey{1, 2, 3}

func sealed(t testing.TB, k ReadKey, epoch uint32, content []byte) []byte {
	var out bytes.Buffer
	w, err := k.Seal(&out, epoch, blake3.Sum256(content))
	require.NoError(t, err)
	n, err := w.Write(content)
	require.NoError(t, err)
	require.Equal(t, len(content), n)
	require.NoError(t, w.Close())
	require.NoError(t, w.Close())
	require.EqualValues(t, SealedSize(uint64(len(content))), out.Len())
	return out.Bytes()
}

func read(k ReadKey, b []byte) ([]byte, error) {
	r, err := k.Open(bytes.NewReader(b), uint64(len(b)))
	if err != nil {
		return nil, err
	}
	out := make([]byte, r.Size())
	_, err = r.ReadAt(out, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out, err
}

var sizes = []int{
	0, 1, 100, SegmentSize - 1, SegmentSize, SegmentSize + 1, 2 * SegmentSize, 2*SegmentSize + 5,
}

func TestContent(t *testing.T) {
	for _, size := range sizes {
		content := testkit.Random(1, size)
		b := sealed(t, key, 7, content)
		require.Equal(t, b, sealed(t, key, 7, content), "the same gives the same")
		require.NotEqual(t, b[HeadSize:], sealed(t, key, 8, content)[HeadSize:])
		if size > 16 {
			require.NotContains(t, string(b), string(content[:16]))
		}
		got, err := read(key, b)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
		epoch, err := Epoch(b)
		require.NoError(t, err)
		require.EqualValues(t, 7, epoch)
		n, err := ContentSize(uint64(len(b)))
		require.NoError(t, err)
		require.EqualValues(t, size, n)
		if size > 0 {
			_, err = read(ReadKey{9}, b)
			require.ErrorIs(t, err, ErrSealed)
		}
	}
}

// Any part is read from the sealed bytes that SealedRange names, and nothing else.
func TestParts(t *testing.T) {
	content := testkit.Random(2, 3*SegmentSize+77)
	b := sealed(t, key, 1, content)
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, len(content)).Draw(t, "from")
		to := rapid.IntRange(from, len(content)).Draw(t, "to")
		start, end := SealedRange(uint64(from), uint64(to))
		r, err := key.Open(only{b, int64(start), int64(end)}, uint64(len(b)))
		require.NoError(t, err)
		got := make([]byte, to-from)
		_, err = r.ReadAt(got, int64(from))
		require.NoError(t, err)
		require.True(t, bytes.Equal(content[from:to], got))
	})
	r, err := key.Open(bytes.NewReader(b), uint64(len(b)))
	require.NoError(t, err)
	require.NoError(t, iotest.TestReader(io.NewSectionReader(r, 0, int64(r.Size())), content))
	n, err := r.ReadAt(make([]byte, 10), int64(len(content))-3)
	require.Equal(t, 3, n)
	require.Equal(t, io.EOF, err)
	_, err = r.ReadAt(nil, -1)
	require.Error(t, err)
}

// only reads the head and one range.
type only struct {
	b          []byte
	start, end int64
}

func (o only) ReadAt(b []byte, off int64) (int, error) {
	if end := off + int64(len(b)); end > HeadSize && (off < o.start ||
		end > min(o.end, int64(len(o.b)))) {
		return 0, fmt.Errorf("read of %d to %d, outside of %d to %d", off, end, o.start, o.end)
	}
	return bytes.NewReader(o.b).ReadAt(b, off)
}

// Whatever is changed, moved or cut is noticed, before anything wrong is returned.
func TestChangedContent(t *testing.T) {
	content := testkit.Random(3, 2*SegmentSize+100)
	b := sealed(t, key, 1, content)
	const whole = SegmentSize + 16
	for _, i := range []int{
		0, 1, 4, 5, HeadSize - 1, HeadSize, HeadSize + 5, HeadSize + whole - 1, HeadSize + whole,
		len(b) - 1,
	} {
		c := bytes.Clone(b)
		c[i] ^= 1
		_, err := read(key, c)
		require.ErrorIs(t, err, ErrSealed, i)
	}
	swapped := bytes.Clone(b)
	copy(swapped[HeadSize:], b[HeadSize+whole:HeadSize+2*whole])
	copy(swapped[HeadSize+whole:], b[HeadSize:HeadSize+whole])
	for name, c := range map[string][]byte{
		"segments swapped":    swapped,
		"the last is missing": b[:HeadSize+2*whole],
		"two are missing":     b[:HeadSize+whole],
		"one byte is missing": b[:len(b)-1],
		"one byte more":       append(bytes.Clone(b), 0),
		"only a head":         b[:HeadSize],
		"nothing":             nil,
	} {
		_, err := read(key, c)
		require.ErrorIs(t, err, ErrSealed, name)
	}
	r, err := key.Open(
		bytes.NewReader(append(bytes.Clone(b[:HeadSize+whole]), make([]byte, len(b)-HeadSize-whole)...)),
		uint64(len(b)),
	)
	require.NoError(t, err)
	got := make([]byte, 2*SegmentSize)
	n, err := r.ReadAt(got, 0)
	require.ErrorIs(t, err, ErrSealed)
	require.Equal(t, SegmentSize, n)
	require.True(t, bytes.Equal(content[:n], got[:n]), "what was returned before is right")
	n, err = r.ReadAt(got[:10], 5)
	require.NoError(t, err)
	require.Equal(t, content[5:15], got[:n])
}

// A file that changes between being hashed and being sealed is noticed: its key is that of other
// content.
func TestChangedWhileSealed(t *testing.T) {
	content := testkit.Random(5, SegmentSize+5)
	for _, other := range [][]byte{content[1:], append(bytes.Clone(content), 1), nil} {
		w, err := key.Seal(io.Discard, 1, blake3.Sum256(content))
		require.NoError(t, err)
		_, err = w.Write(other)
		require.NoError(t, err)
		require.ErrorIs(t, w.Close(), ErrChanged)
		require.ErrorIs(t, w.Close(), ErrChanged)
	}
}

func TestSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint64Range(0, 20*SegmentSize).Draw(t, "size")
		n, err := ContentSize(SealedSize(size))
		require.NoError(t, err)
		require.Equal(t, size, n)
	})
	possible := map[uint64]bool{}
	for size := range uint64(2*SegmentSize + 100) {
		possible[SealedSize(size)] = true
	}
	for n := range SealedSize(2*SegmentSize + 99) {
		_, err := ContentSize(n)
		require.Equal(t, possible[n], err == nil, n)
	}
	_, err := ContentSize(1 << 62)
	require.ErrorIs(t, err, ErrSealed)
}

func TestNames(t *testing.T) {
	n := key.Names(7)
	rapid.Check(t, func(t *rapid.T) {
		name := []byte(rapid.StringMatching(`([a-c]{0,20}/){0,3}[a-cé\x00]{0,40}`).Draw(t, "name"))
		b, err := n.Seal(name)
		require.NoError(t, err)
		require.LessOrEqual(t, len(b), MaxSealedName)
		again, err := n.Seal(name)
		require.NoError(t, err)
		require.Equal(t, b, again)
		back, err := n.Open(b)
		require.NoError(t, err)
		require.Equal(t, name, back)
		for i, c := range name {
			if c == '/' {
				p, err := n.SealPrefix(name[:i+1])
				require.NoError(t, err)
				require.True(t, bytes.HasPrefix(b, p))
			}
		}
	})
	seal := func(s string) []byte {
		b, err := n.Seal([]byte(s))
		require.NoError(t, err)
		return b
	}
	require.NotEqual(
		t, seal("a/x")[len(seal("a")):], seal("b/x")[len(seal("b")):],
		"the same part in other places looks different",
	)
	require.Len(t, seal("12345678901234"), len(seal("1")), "lengths are hidden to 16 bytes")
	p, err := n.SealPrefix([]byte("photos/"))
	require.NoError(t, err)
	require.False(t, bytes.HasPrefix(seal("photosets/a"), p))
	p, err = n.SealPrefix(nil)
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(seal("x"), p))
	_, err = n.SealPrefix([]byte("pho"))
	require.ErrorIs(t, err, ErrName)
	_, err = n.Seal(make([]byte, MaxName+1))
	require.ErrorIs(t, err, ErrName)
	_, err = n.Seal([]byte(strings.Repeat("/", MaxParts)))
	require.ErrorIs(t, err, ErrName)
	b := seal(strings.Repeat("a/", MaxParts-1) + strings.Repeat("b", MaxName-2*MaxParts+2))
	_, err = n.Open(b)
	require.NoError(t, err)

	b = seal("photos/summer/1.jpg")
	epoch, err := EpochOf(b)
	require.NoError(t, err)
	require.EqualValues(t, 7, epoch)
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		_, err := n.Open(c)
		require.ErrorIs(t, err, ErrSealed, i)
		cut := b[:i]
		if got, err := n.Open(cut); err == nil {
			require.Contains(
				t, []string{"photos", "photos/summer"}, string(got),
				"whole parts are a name, too: the entry's signature says which was meant",
			)
		}
	}
	_, err = key.Names(8).Open(b)
	require.ErrorIs(t, err, ErrSealed)
	_, err = ReadKey{9}.Names(7).Open(b)
	require.ErrorIs(t, err, ErrSealed)
}

// Golden: what is sealed can be opened by all later versions.
func TestGolden(t *testing.T) {
	name, err := key.Names(7).Seal([]byte("a/b"))
	require.NoError(t, err)
	require.Equal(
		t,
		"00000007f14f4d674529dc68c56c3ad44c58e2e084395771d7c37cc90010232cc5899aeba7bca433b96851f4c06b3caf187b71ccca643553a0888b27f2bb33c8ae5af2508612001004d3714575112a4b998a53fd8f6a8c51",
		hex.EncodeToString(name),
	)
	require.Equal(
		t,
		"01000000079ddd7cc7e73664e8a5afaaf8fdcac6b218b0dac77e69cd3a81f74bdd9f764d5d72e95cdef85a4700bc8a214e22fa2c755b01c3e2d7",
		hex.EncodeToString(sealed(t, key, 7, []byte("hello"))),
	)
}

func TestKeysAreHidden(t *testing.T) {
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %x %s", key, key, key, key, key), "010203")
}

func FuzzOpenName(f *testing.F) {
	n := key.Names(7)
	b, err := n.Seal([]byte("a/b"))
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		name, err := n.Open(b)
		if err != nil {
			require.ErrorIs(t, err, ErrSealed)
			return
		}
		again, err := n.Seal(name)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

func FuzzOpenContent(f *testing.F) {
	f.Add(sealed(f, key, 7, []byte("hello")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := read(key, b); err != nil {
			require.ErrorIs(t, err, ErrSealed)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	content := testkit.Random(4, 8<<20)
	b.SetBytes(int64(len(content)))
	hash := blake3.Sum256(content)
	for range b.N {
		w, err := key.Seal(io.Discard, 1, hash)
		require.NoError(b, err)
		_, err = w.Write(content)
		require.NoError(b, errors.Join(err, w.Close()))
	}
}

func BenchmarkOpen(b *testing.B) {
	content := testkit.Random(4, 8<<20)
	s := sealed(b, key, 1, content)
	b.SetBytes(int64(len(content)))
	for range b.N {
		_, err := read(key, s)
		require.NoError(b, err)
	}
}

func BenchmarkSealName(b *testing.B) {
	n := key.Names(1)
	for range b.N {
		_, err := n.Seal([]byte("photos/2026/summer/img_0001.jpg"))
		require.NoError(b, err)
	}
}

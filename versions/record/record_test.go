package record

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/replica"
)

func author(n byte) (a replica.AuthorID) {
	for i := range a {
		a[i] = n
	}
	return a
}

func device(n byte) Device {
	return Device{TagOf(author(n)), Incarnation{n, n, n, n, n, n, n, n}}
}

func dot(n byte, counter uint64) Dot { return Dot{device(n), counter} }

var testReplica = replica.ID{7}

// first is the first version of an item.
func first() *Record {
	return &Record{
		Dot: dot(3, 1), Height: 1, Content: Content{Form: Inline, Bytes: []byte("hello")},
	}
}

// fifth is a version of an item that five devices have written, with all that a record can say.
func fifth() *Record {
	r := &Record{
		Kind: Resolution, Dot: dot(3, 90), Height: 41, Generation: 2, Schema: 7, Cut: true,
		Context:  Vector{dot(1, 70), dot(2, 300), dot(3, 80), dot(4, 9), dot(5, 100_000)},
		Resolved: []Dot{dot(3, 80), dot(5, 100_000)},
		Content:  Content{Form: Chunked, Size: 9 << 20, Chunks: 36, Hash: HashOf(testReplica, nil)},
		Batch:    &Batch{First: 89, Keys: [][]byte{[]byte("a"), []byte("b/c"), {}}},
	}
	for i := range MaxAncestors {
		a := Ancestor{
			Dot: dot(byte(i%5+1), 1+uint64(i%9)), Height: 40 - uint64(i), Time: 1_800_000_000_000_000,
			Hash: ShortHash{byte(i)},
		}
		switch i {
		case 0:
			a.Kept = Content{Form: Inline, Bytes: []byte("before")}
		case 2:
			a.Kept = Content{Form: Chunked, Size: 5 << 20, Chunks: 20, Hash: Hash{9}}
		}
		r.Ancestors = append(r.Ancestors, a)
	}
	return r
}

func bytesOf(t testing.TB, r *Record) []byte {
	b, err := r.Append(nil)
	require.NoError(t, err)
	return b
}

// The bytes of records are those that other implementations write.
func TestGolden(t *testing.T) {
	for name, r := range map[string]*Record{"first": first(), "fifth": fifth(), "deletion": {
		Kind: Deletion, Dot: dot(2, 5), Height: 2, Context: Vector{dot(2, 4)}, Resolved: []Dot{dot(2, 4)},
	}} {
		file := filepath.Join("testdata", name+".hex")
		golden, err := os.ReadFile(file)
		require.NoError(t, err)
		want, err := hex.DecodeString(strings.Join(strings.Fields(string(golden)), ""))
		require.NoError(t, err)
		require.Equal(t, hex.EncodeToString(want), hex.EncodeToString(bytesOf(t, r)), name)
		got, err := Parse(want, author(r.Dot.Device.Author[0]))
		require.NoError(t, err)
		require.Equal(t, r, got)
	}
}

// A record costs little beyond its content.
func TestSizes(t *testing.T) {
	require.LessOrEqual(t, len(bytesOf(t, first()))-len("hello"), 150)
	r := fifth()
	r.Batch = nil
	size := len(bytesOf(t, r)) - len("before")
	t.Logf("first %d bytes, five devices and all ancestors %d", len(bytesOf(t, first()))-5, size)
	require.LessOrEqual(t, size, 1<<10)
}

// Whatever a record says is read as it was written.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := draw(t)
		b, err := r.Append([]byte("before"))
		require.NoError(t, err)
		got, err := Parse(b[len("before"):], author(r.Dot.Device.Author[0]))
		require.NoError(t, err)
		require.Equal(t, r, got)
	})
}

// draw returns any record.
func draw(t *rapid.T) *Record {
	counter := rapid.Uint64Range(1, MaxCounter)
	r := &Record{
		Kind:       rapid.SampledFrom([]Kind{Value, Deletion, Resolution}).Draw(t, "kind"),
		Dot:        dot(rapid.ByteRange(0, 9).Draw(t, "device"), rapid.Uint64Range(2, MaxCounter).Draw(t, "counter")),
		Height:     counter.Draw(t, "height"),
		Generation: rapid.Byte().Draw(t, "generation"),
		Schema:     rapid.Uint64().Draw(t, "schema"),
		Cut:        rapid.Bool().Draw(t, "cut"),
	}
	content := func(forms ...Form) (c Content) {
		switch c.Form = rapid.SampledFrom(forms).Draw(t, "form"); c.Form {
		case Inline:
			c.Bytes = append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes")...)
		case Chunked:
			c.Chunks = rapid.Uint64Range(1, 1000).Draw(t, "chunks")
			c.Size, c.Hash = c.Chunks+rapid.Uint64Range(0, 1<<40).Draw(t, "more"), Hash{1}
		}
		return c
	}
	r.Content = content(Inline, Chunked)
	if r.Kind == Deletion {
		r.Content = Content{}
	}
	for _, n := range rapid.SliceOfNDistinct(rapid.ByteRange(0, 9), 0, 9, rapid.ID).Draw(t, "context") {
		c := counter.Draw(t, "of context")
		if device(n) == r.Dot.Device {
			c = rapid.Uint64Range(1, r.Dot.Counter-1).Draw(t, "own")
		}
		r.Context = r.Context.With(dot(n, c))
	}
	if len(r.Context) == 0 {
		r.Context = nil
		return r
	}
	covered := func() Dot {
		d := rapid.SampledFrom(r.Context).Draw(t, "covered")
		d.Counter = rapid.Uint64Range(1, d.Counter).Draw(t, "counter")
		return d
	}
	for range rapid.IntRange(0, 3).Draw(t, "resolved") {
		r.Resolved = append(r.Resolved, covered())
	}
	slices.SortFunc(r.Resolved, Dot.Compare)
	r.Resolved = slices.Compact(r.Resolved)
	for range rapid.IntRange(0, MaxAncestors).Draw(t, "ancestors") {
		if r.Height == 1 {
			break
		}
		r.Ancestors = append(r.Ancestors, Ancestor{
			Dot: covered(), Height: rapid.Uint64Range(1, r.Height-1).Draw(t, "height"),
			Time: rapid.Uint64().Draw(t, "time"), Hash: ShortHash{2}, Kept: content(None, Inline, Chunked),
		})
	}
	slices.SortFunc(r.Ancestors, func(a, b Ancestor) int { return compareAncestors(&a, &b) })
	r.Ancestors = slices.CompactFunc(r.Ancestors, func(a, b Ancestor) bool {
		return compareAncestors(&a, &b) == 0
	})
	if rapid.Bool().Draw(t, "batch") {
		n := rapid.Uint64Range(1, 5).Draw(t, "parts")
		r.Batch = &Batch{First: r.Dot.Counter - min(r.Dot.Counter-1, n-1)}
		for range n {
			key := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "key")
			r.Batch.Keys = append(r.Batch.Keys, append([]byte{}, key...))
		}
	}
	return r
}

// A record that contradicts itself is neither written nor read.
func TestContradictions(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"kind":                   func(r *Record) { r.Kind = 3 },
		"counter 0":              func(r *Record) { r.Dot.Counter = 0 },
		"counter":                func(r *Record) { r.Dot.Counter = MaxCounter + 1 },
		"height 0":               func(r *Record) { r.Height = 0 },
		"height":                 func(r *Record) { r.Height = 1 << 63 },
		"supersedes itself":      func(r *Record) { r.Context[2].Counter = r.Dot.Counter },
		"its own future":         func(r *Record) { r.Context[2].Counter = r.Dot.Counter + 1 },
		"counter of the context": func(r *Record) { r.Context[0].Counter = 1 << 63 },
		"nothing of a device":    func(r *Record) { r.Context[0].Counter = 0 },
		"resolved unknown":       func(r *Record) { r.Resolved[1].Counter++ },
		"resolved twice":         func(r *Record) { r.Resolved[1] = r.Resolved[0] },
		"resolved in no order":   func(r *Record) { slices.Reverse(r.Resolved) },
		"too many resolved": func(r *Record) {
			r.Resolved = nil
			for i := range MaxResolved + 1 {
				r.Resolved = append(r.Resolved, dot(2, uint64(i)+1))
			}
		},
		"ancestor unknown":      func(r *Record) { r.Ancestors[0].Counter = 1 << 40 },
		"ancestor of no height": func(r *Record) { r.Ancestors[15].Height = 0 },
		"ancestor is higher":    func(r *Record) { r.Ancestors[0].Height = r.Height },
		"ancestors in no order": func(r *Record) { slices.Reverse(r.Ancestors) },
		"ancestor twice":        func(r *Record) { r.Ancestors[1] = r.Ancestors[0] },
		"too many ancestors": func(r *Record) {
			a := r.Ancestors[15]
			a.Height--
			r.Ancestors = append(r.Ancestors, a)
		},
		"deletion with content": func(r *Record) { r.Kind = Deletion },
		"value without content": func(r *Record) { r.Content = Content{} },
		"form":                  func(r *Record) { r.Content.Form = 3 },
		"form of an ancestor":   func(r *Record) { r.Ancestors[0].Kept.Form = 9 },
		"inline too long": func(r *Record) {
			r.Content = Content{Form: Inline, Bytes: make([]byte, MaxInline+1)}
		},
		"no chunks":          func(r *Record) { r.Content.Chunks = 0 },
		"too many chunks":    func(r *Record) { r.Content.Chunks = MaxChunks },
		"chunks of no bytes": func(r *Record) { r.Content.Size = r.Content.Chunks - 1 },
		"empty batch":        func(r *Record) { r.Batch.Keys = nil },
		"batch begins later": func(r *Record) { r.Batch.First = r.Dot.Counter + 1 },
		"batch ends before":  func(r *Record) { r.Batch.First = 87 },
		"batch begins nowhere": func(r *Record) {
			r.Dot.Counter, r.Batch.First, r.Context[2].Counter = 81, 0, 80
		},
		"too many parts": func(r *Record) { r.Batch.Keys = make([][]byte, MaxParts+1) },
		"too long": func(r *Record) {
			for range 200 {
				r.Batch.Keys = append(r.Batch.Keys, make([]byte, 1000))
			}
		},
		"too many devices": func(r *Record) {
			for i := range MaxDevices {
				d := dot(byte(i), 1)
				d.Device.Incarnation[7] = byte(i >> 8)
				d.Device.Incarnation[6] = 200
				r.Context = r.Context.With(d)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := fifth()
			change(r)
			_, err := r.Append(nil)
			require.ErrorIs(t, err, ErrMalformed)
		})
	}
}

// What is no record is refused: another form of the same, parts of one, and what claims to be long.
func TestMalformed(t *testing.T) {
	good := bytesOf(t, fifth())
	for i := range good {
		_, err := Parse(good[:i], author(3))
		require.ErrorIs(t, err, ErrMalformed, "the first %d bytes", i)
	}
	at := func(b []byte, i int, by ...byte) []byte {
		return slices.Concat(b[:i], by, b[i+1:])
	}
	counter := len(magic) + 2 + 8
	one := bytesOf(t, first())
	for name, b := range map[string][]byte{
		"more":            slices.Concat(good, []byte{0}),
		"another magic":   at(good, 15, '2'),
		"flags":           at(good, len(magic), 0x12),
		"a longer number": at(one, counter, 0x81, 0),
		"endless number":  at(one, counter, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"many devices":    at(one, counter+4, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"an unknown device": at(bytesOf(t, &Record{
			Dot: dot(3, 9), Height: 2, Context: Vector{dot(3, 4)}, Resolved: []Dot{dot(3, 4)},
			Content: Content{Form: Inline, Bytes: []byte{}},
		}), counter+6, 1),
		"too long to look at": make([]byte, MaxRecord+1),
		"of one who is among the others": bytesOf(t, &Record{
			Dot: Dot{Device{TagOf(author(3)), device(4).Incarnation}, 9}, Height: 2,
			Context: Vector{{Device{TagOf(author(4)), device(4).Incarnation}, 4}},
			Content: Content{Form: Inline, Bytes: []byte{}},
		}),
	} {
		by := author(3)
		if strings.HasPrefix(name, "of one") {
			by = author(4)
		}
		_, err := Parse(b, by)
		require.ErrorIs(t, err, ErrMalformed, name)
	}
}

// The chunks of the contents follow on each other in the order of the record.
func TestChunksOf(t *testing.T) {
	r := fifth()
	for _, tt := range []struct{ of, from, to int }{
		{-1, 0, 36}, {0, 36, 36}, {1, 36, 36}, {2, 36, 56}, {15, 56, 56},
	} {
		from, to := r.ChunksOf(tt.of)
		require.EqualValues(t, tt.from, from)
		require.EqualValues(t, tt.to, to)
	}
}

// A hash of content says of which replica it is.
func TestHash(t *testing.T) {
	a := HashOf(testReplica, []byte("x"))
	require.Equal(t, a, HashOf(testReplica, []byte("x")))
	require.NotEqual(t, a, HashOf(replica.ID{8}, []byte("x")))
	require.NotEqual(t, a, HashOf(testReplica, []byte("y")))
	c := Content{Form: Inline, Bytes: []byte("x")}
	require.Equal(t, a, c.HashIn(testReplica))
}

func FuzzParse(f *testing.F) {
	f.Add(bytesOf(f, first()))
	f.Add(bytesOf(f, fifth()))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b, author(3))
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.Equal(t, b, bytesOf(t, r), "one record has one form")
	})
}

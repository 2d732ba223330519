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
		Dot: dot(3, 1), Height: 1, Content: Content{5, HashOf(testReplica, []byte("hello"))},
	}
}

// fifth is a version of an item that five devices have written, with all that a record can say.
func fifth() *Record {
	r := &Record{
		Kind: Resolution, Dot: dot(3, 90), Height: 41, Generation: 2, Schema: 7, Cut: true,
		Context:  Vector{dot(1, 70), dot(2, 300), dot(3, 80), dot(4, 9), dot(5, 100_000)},
		Resolved: []Dot{dot(3, 80), dot(5, 100_000)},
		Content:  Content{9 << 20, HashOf(testReplica, nil)},
		Batch:    &Batch{89, 3},
	}
	for i := range MaxAncestors {
		a := Ancestor{
			Dot: dot(byte(i%5+1), 1+uint64(i%9)), Height: 40 - uint64(i), Time: 1_800_000_000_000_000,
			Hash: ShortHash{byte(i) + 1},
		}
		switch i {
		case 0:
			a.Kept, a.Size = true, 6
		case 1:
			a.Kept = true
		case 2:
			a.Kept, a.Size = true, 5<<20
		case 3:
			a.Hash = ShortHash{} // a deletion
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
	require.LessOrEqual(t, len(bytesOf(t, first())), 150)
	r := fifth()
	r.Batch = nil
	size := len(bytesOf(t, r))
	t.Logf("first %d bytes, five devices and all ancestors %d", len(bytesOf(t, first())), size)
	require.LessOrEqual(t, size, 1<<10)
}

// The largest record is read.
func TestLargest(t *testing.T) {
	r := first()
	r.Dot.Counter, r.Height, r.Schema, r.Cut = MaxCounter, MaxCounter, 1<<64-1, true
	for i := range MaxDevices {
		d := dot(byte(i), MaxCounter-1)
		d.Device.Incarnation = Incarnation{byte(i >> 8), 200}
		r.Context = r.Context.With(d)
	}
	r.Resolved = r.Context[:MaxResolved]
	for i := range MaxAncestors {
		r.Ancestors = append(r.Ancestors, Ancestor{
			r.Context[MaxDevices-1-i], MaxCounter - 1 - uint64(i), 1<<64 - 1, ShortHash{1}, true, 1 << 40,
		})
	}
	b := bytesOf(t, r)
	require.Less(t, len(b), MaxRecord)
	got, err := Parse(b, author(3))
	require.NoError(t, err)
	require.Equal(t, r, got)
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
	by := rapid.ByteRange(0, 9).Draw(t, "device")
	r := &Record{
		Dot:        dot(by, rapid.Uint64Range(2, MaxCounter).Draw(t, "counter")),
		Kind:       rapid.SampledFrom([]Kind{Value, Deletion, Resolution}).Draw(t, "kind"),
		Height:     counter.Draw(t, "height"),
		Generation: rapid.Byte().Draw(t, "generation"),
		Schema:     rapid.Uint64().Draw(t, "schema"),
		Cut:        rapid.Bool().Draw(t, "cut"),
	}
	if r.Kind != Deletion {
		r.Content = Content{rapid.Uint64Range(0, 1<<40).Draw(t, "size"), Hash{1}}
	}
	known := rapid.SliceOfNDistinct(rapid.ByteRange(0, 9), 0, 9, rapid.ID)
	for _, n := range known.Draw(t, "context") {
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
		a := Ancestor{
			Dot: covered(), Height: rapid.Uint64Range(1, r.Height-1).Draw(t, "height"),
			Time: rapid.Uint64().Draw(t, "time"), Hash: ShortHash{2},
		}
		if a.Kept = rapid.Bool().Draw(t, "kept"); a.Kept {
			a.Size = rapid.Uint64Range(0, 1<<40).Draw(t, "size")
		}
		r.Ancestors = append(r.Ancestors, a)
	}
	slices.SortFunc(r.Ancestors, func(a, b Ancestor) int { return compareAncestors(&a, &b) })
	r.Ancestors = slices.CompactFunc(r.Ancestors, func(a, b Ancestor) bool {
		return compareAncestors(&a, &b) == 0
	})
	if rapid.Bool().Draw(t, "batch") {
		n := rapid.Uint64Range(1, 5).Draw(t, "parts")
		r.Batch = &Batch{r.Dot.Counter - min(r.Dot.Counter-1, n-1), n}
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
		"deletion with content":     func(r *Record) { r.Kind = Deletion },
		"value without content":     func(r *Record) { r.Content = Content{} },
		"deletion of a size":        func(r *Record) { r.Kind, r.Content.Hash = Deletion, Hash{} },
		"deleted and kept":          func(r *Record) { r.Ancestors[3].Kept = true },
		"bytes of what is not kept": func(r *Record) { r.Ancestors[5].Size = 1 },
		"too many bytes":            func(r *Record) { r.Content.Size = MaxSize },
		"bytes beyond numbers":      func(r *Record) { r.Ancestors[0].Size = 1<<64 - 2 },
		"empty batch":               func(r *Record) { r.Batch.Parts = 0 },
		"batch begins later":        func(r *Record) { r.Batch.First = r.Dot.Counter + 1 },
		"batch ends before":         func(r *Record) { r.Batch.First = 87 },
		"batch begins nowhere": func(r *Record) {
			r.Dot.Counter, r.Batch.First, r.Context[2].Counter = 81, 0, 80
		},
		"too many parts": func(r *Record) { r.Batch.Parts = MaxParts + 1 },
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
	flags := len(magic) + 1
	counter := flags + 2 + 8
	long := flags + 1 // where the flags are of a record whose length takes two bytes
	one := bytesOf(t, first())
	for name, b := range map[string][]byte{
		"more":            slices.Concat(good, []byte{0}),
		"another magic":   at(good, 15, '2'),
		"flags":           at(good, long, 0x12),
		"a longer number": at(one, counter, 0x81, 0),
		"endless number": at(
			at(one, counter, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), len(magic),
			one[len(magic)]+10,
		),
		"many devices": at(
			at(one, counter+4, 0xff, 0xff, 0xff, 0xff, 0x0f), len(magic), one[len(magic)]+4,
		),
		"an unknown device": at(bytesOf(t, &Record{
			Dot: dot(3, 9), Height: 2, Context: Vector{dot(3, 4)}, Resolved: []Dot{dot(3, 4)},
			Content: Content{0, Hash{1}},
		}), counter+6, 1),
		"too long to look at": make([]byte, MaxRecord+1),
		"of one who is among the others": bytesOf(t, &Record{
			Dot: Dot{Device{TagOf(author(3)), device(4).Incarnation}, 9}, Height: 2,
			Context: Vector{{Device{TagOf(author(4)), device(4).Incarnation}, 4}},
			Content: Content{0, Hash{1}},
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

// The contents follow on each other in the order of the record.
func TestPlace(t *testing.T) {
	r := fifth()
	for _, tt := range []struct{ of, offset, size uint64 }{
		{0, 0, 9 << 20}, {1, 9 << 20, 6}, {2, 9<<20 + 6, 0}, {3, 9<<20 + 6, 5 << 20}, {16, 14<<20 + 6, 0},
	} {
		offset, size := r.Place(int(tt.of) - 1)
		require.Equal(t, tt.offset, offset)
		require.Equal(t, tt.size, size)
	}
	require.EqualValues(t, 14<<20+6, r.Following())
}

// The beginning of a record tells its length, and no more than a little is needed for that.
func TestLength(t *testing.T) {
	b := append(bytesOf(t, fifth()), "what follows"...)
	for i := range len(b) {
		n, more, err := Length(b[:i])
		require.NoError(t, err)
		require.Equal(t, i < len(magic)+2, more, i)
		if !more {
			require.Equal(t, len(b)-len("what follows"), n)
		}
	}
	_, more, err := Length(b[:MaxHead])
	require.NoError(t, err)
	require.False(t, more)
	for _, b := range []string{"x", magic[:5] + "?", magic + "\xff\xff\xff\xff\x0f", magic +
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x0f"} {
		_, _, err := Length([]byte(b))
		require.ErrorIs(t, err, ErrMalformed, "%q", b)
	}
}

// A hash of content says of which replica it is.
func TestHash(t *testing.T) {
	a := HashOf(testReplica, []byte("x"))
	require.Equal(t, a, HashOf(testReplica, []byte("x")))
	require.NotEqual(t, a, HashOf(replica.ID{8}, []byte("x")))
	require.NotEqual(t, a, HashOf(testReplica, []byte("y")))
	require.Equal(t, ShortHash(a[:16]), a.Short())
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

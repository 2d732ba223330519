package value_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/value"
)

type vectors struct {
	Accepted  []struct{ Text, Plain, Canonical, Hash string }
	Refused   []string
	Merges    []struct{ Local, Remote, Merged string }
	Sanitized []struct{ Text, Sanitized string }
}

func load(t testing.TB) (v vectors) {
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "starfish", "canonical.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.Accepted)
	return v
}

func object(t *testing.T, text string) *value.Object {
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	require.NoError(t, err)
	return o
}

// What the published packages make of a text is what we make of it.
func TestVectors(t *testing.T) {
	v := load(t)
	for _, x := range v.Accepted {
		got, err := value.Parse([]byte(x.Text), value.MaxDepth)
		require.NoError(t, err, x.Text)
		require.Equal(t, x.Plain, string(value.Append(nil, got)), x.Text)
		require.Equal(t, x.Canonical, string(value.AppendCanonical(nil, got)), x.Text)
		require.Equal(t, x.Hash, value.Hash(got), x.Text)
	}
	for _, text := range v.Refused {
		_, err := value.Parse([]byte(text), value.MaxDepth)
		require.ErrorIs(t, err, value.ErrSyntax, "%q", text)
	}
	for _, x := range v.Merges {
		require.Equal(
			t, x.Merged, string(value.Append(nil, value.Merge(object(t, x.Local), object(t, x.Remote)))),
			x.Local,
		)
	}
	for _, x := range v.Sanitized {
		require.Equal(
			t, x.Sanitized, string(value.Append(nil, value.Sanitize(object(t, x.Text)))), x.Text,
		)
	}
}

func TestParse(t *testing.T) {
	_, err := value.Parse([]byte("\"\xff\""), 1)
	require.ErrorIs(t, err, value.ErrSyntax, "not UTF-8")
	_, err = value.Parse([]byte("\"\\n\xed\xa0\x80\""), 1)
	require.ErrorIs(t, err, value.ErrSyntax, "a surrogate that is not escaped")
	v, err := value.Parse([]byte("\xef\xbb\xbf[1]"), 1)
	require.NoError(t, err)
	require.Equal(t, value.Array{1.0}, v)
	_, err = value.ParseObject([]byte("[]"), 1)
	require.ErrorIs(t, err, value.ErrSyntax)

	deep := func(n int) []byte {
		return []byte(strings.Repeat(`{"a":[`, n/2) + "1" + strings.Repeat("]}", n/2))
	}
	_, err = value.Parse(deep(64), 64)
	require.NoError(t, err)
	_, err = value.Parse(deep(66), 64)
	require.ErrorIs(t, err, value.ErrTooDeep)
	_, err = value.Parse(deep(4_000_000), 64)
	require.ErrorIs(t, err, value.ErrTooDeep)
	for _, text := range []string{
		`[[[]`, `[[[],]]`, `[[{"a"}]]`, `[[{"a":}]]`, `[[{"a":1,}]]`, `[[{,}]]`, `[[{"a":1 "b":2}]]`,
		`[[1 2]]`, `[[[1],2,{"x":[{}]}]]x`, `[[{]]`, `[[[}]]`,
	} {
		_, err = value.Parse([]byte(text), 1)
		require.ErrorIs(t, err, value.ErrSyntax, text)
	}
	for _, text := range []string{
		`[[]]`, `[{}]`, `[[1],{"a":{}},[[[]],2,{"x":[{}]}], "s"]`, `[ [ ] , { "a" : [ ] } ]`,
	} {
		v, err = value.Parse([]byte(text), 1)
		require.ErrorIs(t, err, value.ErrTooDeep, text)
		require.IsType(t, value.Array{}, v)
	}
}

// An object finds its members, in the order that ECMAScript gives them, whatever is set and
// deleted.
func TestObject(t *testing.T) {
	o := value.NewObject()
	for i := 40; i > 0; i-- {
		o.Set(strings.Repeat("k", i), float64(i))
	}
	o.Set("7", 7.0)
	o.Set("3", 3.0)
	o.Set("10", 10.0)
	o.Set("kk", true)
	o.Delete(strings.Repeat("k", 40))
	o.Delete("7")
	o.Delete("absent")
	c := o.Clone()
	o.Delete("kkk")
	require.Equal(t, 41, c.Len())
	var keys []string
	for k, v := range c.All() {
		keys = append(keys, k)
		got, ok := c.Get(k)
		require.True(t, ok)
		require.Equal(t, v, got)
	}
	require.Equal(t, []string{"3", "10", strings.Repeat("k", 39)}, keys[:3])
	require.Equal(t, []string{"kk", "k"}, keys[39:])
	_, ok := c.Get("absent")
	require.False(t, ok)
}

// What is parsed and written again is the same value, and its canonical form is a fixed point.
func FuzzParse(f *testing.F) {
	v := load(f)
	for _, x := range v.Accepted {
		f.Add([]byte(x.Text))
	}
	for _, text := range v.Refused {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := value.Parse(text, value.MaxDepth)
		if err != nil {
			return
		}
		plain, canonical := value.Append(nil, x), value.AppendCanonical(nil, x)
		require.True(t, json.Valid(plain), "%q", plain)
		y, err := value.Parse(plain, value.MaxDepth)
		require.NoError(t, err)
		require.Equal(t, plain, value.Append(nil, y))
		z, err := value.Parse(canonical, value.MaxDepth)
		require.NoError(t, err)
		require.Equal(t, canonical, value.AppendCanonical(nil, y))
		require.Equal(t, canonical, value.AppendCanonical(nil, z))
		if o, ok := x.(*value.Object); ok {
			require.Equal(
				t, value.Append(nil, value.Sanitize(o)), value.Append(nil, value.Sanitize(value.Sanitize(o))),
			)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	text := []byte(
		`{"title":"A note","tags":["a","b"],"count":12,"body":"` + strings.Repeat(
			"words and words ", 20,
		) + `","at":{"x":1.5,"y":2}}`,
	)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		v, err := value.Parse(text, value.MaxDepth)
		if err != nil {
			b.Fatal(err)
		}
		value.Hash(v)
	}
}

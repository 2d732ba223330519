package localfirst_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/localfirst"
)

type note struct {
	Title string         `json:"title"`
	Tags  []string       `json:"tags,omitempty"`
	Sizes map[string]int `json:"sizes,omitempty"`
	Parts []part         `json:"parts,omitempty"`
}

type part struct {
	ID   int    `json:"id"`
	Text string `json:"text"`
}

// What a codec writes must stay as it is: other devices compare it.
func TestCodecGolden(t *testing.T) {
	golden(t, localfirst.StringCodec(), "Zoë\n", "5a6fc3ab0a")
	golden(t, localfirst.StringCodec(), "", "")
	golden(t, localfirst.BytesCodec(), []byte{0, 0xff}, "00ff")
	golden(t, localfirst.BytesCodec(), []byte{}, "")
	golden(t, localfirst.JSONCodec[note](),
		note{Title: "a<b", Sizes: map[string]int{"b": 2, "a": 1}},
		hex.EncodeToString([]byte(`{"title":"a\u003cb","sizes":{"a":1,"b":2}}`)))
	golden(t, localfirst.JSONTextCodec[note](), localfirst.JSONText[note](`{ "x": 1.0 }`),
		hex.EncodeToString([]byte(`{ "x": 1.0 }`)))
	golden(t, localfirst.CodecOf(
		func(n int) ([]byte, error) { return fmt.Appendf(nil, "%d", n), nil },
		func(b []byte) (n int, err error) {
			_, err = fmt.Sscanf(string(b), "%d", &n)
			return n, err
		}), -12, hex.EncodeToString([]byte("-12")))
}

func golden[T any](t *testing.T, c localfirst.Codec[T], v T, want string) {
	t.Helper()
	b, err := c.Encode(v)
	require.NoError(t, err)
	require.Equal(t, want, hex.EncodeToString(b))
	back, err := c.Decode(b)
	require.NoError(t, err)
	require.Equal(t, v, back)
}

func TestCodecsRefuse(t *testing.T) {
	_, err := localfirst.StringCodec().Encode("\xff")
	require.ErrorContains(t, err, "not UTF-8")
	_, err = localfirst.StringCodec().Decode([]byte("\xff"))
	require.ErrorContains(t, err, "not UTF-8")
	for _, bad := range []string{``, `{`, `{"title":1}`, `{}x`, `{}}`, `{}]`, `{}{}`} {
		_, err = localfirst.JSONCodec[note]().Decode([]byte(bad))
		require.Error(t, err, bad)
		_, err = localfirst.JSONTextCodec[note]().Decode([]byte(bad))
		require.Error(t, err, bad)
		_, err = localfirst.JSONTextCodec[note]().Encode(localfirst.JSONText[note](bad))
		require.Error(t, err, bad)
	}
}

// Neither a value nor the bytes that it was read from share memory.
func TestBytesCodecCopies(t *testing.T) {
	c := localfirst.BytesCodec()
	v := []byte("abc")
	b, err := c.Encode(v)
	require.NoError(t, err)
	back, err := c.Decode(b)
	require.NoError(t, err)
	v[0], b[1] = 'X', 'Y'
	require.Equal(t, "aYc", string(b))
	require.Equal(t, "abc", string(back))
}

func TestJSONText(t *testing.T) {
	text := localfirst.JSONText[note](
		`{"color":"red","title":"a","parts":[{"id":1,"text":"x","n":1},{"id":2,"text":"y","n":2}]}`)
	v, err := text.Get()
	require.NoError(t, err)
	require.Equal(t, "a", v.Title)
	v.Title = "b"
	got, err := text.Set(v)
	require.NoError(t, err)
	require.JSONEq(t, strings.Replace(string(text), `"a"`, `"b"`, 1), string(got))
	v.Parts = []part{{2, "y!"}}
	got, err = got.SetByID(v, "id")
	require.NoError(t, err)
	require.Equal(t,
		`{"color":"red","title":"b","parts":[{"id":2,"text":"y!","n":2}]}`, string(got))

	made, err := localfirst.NewJSONText(note{Title: "new"})
	require.NoError(t, err)
	require.Equal(t, `{"title":"new"}`, string(made))

	bad := localfirst.JSONText[note](`{"title":1}`)
	got, err = bad.Set(v)
	require.ErrorContains(t, err, "as it stands")
	require.Equal(t, bad, got)
	_, err = localfirst.NewJSONText(failing{})
	require.ErrorIs(t, err, errFailing)
}

type failing struct{}

var errFailing = errors.New("it cannot be written")

func (failing) MarshalJSON() ([]byte, error) { return nil, errFailing }

// What a codec reads, it writes as bytes that it reads as the same.
func FuzzCodecs(f *testing.F) {
	for _, seed := range []string{
		`{"title":"a","tags":["b"],"x":1}`, `{"sizes":{"a":1,"A":2}}`, `null`, "\xff", `{}}`, `"\ud800"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		settles(t, localfirst.StringCodec(), b)
		settles(t, localfirst.BytesCodec(), b)
		settles(t, localfirst.JSONCodec[note](), b)
		settles(t, localfirst.JSONCodec[any](), b)
		settles(t, localfirst.JSONTextCodec[note](), b)
		text := localfirst.JSONText[note](b)
		v, err := text.Get()
		if err != nil {
			return
		}
		v.Title += "!"
		v.Parts = append(v.Parts, part{7, "new"})
		set, err := text.Set(v)
		if err != nil { // a member twice, or too large
			return
		}
		back, err := set.Get()
		require.NoError(t, err)
		want, err := json.Marshal(v)
		require.NoError(t, err)
		got, err := json.Marshal(back)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	})
}

func settles[T any](t *testing.T, c localfirst.Codec[T], b []byte) {
	v, err := c.Decode(b)
	if err != nil {
		return
	}
	once, err := c.Encode(v)
	require.NoError(t, err)
	v, err = c.Decode(once)
	require.NoError(t, err)
	again, err := c.Encode(v)
	require.NoError(t, err)
	require.Equal(t, string(once), string(again))
}

package merge_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/versions/merge"
)

func FuzzText(f *testing.F) {
	for _, seed := range [][3]string{
		{"a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n"},
		{"b\nb\nb\n", "b\nb\n", "B\nb\nb\n"},
		{"a\r\nb\nc", "A\r\nb\nc\n", "a\r\nb\nC"},
		{"\xff\xfea\x00\n\x00b\x00", "\xff\xfeA\x00\n\x00b\x00", "\xff\xfea\x00\n\x00b\x00\n\x00"},
		{"{\n\"a\":1,\n\"b\":2\n}", "{\n\"x\":1,\n\"a\":1,\n\"b\":2\n}",
			"{\n\"a\":1,\n\"x\":2,\n\"b\":2\n}"},
		{"<a\nb=''\n/>", "<a\nb=''\nc=''\n/>", "<a\nd=''\nb=''\n/>"},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]), []byte(seed[2]))
	}
	f.Fuzz(func(t *testing.T, base, local, remote []byte) {
		got, err := merge.Text(base, local, remote)
		back, errBack := merge.Text(base, remote, local)
		require.Equal(t, err, errBack)
		require.Equal(t, got, back)
		if err != nil {
			require.IsType(t, &merge.Conflict{}, err)
			return
		}
		// Other encodings are looked at as they are, in which lines mean nothing.
		if isPlain(base) && isPlain(local) && isPlain(remote) {
			lawful(t, base, local, remote)
		}
		// The result is a text again.
		again, err := merge.Text(base, got, local)
		if err == nil {
			_, err = merge.Text(again, got, got)
			require.NoError(t, err)
		}
	})
}

// isPlain says if the lines of a text are those of its bytes.
func isPlain(text []byte) bool {
	for i, c := range text {
		if c >= 0x80 || c == 0 || c == '\r' && (i+1 == len(text) || text[i+1] != '\n') {
			return false
		}
	}
	return true
}

func FuzzJSON(f *testing.F) {
	for _, seed := range [][3]string{
		{`{"a":1,"b":[1]}`, `{"a":1.0,"b":[2]}`, `{"a":2,"b":[1],"c":"\ud800"}`},
		{`["a","b","c"]`, `["A","b","c"]`, `["a","b","c",{"id":1}]`},
		{`[{"id":1},{"id":2}]`, `[{"id":2},{"id":1,"a":{}}]`, `[{"id":1},{"id":3},{"id":2}]`},
		{`{"l":[5,0]}`, `{"l":[6,0]}`, `{"l":[5,0],"p":[0,18446744073709551615]}`},
		{`{}`, `{"a":1e99999999999999999,"\u0061\/":-0}`, `{"\\":null,"\"":[true,false]}`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]), []byte(seed[2]))
	}
	f.Fuzz(func(t *testing.T, base, local, remote []byte) {
		for name, merges := range funcs {
			if name == "text" {
				continue
			}
			got, err := merges(base, local, remote)
			back, errBack := merges(base, remote, local)
			if name != "map" && name != "by id" {
				require.Equal(t, err, errBack, name)
				require.Equal(t, string(got), string(back), name)
			}
			if err != nil {
				require.IsType(t, &merge.Conflict{}, err)
				continue
			}
			if json.Valid(local) && json.Valid(remote) {
				require.True(t, json.Valid(got), "%s: %s", name, got)
			}
		}
	})
}

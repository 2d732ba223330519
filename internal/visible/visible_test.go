package visible

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                          "",
		"plain, ünïcode and 世界 ❤️":  "plain, ünïcode and 世界 ❤️",
		"a\x1b[2Jb":                 `a\u001b[2Jb`,
		"a\u009b2Jb":                `a\u009b2Jb`,
		"gpj.\u202eexe":             `gpj.\u202eexe`,
		"\u2066a\u2069":             `\u2066a\u2069`,
		"a\r\nb\tc":                 `a\r\nb\tc`,
		"\u200b\u200d\ufeff":        `\u200b\u200d\ufeff`,
		"\u2028\u2029\u00a0\u3000":  `\u2028\u2029\u00a0\u3000`,
		"\xff\x9b":                  `\xff\x9b`,
		"\ue000\U000f0000":          `\ue000\udb80\udc00`,
		"\U000e0041":                `\udb40\udc41`,
		"\u3164\u2800":              `\u3164\u2800`,
		"\x7f\x00":                  `\u007f\u0000`,
		"\xe2\x80":                  `\xe2\x80`,
		`already \u001b and \xff`:   `already \u001b and \xff`,
		"the replacement \ufffd is": "the replacement \ufffd is",
	} {
		require.Equal(t, want, Text(in), "%q", in)
	}
	require.Equal(t, "a\n\tb\\r\n", Lines("a\n\tb\r\n"))
}

// harmless fails for text that is not safe to show.
func harmless(t *testing.T, s string, keep string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("%q is not UTF-8", s)
	}
	for _, r := range s {
		if unicode.Is(unicode.C, r) && !strings.ContainsRune(keep, r) || unicode.Is(unicode.Zl, r) ||
			unicode.Is(unicode.Zp, r) || unicode.Is(unicode.Bidi_Control, r) {
			t.Errorf("%q has %U", s, r)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b]0;title\x07\u009b\u202e\u2066\r\n\xff\xe2\x80", 3)
	f.Add("\U000e0001\u200d❤️\x00", 1)
	f.Fuzz(func(t *testing.T, s string, at int) {
		one, all := Text(s), Lines(s)
		harmless(t, one, "")
		harmless(t, all, "\n\t")
		if Text(one) != one || Lines(all) != all {
			t.Errorf("%q: another time it is another", s)
		}
		// In parts it comes out as in one.
		var out bytes.Buffer
		w := NewWriter(&out)
		at = min(max(at, 0), len(s))
		for _, part := range []string{s[:at], s[at:]} {
			if _, err := w.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
			harmless(t, out.String(), "\n\t")
		}
		if err := w.Flush(); err != nil || out.String() != all {
			t.Errorf("%q in two parts: %q, expected %q (%v)", s, out.String(), all, err)
		}
		// JSON stays what it says.
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var before, after string
		if err := json.Unmarshal(b, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(Lines(string(b))), &after); err != nil || before != after {
			t.Errorf("JSON of %q became that of %q (%v)", before, after, err)
		}
	})
}

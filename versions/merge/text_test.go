package merge_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/versions/merge"
)

// reason returns why a merge failed, and where.
func reason(t testing.TB, err error) (merge.Reason, string) {
	t.Helper()
	var c *merge.Conflict
	require.ErrorAs(t, err, &c)
	return c.Reason, c.At
}

// check merges both ways round, as every function that takes no side allows.
func check(
	t *testing.T, f merge.Func, base, local, remote, want string, why merge.Reason, at string,
) {
	t.Helper()
	for _, sides := range [][2]string{{local, remote}, {remote, local}} {
		got, err := f([]byte(base), []byte(sides[0]), []byte(sides[1]))
		if why != "" {
			is, where := reason(t, err)
			require.Equal(t, why, is)
			require.Equal(t, at, where)
			require.Nil(t, got)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

// text has a line for each letter.
func text(letters string) string {
	if letters == "" {
		return ""
	}
	return strings.Join(strings.Split(letters, ""), "\n") + "\n"
}

func TestText(t *testing.T) {
	for _, tt := range []struct {
		name                string // a sentence about the texts
		base, local, remote string // a line for each letter
		want                string
		why                 merge.Reason
		at                  string
	}{
		{name: "edits of lines apart are both in", base: "abcde", local: "Abcde", remote: "abcdE",
			want: "AbcdE"},
		{name: "one line between is enough", base: "abc", local: "Abc", remote: "abC", want: "AbC"},
		{name: "adjacent edits overlap", base: "abcd", local: "aBcd", remote: "abCd",
			why: merge.BothChanged, at: "lines 2 to 3"},
		{name: "edits of one line conflict", base: "abc", local: "aXc", remote: "aYc",
			why: merge.BothChanged, at: "line 2"},
		{name: "the same edit is that edit", base: "abcde", local: "aXcde", remote: "aXcdE",
			want: "aXcdE"},
		{name: "lines added at both ends", base: "abc", local: "xabc", remote: "abcy",
			want: "xabcy"},
		{name: "lines added at one place conflict", base: "abc", local: "abxc", remote: "abyc",
			why: merge.BothChanged, at: "after line 2"},
		{name: "a line added beside an edit overlaps with it", base: "abc", local: "abxc",
			remote: "abC", why: merge.BothChanged, at: "line 3"},
		{name: "the same line added, and an edit elsewhere", base: "abcd", local: "axbcd",
			remote: "axbcD", want: "axbcD"},
		{name: "a deletion and an edit elsewhere", base: "abcde", local: "acde", remote: "abcdE",
			want: "acdE"},
		{name: "both deleted a line", base: "abcde", local: "acde", remote: "acdE", want: "acdE"},
		{name: "a deletion of what the other side edited", base: "abc", local: "ac", remote: "aBc",
			why: merge.BothChanged, at: "line 2"},
		{name: "a deletion of all and an addition", base: "ab", local: "", remote: "abc",
			why: merge.BothChanged, at: "lines 1 to 2"},
		{name: "two texts without anything in common", base: "", local: "ab", remote: "cd",
			why: merge.BothChanged, at: "after line 0"},
		{name: "of three equal lines one is gone and one edited", base: "abbbc", local: "abbc",
			remote: "aBbbc", why: merge.BothChanged, at: "lines 2 to 4"},
		{name: "of five equal lines one is gone and one edited", base: "bbbbb", local: "bbbb",
			remote: "xbbbb", why: merge.BothChanged, at: "lines 1 to 5"},
		{name: "an equal line is gone before those that stay, and the last is edited", base: "xueeecd",
			local: "yueecd", remote: "xueeEcd", why: merge.BothChanged, at: "lines 3 to 5"},
		{name: "an equal line is gone, and the line behind them is edited", base: "xueeecd",
			local: "yueecd", remote: "xueeecD", want: "yueecD"},
		{name: "one of two equal blocks is gone and the other edited", base: "xyzxyz", local: "xyz",
			remote: "xYzxyz", why: merge.BothChanged, at: "lines 2 to 6"},
		{name: "an edit beside a deleted block with an equal end", base: "a-b-cd", local: "a-cd",
			remote: "A-b-cd", want: "A-cd"},
		{name: "equal blocks, edited apart", base: "{a}{b}{c}", local: "{A}{b}{c}",
			remote: "{a}{b}{C}", want: "{A}{b}{C}"},
		{name: "a block moved down, and an edit elsewhere", base: "abcdefgh", local: "defgabch",
			remote: "abcdefgH", why: merge.BothChanged, at: "line 8"},
		{name: "a block moved, and an edit in what stays", base: "abcdefghi", local: "defgabchi",
			remote: "abcdeFghi", want: "deFgabchi"},
		{name: "an edit within a moved block", base: "abcdefghi", local: "defgabchi",
			remote: "aBcdefghi", why: merge.BothChanged, at: "lines 1 to 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, merge.Text, text(tt.base), text(tt.local), text(tt.remote), text(tt.want), tt.why,
				tt.at)
		})
	}
}

func TestTextLineEnds(t *testing.T) {
	for _, tt := range []struct {
		name                string
		base, local, remote string
		want                string
		why                 merge.Reason
	}{
		{name: "a side that changes all line ends wins", base: "a\nb\nc\n", local: "a\r\nb\r\nc\r\n",
			remote: "a\nb\nc\nd\n", want: "a\r\nb\r\nc\r\nd\r\n"},
		{name: "and back", base: "a\r\nb\r\nc\r\n", local: "a\nb\nc\n", remote: "A\r\nb\r\nc\r\n",
			want: "A\nb\nc\n"},
		{name: "CRLF stays if none changed it", base: "a\r\nb\r\nc\r\n", local: "A\r\nb\r\nc\r\n",
			remote: "a\r\nb\r\nC\r\n", want: "A\r\nb\r\nC\r\n"},
		{name: "both changed to CRLF", base: "a\nb\nc\n", local: "A\r\nb\r\nc\r\n",
			remote: "a\r\nb\r\nC\r\n", want: "A\r\nb\r\nC\r\n"},
		{name: "mixed line ends stay as they are", base: "a\r\nb\nc\n", local: "A\r\nb\nc\n",
			remote: "a\r\nb\nC\r\n", want: "A\r\nb\nC\r\n"},
		{name: "so do the lines that a side added", base: "a\r\nb\nc\n", local: "A\r\nb\nc\n",
			remote: "a\r\nb\nc\nd\r\ne\nf\r\n", want: "A\r\nb\nc\nd\r\ne\nf\r\n"},
		{name: "one line got another end", base: "a\nb\nc\nd\n", local: "a\r\nb\nc\nd\n",
			remote: "a\nb\nc\nD\n", want: "a\r\nb\nc\nD\n"},
		{name: "a side that mends mixed ends wins", base: "a\r\nb\nc\n", local: "a\nb\nc\n",
			remote: "a\r\nb\nc\nd\r\n", want: "a\nb\nc\nd\n"},
		{name: "a side that changes all wins over one that mixes", base: "a\nb\nc\n",
			local: "a\r\nb\r\nc\r\n", remote: "a\nb\nc\nd\r\n", want: "a\r\nb\r\nc\r\nd\r\n"},
		{name: "mixed ends, mended in two ways", base: "a\r\nb\nc\n", local: "a\nb\nc\n",
			remote: "a\r\nb\r\nc\r\n", why: merge.LineEnds},
		{name: "the same mixed lines added", base: "a\nb\r\nc\n", local: "a\nb\r\nc\nd\r\ne\n",
			remote: "A\nb\r\nc\nd\ne\n", want: "A\nb\r\nc\nd\ne\n"},
		{name: "an editor ends the last line", base: "a\nb\nc", local: "A\nb\nc\n",
			remote: "a\nb\nC", want: "A\nb\nC\n"},
		{name: "the last line stays open", base: "a\nb\nc", local: "A\nb\nc", remote: "a\nb\nC",
			want: "A\nb\nC"},
		{name: "the last line ends no more", base: "a\nb\nc\n", local: "a\nb\nc", remote: "A\nb\nc\n",
			want: "A\nb\nc"},
		{name: "a line after an open one", base: "a\nb", local: "a\nb\nc", remote: "A\nb",
			want: "A\nb\nc"},
		{name: "an open line in CRLF", base: "a\r\nb", local: "a\r\nb\r\nc", remote: "A\r\nb",
			want: "A\r\nb\r\nc"},
		{name: "an open line in mixed ends is like the one before it", base: "a\nb\r\nc",
			local: "a\nb\r\nc\nd", remote: "A\nb\r\nc", want: "A\nb\r\nc\nd"},
		{name: "so it is if the others end otherwise", base: "a\r\nb\r\nc", local: "a\r\nb\r\nc\r\nd",
			remote: "A\r\nb\nc", want: "A\r\nb\nc\nd"},
		{name: "an empty last line is not lost", base: "a\n\nb", local: "a\n\n", remote: "A\n\nb",
			want: "A\n\n"},
		{name: "an empty last line that nothing ends", base: "a\n\nb\n", local: "a\n\n",
			remote: "A\n\nb", want: "A\n\n"},
		{name: "the same content, ended and not", base: "", local: "a\n", remote: "a", want: "a\n"},
		{name: "two carriage returns", base: "a\nb\nc\n", local: "a\r\r\nb\nc\n", remote: "a\nb\nC\n",
			why: merge.NotText},
		{name: "a carriage return at the end", base: "a\nb\nc", local: "a\nb\nc\r", remote: "A\nb\nc",
			why: merge.NotText},
		{name: "a carriage return within a line is part of it", base: "a\rb\nc\nd\n",
			local: "a\rB\nc\nd\n", remote: "a\rb\nc\nD\n", want: "a\rB\nc\nD\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, merge.Text, tt.base, tt.local, tt.remote, tt.want, tt.why, "")
		})
	}
}

func TestTextEncodings(t *testing.T) {
	const bom = "\xef\xbb\xbf"
	wide := func(mark string, little bool) func(s string) string {
		return func(s string) string {
			out := []byte(mark)
			for _, r := range s {
				units := []uint16{uint16(r)}
				if r == '😀' {
					units = []uint16{0xd83d, 0xde00}
				}
				for _, u := range units {
					if little {
						out = append(out, byte(u), byte(u>>8))
					} else {
						out = append(out, byte(u>>8), byte(u))
					}
				}
			}
			return string(out)
		}
	}
	little, big := wide("\xff\xfe", true), wide("\xfe\xff", false)
	for _, tt := range []struct {
		name                string
		base, local, remote string
		want                string
		why                 merge.Reason
	}{
		{name: "UTF-8", base: "ä\nb\nc\n", local: "ö\nb\nc\n", remote: "ä\nb\n😀\n",
			want: "ö\nb\n😀\n"},
		{name: "a byte order mark stays", base: bom + "a\nb\nc\n", local: bom + "A\nb\nc\n",
			remote: bom + "a\nb\nC\n", want: bom + "A\nb\nC\n"},
		{name: "a byte order mark on one side", base: "a\nb\nc\n", local: bom + "a\nb\nc\n",
			remote: "a\nb\nC\n", why: merge.Encodings},
		{name: "UTF-16, little end first", base: little("a\r\nb\r\n😀"),
			local: little("A\r\nb\r\n😀"), remote: little("a\r\nb\r\nö😀"), want: little("A\r\nb\r\nö😀")},
		{name: "UTF-16, big end first", base: big("a\nb\n😀"), local: big("A\nb\n😀"),
			remote: big("a\nb\nc"), want: big("A\nb\nc")},
		{name: "UTF-16 in two orders", base: big("a\nb\nc"), local: little("A\nb\nc"),
			remote: big("a\nb\nC"), why: merge.Encodings},
		{name: "UTF-16 that ends in the middle", base: big("a\nb\nc"), local: big("A\nb\nc") + "x",
			remote: big("a\nb\nC"), why: merge.NotText},
		{name: "a lone first surrogate", base: big("a\nb\nc"), local: big("A\nb\nc") + "\xd8\x3d",
			remote: big("a\nb\nC"), why: merge.NotText},
		{name: "a lone second surrogate", base: big("a\nb\nc"), local: big("A\nb\nc") + "\xde\x00\x00a",
			remote: big("a\nb\nC"), why: merge.NotText},
		{name: "an empty side has no encoding", base: "", local: bom + "a\n", remote: bom + "a",
			want: bom + "a\n"},
		{name: "Latin-1 is not told from other codes", base: "a\nb\n\xe4\n", local: "A\nb\n\xe4\n",
			remote: "a\nb\n\xf6\n", why: merge.NotText},
		{name: "two reasons", base: "a\nb\nc\n", local: bom + "a\nb\nc\n", remote: "\xff",
			why: merge.NotText},
		{name: "a NUL", base: "a\nb\nc\n", local: "a\x00\nb\nc\n", remote: "a\nb\nC\n",
			why: merge.NotText},
		{name: "a NUL in the base", base: "a\x00\nb\nc\n", local: "a\nb\nc\n", remote: "a\nb\nC\n",
			why: merge.NotText},
		{name: "UTF-32 has NULs", base: "a\nb\nc\n", local: "\xff\xfe\x00\x00a\x00\x00\x00",
			remote: "a\nb\nC\n", why: merge.NotText},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, merge.Text, tt.base, tt.local, tt.remote, tt.want, tt.why, "")
		})
	}
}

// A merge that works line by line may break what has a form of its own.
func TestTextStaysValid(t *testing.T) {
	for _, tt := range []struct {
		name                string
		base, local, remote string
		want                string
		why                 merge.Reason
	}{
		{name: "JSON that stays JSON", base: "{\n\"a\":1,\n\"b\":2,\n\"c\":3\n}\n",
			local: "{\n\"a\":10,\n\"b\":2,\n\"c\":3\n}\n", remote: "{\n\"a\":1,\n\"b\":2,\n\"c\":30\n}\n",
			want: "{\n\"a\":10,\n\"b\":2,\n\"c\":30\n}\n"},
		{name: "JSON of which one side makes an array and the other adds a member",
			base: "{\"a\":\n\n1\n\n,\"b\":2}\n", local: "{\"a\":[\n\n1\n\n],\"b\":2}\n",
			remote: "{\"a\":\n\n1,\"c\":3\n\n,\"b\":2}\n", why: merge.Broken},
		{name: "a member added twice", base: "{\n\"a\":1,\n\"b\":2\n}\n",
			local: "{\n\"x\":1,\n\"a\":1,\n\"b\":2\n}\n", remote: "{\n\"a\":1,\n\"x\":2,\n\"b\":2\n}\n",
			why: merge.Broken},
		{name: "a member that one input has twice is nobody's fault",
			base:  "{\n\"a\":1,\n\"b\":2,\n\"a\":1\n}\n",
			local: "{\n\"a\":3,\n\"b\":2,\n\"a\":1\n}\n", remote: "{\n\"a\":1,\n\"b\":2,\n\"a\":4\n}\n",
			want: "{\n\"a\":3,\n\"b\":2,\n\"a\":4\n}\n"},
		{name: "XML that stays XML", base: "<a>\n<b/>\n<c/>\n</a>\n",
			local: "<a>\n<x/>\n<b/>\n<c/>\n</a>\n", remote: "<a>\n<b/>\n<c/>\n<y/>\n</a>\n", want: "<a>\n<x/>\n<b/>\n<c/>\n<y/>\n</a>\n"},
		{name: "XML in which one side moves a tag and the other removes the element",
			base: "<r>\n<a>\nx\n</a>\ny\nz\n</r>\n", local: "<r>\n<a>\nx\ny\n</a>\nz\n</r>\n",
			remote: "<r>\nx\ny\nz\n</r>\n", why: merge.Broken},
		{name: "XML with an attribute twice", base: "<a\nb='1'\nc='2'\n/>\n",
			local: "<a\nx='1'\nb='1'\nc='2'\n/>\n", remote: "<a\nb='1'\nx='2'\nc='2'\n/>\n",
			why: merge.Broken},
		{name: "XML that names an encoding",
			base:   "<?xml version='1.0' encoding='utf-16'?>\n<a\nb='1'\nc='2'\n/>\n",
			local:  "<?xml version='1.0' encoding='utf-16'?>\n<a\nx='1'\nb='1'\nc='2'\n/>\n",
			remote: "<?xml version='1.0' encoding='utf-16'?>\n<a\nb='1'\nx='2'\nc='2'\n/>\n",
			why:    merge.Broken},
		{name: "what is no XML may lose a tag", base: "<p>\na\nb\n<br>\n", local: "<p>\nA\nb\n<br>\n",
			remote: "<p>\na\nb\n", want: "<p>\nA\nb\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, sides := range [][2]string{{tt.local, tt.remote}, {tt.remote, tt.local}} {
				got, err := merge.Text([]byte(tt.base), []byte(sides[0]), []byte(sides[1]))
				if tt.why != "" {
					is, _ := reason(t, err)
					require.Equal(t, tt.why, is, "%s", got)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, tt.want, string(got))
			}
		})
	}
}

// Each of the functions returns an input that is the result as a whole, whatever it is.
func TestSettled(t *testing.T) {
	odd := []byte("\x00\xff\r\r\n{")
	for name, f := range funcs {
		t.Run(name, func(t *testing.T) {
			got, err := f(nil, odd, odd)
			require.NoError(t, err)
			require.Equal(t, odd, got)
			got, err = f([]byte("x"), odd, odd)
			require.NoError(t, err)
			require.Equal(t, odd, got)
			got, err = f([]byte("x"), []byte("x"), odd)
			require.NoError(t, err)
			require.Equal(t, odd, got)
			got, err = f([]byte("x"), odd, []byte("x"))
			require.NoError(t, err)
			require.Equal(t, odd, got)
			_, err = f(nil, odd, []byte("x"))
			require.Error(t, err, "no base is not the base that equals a side")
			_, err = f([]byte{}, odd, []byte("x"))
			require.Error(t, err)
		})
	}
}

// funcs are all functions of the package.
var funcs = map[string]merge.Func{
	"text": merge.Text, "json": merge.JSON, "map": merge.Map, "set": merge.Set,
	"counters": merge.Counters, "by id": merge.Options{ByID: "id"}.JSON,
}

func TestLimits(t *testing.T) {
	testkit.OneGoroutine(t)
	wide := []byte(strings.Repeat("x", merge.MaxSize))
	widest := append(wide[:merge.MaxSize-5:merge.MaxSize-5], "\na\nb\n"...)
	got, err := merge.Text([]byte("a\nb\n"), widest, []byte("a\nb\nc\n"))
	require.NoError(t, err)
	require.Len(t, got, merge.MaxSize+2)
	for name, f := range funcs {
		_, err := f([]byte("[]"), append([]byte("["), wide...), []byte("[1]"))
		is, at := reason(t, err)
		require.Equal(t, merge.TooLarge, is, name)
		require.Empty(t, at)
		_, err = f([]byte("[]"), []byte("[1]"), append([]byte("["), wide...))
		is, _ = reason(t, err)
		require.Equal(t, merge.TooLarge, is, name)
	}
	many := strings.Repeat("\n", merge.MaxParts-1)
	for lines, want := range map[string]merge.Reason{
		many + "x": merge.BothChanged, many + "\n": merge.BothChanged, many + "\nx": merge.TooLarge,
	} {
		_, err = merge.Text([]byte("a\n"), []byte(lines), []byte("a\nb\n"))
		is, _ := reason(t, err)
		require.Equal(t, want, is)
	}
}

func TestConflictReads(t *testing.T) {
	_, err := merge.Text([]byte("a\nb\nc\n"), []byte("a\nX\nc\n"), []byte("a\nY\nc\n"))
	require.EqualError(t, err, "cannot merge: line 2: both sides changed it, in different ways")
	_, err = merge.Text(nil, []byte{0}, []byte("a"))
	require.EqualError(t, err,
		"cannot merge: it is not text in UTF-8, or in UTF-16 with a byte order mark")
	require.True(t, errors.As(err, new(*merge.Conflict)))
}

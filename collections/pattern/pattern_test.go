package pattern

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dlclark/regexp2/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

// tests ends the engine's clock when they have run, which otherwise ends by itself a second after
// the last time limit.
type tests struct{ *testing.M }

func (t tests) Run() int {
	defer regexp2.StopTimeoutClock()
	return t.M.Run()
}

func compile(t require.TestingT, text string) *Pattern {
	p, err := Compile(text, time.Minute)
	require.NoError(t, err, text)
	return p
}

// both matches by each engine that can.
func both(t require.TestingT, text, s string) bool {
	p := compile(t, text)
	want, err := p.slow.MatchRunes(runesOf(s))
	require.NoError(t, err)
	require.Equal(t, want, NewRun(time.Minute, nil).Match(p, s), "%q of %q", text, s)
	return want
}

// Patterns mean what ECMA-262 says. The first ones are of santhosh-tekuri/jsonschema #228 and #243.
func TestMatch(t *testing.T) {
	for _, c := range []struct{ pattern, matches, not string }{
		{`^(?!root$)[a-z]+$`, "roots", "root"},
		{`^\u00c0$`, "À", "u00c0"},
		{`^\s$`, "\u00a0", "x"},
		{`^\s$`, "\ufeff", "\u180e"},
		{`^\S$`, "\u180e", "\u2028"},
		{`^[^\S]$`, "\u3000", "a"},
		{`^[\s\d]+$`, "1\u00a02", "a"},
		{`^[\w-]+$`, "a-b", "é"},
		{`^[\W]$`, "é", "_"},
		{`^\D$`, "٣", "3"},
		{`^.$`, "😀", "\u2028"},
		{`^.$`, "\xed\xa0\x80", "\r"}, // half of a surrogate pair is one character
		{`^\ud83d\ude00$`, "😀", "\xed\xa0\xbd"},
		{`^\u{1F600}$`, "😀", "u"},
		{`^\ud83d$`, "\xed\xa0\xbd", "😀"},
		{`^(a)\1$`, "aa", "ab"},
		{`^(?<x>a)\k<x>$`, "aa", "a"},
		{`(?<=\$)\d`, "$5", "5"},
		{`^a$`, "a", "a\n"},
		{`^[\b\-]$`, "\b", "b"},
		{`^\cJ\0\x41\/$`, "\n\x00A/", "JA/"},
		{`^\p{Lu}+$`, "ÄÖ", "ä"},
		{`^\p{Script=Greek}$`, "λ", "l"},
		{`^(?:a{2,3}|b?)$`, "aaa", "aaaa"},
		{`^[a-cx]{2}$`, "cx", "d"},
		{`\bx\b`, "a x", "ax"},
		{`^[^a]$`, "\n", "a"},
		{`^[]`, "", ""}, // matches nothing
		{`^[^]$`, "\n", ""},
	} {
		if c.matches != "" {
			require.True(t, both(t, c.pattern, c.matches), "%q", c.pattern)
		}
		require.False(t, both(t, c.pattern, c.not), "%q", c.pattern)
	}
	for _, wrong := range []string{
		`(`, `[b-a]`, `a{2,1}`, `(?i)a`, `(?>a)`, `(?#a)b`, `(?'n'a)`, `(?<n-m>a)`, `(?<m>b)(?<n-m>a)`,
		`\Aa\z`, `\-`, `[[:alpha:]]]`, `a**`, `{`, `\u{110000}`,
		`\p{Nothing}`, `(?P<n>a)`, `\1`, strings.Repeat("a", MaxLength+1),
	} {
		_, err := Compile(wrong, time.Minute)
		require.Error(t, err, "%.20q", wrong)
	}
}

// What is usual needs no backtracking; what looks around or refers back does.
func TestBacktracks(t *testing.T) {
	for _, p := range []string{
		`^(a+)+$`, `^(\w+\s?)*$`, `^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$`, `^\d{4}-\d{2}-\d{2}$`,
		`^(?:[\p{L}\p{N} '-]{1,80})$`, `^(?<year>\d+)$`, `^\u00c0\u{c0}\xc0.\b$`, `a??b*?`, ``,
	} {
		require.False(t, compile(t, p).Backtracks(), p)
	}
	for _, p := range []string{
		`(?=a)`, `(?!a)`, `(?<!a)b`, `(a)\1`, `(?<n>a)\k<n>`, `a{1001}`, `\p{Letter}`,
	} {
		require.True(t, compile(t, p).Backtracks(), p)
	}
}

// Each class has the same characters in both syntaxes.
func TestClasses(t *testing.T) {
	for _, text := range []string{
		`^\d$`, `^\D$`, `^\w$`, `^\W$`, `^\s$`, `^\S$`, `^.$`, `^[\D\S]$`, `^[^\W]$`,
	} {
		p := compile(t, text)
		run := NewRun(time.Minute, nil)
		require.False(t, p.Backtracks())
		var buf []rune
		for c := rune(0); c <= 0x10ffff; c++ {
			switch c { // between these nothing ends
			case 0x3100:
				c = 0xd7f0
			case 0xe010:
				c = 0xfe00
			case 0x10100:
				c = 0x10fff0
			}
			buf = append(buf[:0], c)
			want, err := p.slow.MatchRunes(buf)
			require.NoError(t, err)
			if s := wtf8(c); want != run.Match(p, s) {
				t.Fatalf("%s of %x", text, c)
			}
		}
	}
}

func wtf8(c rune) string {
	if c >= 0xd800 && c < 0xe000 {
		return string([]byte{0xed, 0x80 | byte(c>>6)&0x3f, 0x80 | byte(c)&0x3f})
	}
	return string(c)
}

// Both engines agree, whatever the pattern.
func TestEnginesAgree(t *testing.T) {
	atom := rapid.SampledFrom([]string{
		"a", "b", ".", `\d`, `\W`, `\s`, "é", "[ab]", "[^a-c]",
		`[\w.-]`, `\.`, `\b`, "^", "$", `\u0061`, "(?:)",
	})
	var expr func(depth int) *rapid.Generator[string]
	expr = func(depth int) *rapid.Generator[string] {
		if depth == 0 {
			return atom
		}
		return rapid.OneOf(atom, rapid.Custom(func(t *rapid.T) string {
			inner := expr(depth - 1)
			a, b := inner.Draw(t, "a"), inner.Draw(t, "b")
			return rapid.SampledFrom([]string{
				a + b, a + "|" + b, "(" + a + ")", "(?:" + a + ")*", "(" + a + ")+" + b,
				"(?:" + a + b + "){1,2}",
				"(?:" + a + ")??" + b, "(?:" + a + "|" + b + ")*?",
			}).Draw(t, "form")
		}))
	}
	patterns := expr(5)
	strs := rapid.StringOfN(rapid.SampledFrom([]rune("ab1 é.\n\u00a0")), 0, 8, -1)
	rapid.Check(t, func(t *rapid.T) {
		text := patterns.Draw(t, "pattern")
		p, err := Compile(text, time.Minute)
		if err != nil {
			t.Skip()
		}
		if p.Backtracks() {
			t.Fatalf("%q is not translated", text)
		}
		s := strs.Draw(t, "s")
		want, err := p.slow.MatchRunes([]rune(s))
		if err != nil {
			t.Skip()
		}
		if got := NewRun(time.Minute, nil).Match(p, s); got != want {
			t.Fatalf("%q of %q: %v", text, s, got)
		}
	})
}

// costly is an engine whose every match costs some of a fake clock's time.
type costly struct {
	clock *time.Time
	each  time.Duration
	calls int
	err   error
}

func (c *costly) MatchRunes([]rune) (bool, error) {
	c.calls++
	*c.clock = c.clock.Add(c.each)
	return true, c.err
}

// All matches of a run share one limit; when it is over, nothing more is tried.
func TestRun(t *testing.T) {
	clock := time.Unix(0, 0)
	c := &costly{clock: &clock, each: 300 * time.Millisecond}
	p := compile(t, `(?=a)`)
	p.slow = c
	r := NewRun(time.Second, func() time.Time { return clock })
	clock = clock.Add(time.Hour) // the limit counts from the first match on
	for range 4 {
		require.True(t, r.Match(p, "a"))
		require.Nil(t, r.Undecided())
	}
	for range 100 {
		require.False(t, r.Match(p, "a"))
	}
	require.Equal(t, 4, c.calls)
	require.Same(t, p, r.Undecided())

	require.True(t, r.Match(compile(t, "a"), "a"), "what is linear has no limit")
	c.err = errors.New("too long")
	r = NewRun(time.Hour, nil)
	require.False(t, r.Match(p, "a"))
	require.Same(t, p, r.Undecided())
	require.False(t, r.Match(p, "a"))
	require.Equal(t, 5, c.calls)
}

// A match that would take for ever ends, and so does one that would take too much memory.
func TestLimits(t *testing.T) {
	p, err := Compile(`^(([a-z]+)+)+\1$`, time.Millisecond)
	require.NoError(t, err)
	r := NewRun(time.Hour, nil)
	require.False(t, r.Match(p, strings.Repeat("a", 60)+"!"))
	require.Same(t, p, r.Undecided())
	p = compile(t, `^(?:(a|b)(?!x))*$`)
	r = NewRun(time.Minute, nil)
	require.True(t, r.Match(p, strings.Repeat("ab", 10_000)))
	require.False(t, r.Match(p, strings.Repeat("ab", 1_000_000)))
	require.Same(t, p, r.Undecided())
}

// FuzzCompile reads patterns of strangers, which format: "regex" in a schema lets them send.
func FuzzCompile(f *testing.F) {
	f.Add(`^(?!root$)[a-z]+$`, "roots")
	f.Add(`[\d-x]{2}|\cA`, "a")
	f.Add("(?<a>)\\k<a>\\p{L}", "\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, text, s string) {
		p, err := Compile(text, time.Millisecond)
		if err != nil {
			return
		}
		want, err := p.slow.MatchRunes(runesOf(s))
		if err == nil && !p.Backtracks() && NewRun(0, nil).Match(p, s) != want {
			t.Fatalf("%q of %q: want %v", text, s, want)
		}
	})
}

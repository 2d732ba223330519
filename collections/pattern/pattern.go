// Package pattern matches strings by regular expressions as JSON Schema has them, which are those
// of ECMA-262 with its flag u: the published servers read them so.
//
// What belongs here: the syntax, and what a match may cost. What never belongs here: which strings
// are matched, and what it means.
//
// A pattern that Go's regexp can express is translated and matched by it, in time that grows with
// the length of the string. Only what has a lookaround or refers back is tried by a backtracking
// engine, for which some strings take for ever: a Run bounds what all matches together may take,
// and tells when one was not decided in that time.
//
// Start at Compile, and match with a Run.
package pattern

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// MaxLength is how long a pattern may be in bytes.
const MaxLength = 16 << 10

// maxStack bounds the memory of one match by backtracking, in words.
const maxStack = 1 << 20

// Pattern is a regular expression. It may be used by several goroutines at once.
type Pattern struct {
	text string
	// linear returns nil if the pattern needs backtracking.
	linear func() *regexp.Regexp
	slow   engine
}

// engine matches by backtracking. It fails if that takes too long, or too much memory.
type engine interface {
	MatchRunes(s []rune) (bool, error)
}

// Compile reads a pattern. limit is how long one match by backtracking may take.
func Compile(text string, limit time.Duration) (*Pattern, error) {
	if len(text) > MaxLength {
		return nil, fmt.Errorf("a pattern of %d bytes; it may have %d", len(text), MaxLength)
	}
	if err := foreign(text); err != nil {
		return nil, err
	}
	slow, err := regexp2.Compile(text, regexp2.ECMAScript|regexp2.Unicode,
		regexp2.OptionMaxBacktrackingStackSize(maxStack))
	if err != nil {
		return nil, noPattern(text, err)
	}
	slow.MatchTimeout = limit
	// Many patterns are only checked, and never matched.
	return &Pattern{text, sync.OnceValue(func() *regexp.Regexp { return linear(text) }), slow}, nil
}

// begins is what may stand behind the parenthesis of a group in ECMA-262.
var begins = regexp.MustCompile(`^(?:[^?]|\?(?:[:=!]|<[=!]|<[^>\-]+>|[ims]*(?:-[ims]*)?:)|$)`)

// escapes are the characters that ECMA-262 knows behind a backslash, with the flag u.
const escapes = `bBdDwWsStnvfrcxukpP0123456789^$\.*+?()[]{}|/`

// foreign refuses what the engine knows from other languages, or takes for itself where ECMA-262
// does not.
func foreign(text string) error {
	class := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
			if i == len(text) {
				break // the engine refuses it
			}
			if strings.IndexByte(escapes, text[i]) < 0 && !(class && text[i] == '-') {
				return noPattern(text, fmt.Errorf("there is no escape %.2q", text[i-1:]))
			}
			if strings.IndexByte("upP", text[i]) >= 0 && strings.HasPrefix(text[i+1:], "{") {
				i += 1 + max(0, strings.IndexByte(text[i+1:], '}'))
			}
		case class:
			class = c != ']'
		case c == '[':
			class = true
		case c == '{' && counted.MatchString(text[i:]):
			i += strings.IndexByte(text[i:], '}')
		case c == '{', c == '}', c == ']':
			return noPattern(text, fmt.Errorf("%q must have a backslash in front", c))
		case c == '(' && !begins.MatchString(text[i+1:]):
			return noPattern(text, fmt.Errorf("no group begins with %.4q", text[i:]))
		}
	}
	return nil
}

func noPattern(text string, why error) error {
	return fmt.Errorf(
		"%s is not a valid JavaScript regular expression (flag u): %w", Short(text), why)
}

// Short returns the beginning of a pattern in quotation marks, for people to read.
func Short(text string) string {
	const most = 100
	if len(text) <= most {
		return strconv.Quote(text)
	}
	return strconv.Quote(strings.ToValidUTF8(text[:most], "")) + "…"
}

// String returns the pattern as it was written.
func (p *Pattern) String() string { return p.text }

// Backtracks reports whether a match may take longer than its string is long.
func (p *Pattern) Backtracks() bool { return p.linear() == nil }

// Run bounds what some matches may take together: about twice its limit at most. It is for one
// goroutine.
type Run struct {
	now       func() time.Time
	until     time.Time // zero before the first match that counts
	limit     time.Duration
	undecided *Pattern
}

// NewRun returns a run of matches that may take so long by backtracking. now may be nil.
func NewRun(limit time.Duration, now func() time.Time) *Run {
	if now == nil {
		now = time.Now
	}
	return &Run{now: now, limit: limit}
}

// Match reports whether a pattern matches anywhere in s, in WTF-8. Once a match was not decided,
// it returns false of all that backtrack, and Undecided tells so.
func (r *Run) Match(p *Pattern, s string) bool {
	if fast := p.linear(); fast != nil {
		if utf8.ValidString(s) {
			return fast.MatchString(s)
		}
		return fast.MatchReader(&runeReader{s})
	}
	if r.undecided != nil {
		return false
	}
	now := r.now()
	if r.until.IsZero() {
		r.until = now.Add(r.limit)
	}
	if !now.Before(r.until) {
		r.undecided = p
		return false
	}
	matched, err := p.slow.MatchRunes(runesOf(s))
	if err != nil {
		r.undecided = p
	}
	return matched && err == nil
}

// Undecided returns the first pattern that took too long, nil if none has. What Match has returned
// means nothing then.
func (r *Run) Undecided() *Pattern { return r.undecided }

// runeReader reads WTF-8.
type runeReader struct{ s string }

// ReadRune implements io.RuneReader.
func (r *runeReader) ReadRune() (rune, int, error) {
	if r.s == "" {
		return 0, 0, io.EOF
	}
	c, n := runeOf(r.s)
	r.s = r.s[n:]
	return c, n, nil
}

// runeOf returns the first code point of a string that is not empty, which may be half of a
// surrogate pair.
func runeOf(s string) (rune, int) {
	c, n := utf8.DecodeRuneInString(s)
	if c == utf8.RuneError && n == 1 && len(s) >= 3 && s[0] == 0xed &&
		s[1]&0xe0 == 0xa0 && s[2]&0xc0 == 0x80 {
		return 0xd000 | rune(s[1]&0x3f)<<6 | rune(s[2]&0x3f), 3
	}
	return c, n
}

func runesOf(s string) []rune {
	all := make([]rune, 0, len(s))
	for s != "" {
		c, n := runeOf(s)
		all, s = append(all, c), s[n:]
	}
	return all
}

package pattern

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// linear returns what Go's regexp makes of a pattern, nil if it cannot express it. The pattern is
// known to be one of ECMA-262. As only one thing is asked of a match, whether there is one, groups
// need not capture.
func linear(text string) *regexp.Regexp {
	if !utf8.ValidString(text) {
		return nil
	}
	t := &translation{rest: text}
	if !t.all() {
		return nil
	}
	re, err := regexp.Compile(t.to.String())
	if err != nil { // more repetitions than it takes
		return nil
	}
	return re
}

// translation writes a pattern in the syntax of Go, from left to right. Its methods return false at
// what they do not know.
type translation struct {
	rest   string
	to     strings.Builder
	groups int
}

// The classes of ECMA-262 as they stand in brackets.
const (
	digits = `0-9`
	words  = `0-9A-Z_a-z`
	spaces = `\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}` +
		`\x{202f}\x{205f}\x{3000}\x{feff}`
	noDigits = `\x{0}-/:-\x{10ffff}`
	noWords  = `\x{0}-/:-@\[-\^` + "`" + `\{-\x{10ffff}`
	noSpaces = `\x{0}-\x{8}\x{e}-\x{1f}!-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}` +
		`\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}` +
		`\x{3001}-\x{fefe}\x{ff00}-\x{10ffff}`
	noNewlines = `[^\n\r\x{2028}\x{2029}]`
)

var classes = map[byte]string{
	'd': digits, 'D': noDigits, 'w': words, 'W': noWords, 's': spaces, 'S': noSpaces,
}

// all translates the whole pattern.
func (t *translation) all() bool {
	repeatable := false // what stands before is something to repeat
	for t.rest != "" {
		ok := true
		switch c := t.rest[0]; c {
		case '^', '$', '|':
			t.copy(1)
			repeatable = false
		case '(':
			ok = t.open()
			repeatable = false
		case ')':
			t.copy(1)
			t.groups--
			ok, repeatable = t.groups >= 0, true
		case '*', '+', '?', '{':
			ok = repeatable && t.quantifier()
			repeatable = false
		case '}', ']':
			ok = false
		case '.':
			t.skip(1, noNewlines)
			repeatable = true
		case '[':
			ok, repeatable = t.class(), true
		case '\\':
			ok, repeatable = t.escape()
		default:
			r, n := utf8.DecodeRuneInString(t.rest)
			t.skip(n, literal(r))
			repeatable = true
		}
		if !ok {
			return false
		}
	}
	return t.groups == 0
}

func (t *translation) copy(n int) { t.skip(n, t.rest[:n]) }

// skip writes something instead of the next n bytes.
func (t *translation) skip(n int, instead string) {
	t.to.WriteString(instead)
	t.rest = t.rest[n:]
}

func literal(r rune) string { return fmt.Sprintf(`\x{%x}`, r) }

var group = regexp.MustCompile(`^\((\?:|\?<[A-Za-z_$][\w$]*>)?`)

// open translates what begins a group that looks neither ahead nor back.
func (t *translation) open() bool {
	begin := group.FindString(t.rest)
	if begin == "(" && strings.HasPrefix(t.rest, "(?") {
		return false
	}
	t.skip(len(begin), "(?:")
	t.groups++
	return true
}

var counted = regexp.MustCompile(`^(?:[*+?]|\{\d+(?:,\d*)?\})\??`)

func (t *translation) quantifier() bool {
	q := counted.FindString(t.rest)
	t.copy(len(q))
	return q != ""
}

// escape translates an escape outside of brackets.
func (t *translation) escape() (ok, repeatable bool) {
	if len(t.rest) < 2 {
		return false, false
	}
	switch c := t.rest[1]; c {
	case 'b', 'B':
		t.copy(2)
		return true, false
	case 'd', 'D', 'w', 'W', 's', 'S':
		t.skip(2, "["+classes[c]+"]")
		return true, true
	}
	if p := property.FindString(t.rest); p != "" {
		t.copy(len(p))
		return true, true
	}
	r, n, ok := character(t.rest)
	if ok {
		t.skip(n, literal(r))
	}
	return ok, true
}

// property is a general category, those of which Go and ECMA-262 call alike.
var property = regexp.MustCompile(
	`^\\[pP]\{(?:L[ulmto]?|M[nce]?|N[dlo]?|P[cdseifo]?|S[mcko]?|Z[slp]?)\}`)

// controls are escapes of one letter.
var controls = map[byte]rune{'t': '\t', 'n': '\n', 'v': '\v', 'f': '\f', 'r': '\r'}

var hexEscape = regexp.MustCompile(
	`^\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\})`)

// character returns what an escape at the beginning of s stands for, and its length.
func character(s string) (r rune, length int, ok bool) {
	if len(s) < 2 {
		return 0, 0, false
	}
	if m := hexEscape.FindStringSubmatch(s); m != nil {
		n, err := strconv.ParseUint(m[1]+m[2]+m[3], 16, 32)
		// Two halves of a surrogate pair are one character.
		return rune(n), len(m[0]), err == nil && utf8.ValidRune(rune(n))
	}
	c := s[1]
	switch r, is := controls[c]; {
	case is:
		return r, 2, true
	case c == '0' && (len(s) == 2 || s[2] < '0' || s[2] > '9'):
		return 0, 2, true
	case c == 'c' && len(s) > 2 && (s[2]|0x20) >= 'a' && (s[2]|0x20) <= 'z':
		return rune(s[2] & 31), 3, true
	case strings.IndexByte(`^$\.*+?()[]{}|/`, c) >= 0:
		return rune(c), 2, true
	}
	return 0, 0, false
}

// class translates brackets with what is between them.
func (t *translation) class() bool {
	n := 1
	if strings.HasPrefix(t.rest, "[^") {
		n = 2
	}
	t.copy(n)
	if strings.HasPrefix(t.rest, "]") { // nothing, or anything
		return false
	}
	for !strings.HasPrefix(t.rest, "]") {
		first, many, ok := t.member()
		if !ok {
			return false
		}
		if len(t.rest) < 2 || t.rest[0] != '-' || t.rest[1] == ']' {
			if many == "" {
				many = literal(first)
			}
			t.to.WriteString(many)
			continue
		}
		t.rest = t.rest[1:]
		last, more, ok := t.member()
		if !ok || many != "" || more != "" || last < first {
			return false
		}
		t.to.WriteString(literal(first) + "-" + literal(last))
	}
	t.copy(1)
	return true
}

// member reads what stands between brackets: a character, or what many stand for.
func (t *translation) member() (one rune, many string, ok bool) {
	if t.rest == "" {
		return 0, "", false
	}
	if t.rest[0] != '\\' {
		r, n := utf8.DecodeRuneInString(t.rest)
		t.rest = t.rest[n:]
		return r, "", true
	}
	if len(t.rest) < 2 {
		return 0, "", false
	}
	c := t.rest[1]
	if many, is := classes[c]; is {
		t.rest = t.rest[2:]
		return 0, many, true
	}
	if p := property.FindString(t.rest); p != "" {
		t.rest = t.rest[len(p):]
		return 0, p, true
	}
	if c == '-' || c == 'b' { // which is a backspace here
		t.rest = t.rest[2:]
		return map[byte]rune{'-': '-', 'b': '\b'}[c], "", true
	}
	r, n, ok := character(t.rest)
	if ok {
		t.rest = t.rest[n:]
	}
	return r, "", ok
}

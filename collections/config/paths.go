package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/collections/store"
)

// MaxSegment is how long a segment of a path may be, in bytes as a directory writes them: a colon,
// and what is neither a letter or digit of ASCII nor one of "._@-", takes three. A name in a file
// system has 255 at most, also behind many S3 services, and what servers add to a segment needs the
// rest ("%21remote", "~type").
const MaxSegment = 240

// MaxPath is how long a path may be in bytes. An S3 service takes 1,024, of which the rest is for
// its prefix and for what servers add.
const MaxPath = 900

// sizeOf is how long a segment is, as MaxSegment counts.
func sizeOf(segment string) (n int) {
	for i := range len(segment) {
		switch c := segment[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			strings.IndexByte("._@-", c) >= 0:
			n++
		default:
			n += 3
		}
	}
	return n
}

// IsParam reports whether a request may put v in the place of a parameter. It is the one function
// that decides so, whatever store the documents lie in: v is one segment that no store, proxy or
// file system takes for another, and no name of the inside.
func IsParam(v string) bool {
	size := 0
	for i := range len(v) {
		n := sizeInParam(v[i])
		if n == 0 {
			return false
		}
		size += n
	}
	return v != "" && size <= MaxSegment && v != "." && !strings.Contains(v, "..") && !isInside(v)
}

// sizeInParam is how long a character of a parameter is, as MaxSegment counts; 0 if none has it.
func sizeInParam(c byte) int {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
		c == '.', c == '_', c == '@', c == '-':
		return 1
	case c == ':':
		return 3
	}
	return 0
}

// parts reports whether text between two parameters tells where the one ends and the other begins,
// as it has a character that no parameter has.
func parts(text string) bool {
	for i := range len(text) {
		if sizeInParam(text[i]) == 0 {
			return true
		}
	}
	return false
}

// Ends of the names that servers make for themselves beside documents, of before these had
// store.Mark, which no parameter can have. Stores still have some.
const (
	FormerSegments = "__seg"
	FormerRemote   = "__remote"
)

var formerInside = []string{FormerSegments, FormerRemote}

// isInside reports whether a segment is a name that servers keep for themselves.
func isInside(segment string) bool {
	return segment+"/" == store.Internal || strings.Contains(segment, store.Mark) ||
		slices.ContainsFunc(formerInside, func(n string) bool { return strings.HasSuffix(segment, n) })
}

// Template is the template of storage paths.
type Template struct {
	segments []segment
	size     int // of the text
}

type segment struct {
	text  string // or the parameter's name
	param bool
}

// ParseTemplate reads a template. It is what its text says, whether a configuration may have it or
// not.
func ParseTemplate(text string) Template {
	parts := strings.Split(text, "/")
	t := Template{segments: make([]segment, len(parts)), size: len(text)}
	for i, s := range parts {
		if inner, is := strings.CutPrefix(s, "{"); is {
			t.segments[i] = segment{strings.TrimSuffix(inner, "}"), true}
		} else {
			t.segments[i] = segment{s, false}
		}
	}
	return t
}

// Len returns how many segments its paths have.
func (t Template) Len() int { return len(t.segments) }

// Literal returns a segment that all its paths have at a place; ok is false if that is a parameter.
func (t Template) Literal(i int) (text string, ok bool) {
	return t.segments[i].text, !t.segments[i].param
}

// Fill returns the path with parameters in their places; ok is false if one is missing, or is none
// that a request may name, or if the path is too long.
func (t Template) Fill(params map[string]string) (path string, ok bool) {
	b := make([]byte, 0, t.size+64)
	for i, s := range t.segments {
		if i > 0 {
			b = append(b, '/')
		}
		text := s.text
		if s.param {
			if text, ok = params[s.text]; !ok || !IsParam(text) {
				return "", false
			}
		}
		b = append(b, text...)
	}
	return string(b), len(b) <= MaxPath
}

// TooLong says what is too long if Fill returns no path for that reason; "" is another reason.
func (t Template) TooLong(params map[string]string) string {
	length := len(t.segments) - 1
	for _, s := range t.segments {
		text := s.text
		if s.param {
			text = params[text]
			if n := sizeOf(text); n > MaxSegment {
				return fmt.Sprintf("%s has %d bytes; the limit is %d (a colon counts as three)",
					s.text, n, MaxSegment)
			}
		}
		length += len(text)
	}
	if length > MaxPath {
		return fmt.Sprintf("the path has %d bytes; the limit is %d", length, MaxPath)
	}
	return ""
}

// Match returns the parameters with which Fill returns a path; ok is false if there are none.
func (t Template) Match(path string) (params map[string]string, ok bool) {
	if !t.matches(path) {
		return nil, false
	}
	params = map[string]string{}
	for _, s := range t.segments {
		part, rest, _ := strings.Cut(path, "/")
		if s.param {
			params[s.text] = part
		}
		path = rest
	}
	return params, true
}

// Matches reports whether a path is one of the template's.
func (t Template) Matches(path string) bool { return t.matches(path) }

func (t Template) matches(path string) bool {
	if len(path) > MaxPath {
		return false
	}
	for i, s := range t.segments {
		part, rest, more := strings.Cut(path, "/")
		if more != (i < len(t.segments)-1) {
			return false
		}
		if s.param && !IsParam(part) || !s.param && part != s.text {
			return false
		}
		path = rest
	}
	return true
}

// Overlaps reports whether some path is one of both templates.
func (t Template) Overlaps(o Template) bool {
	if len(t.segments) != len(o.segments) {
		return false
	}
	for i, a := range t.segments {
		switch b := o.segments[i]; {
		case a.param && b.param:
		case a.param && !IsParam(b.text), b.param && !IsParam(a.text):
			return false
		case !a.param && !b.param && a.text != b.text:
			return false
		}
	}
	return true
}

// Within reports whether all paths of the template are the other's, too, and the other has more.
func (t Template) Within(o Template) bool {
	if len(t.segments) != len(o.segments) {
		return false
	}
	narrower := false
	for i, a := range t.segments {
		if b := o.segments[i]; a.param != b.param {
			if a.param {
				return false
			}
			narrower = true
		}
	}
	return narrower && t.Overlaps(o)
}

// Same reports whether both stand for the same paths, however their parameters are called.
func (t Template) Same(o Template) bool {
	for i, a := range t.segments {
		if i < len(o.segments) && a.param != o.segments[i].param {
			return false
		}
	}
	return t.Overlaps(o)
}

// Match returns the parameters that a template stands for a path with; ok is false if there are
// none.
func Match(template, path string) (params map[string]string, ok bool) {
	return ParseTemplate(template).Match(path)
}

// path refuses a template whose paths a store could take for others, or that leads to the inside.
func (p *problems) path(template, label string) {
	add := func(format string, args ...any) { p.add(label+format, args...) }
	seen := map[string]bool{}
	for _, s := range strings.Split(template, "/") {
		m := param.FindString(s)
		switch {
		case m != "" && m == s:
			if seen[m] {
				add("the parameter %s is there more than once", m)
			}
			seen[m] = true
		case m != "":
			add("the parameter %s must be all of its segment, which is %q", m, s)
		case strings.ContainsAny(s, "{}"):
			add("the segment %q is neither text nor a parameter, such as {id}", s)
		case s == "." || strings.Contains(s, ".."):
			add("the segment %q leads elsewhere", s)
		case strings.ContainsAny(s, `%\?#*`) || strings.ContainsFunc(s, isControl):
			add("the segment %q has a character that paths cannot have as it is", s)
		case isInside(s):
			add("the segment %q is a name that servers use themselves", s)
		case sizeOf(s) > MaxSegment:
			add("the segment %.20q… has %d bytes; the limit is %d", s, sizeOf(s), MaxSegment)
		}
	}
	if len(template) > MaxPath {
		add("it has %d bytes; the limit is %d", len(template), MaxPath)
	}
	if strings.HasSuffix(template, "/") || strings.Contains(template, "//") {
		add("%q has an empty segment", template)
	}
}

// isBundled reports whether a collection of a bundle may have a name, which is a segment of its
// paths.
func isBundled(name string) bool {
	return name != "" && sizeOf(name) <= MaxSegment && name != "." && !strings.Contains(name, "..") &&
		!strings.ContainsAny(
			name, `/{}%\?#*`,
		) && !strings.ContainsFunc(name, isControl) && !isInside(name)
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f || r == '\ufffd' }

// apart refuses collections that could both reach one object: of any path, it must be clear which
// collection it belongs to. What is a part of another's paths may stand before it, and is its own
// then.
func (p *problems) apart(c *Config) {
	type place struct {
		*Collection
		Template
	}
	name := func(c *Collection) string {
		if c.Namespace != "" {
			return fmt.Sprintf("%q of namespace %q", c.Name, c.Namespace)
		}
		return fmt.Sprintf("%q", c.Name)
	}
	compare := func(a, b place) {
		switch {
		case a.Collection == b.Collection || !a.Overlaps(b.Template):
		case a.Namespace == b.Namespace && a.Bundle == "" && b.Bundle == "" && a.Within(b.Template):
			p.warnings = append(
				p.warnings,
				fmt.Sprintf(
					"collections %s and %s: paths of %q belong to the first alone, though %q stands for them, too",
					name(a.Collection), name(b.Collection), a.StoragePath, b.StoragePath,
				),
			)
		case a.Namespace == b.Namespace && a.Bundle == "" && b.Bundle == "" && b.Within(a.Template):
			p.add(
				"collections %s and %s: %q is among the paths of %q, which stands before it; let it come first",
				name(a.Collection), name(b.Collection), b.KeyTemplate(), a.KeyTemplate(),
			)
		default:
			p.add(
				"collections %s and %s: %q and %q stand for the same paths", name(a.Collection),
				name(b.Collection), a.KeyTemplate(), b.KeyTemplate(),
			)
		}
	}
	// Only templates of one length can overlap, and of those with a text in front only those with the
	// same.
	type group struct {
		length int
		first  string
	}
	literal, params := map[group][]place{}, map[int][]place{}
	byLength := map[int][]place{}
	bundles := map[group]place{}
	for _, col := range c.All() {
		b := place{col, ParseTemplate(col.KeyTemplate())}
		first, is := b.Literal(0)
		if is {
			for _, a := range literal[group{b.Len(), first}] {
				compare(a, b)
			}
			for _, a := range params[b.Len()] {
				compare(a, b)
			}
			literal[group{b.Len(), first}] = append(literal[group{b.Len(), first}], b)
		} else {
			for _, a := range byLength[b.Len()] {
				compare(a, b)
			}
			params[b.Len()] = append(params[b.Len()], b)
		}
		byLength[b.Len()] = append(byLength[b.Len()], b)
		if col.Bundle != "" {
			bundles[group{0, col.Namespace + "/" + col.Bundle}] = place{col, ParseTemplate(col.StoragePath)}
		}
	}
	for _, b := range bundles { // which are pulled as a whole, at a path of their own
		for _, a := range byLength[b.Len()] {
			if a.Bundle == "" && a.Namespace == b.Namespace && a.Overlaps(b.Template) {
				p.add(
					"collection %s and bundle %q: %q and %q stand for the same paths", name(a.Collection),
					b.Bundle, a.StoragePath, b.StoragePath,
				)
			}
		}
		for _, other := range bundles {
			if other.Bundle < b.Bundle && other.Namespace == b.Namespace && other.Overlaps(b.Template) {
				p.add(
					"bundles %q and %q: %q and %q stand for the same paths", other.Bundle, b.Bundle,
					other.StoragePath, b.StoragePath,
				)
			}
		}
	}
}

package value

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

var (
	// ErrSyntax reports what is no JSON text (RFC 8259), or not in UTF-8.
	ErrSyntax = errors.New("not JSON")
	// ErrTooDeep reports a JSON text whose arrays and objects are nested more deeply than allowed.
	ErrTooDeep = errors.New("nested too deeply")
	// ErrTooMany reports a JSON text of more values than are taken.
	ErrTooMany = errors.New("too many values")
)

// MaxValues is how many values there may be in what a caller sends, each member, element, array and
// object being one. A value takes a few bytes of a text and some tens of memory.
const MaxValues = 1 << 20

// MaxDepth is how deeply arrays and objects may be nested in a document: as far as the reference
// server takes them.
const MaxDepth = 64

// Parse reads a JSON text as JSON.parse does: of members with the same key the last counts, numbers
// are rounded to float64 and may be infinite, escapes may give lone surrogates. Unlike a browser's
// decoder it refuses bytes that are not UTF-8, which would be stored as something that was never
// signed. A byte order mark at the beginning is skipped. It returns an error that is ErrSyntax; or
// ErrTooDeep, together with the value but for what is nested more than depth deep, which is looked
// at for its syntax alone.
func Parse(text []byte, depth int) (any, error) { return parse(nil, 0, text, depth) }

// ParseWithin is Parse for what a caller sends: it ends with the error of ctx soon after ctx has
// ended, and with one that is ErrTooMany at more values than MaxValues.
func ParseWithin(ctx context.Context, text []byte, depth int) (any, error) {
	return parse(ctx.Err, MaxValues, text, depth)
}

// ParseObjectOf is ParseObject for what a server answers, which may be long: it ends with an error
// that is ErrTooMany at more than so many values.
func ParseObjectOf(values int, text []byte, depth int) (*Object, error) {
	v, err := parse(nil, values, text, depth)
	return asObject(v, err)
}

func parse(over func() error, most int, text []byte, depth int) (any, error) {
	p := parsers.Get().(*parser)
	defer p.release()
	p.b, p.depth, p.over = strings.TrimPrefix(string(text), "\xef\xbb\xbf"), depth, over
	p.most = most
	v, err := p.value(1)
	if err == nil {
		if p.space(); p.i < len(p.b) {
			err = p.fail("text after the end")
		}
	}
	if err != nil {
		return nil, err
	}
	if p.tooDeep {
		return v, fmt.Errorf("%w: more than %d", ErrTooDeep, depth)
	}
	return v, nil
}

// ParseObject is Parse for a text that is to be an object.
func ParseObject(text []byte, depth int) (*Object, error) {
	return asObject(Parse(text, depth))
}

func asObject(v any, err error) (*Object, error) {
	if err != nil {
		return nil, err
	}
	o, ok := v.(*Object)
	if !ok {
		return nil, fmt.Errorf("%w object", ErrSyntax)
	}
	return o, nil
}

// parser reads a text. The strings that it returns are parts of the text, where they have no
// escapes.
type parser struct {
	b       string
	i       int
	depth   int
	tooDeep bool

	// asks whether the caller waits no more; nil if what is read is the server's own
	over   func() error
	values int // that have been begun
	most   int // of them; 0 is any number

	buf     []byte   // of a string with escapes
	members []Member // of the objects that are being read, those of the inner ones last
	items   []any    // of the arrays, likewise
}

var parsers = sync.Pool{New: func() any { return &parser{} }}

// maxKept is how many members and items a parser that waits for its next text has room for.
const maxKept = 1024

func (p *parser) release() {
	if cap(p.buf) > 32*maxKept || cap(p.members) > maxKept || cap(p.items) > maxKept {
		return
	}
	clear(p.members) // of what has not been read to its end
	clear(p.items)
	*p = parser{buf: p.buf[:0], members: p.members[:0], items: p.items[:0]}
	parsers.Put(p)
}

func (p *parser) fail(what string) error {
	return fmt.Errorf("%w: %s at byte %d", ErrSyntax, what, p.i)
}

func (p *parser) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// next returns the byte that comes after white space, or 0 at the end.
func (p *parser) next() byte {
	p.space()
	if p.i < len(p.b) {
		return p.b[p.i]
	}
	return 0
}

// asked is after how many values it is looked whether the caller is still there.
const asked = 1 << 10

// count counts a value, and returns an error once there are too many or nobody waits for them.
func (p *parser) count() error {
	if p.values++; p.most == 0 || p.values%asked != 1 {
		return nil
	}
	if p.values > p.most {
		return fmt.Errorf("%w: more than %d", ErrTooMany, p.most)
	}
	if p.over == nil {
		return nil
	}
	return p.over()
}

// value reads a value that is nested level deep if it is an array or an object.
func (p *parser) value(level int) (any, error) {
	if err := p.count(); err != nil {
		return nil, err
	}
	switch c := p.next(); c {
	case '{', '[':
		if level > p.depth {
			p.tooDeep = true
			return nil, p.skip()
		}
		if c == '{' {
			return p.object(level)
		}
		return p.array(level)
	default:
		return p.scalar(c)
	}
}

func (p *parser) scalar(c byte) (any, error) {
	switch c {
	case '"':
		return p.string()
	case 't':
		return true, p.word("true")
	case 'f':
		return false, p.word("false")
	case 'n':
		return nil, p.word("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return p.number()
	}
	return nil, p.fail("no value")
}

func (p *parser) word(w string) error {
	if !strings.HasPrefix(p.b[p.i:], w) {
		return p.fail("no value")
	}
	p.i += len(w)
	return nil
}

func (p *parser) object(level int) (*Object, error) {
	p.i++
	if p.next() == '}' {
		p.i++
		return &Object{}, nil
	}
	from := len(p.members)
	for {
		if p.next() != '"' {
			return nil, p.fail("no key")
		}
		key, err := p.string()
		if err != nil {
			return nil, err
		}
		if p.next() != ':' {
			return nil, p.fail("no colon")
		}
		p.i++
		v, err := p.value(level + 1)
		if err != nil {
			return nil, err
		}
		p.members = append(p.members, Member{key, v})
		switch p.next() {
		case ',':
			p.i++
		case '}':
			p.i++
			o := objectOf(p.members[from:])
			clear(p.members[from:]) // or what has been read would stay in memory with the parser
			p.members = p.members[:from]
			return o, nil
		default:
			return nil, p.fail("neither a comma nor the end of the object")
		}
	}
}

func (p *parser) array(level int) (Array, error) {
	p.i++
	if p.next() == ']' {
		p.i++
		return Array{}, nil
	}
	from := len(p.items)
	for {
		v, err := p.value(level + 1)
		if err != nil {
			return nil, err
		}
		p.items = append(p.items, v)
		switch p.next() {
		case ',':
			p.i++
		case ']':
			p.i++
			a := append(make(Array, 0, len(p.items)-from), p.items[from:]...)
			clear(p.items[from:])
			p.items = p.items[:from]
			return a, nil
		default:
			return nil, p.fail("neither a comma nor the end of the array")
		}
	}
}

// skip reads an array or object without building it, however deep it is: its stack is one byte for
// each level.
func (p *parser) skip() error {
	var open []byte
	for {
		c := p.next()
		err := p.count()
		if err != nil {
			return err
		}
		ended := true // a value has
		switch c {
		case '{', '[':
			p.i++
			open, ended = append(open, c), false
			if c == '[' && p.next() != ']' {
				continue
			}
		default:
			_, err = p.scalar(c)
		}
		if err != nil {
			return err
		}
		for {
			in := open[len(open)-1]
			c := p.next()
			if c == in+2 { // ']' and '}' come two after '[' and '{'
				p.i++
				if open, ended = open[:len(open)-1], true; len(open) == 0 {
					return nil
				}
				continue
			}
			if ended {
				if c != ',' {
					return p.fail("neither a comma nor an end")
				}
				p.i++
			}
			break
		}
		if open[len(open)-1] == '{' {
			if p.next() != '"' {
				return p.fail("no key")
			}
			if _, err := p.string(); err != nil {
				return err
			}
			if p.next() != ':' {
				return p.fail("no colon")
			}
			p.i++
		}
	}
}

// small are the small whole numbers, which need no memory of their own.
var small = func() (all [1024]any) {
	for i := range all {
		all[i] = float64(i)
	}
	return all
}()

func (p *parser) digits() bool {
	from := p.i
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		p.i++
	}
	return p.i > from
}

func (p *parser) number() (any, error) {
	from := p.i
	if p.b[p.i] == '-' {
		p.i++
	}
	switch {
	case p.i < len(p.b) && p.b[p.i] == '0':
		p.i++
	case !p.digits():
		return nil, p.fail("no number")
	}
	whole := true
	if p.i < len(p.b) && p.b[p.i] == '.' {
		whole = false
		if p.i++; !p.digits() {
			return nil, p.fail("no number")
		}
	}
	if p.i < len(p.b) && (p.b[p.i] == 'e' || p.b[p.i] == 'E') {
		whole = false
		if p.i++; p.i < len(p.b) && (p.b[p.i] == '+' || p.b[p.i] == '-') {
			p.i++
		}
		if !p.digits() {
			return nil, p.fail("no number")
		}
	}
	text := p.b[from:p.i]
	if whole && len(text) <= 15 && text[0] != '-' {
		n := 0
		for i := range len(text) {
			n = n*10 + int(text[i]-'0')
		}
		if n < len(small) {
			return small[n], nil
		}
		return float64(n), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range is infinite
		return nil, p.fail("no number")
	}
	return f, nil
}

func (p *parser) string() (string, error) {
	p.i++
	from := p.i
	for ascii := true; p.i < len(p.b); p.i++ {
		switch c := p.b[p.i]; {
		case c == '"':
			s := p.b[from:p.i]
			if !ascii && !utf8.ValidString(s) {
				return "", p.fail("a string that is not in UTF-8")
			}
			p.i++
			return s, nil
		case c == '\\':
			return p.escaped(from)
		case c < 0x20:
			return "", p.fail("a control character in a string")
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", p.fail("a string without an end")
}

// escaped reads the rest of a string that began at from and has its first escape here.
func (p *parser) escaped(from int) (string, error) {
	s := p.buf[:0]
	for {
		if !utf8.ValidString(p.b[from:p.i]) {
			return "", p.fail("a string that is not in UTF-8")
		}
		s = append(s, p.b[from:p.i]...)
		p.i++ // the backslash
		if p.i >= len(p.b) {
			return "", p.fail("a string without an end")
		}
		c := p.b[p.i]
		p.i++
		switch c {
		case '"', '\\', '/':
			s = append(s, c)
		case 'b':
			s = append(s, '\b')
		case 'f':
			s = append(s, '\f')
		case 'n':
			s = append(s, '\n')
		case 'r':
			s = append(s, '\r')
		case 't':
			s = append(s, '\t')
		case 'u':
			if len(p.b)-p.i < 4 {
				return "", p.fail("an escape without its four digits")
			}
			u, err := strconv.ParseUint(p.b[p.i:p.i+4], 16, 16)
			if err != nil {
				return "", p.fail("an escape without its four digits")
			}
			p.i += 4
			s = appendUnit(s, uint16(u))
		default:
			return "", p.fail("an unknown escape")
		}
		for from = p.i; ; p.i++ {
			if p.i >= len(p.b) {
				return "", p.fail("a string without an end")
			}
			c := p.b[p.i]
			if c < 0x20 {
				return "", p.fail("a control character in a string")
			}
			if c == '\\' {
				break
			}
			if c == '"' {
				if !utf8.ValidString(p.b[from:p.i]) {
					return "", p.fail("a string that is not in UTF-8")
				}
				s = append(s, p.b[from:p.i]...)
				p.i++
				p.buf = s
				return string(s), nil
			}
		}
	}
}

// appendUnit appends a UTF-16 code unit in WTF-8: the second half of a pair is joined to the first,
// a lone one is encoded by itself.
func appendUnit(s []byte, u uint16) []byte {
	if u < 0xd800 || u > 0xdfff {
		return utf8.AppendRune(s, rune(u))
	}
	if u >= 0xdc00 {
		if high, ok := surrogate(s[max(0, len(s)-3):]); ok && high < 0xdc00 {
			return utf8.AppendRune(s[:len(s)-3], 0x10000+rune(high-0xd800)<<10+rune(u-0xdc00))
		}
	}
	return append(s, 0xe0|byte(u>>12), 0x80|byte(u>>6)&0xbf, 0x80|byte(u)&0xbf)
}

// surrogate returns the surrogate that s begins with, in WTF-8.
func surrogate[T string | []byte](s T) (u uint16, ok bool) {
	if len(s) < 3 || s[0] != 0xed || s[1] < 0xa0 || s[1] > 0xbf || s[2]&0xc0 != 0x80 {
		return 0, false
	}
	return 0xd000 | uint16(s[1]&0x3f)<<6 | uint16(s[2]&0x3f), true
}

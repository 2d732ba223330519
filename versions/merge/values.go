package merge

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// value is a JSON value. Numbers and strings stay as they are written, so that none is rounded and
// no lone surrogate is lost.
type value struct {
	// number is equal for equal values among those that were parsed by the same values. Numbers are
	// equal if they are so exactly (1, 1.0 and 10e-1), strings if they are so without escapes, and
	// objects whatever the order of their members is. 0 and -0 differ.
	number  int32
	kind    byte     // '{', '[', '"', '0' for numbers, 't' for true and false, 'n' for null
	raw     string   // as it is written
	items   []*value // of an array
	members []member // of an object, in the order of their keys' numbers
	order   []int32  // places in members, in the order in which they are written
}

type member struct {
	key   *value // a string
	value *value
}

// get returns the member whose key has that number; nil if there is none. v may be nil or another
// kind of value.
func (v *value) get(key int32) *value {
	if v == nil {
		return nil
	}
	i, found := slices.BinarySearchFunc(v.members, key, func(m member, key int32) int {
		return int(m.key.number - key)
	})
	if !found {
		return nil
	}
	return v.members[i].value
}

// values parses JSON and numbers what it finds.
type values struct {
	numbers map[string]int32

	text string  // what is left of the present text
	left int     // how many more values it may have
	slab []value // room for the next values
	key  []byte  // what identity returned last
}

// parse reads a text. The error is a *Conflict: the text is not JSON, a member comes twice, or
// there are more values or levels than MaxParts and MaxDepth.
func (p *values) parse(text []byte) (*value, error) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, conflict(NotJSON)
	}
	return p.parseValid(string(text))
}

// parseValid is parse for a text that is JSON in UTF-8.
func (p *values) parseValid(text string) (*value, error) {
	if p.numbers == nil {
		p.numbers = make(map[string]int32, len(text)/16)
	}
	p.text, p.left = text, MaxParts
	p.space()
	return p.read(1)
}

// number returns the number of values whose identity is key. No two kinds of values have keys that
// begin alike.
func (p *values) number(key string) int32 {
	n, known := p.numbers[key]
	if !known {
		n = int32(len(p.numbers))
		p.numbers[key] = n
	}
	return n
}

// numberNested is number for an array or an object.
func (p *values) numberNested(v *value) int32 {
	p.key = v.identity(p.key[:0])
	n, known := p.numbers[string(p.key)]
	if !known {
		return p.number(string(p.key))
	}
	return n
}

// new returns a value to be filled in.
func (p *values) new(kind byte) *value {
	if len(p.slab) == 0 {
		p.slab = make([]value, min(max(16, len(p.text)/16), 512))
	}
	v := &p.slab[0]
	p.slab, v.kind = p.slab[1:], kind
	return v
}

// read reads the value that the text begins with. The text is valid.
func (p *values) read(depth int) (*value, error) {
	if p.left--; p.left < 0 || depth > MaxDepth {
		return nil, conflict(TooLarge)
	}
	switch c := p.text[0]; c {
	case '{', '[':
		before := p.text
		v, err := p.nested(c, depth)
		if err != nil {
			return nil, err
		}
		v.raw = before[:len(before)-len(p.text)]
		return v, nil
	case '"':
		return p.quoted(), nil
	case 't', 'f', 'n':
		n := 4
		if c == 'f' {
			n, c = 5, 't'
		}
		v := p.new(c)
		v.raw = p.cut(n)
		v.number = p.number(v.raw)
		return v, nil
	default:
		n := 1
		for n < len(p.text) && strings.IndexByte("+-.eE0123456789", p.text[n]) >= 0 {
			n++
		}
		v := p.new('0')
		v.raw = p.cut(n)
		v.number = p.number(exact(v.raw))
		return v, nil
	}
}

func (p *values) cut(n int) (head string) {
	head, p.text = p.text[:n], p.text[n:]
	return head
}

// space skips what is between values.
func (p *values) space() {
	for p.text != "" && p.text[0] <= ' ' {
		p.text = p.text[1:]
	}
}

// nested reads an array or an object.
func (p *values) nested(open byte, depth int) (*value, error) {
	v := p.new(open)
	p.text = p.text[1:]
	for {
		p.space()
		switch p.text[0] {
		case ']':
			p.text = p.text[1:]
			v.number = p.numberNested(v)
			return v, nil
		case '}':
			p.text = p.text[1:]
			if !v.sortMembers() {
				return nil, conflict(NotJSON)
			}
			v.number = p.numberNested(v)
			return v, nil
		case ',':
			p.text = p.text[1:]
			p.space()
		}
		var key *value
		if open == '{' {
			key = p.quoted()
			p.space()
			p.text = p.text[1:] // the colon
			p.space()
		}
		item, err := p.read(depth + 1)
		if err != nil {
			return nil, err
		}
		if open == '{' {
			v.members = append(v.members, member{key, item})
		} else {
			v.items = append(v.items, item)
		}
	}
}

// sortMembers orders members by the numbers of their keys, and reports false if a key comes twice.
func (v *value) sortMembers() bool {
	written := make([]int32, len(v.members))
	for i, m := range v.members {
		written[i] = m.key.number
	}
	slices.SortFunc(v.members, func(a, b member) int { return int(a.key.number - b.key.number) })
	for i := 1; i < len(v.members); i++ {
		if v.members[i].key.number == v.members[i-1].key.number {
			return false
		}
	}
	v.order = make([]int32, len(written))
	for i, key := range written {
		at, _ := slices.BinarySearchFunc(v.members, key, func(m member, key int32) int {
			return int(m.key.number - key)
		})
		v.order[i] = int32(at)
	}
	return true
}

// identity appends what is the same for equal arrays and objects only.
func (v *value) identity(b []byte) []byte {
	b = append(b, v.kind)
	for _, item := range v.items {
		b = binary.BigEndian.AppendUint32(b, uint32(item.number))
	}
	for _, m := range v.members {
		b = binary.BigEndian.AppendUint32(b, uint32(m.key.number))
		b = binary.BigEndian.AppendUint32(b, uint32(m.value.number))
	}
	return b
}

// quoted reads a string.
func (p *values) quoted() *value {
	n := 1
	for ; p.text[n] != '"'; n++ {
		if p.text[n] == '\\' {
			n++
		}
	}
	v := p.new('"')
	v.raw = p.cut(n + 1)
	v.number = p.numberQuoted(v.raw[:n])
	return v
}

// numberQuoted is number for a string as it is written, without the quote at its end.
func (p *values) numberQuoted(s string) int32 {
	if strings.IndexByte(s, '\\') >= 0 {
		s = `"` + unescape(s[1:])
	}
	return p.number(s)
}

// said returns what a string says.
func (v *value) said() string { return unescape(v.raw[1 : len(v.raw)-1]) }

// unescape returns what a string says, in WTF-8: a lone surrogate is encoded like any code point.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for s != "" {
		if s[0] != '\\' {
			out, s = append(out, s[0]), s[1:]
			continue
		}
		escaped := s[1]
		if i := strings.IndexByte("bfnrt", escaped); i >= 0 {
			escaped = "\b\f\n\r\t"[i]
		}
		if s[1] != 'u' {
			out, s = append(out, escaped), s[2:]
			continue
		}
		r := unit(s)
		s = s[6:]
		if strings.HasPrefix(s, `\u`) && utf16.DecodeRune(r, unit(s)) != utf8.RuneError {
			r, s = utf16.DecodeRune(r, unit(s)), s[6:]
		}
		if utf16.IsSurrogate(r) {
			out = append(out, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f)
			continue
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}

// unit returns the code of the escape that s begins with: \u and four hex digits.
func unit(s string) rune {
	n, _ := strconv.ParseUint(s[2:6], 16, 16) // the text is valid
	return rune(n)
}

// exact returns a text that is the same for equal numbers only: sign, digits without zeros at
// either end, and exponent. A number whose exponent has more than 16 characters stays as it is.
func exact(number string) string {
	digits, sign := number, ""
	if digits[0] == '-' {
		digits, sign = digits[1:], "-"
	}
	exponent := int64(0)
	if i := strings.IndexAny(digits, "eE"); i >= 0 {
		if len(digits)-i > 17 {
			return number
		}
		exponent, _ = strconv.ParseInt(digits[i+1:], 10, 64) // the text is valid
		digits = digits[:i]
	}
	if i := strings.IndexByte(digits, '.'); i >= 0 {
		exponent -= int64(len(digits) - i - 1)
		digits = digits[:i] + digits[i+1:]
	}
	digits = strings.TrimLeft(digits, "0")
	short := strings.TrimRight(digits, "0")
	if short == "" {
		return sign + "0"
	}
	return sign + short + "e" + strconv.FormatInt(exponent+int64(len(digits)-len(short)), 10)
}

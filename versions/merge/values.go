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

	text string // what is left of the present text
	left int    // how many more values it may have
}

// parse reads a text. The error is a *Conflict: the text is not JSON, a member comes twice, or there
// are more values or levels than MaxParts and MaxDepth.
func (p *values) parse(text []byte) (*value, error) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, conflict(NotJSON)
	}
	if p.numbers == nil {
		p.numbers = map[string]int32{}
	}
	p.text, p.left = string(text), MaxParts
	p.space()
	return p.read(1)
}

func (p *values) number(v *value, key string) *value {
	n, known := p.numbers[key]
	if !known {
		n = int32(len(p.numbers))
		p.numbers[key] = n
	}
	v.number = n
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
		raw := p.cut(n)
		return p.number(&value{kind: c, raw: raw}, raw), nil
	default:
		n := 1
		for n < len(p.text) && strings.IndexByte("+-.eE0123456789", p.text[n]) >= 0 {
			n++
		}
		raw := p.cut(n)
		return p.number(&value{kind: '0', raw: raw}, exact(raw)), nil
	}
}

func (p *values) cut(n int) (head string) {
	head, p.text = p.text[:n], p.text[n:]
	return head
}

func (p *values) space() { p.text = strings.TrimLeft(p.text, " \t\r\n") }

// nested reads an array or an object.
func (p *values) nested(open byte, depth int) (*value, error) {
	v := &value{kind: open}
	p.text = p.text[1:]
	for {
		p.space()
		switch p.text[0] {
		case ']':
			p.text = p.text[1:]
			return p.number(v, v.identity()), nil
		case '}':
			p.text = p.text[1:]
			if !v.sortMembers() {
				return nil, conflict(NotJSON)
			}
			return p.number(v, v.identity()), nil
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

// identity returns a text that is the same for equal arrays and objects only. No other value's has
// the same first byte.
func (v *value) identity() string {
	b := make([]byte, 1, 1+4*len(v.items)+8*len(v.members))
	b[0] = v.kind
	for _, item := range v.items {
		b = binary.BigEndian.AppendUint32(b, uint32(item.number))
	}
	for _, m := range v.members {
		b = binary.BigEndian.AppendUint32(b, uint32(m.key.number))
		b = binary.BigEndian.AppendUint32(b, uint32(m.value.number))
	}
	return string(b)
}

// quoted reads a string.
func (p *values) quoted() *value {
	n := 1
	for ; p.text[n] != '"'; n++ {
		if p.text[n] == '\\' {
			n++
		}
	}
	raw := p.cut(n + 1)
	return p.number(&value{kind: '"', raw: raw}, `"`+unescape(raw[1:n]))
}

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

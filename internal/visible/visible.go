// Package visible makes text of others safe to be shown to a person. A terminal takes some
// characters as commands, and others change the order in which the rest is read or cannot be seen:
// so a name can pretend to be another one, or erase a question that a person is asked.
//
// It decides which characters are shown as they are, and how the rest is written. Where text comes
// from is not its business.
package visible

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// brailleBlank looks like a space and is a symbol.
const brailleBlank = '\u2800'

// emojiStyle asks for the coloured form of a symbol, and is in many names.
const emojiStyle = '\ufe0f'

// Rune reports whether r is shown as it is: letters, marks, digits, punctuation, symbols and the
// space. Control characters, those for formatting (bidirectional, zero-width), private, unassigned
// and invisible ones, and all other spaces are not.
func Rune(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return r >= ' ' && r < 0x7f
	case r == emojiStyle:
		return true
	case !unicode.IsPrint(r) || r == brailleBlank:
		return false
	}
	return !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Text returns s as one line that can be shown. A character for which Rune is false becomes the
// escape that it has in JSON, such as \u001b; a byte that is not UTF-8 becomes \xff. Text of what
// Text returned is the same.
func Text(s string) string { return clean(s, "") }

// Lines is Text for several lines: line ends and tabs stay.
func Lines(s string) string { return clean(s, "\n\t") }

func clean(s, keep string) string {
	i := 0
	for i < len(s) && s[i] >= ' ' && s[i] < 0x7f {
		i++
	}
	if i == len(s) {
		return s
	}
	b, _ := appendClean(append(make([]byte, 0, len(s)+16), s[:i]...), []byte(s[i:]), keep, true)
	return string(b)
}

const hex = "0123456789abcdef"

// appendClean appends what of s can be shown. Unless last is set, an incomplete character at the
// end is left over.
func appendClean(dst, s []byte, keep string, last bool) (out, left []byte) {
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		switch {
		case r == utf8.RuneError && n == 1:
			if !last && !utf8.FullRune(s) {
				return dst, s
			}
			dst = append(dst, '\\', 'x', hex[s[0]>>4], hex[s[0]&15])
		case Rune(r) || r < utf8.RuneSelf && strings.IndexByte(keep, byte(r)) >= 0:
			dst = append(dst, s[:n]...)
		default:
			dst = appendEscape(dst, r)
		}
		s = s[n:]
	}
	return dst, nil
}

func appendEscape(dst []byte, r rune) []byte {
	switch r {
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	if r > 0xffff { // as JSON has it: two halves
		r -= 0x10000
		return appendUnit(appendUnit(dst, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	return appendUnit(dst, r)
}

func appendUnit(dst []byte, u rune) []byte {
	return append(dst, '\\', 'u', hex[u>>12&15], hex[u>>8&15], hex[u>>4&15], hex[u&15])
}

// A Writer writes to another one what of its input can be shown, as Lines does. JSON that goes
// through it stays JSON of the same value. It is not safe for use by several goroutines.
type Writer struct {
	w    io.Writer
	left []byte // the beginning of a character
	buf  []byte
}

// NewWriter returns a Writer that writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write implements io.Writer.
func (w *Writer) Write(b []byte) (int, error) {
	in := b
	if len(w.left) > 0 {
		in = append(w.left, b...)
	}
	out, left := appendClean(w.buf[:0], in, "\n\t", false)
	w.left, w.buf = append([]byte(nil), left...), out[:0]
	if _, err := w.w.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Flush writes an incomplete character at the end of what was written.
func (w *Writer) Flush() error {
	out, _ := appendClean(nil, w.left, "", true)
	w.left = nil
	_, err := w.w.Write(out)
	return err
}

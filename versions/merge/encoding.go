package merge

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// encoding is how the characters of a text are written, with its byte order mark.
type encoding uint8

const (
	plainUTF8 encoding = iota
	markedUTF8
	littleUTF16
	bigUTF16
)

var marks = [...]string{
	plainUTF8: "", markedUTF8: "\xef\xbb\xbf", littleUTF16: "\xff\xfe", bigUTF16: "\xfe\xff",
}

// decode returns the characters of text in UTF-8, without the byte order mark. It reports false if
// they are not valid or have a NUL. UTF-32 has NULs in either reading.
func decode(text []byte) (s string, is encoding, ok bool) {
	for _, e := range []encoding{markedUTF8, littleUTF16, bigUTF16} {
		if bytes.HasPrefix(text, []byte(marks[e])) {
			is = e
		}
	}
	text = text[len(marks[is]):]
	if order := is.order(); order != nil {
		s, ok = decodeUTF16(text, order)
	} else {
		s, ok = string(text), utf8.Valid(text)
	}
	return s, is, ok && strings.IndexByte(s, 0) < 0
}

// order is that of the bytes of a unit of UTF-16; nil for UTF-8.
func (e encoding) order() binary.ByteOrder {
	switch e {
	case littleUTF16:
		return binary.LittleEndian
	case bigUTF16:
		return binary.BigEndian
	default:
		return nil
	}
}

func decodeUTF16(text []byte, order binary.ByteOrder) (string, bool) {
	if len(text)%2 != 0 {
		return "", false
	}
	s := make([]byte, 0, len(text))
	for ; len(text) > 0; text = text[2:] {
		r := rune(order.Uint16(text))
		if utf16.IsSurrogate(r) {
			if len(text) < 4 {
				return "", false
			}
			if r = utf16.DecodeRune(r, rune(order.Uint16(text[2:]))); r == utf8.RuneError {
				return "", false
			}
			text = text[2:]
		}
		s = utf8.AppendRune(s, r)
	}
	return string(s), true
}

// encode is the inverse of decode.
func (e encoding) encode(s []byte) []byte {
	order := e.order()
	if order == nil {
		return append([]byte(marks[e]), s...)
	}
	out := append(make([]byte, 0, 2+2*len(s)), marks[e]...)
	for _, unit := range utf16.Encode(bytes.Runes(s)) {
		var b [2]byte
		order.PutUint16(b[:], unit)
		out = append(out, b[:]...)
	}
	return out
}

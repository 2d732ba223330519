package value

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Append appends v as JSON.stringify writes it, in the order of its members.
func Append(b []byte, v any) []byte { return write(b, v, false) }

// AppendCanonical appends the canonical form of v: as Append, with the members of each object in
// the order of the code points of their keys.
func AppendCanonical(b []byte, v any) []byte { return write(b, v, true) }

// Hash returns the hash of v: the SHA-256 of its canonical form, in 64 hex digits.
func Hash(v any) string {
	b := buffers.Get().(*[]byte)
	*b = AppendCanonical((*b)[:0], v)
	sum := sha256.Sum256(*b)
	if cap(*b) <= maxBuffer {
		buffers.Put(b)
	}
	return hex.EncodeToString(sum[:])
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxBuffer is how many bytes a buffer that is kept has at most.
const maxBuffer = 64 << 10

func write(b []byte, v any, canonical bool) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case float64:
		return appendNumber(b, v)
	case string:
		return AppendString(b, v)
	case Array:
		b = append(b, '[')
		for i, x := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = write(b, x, canonical)
		}
		return append(b, ']')
	case *Object:
		members := v.members
		if !canonical {
			members = v.inOrder()
		} else if !slices.IsSortedFunc(members, byKey) {
			members = slices.Clone(members)
			slices.SortFunc(members, byKey)
		}
		b = append(b, '{')
		for i := range members {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(AppendString(b, members[i].Key), ':')
			b = write(b, members[i].Value, canonical)
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("value: %T is no JSON value", v))
}

func byKey(a, b Member) int { return strings.Compare(a.Key, b.Key) }

// appendNumber writes as ECMA-262's Number::toString; what is not finite is null.
func appendNumber(b []byte, f float64) []byte {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return append(b, "null"...)
	case f == 0:
		return append(b, '0')
	case f == math.Trunc(f) && math.Abs(f) < 1<<53:
		return strconv.AppendInt(b, int64(f), 10)
	case math.Abs(f) >= 1e-6 && math.Abs(f) < 1e21:
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	if n := len(b); b[n-2] == '0' && (b[n-3] == '-' || b[n-3] == '+') { // e-09 is e-9
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b
}

// special are the bytes that a string may not have as they are, or that may begin a lone surrogate.
var special = func() (is [256]bool) {
	for c := range 0x20 {
		is[c] = true
	}
	is['"'], is['\\'], is[0xed] = true, true, true
	return is
}()

const hexDigits = "0123456789abcdef"

// AppendString appends s as JSON.stringify does: lone surrogates are escaped.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !special[c] {
			continue
		}
		if c == 0xed {
			if u, ok := surrogate(s[i:]); ok {
				b = append(b, s[from:i]...)
				b = append(
					b, '\\', 'u', hexDigits[u>>12], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15],
				)
				i += 2
				from = i + 1
			}
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(b, s[from:]...), '"')
}

package dirbackend

import (
	"strings"
)

// A key's file is named so that it is one file, and no other key's, on every system: where names
// ignore case or how letters are composed, are at most 255 bytes long, or are devices.
//
//   - a to z, 0 to 9, "-", "_" and "." stand for themselves. A to Z are "^" and the small letter.
//   - Every other byte is "%" and two hex digits; so is a "." at either end, and the first letter of
//     a name of a device (such as "con" or "lpt1.a").
//   - A name that would have more than 200 bytes is cut into parts: all but the last are directories,
//     whose names end with "~".
//   - The empty key is "%".
//
// After the last part comes the extension.

const maxPart = 200

// parts returns the names of the directories that a key's file is in, and its name without
// extension.
func parts(key string) (dirs []string, base string) {
	const hex = "0123456789abcdef"
	escaped := func(c byte) string { return string([]byte{'%', hex[c>>4], hex[c&15]}) }
	if key == "" {
		return nil, "%"
	}
	var part strings.Builder
	var done []string
	end := func() {
		s := part.String()
		if last := len(s) - 1; s[last] == '.' {
			s = s[:last] + escaped('.')
		}
		if s[0] == '.' || isDevice(s) {
			s = escaped(s[0]) + s[1:]
		}
		done = append(done, s)
		part.Reset()
	}
	for i := range len(key) {
		if part.Len() >= maxPart-6 {
			end()
		}
		switch c := key[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
			part.WriteByte(c)
		case c >= 'A' && c <= 'Z':
			part.WriteByte('^')
			part.WriteByte(c | 0x20)
		default:
			part.WriteString(escaped(c))
		}
	}
	end()
	for _, s := range done[:len(done)-1] {
		dirs = append(dirs, s+"~")
	}
	return dirs, done[len(done)-1]
}

// isDevice reports a name that is a device on Windows, whatever its extension is.
func isDevice(name string) bool {
	stem, _, _ := strings.Cut(name, ".")
	switch stem {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(stem) == 4 && (stem[:3] == "com" || stem[:3] == "lpt") && stem[3] <= '9'
}

// keyOf returns the key of which parts gives these names, if there is one.
func keyOf(dirs []string, base string) (key string, ok bool) {
	var all strings.Builder
	for _, d := range dirs {
		all.WriteString(strings.TrimSuffix(d, "~"))
	}
	all.WriteString(base)
	var b strings.Builder
	for s := all.String(); s != "" && s != "%"; {
		switch {
		case s[0] == '^' && len(s) >= 2:
			b.WriteByte(s[1] &^ 0x20)
			s = s[2:]
		case s[0] == '%' && len(s) >= 3:
			hi, lo := unhex(s[1]), unhex(s[2])
			b.WriteByte(hi<<4 | lo)
			s = s[3:]
		default:
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
	key = b.String()
	wantDirs, wantBase := parts(key)
	if wantBase != base || len(wantDirs) != len(dirs) {
		return "", false
	}
	for i := range dirs {
		if dirs[i] != wantDirs[i] {
			return "", false
		}
	}
	return key, true
}

// unhex returns what a hex digit stands for. Of anything else the result does not matter: the name
// is compared with what the key is written as.
func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

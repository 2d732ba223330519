package api

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"unicode/utf8"
)

// plain gives the text of err for people: without the names of functions and system calls that the
// standard library puts before what it could not open or listen at.
func plain(err error) string {
	text := err.Error()
	each(err, func(err error) {
		var better string
		switch e := err.(type) { // each goes through what is wrapped
		case *fs.PathError:
			better = e.Path + ": " + e.Err.Error()
		case *os.LinkError:
			better = e.New + ": " + e.Err.Error()
		case *os.SyscallError:
			better = e.Err.Error()
		case *net.OpError:
			if e.Op != "listen" && e.Net != "unix" || e.Addr == nil {
				return
			}
			better = e.Addr.String() + ": " + e.Err.Error()
		default:
			return
		}
		text = strings.ReplaceAll(text, err.Error(), better)
	})
	return carried(text)
}

// carried gives bytes that are not UTF-8, such as those of a path, as \xff: JSON would replace
// them.
func carried(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var out strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&out, `\x%02x`, text[0])
		} else {
			out.WriteString(text[:n])
		}
		text = text[n:]
	}
	return out.String()
}

// each calls fn with err and all that it wraps, from the outside in.
func each(err error, fn func(error)) {
	if err == nil {
		return
	}
	fn(err)
	switch e := err.(type) { // each goes through what is wrapped
	case interface{ Unwrap() error }:
		each(e.Unwrap(), fn)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			each(one, fn)
		}
	}
}

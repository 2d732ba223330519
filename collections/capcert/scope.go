package capcert

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// identityParam stands, in the paths of a scope, for the identity of who presents the certificate.
const identityParam = "{identity}"

// MatchGlob reports whether glob matches all of target as the published packages see it: "*" is any
// run of bytes without a slash, "**" any run, everything else itself, but only the last star that
// was come to is tried with more, so that "**/*b" does not match "a/x/yb". It takes at most
// len(glob) * len(target) steps.
func MatchGlob(glob, target string) bool {
	g, t := 0, 0
	// the last star: where in glob, where in target it began, where the glob goes on
	star, starAt, starEnd := -1, 0, 0
	crosses := false // it may take a slash
	for t < len(target) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, starAt = g, t
			if crosses = strings.HasPrefix(glob[g:], "**"); crosses {
				g++
			}
			g++
			starEnd = g
		case g < len(glob) && glob[g] == target[t]:
			g++
			t++
		case star >= 0 && (crosses || target[starAt] != '/'):
			starAt++
			t, g = starAt, starEnd
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}

// Covers reports whether glob matches all of target in any way: "*" is any run of bytes without a
// slash, "**" any run, everything else itself. It takes at most len(glob) * len(target) steps.
func Covers(glob, target string) bool {
	// All places of the glob that what has been read of the target may lead to, as a star may take
	// more or less of it.
	var few [2][96]bool
	at, next := few[0][:], few[1][:]
	if len(glob) >= len(at) {
		at, next = make([]bool, len(glob)+1), make([]bool, len(glob)+1)
	}
	at[0] = true
	pass(glob, at)
	for i := range len(target) {
		c, alive := target[i], false
		for g := 0; g < len(glob); {
			n := tokenSize(glob, g)
			if at[g] {
				switch {
				case glob[g] != '*':
					next[g+1] = next[g+1] || glob[g] == c
				case n == 2 || c != '/':
					next[g] = true
				}
			}
			alive = alive || next[g] || next[g+n]
			g += n
		}
		if !alive {
			return false
		}
		pass(glob, next)
		at, next = next, at
		clear(next)
	}
	return at[len(glob)]
}

// tokenSize returns how many bytes of a glob belong to what begins at g.
func tokenSize(glob string, g int) int {
	if strings.HasPrefix(glob[g:], "**") {
		return 2
	}
	return 1
}

// pass adds to the places those behind stars, which may take nothing.
func pass(glob string, at []bool) {
	for g := 0; g < len(glob); {
		n := tokenSize(glob, g)
		if at[g] && glob[g] == '*' {
			at[g+n] = true
		}
		g += n
	}
}

// ExpandPaths returns the paths of a scope for an identity.
func (s *Scope) ExpandPaths(identity string) []string {
	if s.Paths == nil {
		return nil
	}
	all := make([]string, len(s.Paths))
	for i, p := range s.Paths {
		all[i] = strings.ReplaceAll(p, identityParam, identity)
	}
	return all
}

// MatchPath reports whether paths, as ExpandPaths returns them, let a storage path be reached: one
// of them matches it, as MatchGlob tells, and no exception covers it or anything above it, as
// Covers tells. No paths at all are no restriction. Escapes in the path are resolved, and empty and
// "." segments left out.
func MatchPath(path string, paths []string) bool {
	if len(paths) == 0 {
		return true
	}
	path = cleanPath(path)
	allowed := false
	for _, p := range paths {
		if deny, ok := strings.CutPrefix(p, "!"); !ok {
			allowed = allowed || MatchGlob(p, path)
		} else if Covers(deny, path) || Covers(deny+"/**", path) {
			return false
		}
	}
	return allowed
}

func cleanPath(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		// as decodeURIComponent
		if plain, err := url.PathUnescape(s); err == nil && utf8.ValidString(plain) {
			segments[i] = plain
		}
	}
	return strings.Join(slices.DeleteFunc(segments, func(s string) bool {
		return s == "" ||
			s == "."
	}), "/")
}

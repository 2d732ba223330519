package capcert

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// identityParam stands, in the paths of a scope, for the identity of who presents the certificate.
const identityParam = "{identity}"

// MatchGlob reports whether glob matches all of target: "*" is any run of bytes without a slash, "**" any run, everything else itself. It takes at most
// len(glob) * len(target) steps.
func MatchGlob(glob, target string) bool {
	g, t := 0, 0
	star, starAt, starEnd := -1, 0, 0 // the last star: where in glob, where in target it began, where the glob goes on
	crosses := false                  // it may take a slash
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

// MatchPath reports whether paths, as ExpandPaths returns them, let a storage path be reached: one of them matches it, and no exception matches it or
// anything above it. No paths at all are no restriction. Escapes in the path are resolved, and empty and "." segments left out.
func MatchPath(path string, paths []string) bool {
	if len(paths) == 0 {
		return true
	}
	path = cleanPath(path)
	allowed := false
	for _, p := range paths {
		if deny, ok := strings.CutPrefix(p, "!"); !ok {
			allowed = allowed || MatchGlob(p, path)
		} else if MatchGlob(deny, path) || MatchGlob(deny+"/**", path) {
			return false
		}
	}
	return allowed
}

func cleanPath(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if plain, err := url.PathUnescape(s); err == nil && utf8.ValidString(plain) { // as decodeURIComponent
			segments[i] = plain
		}
	}
	return strings.Join(slices.DeleteFunc(segments, func(s string) bool { return s == "" || s == "." }), "/")
}

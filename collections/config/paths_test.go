package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/store"
)

// What may stand in a parameter's place is a segment that means the same to all, and is no name of
// the inside; with the same template, different parameters are different paths, which lead back to
// them.
func FuzzParam(f *testing.F) {
	for _, s := range []string{
		"a", ".", "..", "a..b", "A", "a:b@c.d-e_f", "%2e", "a/b", "", "x__seg", "__seg", "__segx",
		"__sync__", "x__sync__", "a!seg", "x__remote", "é", "\x00", "~", strings.Repeat("n", 241),
	} {
		f.Add(s, "b")
	}
	template := config.ParseTemplate("x/{a}/{b}")
	f.Fuzz(func(t *testing.T, a, b string) {
		key, ok := template.Fill(map[string]string{"a": a, "b": b})
		require.Equal(t, config.IsParam(a) && config.IsParam(b), ok)
		if !ok {
			return
		}
		for _, s := range strings.Split(key, "/") {
			require.False(t, s == "" || s == "." || strings.Contains(s, "..") ||
				strings.Contains(s, store.Mark) || s+"/" == store.Internal, key)
			require.False(t, strings.HasSuffix(s, "__seg") || strings.HasSuffix(s, "__remote"), key)
			require.Equal(t, s, strings.Map(func(r rune) rune {
				if r <= ' ' || r > '~' || strings.ContainsRune(`%\/?#*`, r) {
					return -1
				}
				return r
			}, s))
		}
		require.Equal(t, 2, strings.Count(key, "/"))
		params, ok := template.Match(key)
		require.True(t, ok)
		require.Equal(t, map[string]string{"a": a, "b": b}, params)
	})
}

func collectionAt(name, path, more string) string {
	return `{"name": "` + name + `", "storagePath": "` + path +
		`", "readRoles": ["admin"], "writeRoles": ["admin"], "encryption": "none", "maxBodyBytes": 1` +
		more + `}`
}

// Collections that could reach one object are refused, unless it is clear whose it is.
func TestOverlaps(t *testing.T) {
	bundle := `, "bundle": "b"`
	for name, tt := range map[string]struct {
		all     []string
		problem string
		warns   bool
	}{
		"the same path": {[]string{
			collectionAt("a", "x/{a}", ""), collectionAt("b", "x/{b}", ""),
		}, "stand for the same paths", false},
		"one of them is for pulls alone": {[]string{
			collectionAt("a", "x/{a}", `, "pullOnly": true`), collectionAt("b", "x/{a}", ""),
		}, "stand for the same paths", false},
		"the narrower one first": {[]string{
			collectionAt("a", "x/y", ""), collectionAt("b", "x/{b}", ""),
		}, "", true},
		"the narrower one later": {[]string{
			collectionAt("b", "x/{b}", ""), collectionAt("a", "x/y", ""),
		}, "let it come first", false},
		"some paths of each": {[]string{
			collectionAt("a", "x/{a}/z", ""), collectionAt("b", "x/y/{b}", ""),
		}, "stand for the same paths", false},
		"parameters first": {[]string{
			collectionAt("a", "x/y", ""), collectionAt("b", "{a}/{b}", ""),
		}, "", true},
		"parameters before a text": {[]string{
			collectionAt("b", "{a}/{b}", ""), collectionAt("a", "x/y", ""),
		}, "let it come first", false},
		"another length": {[]string{
			collectionAt("a", "x/{a}", ""), collectionAt("b", "x/{a}/{b}", ""),
		}, "", false},
		"a text that is no parameter": {[]string{
			collectionAt("b", "x/{b}", ""), collectionAt("a", "x/a+b", ""),
		}, "", false},
		"what a bundle has": {[]string{
			collectionAt("a", "x/{a}", bundle), collectionAt("b", "x/{a}/a", ""),
		}, "stand for the same paths", false},
		"what a bundle is pulled at": {[]string{
			collectionAt("a", "x/{a}", bundle), collectionAt("b", "x/y", ""),
		}, "bundle \"b\"", false},
		"two bundles": {[]string{
			collectionAt("a", "x/{a}", bundle), collectionAt("c", "x/{c}", `, "bundle": "c"`),
		}, "bundles", false},
		"chunks of a log beside what is below": {[]string{
			collectionAt("a", "x/{a}", `, "appendOnly": true`), collectionAt("b", "x/{a}/{b}", ""),
		}, "", false},
	} {
		c, err := config.Parse(
			[]byte(`{"version": 1, "collections": [` + strings.Join(tt.all, ",") + `]}`),
		)
		if tt.problem != "" {
			require.ErrorContains(t, err, tt.problem, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, tt.warns, len(c.Warnings) > 0, "%s: %q", name, c.Warnings)
	}
	_, err := config.Parse(
		[]byte(
			`{"version": 1, "collections": [` + collectionAt(
				"a", "x/{a}", "",
			) + `], "namespaces": {"n": {"collections": [` + collectionAt("a", "x/y", "") + `]}}}`,
		),
	)
	require.ErrorContains(t, err, `"a" and "a" of namespace "n"`)
}

// A template says which paths it stands for, and no store takes them for others.
func TestTemplatesThatAreRefused(t *testing.T) {
	for _, path := range []string{
		"a//b", "a/", "a/./b", "../a/{id}", "a..b", "a/%2e", `a\\b`, "a/{id", "a/{i-d}", "a/x{id}",
		"{a}/{a}", "a?b", "a#b", "a/*", "a/x__seg/{id}", "x__remote", "__sync__/{id}", "a!b", "a/\u0001b",
	} {
		_, err := config.Parse(
			[]byte(
				`{"version": 1, "collections": [` + collectionAt(
					"c", strings.ReplaceAll(path, "\u0001", `\u0001`), "",
				) + `]}`,
			),
		)
		require.ErrorContains(t, err, "storagePath: ", path)
	}
	for _, path := range []string{
		strings.Repeat("n", 241), "é/" + strings.Repeat("é", 41), strings.Repeat("n/", 450) + "n",
	} {
		only := collectionAt("c", path, "")
		_, err := config.Parse([]byte(`{"version": 1, "collections": [` + only + `]}`))
		require.ErrorContains(t, err, "bytes; the limit is")
	}
	for _, name := range []string{"a/b", "..", "{x}", "x__seg", "a%2fb", strings.Repeat("n", 241)} {
		_, err := config.Parse(
			[]byte(`{"version": 1, "collections": [` + collectionAt(name, "c", `, "bundle": "b"`) + `]}`),
		)
		require.ErrorContains(t, err, "cannot be the last segment", name)
	}
	for _, ext := range []string{
		`"projections": [{"source": "c", "target": "x__seg/{id}"}]`,
		`"entitlements": {"path": "../{identity}"}`,
	} {
		_, err := config.Parse(
			[]byte(
				`{"version": 1, "collections": [` + collectionAt(
					"c", "c/{id}", "",
				) + `], "extensions": {` + ext + `}}`,
			),
		)
		require.ErrorContains(t, err, "the segment", ext)
	}
}

// Overlaps, Within and Same say what paths say.
func TestTemplatesAgreeWithPaths(t *testing.T) {
	texts := []string{"a", "b", "{x}", "{y}", "+"}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (config.Template, string) {
			s := strings.Join(rapid.SliceOfN(rapid.SampledFrom(texts), 1, 3).Draw(t, name), "/")
			return config.ParseTemplate(s), s
		}
		one, a := draw("one")
		two, b := draw("two")
		both, oneAlone, twoAlone := 0, 0, 0
		segments := []string{"a", "b", "c", "+"}
		var paths []string
		for _, x := range segments {
			paths = append(paths, x)
			for _, y := range segments {
				paths = append(paths, x+"/"+y)
				for _, z := range segments {
					paths = append(paths, x+"/"+y+"/"+z)
				}
			}
		}
		for _, p := range paths {
			switch in, also := one.Matches(p), two.Matches(p); {
			case in && also:
				both++
			case in:
				oneAlone++
			case also:
				twoAlone++
			}
		}
		if one.Overlaps(two) != (both > 0) {
			t.Fatalf("%s and %s overlap: %v, and have %d paths", a, b, one.Overlaps(two), both)
		}
		if one.Within(two) != (both > 0 && oneAlone == 0 && twoAlone > 0) {
			t.Fatalf("%s within %s: %v", a, b, one.Within(two))
		}
		if one.Same(two) != (both > 0 && oneAlone == 0 && twoAlone == 0) {
			t.Fatalf("%s same as %s: %v", a, b, one.Same(two))
		}
	})
}

// Whatever the values of parameters are, no document has the entry of another in a list.
func TestIdsOfListsAreApart(t *testing.T) {
	parse := func(id, target string) (*config.Config, error) {
		return config.Parse(fmt.Appendf(nil, `{"version": 1, "collections": [
			{"name": "c", "storagePath": "c/{a}/{b}", "readRoles": ["public"], "writeRoles": ["admin"],
				"encryption": "none", "maxBodyBytes": 1}],
			"extensions": {"projections": [{"source": "c", "target": %q, "id": %q}]}}`, target, id))
	}
	for _, between := range []string{"", "-", ".", "_", ":", "@", "x", "-to-"} {
		_, err := parse("{a}"+between+"{b}", "list")
		require.ErrorContains(t, err, "can run into each other", between)
		require.False(t, strings.ContainsFunc(between, func(r rune) bool {
			return !config.IsParam("a" + string(r))
		}), "as a value can have it")
	}
	for _, between := range []string{"/", " ", "|", "!", "-/", "ä", ", "} {
		c, err := parse("x{b}"+between+"{a}y", "list")
		require.NoError(t, err, between)
		require.Empty(t, c.Warnings, between)
	}
	for id, target := range map[string]string{"{b}": "list/{a}", "{a}": "list/{b}", "": "list/{a}"} {
		c, err := parse(id, target)
		require.NoError(t, err, id)
		require.Empty(t, c.Warnings, id)
	}
	for id, name := range map[string]string{"{b}": "{a}", "{a}": "{b}", "": "{a}", "x": "{b}"} {
		c, err := parse(id, "list")
		require.NoError(t, err, id)
		require.Contains(t, strings.Join(c.Warnings, "; "), name+` of "c/{a}/{b}" is neither in`)
	}
}

// What lets callers reach more than was meant is warned of.
func TestWarningsOfReach(t *testing.T) {
	for ext, want := range map[string]string{
		`"entitlements": true`: "callers can write their own entitlements",
		`"entitlements": {"path": "users/{identity}/entitlements"}`: "callers can write their " +
			"own entitlements",
		`"rules": {}`: "extensions.rules.hosts: is missing",
		`"projections": [{"source": "c", "target": "list", "fields": ["secret"]}]`: "is copied to where it is not",
		`"roles": {"admin": ["` + strings.Repeat(
			"ab", 32,
		) + `"]}`: "looks like a public key",
	} {
		c, err := config.Parse([]byte(`{"version": 1, "collections": [
			{"name": "c", "storagePath": "users/{identity}/{doc}", "readRoles": ["self"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 1, "fieldPermissions": {"secret": {"readRoles": ["admin"]}}}], "extensions": {` + ext + `}}`))
		require.NoError(t, err, ext)
		require.Contains(t, strings.Join(c.Warnings, "; "), want)
	}
}

package skerry_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ofDefaultMux returns what a file does with http.DefaultServeMux, by its places: packages that it
// imports register there, or it does itself, or it serves what is registered there.
func ofDefaultMux(fset *token.FileSet, f *ast.File) (found []string) {
	add := func(n ast.Node, what string) {
		found = append(found, fmt.Sprintf("%s: %s", fset.Position(n.Pos()), what))
	}
	name := ""
	for _, i := range f.Imports {
		switch path := strings.Trim(i.Path.Value, `"`); {
		case path == "net/http" && i.Name != nil:
			name = i.Name.Name
		case path == "net/http":
			name = "http"
		case slices.Contains([]string{"expvar", "net/http/pprof", "golang.org/x/net/trace"}, path):
			add(i, path+" registers on http.DefaultServeMux")
		}
	}
	of := func(x ast.Expr) string { // the name of what net/http has
		if s, ok := x.(*ast.SelectorExpr); ok && name != "" {
			if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == name {
				return s.Sel.Name
			}
		}
		return ""
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			switch of(n) {
			case "DefaultServeMux", "Handle", "HandleFunc":
				add(n, "http."+n.Sel.Name)
			case "ListenAndServe", "ListenAndServeTLS", "Serve", "ServeTLS":
				add(n, "http."+n.Sel.Name+" has no limits: make a server")
			}
		case *ast.CompositeLit:
			if of(n.Type) == "Server" && !slices.ContainsFunc(n.Elts, func(x ast.Expr) bool {
				kv, ok := x.(*ast.KeyValueExpr)
				if !ok {
					return false
				}
				key, ok := kv.Key.(*ast.Ident)
				value, isName := kv.Value.(*ast.Ident)
				return ok && key.Name == "Handler" && !(isName && value.Name == "nil")
			}) {
				add(n, "a server without a Handler serves http.DefaultServeMux")
			}
		}
		return true
	})
	return found
}

// A library that registers on http.DefaultServeMux shows itself on servers of the program that it
// is in, and one that serves it shows what others have registered there, such as pprof.
func TestMuxesAreOurOwn(t *testing.T) {
	fset, files := token.NewFileSet(), 0
	require.NoError(t, filepath.WalkDir(".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(name, ".go") ||
			strings.HasSuffix(name, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		require.Empty(t, ofDefaultMux(fset, f))
		files++
		return nil
	}))
	require.Greater(t, files, 400)

	for text, want := range map[string]int{
		`import "net/http"; func f() { http.HandleFunc("/", nil); http.Handle("/", nil) }`: 2,
		`import h "net/http"; var m = h.DefaultServeMux`:                                   1,
		`import _ "net/http/pprof"`:                                                        1,
		`import "net/http"; var s = &http.Server{Addr: ":1"}`:                              1,
		`import "net/http"; var s = http.Server{Handler: nil}`:                             1,
		`import "net/http"; func f() { http.ListenAndServe(":1", nil) }`:                   1,
		`import "net/http"; var s = http.Server{Handler: http.NewServeMux()}`:              0,
	} {
		f, err := parser.ParseFile(fset, "x.go", "package x; "+text, parser.SkipObjectResolution)
		require.NoError(t, err)
		require.Len(t, ofDefaultMux(fset, f), want, text)
	}
}

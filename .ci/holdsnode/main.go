// Holdsnode fails if a type below node/ holds a node: only the handles that a node gives out, and
// the rooms above it, may. A room below a node that held one could reach back up.
//
//	go run ./.ci/holdsnode
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// may are the types that hold a node, by folder.
var may = map[string][]string{
	"node":         {"Replica", "Held", "Displaced"},
	"node/invites": {"Service"},
	"node/vaults":  {"Service", "appKeyring"},
}

func main() {
	bad, seen := false, map[string]bool{}
	err := filepath.WalkDir("node", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(name))
		ast.Inspect(f, func(x ast.Node) bool {
			t, ok := x.(*ast.TypeSpec)
			if !ok || !holds(t.Type, dir) {
				return true
			}
			for _, allowed := range may[dir] {
				if t.Name.Name == allowed {
					seen[dir+"."+allowed] = true
					return true
				}
			}
			fmt.Printf("%s: %s holds a node\n", files.Position(t.Pos()), t.Name.Name)
			bad = true
			return true
		})
		return nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for dir, names := range may {
		for _, name := range names {
			if !seen[dir+"."+name] {
				fmt.Printf("%s.%s holds no node any more: take it off the list\n", dir, name)
				bad = true
			}
		}
	}
	if bad {
		os.Exit(1)
	}
}

// holds reports whether a value of a type keeps a node: in a field, an element, or itself. What a
// function or a method takes is not kept.
func holds(t ast.Expr, dir string) (found bool) {
	ast.Inspect(t, func(x ast.Node) bool {
		switch x := x.(type) {
		case *ast.FuncType, *ast.InterfaceType:
			return false
		case *ast.SelectorExpr:
			pkg, ok := x.X.(*ast.Ident)
			found = found || ok && pkg.Name == "node" && x.Sel.Name == "Node"
			return false
		case *ast.Field:
			found = found || holds(x.Type, dir) // and not its name
			return false
		case *ast.Ident:
			found = found || dir == "node" && x.Name == "Node"
		}
		return true
	})
	return found
}

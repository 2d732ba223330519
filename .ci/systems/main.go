// Command systems checks that the module's packages, their tests and all that they import are right
// for other systems, without compiling any: it parses and type-checks what would be compiled there.
//
//	go run ./.ci/systems darwin/arm64 windows/amd64
//
// Compiling all of it once more for each system took a third of the processor's time in CI. A type
// check finds what the compiler finds in the source. It makes no machine code and links nothing:
// .ci/full does, and so does a release. The bodies of functions of Go's own library are left out.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// listed is a package as `go list` tells of it. A package that is compiled anew for a test has an
// import path that ends with the test in brackets.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	GoFiles    []string
	ImportMap  map[string]string
	Module     *struct{ GoVersion string }
	Error      *struct{ Err string }
}

func main() {
	errs := make([]error, len(os.Args[1:]))
	var wg sync.WaitGroup
	for i, system := range os.Args[1:] {
		wg.Go(func() { errs[i] = check(system) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// check checks all packages for a system, GOOS/GOARCH.
func check(system string) error {
	goos, arch, ok := strings.Cut(system, "/")
	if !ok {
		return fmt.Errorf("%q is no GOOS/GOARCH", system)
	}
	c := exec.Command("go", "list", "-deps", "-test",
		"-json=ImportPath,Dir,Standard,GoFiles,ImportMap,Module,Error", "./...")
	c.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+arch, "CGO_ENABLED=0")
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("list the packages for %s: %w", system, err)
	}
	k := checker{
		fset: token.NewFileSet(), sizes: types.SizesFor("gc", arch),
		done: map[string]*types.Package{"unsafe": types.Unsafe},
	}
	var wrong []error
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p listed
		if err := d.Decode(&p); err != nil {
			return fmt.Errorf("list the packages for %s: %w", system, err)
		}
		if p.ImportPath == "unsafe" || strings.HasSuffix(p.ImportPath, ".test") {
			continue // the latter is what runs the tests, which the go command writes
		}
		if err := k.check(&p); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %s: %w", system, p.ImportPath, err))
		}
	}
	if len(wrong) > 0 {
		return errors.Join(wrong...)
	}
	fmt.Printf("%s: %d packages are right\n", system, len(k.done))
	return nil
}

// checker checks the packages of one system, each after those that it imports.
type checker struct {
	fset  *token.FileSet
	sizes types.Sizes
	done  map[string]*types.Package
}

func (k *checker) check(p *listed) error {
	if p.Error != nil {
		return errors.New(p.Error.Err)
	}
	var files []*ast.File
	for _, name := range p.GoFiles {
		if !filepath.IsAbs(name) {
			name = filepath.Join(p.Dir, name)
		}
		f, err := parser.ParseFile(k.fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	var wrong []error
	conf := types.Config{
		Importer: importer{k, p.ImportMap}, Sizes: k.sizes, IgnoreFuncBodies: p.Standard,
		Error: func(err error) { wrong = append(wrong, err) },
	}
	if p.Module != nil && p.Module.GoVersion != "" {
		conf.GoVersion = "go" + p.Module.GoVersion
	}
	path, _, _ := strings.Cut(p.ImportPath, " ")
	checked, err := conf.Check(path, k.fset, files, nil)
	k.done[p.ImportPath] = checked // what imports it is checked against what is right of it
	if len(wrong) > 0 {
		return errors.Join(wrong[:min(len(wrong), 10)]...)
	}
	return err
}

// importer finds what a package imports among those that are checked.
type importer struct {
	k    *checker
	from map[string]string // import paths in the source that stand for others
}

func (i importer) Import(path string) (*types.Package, error) {
	if to, ok := i.from[path]; ok {
		path = to
	}
	p, ok := i.k.done[path]
	if !ok {
		return nil, fmt.Errorf("%s was not listed", path)
	}
	return p, nil
}

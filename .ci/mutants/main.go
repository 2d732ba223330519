// Command mutants measures how well tests notice wrong code. It changes one operator of a package
// at a time (a mutant) and runs tests against it: a mutant that no test fails for has lived.
//
//	go run ./.ci/mutants                        every package in the table below
//	go run ./.ci/mutants -list collections/evm    one of them, with a line for each mutant that lived
//	go run ./.ci/mutants -only grant.go:1 replica  those in lines 1, 10 to 19, 100 to 199 of a file
//
// All mutants of a package are compiled into one test binary, each behind a test of a number that
// the environment gives (mutant schemata: Untch, Offutt, Harrold, 1993), so a mutant costs a run of
// the tests and no build. Each test is run once by itself, which shows how long it takes and which
// mutants it reaches. A mutant then costs the tests that reach it, the quickest first.
//
// The operators are those that gremlins changes by default: the boundary and the sense of
// comparisons, arithmetic, increments and signs. Unlike gremlins it also reaches the conditions of
// switch cases, for which Go's coverage has no block. Constant expressions are left alone: golden
// tests pin them.
//
// The command fails if a package has an efficacy (killed of covered) under 95 % or a coverage
// (covered of all) under 90 %. Mutants that cannot be told from the original are named in
// equivalent.txt, each with the reason.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// target is a package whose decisions are tried.
type target struct {
	pkg   string
	files []string // of the package; nil for all
	tests []string // packages whose tests are run, in this order; nil for its own
}

// targets are the packages that decide who may do what.
var targets = []target{
	{pkg: "collections/capcert"},
	{pkg: "collections/access", tests: []string{"collections/access", "collections"}},
	{pkg: "collections/rules"},
	{pkg: "collections/evm", tests: []string{"collections/evm", "collections/wallet"}},
	{pkg: "ticket"},
	{pkg: "vault"},
	{pkg: "replica/ids"},
	{pkg: "replica/seal"},
	{
		pkg: "replica",
		files: []string{"adopt.go", "authority.go", "calm.go", "checkstatements.go", "choice.go",
			"delegated.go", "entry.go", "epoch.go", "grant.go", "insert.go", "keys.go", "manage.go",
			"put.go",
			"readkeys.go", "renew.go", "revocation.go", "rights.go", "rotate.go", "statements.go", "storing.go",
			"void.go", "write.go"},
	},
}

// The least that passes, in percent.
const (
	minEfficacy = 95
	minCoverage = 90
)

const module = "github.com/skerry-sync/skerry/"

func main() {
	list := flag.Bool("list", false, "print each mutant that lived or was not covered")
	sample := flag.Int("sample", 1, "try only each Nth mutant")
	only := flag.String("only", "", "try only mutants whose FILE:LINE:COLUMN contains this")
	flag.Parse()
	failed := false
	for _, t := range targets {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), t.pkg) {
			continue
		}
		ok, err := try(context.Background(), t, choice{*sample, *only}, *list)
		if err != nil {
			fmt.Fprintln(os.Stderr, "mutants:", t.pkg+":", err)
			os.Exit(1)
		}
		failed = failed || !ok
	}
	if failed {
		os.Exit(1)
	}
}

// choice is which of the mutants that tests reach are tried.
type choice struct {
	each int    // each of this number
	at   string // part of FILE:LINE:COLUMN
}

// try measures one package and reports whether it passes.
func try(ctx context.Context, t target, which choice, list bool) (bool, error) {
	tmp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	mutants, overlay, err := mutate(t.pkg, t.files, tmp)
	if err != nil {
		return false, err
	}
	if len(t.tests) == 0 {
		t.tests = []string{t.pkg}
	}
	suites := make([]suite, len(t.tests))
	for i, pkg := range t.tests {
		if suites[i], err = build(ctx, pkg, overlay, tmp); err != nil {
			return false, err
		}
	}
	known, err := equivalents(t.pkg)
	if err != nil {
		return false, err
	}
	for i := range mutants {
		m := &mutants[i]
		covered := slices.ContainsFunc(suites, func(s suite) bool { return len(s.reaching(m.id)) > 0 })
		if reason := known[m.key()]; reason != "" {
			m.state = equivalent
		} else if !covered {
			m.state = uncovered
		}
	}
	run(ctx, mutants, suites, which)
	return report(t.pkg, mutants, list), nil
}

// suite is a test binary with all mutants in it.
type suite struct {
	bin, dir string
	tests    []test // the quickest first
}

// test is a test function of a suite.
type test struct {
	name    string
	time    time.Duration // that it takes alone and without a mutant
	reached map[int]bool  // mutants that it executes
}

func build(ctx context.Context, pkg, overlay, tmp string) (s suite, err error) {
	s.dir, err = filepath.Abs(filepath.FromSlash(pkg))
	if err != nil {
		return s, err
	}
	s.bin = filepath.Join(tmp, strings.ReplaceAll(pkg, "/", "-")+".test")
	c := exec.CommandContext(
		ctx, "go", "test", "-c", "-ldflags=-s -w", "-overlay", overlay, "-o", s.bin, "./"+pkg,
	)
	if out, err := c.CombinedOutput(); err != nil {
		return s, fmt.Errorf("build the tests of %s: %w\n%s", pkg, err, out)
	}
	c = s.command(ctx, "-test.list", "^(Test|Example|Fuzz)")
	out, err := c.Output()
	if err != nil {
		return s, fmt.Errorf("list the tests of %s: %w\n%s", pkg, err, out)
	}
	for name := range strings.Lines(string(out)) {
		s.tests = append(s.tests, test{name: strings.TrimSpace(name)})
	}
	errs := make([]error, len(s.tests))
	atOnce(len(s.tests), func(i int) { errs[i] = s.measure(ctx, &s.tests[i]) })
	if err := errors.Join(errs...); err != nil {
		return s, fmt.Errorf("the tests of %s fail without a mutant: %w", pkg, err)
	}
	slices.SortStableFunc(s.tests, func(a, b test) int { return cmp.Compare(a.time, b.time) })
	return s, nil
}

// measure runs a test alone and without a mutant.
func (s *suite) measure(ctx context.Context, t *test) error {
	record := s.bin + "." + t.name
	start := time.Now()
	c := s.command(ctx, pattern(t.name)...)
	c.Env = append(c.Env, "MUTANTS_REACHED="+record)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", t.name, err, out)
	}
	t.time = time.Since(start)
	b, err := os.ReadFile(record)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	t.reached = map[int]bool{}
	for line := range strings.Lines(string(b)) {
		id, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return fmt.Errorf("the record of mutants that were reached: %w", err)
		}
		t.reached[id] = true
	}
	return nil
}

// pattern are the arguments by which a test binary runs only some of its tests.
func pattern(names ...string) []string {
	return []string{"-test.run", "^(" + strings.Join(names, "|") + ")$"}
}

// command runs the tests without fuzzing or benchmarks, in their own directory.
func (s *suite) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, s.bin, append([]string{"-test.failfast", "-test.short"}, args...)...)
	c.Dir, c.Env = s.dir, os.Environ()
	c.WaitDelay = time.Second
	return c
}

// reaching returns the tests that execute a mutant.
func (s *suite) reaching(id int) (all []test) {
	for i := range s.tests {
		if s.tests[i].reached[id] {
			all = append(all, s.tests[i])
		}
	}
	return all
}

// A process runs tests that take this long together, at the least: starting one takes about a
// tenth.
const leastBatch = 200 * time.Millisecond

// kills reports whether a test fails for a mutant, or does not end. It runs those that reach it in
// batches, of which each takes about as long as all before it.
func (s *suite) kills(ctx context.Context, id int) bool {
	var spent time.Duration
	for todo := s.reaching(id); len(todo) > 0; {
		var names []string
		var batch time.Duration
		for len(todo) > 0 && batch < max(leastBatch, spent) {
			names, batch, todo = append(names, todo[0].name), batch+todo[0].time, todo[1:]
		}
		spent += batch
		if s.fails(ctx, id, names, 10*time.Second+5*batch) {
			return true
		}
	}
	return false
}

// fails reports whether some tests fail for a mutant, or do not end in time.
func (s *suite) fails(ctx context.Context, id int, tests []string, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := s.command(ctx, pattern(tests...)...)
	c.Env = append(c.Env, "MUTANTS_ID="+strconv.Itoa(id))
	return c.Run() != nil
}

// atOnce does something for 0 to n-1, for as many at a time as there are processors.
func atOnce(n int, do func(i int)) {
	todo := make(chan int)
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for i := range todo {
				do(i)
			}
		})
	}
	for i := range n {
		todo <- i
	}
	close(todo)
	wg.Wait()
}

// run tries the mutants that are chosen.
func run(ctx context.Context, all []mutant, suites []suite, which choice) {
	var chosen []*mutant
	count := 0
	for i := range all {
		m := &all[i]
		at := fmt.Sprintf("%s:%d:%d", m.file, m.line, m.column)
		if m.state != "" || !strings.Contains(at, which.at) {
			continue
		}
		if count++; count%which.each == 0 {
			chosen = append(chosen, m)
		}
	}
	atOnce(len(chosen), func(i int) {
		m := chosen[i]
		m.state = lived
		if slices.ContainsFunc(suites, func(s suite) bool { return s.kills(ctx, m.id) }) {
			m.state = killed
		}
	})
}

// report prints what became of the mutants and reports whether that is good enough.
func report(pkg string, all []mutant, list bool) bool {
	count := map[state]int{}
	for i := range all {
		count[all[i].state]++
	}
	k, l, u := count[killed], count[lived], count[uncovered]
	efficacy, coverage := 100*float64(k)/float64(max(1, k+l)), 100*float64(k+l)/float64(max(1, k+l+u))
	fmt.Printf("%-22s %4d killed, %3d lived, %3d not covered, %2d equivalent, %d not tried: "+
		"efficacy %.1f %%, coverage %.1f %%\n",
		pkg, k, l, u, count[equivalent], count[""], efficacy, coverage)
	if list {
		slices.SortStableFunc(all, func(a, b mutant) int { return cmp.Compare(a.file, b.file) })
		for i := range all {
			if m := &all[i]; m.state == lived || m.state == uncovered {
				fmt.Printf("  %s: %s:%d:%d: %s in %s\n", m.state, m.file, m.line, m.column, m.change, m.code)
			}
		}
	}
	return efficacy >= minEfficacy && coverage >= minCoverage
}

// equivalents reads the mutants of a package that behave as the original does. A line is
//
//	package/file.go<TAB>change<TAB>the line of code<TAB>reason
//
// The change of the second operator of a kind in a line ends with #2.
func equivalents(pkg string) (map[string]string, error) {
	b, err := os.ReadFile(filepath.Join(".ci", "mutants", "equivalent.txt"))
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 4 {
			return nil, fmt.Errorf("equivalent.txt: %q has %d fields, expected 4", line, len(f))
		}
		if filepath.ToSlash(filepath.Dir(f[0])) == pkg {
			known[strings.Join(f[:3], "\t")] = f[3]
		}
	}
	return known, nil
}

// exports returns the compiled packages that a package imports, by import path.
func exports(pkg string) (map[string]string, error) {
	out, err := exec.Command(
		"go", "list", "-export", "-deps", "-json=ImportPath,Export", "./"+pkg,
	).Output()
	if err != nil {
		return nil, fmt.Errorf("list what %s imports: %w", pkg, err)
	}
	all := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p struct{ ImportPath, Export string }
		if err := d.Decode(&p); err != nil {
			return nil, err
		}
		all[p.ImportPath] = p.Export
	}
	return all, nil
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// state is what became of a mutant; empty until it has been tried.
type state string

const (
	killed     state = "killed"
	lived      state = "lived"
	uncovered  state = "not covered"
	equivalent state = "equivalent"
)

// mutant is one change of the code.
type mutant struct {
	id           int // from 1
	file         string
	line, column int
	operator     string // for example "< to <="
	change       string // the same, with #2 for the second such operator of a line
	code         string // the line as it stands
	state        state
}

// key names a mutant in equivalent.txt: line numbers would not outlive the next change.
func (m *mutant) key() string { return m.file + "\t" + m.change + "\t" + m.code }

// helpers is added to the package. Each function is the original operator unless its mutant is on.
const helpers = `package %s

import (
	"cmp"
	"os"
	"strconv"
	"sync"
)

var mutantOn, _ = strconv.Atoi(os.Getenv("MUTANTS_ID"))

var mutantsReached = struct {
	sync.Mutex
	f    *os.File
	seen map[int]bool
}{seen: map[int]bool{}}

var mutantsRecord = os.Getenv("MUTANTS_REACHED")

func mutantIs(id int) bool {
	if mutantsRecord == "" {
		return id == mutantOn
	}
	r := &mutantsReached
	r.Lock()
	defer r.Unlock()
	if r.seen[id] {
		return false
	}
	r.seen[id] = true
	if r.f == nil {
		r.f, _ = os.OpenFile(mutantsRecord, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	_, _ = r.f.WriteString(strconv.Itoa(id) + "\n")
	return false
}

func mutantNot(id int, is bool) bool { return is != mutantIs(id) }

func mutantLess[T cmp.Ordered](id int, a, b T) bool {
	if mutantIs(id) {
		return a <= b
	}
	return a < b
}

func mutantAtMost[T cmp.Ordered](id int, a, b T) bool {
	if mutantIs(id) {
		return a < b
	}
	return a <= b
}

func mutantMore[T cmp.Ordered](id int, a, b T) bool {
	if mutantIs(id) {
		return a >= b
	}
	return a > b
}

func mutantAtLeast[T cmp.Ordered](id int, a, b T) bool {
	if mutantIs(id) {
		return a > b
	}
	return a >= b
}

type mutantNumber interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr |
		~float32 | ~float64
}

type mutantInteger interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}

func mutantAdd[T mutantNumber](id int, a, b T) T {
	if mutantIs(id) {
		return a - b
	}
	return a + b
}

func mutantSub[T mutantNumber](id int, a, b T) T {
	if mutantIs(id) {
		return a + b
	}
	return a - b
}

func mutantMul[T mutantNumber](id int, a, b T) T {
	if mutantIs(id) {
		return a / b
	}
	return a * b
}

func mutantDiv[T mutantNumber](id int, a, b T) T {
	if mutantIs(id) {
		return a * b
	}
	return a / b
}

func mutantRem[T mutantInteger](id int, a, b T) T {
	if mutantIs(id) {
		return a * b
	}
	return a %% b
}

func mutantStep[T mutantNumber](id int) T {
	if mutantIs(id) {
		return T(0) - 1
	}
	return 1
}

func mutantMinus[T mutantNumber](id int, a T) T {
	if mutantIs(id) {
		return a
	}
	return -a
}
`

// mutate writes the files of a package with all their mutants into tmp, and returns the overlay
// that puts them in the place of the files. files limits which are changed; nil is all.
func mutate(pkg string, files []string, tmp string) (all []mutant, overlay string, err error) {
	fset := token.NewFileSet()
	names, err := sources(pkg)
	if err != nil {
		return nil, "", err
	}
	var parsed []*ast.File
	var paths []string
	for _, name := range names {
		// Without comments, which would end up in odd places of the changed code.
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, "", err
		}
		parsed, paths = append(parsed, f), append(paths, name)
	}
	have, err := exports(pkg)
	if err != nil {
		return nil, "", err
	}
	conf := types.Config{
		Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
			return os.Open(have[path])
		}),
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	if _, err := conf.Check(module+pkg, fset, parsed, info); err != nil {
		return nil, "", fmt.Errorf("check types: %w", err)
	}
	replace := map[string]string{}
	for i, f := range parsed {
		base := filepath.Base(paths[i])
		if files != nil && !slices.Contains(files, base) {
			continue
		}
		src, err := os.ReadFile(paths[i])
		if err != nil {
			return nil, "", err
		}
		m := &mutator{
			fset: fset, info: info, file: pkg + "/" + base, lines: strings.Split(string(src), "\n"),
			all: all,
		}
		m.decls(f)
		all = m.all
		var out bytes.Buffer
		if err := format.Node(&out, fset, f); err != nil {
			return nil, "", fmt.Errorf("print %s: %w", paths[i], err)
		}
		if err := substitute(replace, paths[i], filepath.Join(tmp, base), out.Bytes()); err != nil {
			return nil, "", err
		}
	}
	for _, f := range files {
		if !slices.ContainsFunc(paths, func(p string) bool { return filepath.Base(p) == f }) {
			return nil, "", fmt.Errorf("there is no file %s any more", f)
		}
	}
	with := fmt.Sprintf(helpers, parsed[0].Name.Name)
	at := filepath.Join(filepath.FromSlash(pkg), "mutants_generated.go")
	if err := substitute(
		replace, at, filepath.Join(tmp, "mutants_generated.go"), []byte(with),
	); err != nil {
		return nil, "", err
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, "", err
	}
	overlay = filepath.Join(tmp, "overlay.json")
	return all, overlay, os.WriteFile(overlay, b, 0o600)
}

// sources returns the paths of the files of a package that this system builds.
func sources(pkg string) ([]string, error) {
	out, err := exec.Command("go", "list", "-f", `{{join .GoFiles "\n"}}`, "./"+pkg).Output()
	if err != nil {
		return nil, fmt.Errorf("list the files of %s: %w", pkg, err)
	}
	names := strings.Fields(string(out))
	for i := range names {
		names[i] = filepath.Join(filepath.FromSlash(pkg), names[i])
	}
	return names, nil
}

// substitute has content stand in the place of a file.
func substitute(replace map[string]string, path, by string, content []byte) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	replace[abs] = by
	return os.WriteFile(by, content, 0o600)
}

// mutator changes one file.
type mutator struct {
	fset  *token.FileSet
	info  *types.Info
	file  string
	lines []string
	all   []mutant
}

func (m *mutator) decls(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Body != nil {
				m.node(d.Body)
			}
		case *ast.GenDecl:
			if d.Tok == token.VAR {
				m.node(d)
			}
		}
	}
}

// node changes what is below a node of the tree.
func (m *mutator) node(root ast.Node) {
	rewrite(reflect.ValueOf(root), func(n ast.Node) ast.Node {
		if s, ok := n.(*ast.IncDecStmt); ok {
			return m.step(s)
		}
		e, ok := n.(ast.Expr)
		if !ok {
			return n
		}
		tv := m.info.Types[e]
		if tv.Value != nil || tv.Type == nil {
			return e
		}
		switch e := e.(type) {
		case *ast.BinaryExpr:
			return m.binary(e, tv.Type)
		case *ast.UnaryExpr:
			if e.Op == token.SUB && isNumber(tv.Type) {
				return call("mutantMinus", m.add(e.OpPos, "- to +"), e.X)
			}
		}
		return e
	})
}

// step changes x++ to x += a step of its type, which a mutant takes the other way.
func (m *mutator) step(s *ast.IncDecStmt) ast.Stmt {
	t := m.info.Types[s.X].Type
	name := types.TypeString(t, func(p *types.Package) string {
		if p.Path() == module+filepath.ToSlash(filepath.Dir(m.file)) {
			return ""
		}
		return p.Name()
	})
	if strings.Contains(name, ".") || !isNumber(t) {
		return s // its name may not be imported here
	}
	tok, change := token.ADD_ASSIGN, "++ to --"
	if s.Tok == token.DEC {
		tok, change = token.SUB_ASSIGN, "-- to ++"
	}
	one := call("mutantStep["+name+"]", m.add(s.TokPos, change))
	return &ast.AssignStmt{Lhs: []ast.Expr{s.X}, Tok: tok, Rhs: []ast.Expr{one}}
}

var boundary = map[token.Token]string{
	token.LSS: "< to <=", token.LEQ: "<= to <", token.GTR: "> to >=", token.GEQ: ">= to >",
}

var opposite = map[token.Token]string{
	token.LSS: "< to >=", token.LEQ: "<= to >", token.GTR: "> to <=", token.GEQ: ">= to <",
	token.EQL: "== to !=", token.NEQ: "!= to ==",
}

var arithmetic = map[token.Token]struct{ change, helper string }{
	token.ADD: {"+ to -", "mutantAdd"}, token.SUB: {"- to +", "mutantSub"},
	token.MUL: {"* to /", "mutantMul"},
	token.QUO: {"/ to *", "mutantDiv"}, token.REM: {"% to *", "mutantRem"},
}

func (m *mutator) binary(e *ast.BinaryExpr, t types.Type) ast.Expr {
	if change, ok := opposite[e.Op]; ok {
		id := m.add(e.OpPos, change)
		if change, ok := boundary[e.Op]; ok {
			return call("mutantNot", id, m.ordered(e, m.add(e.OpPos, change)))
		}
		return call("mutantNot", id, e)
	}
	if a, ok := arithmetic[e.Op]; ok && isNumber(t) {
		return call(a.helper, m.add(e.OpPos, a.change), e.X, e.Y)
	}
	return e
}

func (m *mutator) ordered(e *ast.BinaryExpr, id ast.Expr) ast.Expr {
	switch e.Op {
	case token.LSS:
		return call("mutantLess", id, e.X, e.Y)
	case token.LEQ:
		return call("mutantAtMost", id, e.X, e.Y)
	case token.GTR:
		return call("mutantMore", id, e.X, e.Y)
	default:
		return call("mutantAtLeast", id, e.X, e.Y)
	}
}

// add enters a mutant and returns its number.
func (m *mutator) add(pos token.Pos, change string) ast.Expr {
	at := m.fset.Position(pos)
	id := len(m.all) + 1
	text := strings.TrimSpace(m.lines[at.Line-1])
	same := 1
	for i := range m.all {
		if x := &m.all[i]; x.file == m.file && x.line == at.Line && x.operator == change {
			same++
		}
	}
	numbered := change
	if same > 1 {
		numbered = fmt.Sprintf("%s #%d", change, same)
	}
	m.all = append(m.all, mutant{
		id: id, file: m.file, line: at.Line, column: at.Column, operator: change, change: numbered,
		code: text,
	})
	return &ast.BasicLit{Kind: token.INT, Value: fmt.Sprint(id)}
}

func call(name string, args ...ast.Expr) ast.Expr {
	return &ast.CallExpr{Fun: ast.NewIdent(name), Args: args}
}

func isNumber(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&(types.IsInteger|types.IsFloat) != 0
}

var nodeType = reflect.TypeFor[ast.Node]()

// rewrite puts what change returns in the place of each expression and statement below v, those at
// the bottom first.
func rewrite(v reflect.Value, change func(ast.Node) ast.Node) {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			rewrite(v.Elem(), change)
		}
		if n, ok := v.Interface().(ast.Node); ok && v.Kind() == reflect.Interface && v.CanSet() &&
			!v.IsNil() {
			if changed := change(n); changed != n {
				v.Set(reflect.ValueOf(changed))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			rewrite(v.Index(i), change)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Name == "Obj" || f.Name == "Comment" || f.Name == "Doc" {
				continue
			}
			if k := f.Type.Kind(); k == reflect.Slice || f.Type.Implements(nodeType) {
				rewrite(v.Field(i), change)
			}
		}
	}
}

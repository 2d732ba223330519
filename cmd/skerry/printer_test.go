package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/node/datadir"
	"github.com/skerry-sync/skerry/seed/report"
)

// hostile is text of a peer that tries to command the terminal, to turn letters round, to hide some
// and to add lines.
const hostile = "x\x1b[2J\u009b2K\u202egpj\u2066\u200b\r\nskerry: approved\t\x7f\xff"

// shown is how all of it is shown.
const shown = `x\u001b[2J\u009b2K\u202egpj\u2066\u200b\r\nskerry: approved\t\u007f\xff`

// testApp writes to out and errs.
func testApp(terminal bool) (a *app, out, errs *bytes.Buffer) {
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	return &app{stdout: newPrinter(out, terminal), stderr: newPrinter(errs, terminal)}, out, errs
}

func TestTextOfOthersIsShown(t *testing.T) {
	a, out, errs := testApp(true)
	wide := func() (int, int) { return 1000, 24 }
	a.stdout.size, a.stderr.size = wide, wide
	require.NoError(
		t, a.print(nil, "", displayf("name %-10s %q %v", hostile, "plain", errors.New(hostile))),
	)
	require.Equal(t, "name "+shown+` "plain" `+shown+"\n", out.String())
	a.note("note %s", hostile)
	a.warn("%s", hostile)
	slog.New(slog.NewTextHandler(a.stderr, nil)).Warn(hostile, "peer", hostile)
	slog.New(slog.NewJSONHandler(a.stderr, nil)).Warn(hostile, "peer", hostile)
	for _, r := range "\x1b\u009b\u202e\u2066\u200b\r\x7f" {
		require.NotContains(t, errs.String(), string(r))
	}
	require.Equal(t, 4, strings.Count(errs.String(), "\n"), "no line was added")

	out.Reset()
	a.quiet = true
	require.NoError(t, a.print(nil, hostile, "x"))
	require.Equal(t, shown+"\n", out.String())
}

// What a person is asked shows each part of the request on the one line that it belongs to.
func TestQuestionsAreSafe(t *testing.T) {
	a, _, errs := testApp(true)
	a.stdin = strings.NewReader("n\n")
	r := api.KeyringRequest{
		Asked: api.Asked{Code: "1234"}, Application: hostile, Reason: hostile, Peer: hostile,
	}
	_, err := a.ask(requestText(r) + "\nLet it? [y/N] ")
	require.NoError(t, err)
	require.Equal(t, 4, strings.Count(errs.String(), shown))
	require.Equal(t, 5, strings.Count(errs.String(), "\n"))

	_, err = a.askSignature("0x00", "Sign in\nfor\u202e x")
	require.ErrorContains(t, err, "cannot be seen")

	_, text := seedLine(report.Answer{State: "s", ReplicaID: hostile, Note: hostile})
	require.Equal(t, 2, strings.Count(string(text), shown))
	require.Equal(t, 1, strings.Count(string(text), "\n"))
	two := api.SeedStatus{Backups: []report.Answer{{ReplicaID: "first"}, {ReplicaID: hostile}}}
	ids, _ := seedStatusText(two)
	require.Equal(t, display("first\n"+shown), ids, "one a line")
}

func TestErrorsCannotForgeLines(t *testing.T) {
	a, _, errs := testApp(true)
	a.stderr.problem(
		fmt.Errorf("the seed says: %w", errors.Join(errors.New(hostile), errors.New("and more"))),
	)
	lines := strings.Split(strings.TrimSuffix(errs.String(), "\n"), "\n")
	require.Len(t, lines, 3)
	for _, l := range lines[1:] {
		require.True(t, strings.HasPrefix(l, "  "), l)
	}
	errs.Reset()
	a.stderr.problem(errors.New(strings.Repeat("long ", 1<<20)))
	require.Less(t, errs.Len(), maxShown*11/10) // with the ends of its lines
}

func TestJSONIsEscapedAndTheSame(t *testing.T) {
	a, out, _ := testApp(false)
	in := map[string]string{"name": hostile[:len(hostile)-1] + "\U000e0001"}
	require.NoError(t, a.printJSON(in))
	for _, r := range out.String() {
		require.Less(t, r, rune(0x7f))
	}
	back := map[string]string{}
	require.NoError(t, json.Unmarshal(out.Bytes(), &back))
	require.Equal(t, in, back)
}

// Content goes byte for byte to a file or a program, and is shown on a terminal.
func TestContent(t *testing.T) {
	write := func(w io.Writer) error {
		_, err := io.WriteString(w, hostile+"\u00e9"[:1])
		return err
	}
	a, out, _ := testApp(false)
	require.NoError(t, a.stdout.content(write))
	require.Equal(t, hostile+"\xc3", out.String())
	a, out, _ = testApp(true)
	require.NoError(t, a.stdout.content(write))
	require.Equal(
		t, strings.ReplaceAll(strings.ReplaceAll(shown, `\n`, "\n"), `\t`, "\t")+`\xc3`, out.String(),
	)
}

// Nobody prints around the printer: outside of printer.go nothing names the standard streams,
// prints with package fmt, or declares a string of others to be a display.
func TestOnlyThePrinterPrints(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	checked := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || name == "printer.go" {
			continue
		}
		checked++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		require.NoError(t, err)
		require.Empty(t, around(set, file))
	}
	require.Greater(t, checked, 30, "the files have moved")

	// The check itself finds each way.
	for _, bad := range []string{
		`fmt.Println("x")`, `fmt.Fprintf(w, "x")`, `fmt.Print()`, `_ = os.Stdout`, `_ = os.Stderr`,
		`println("x")`, `_ = display(s)`, `log.Print("x")`, `io.WriteString(a.stdout, s)`,
		`a.stderr.Write(b)`, `_ = a.stdout.raw`, `syscall.Write(1, b)`,
	} {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, "x.go", "package main\nfunc f() {\n"+bad+"\n}", 0)
		require.NoError(t, err)
		require.NotEmpty(t, around(set, file), bad)
	}
	_, err = os.Stat("printer.go")
	require.NoError(t, err)
}

// exact are the files, with the number of times, in which text is shown as it is with its line
// ends. Each is our own, or was compared with what visible.Lines makes of it.
var exact = map[string]int{
	"identity.go": 1, "replica.go": 1, "collections.go": 1, "collections_store.go": 1,
}

func around(set *token.FileSet, file *ast.File) (found []string) {
	left := exact[filepath.Base(set.Position(file.Pos()).Filename)]
	ast.Inspect(file, func(n ast.Node) bool {
		bad := ""
		switch x := n.(type) {
		case *ast.SelectorExpr:
			of, _ := x.X.(*ast.Ident)
			inner, _ := x.X.(*ast.SelectorExpr)
			switch {
			case of != nil && of.Name == "fmt" && (strings.HasPrefix(x.Sel.Name, "Print") ||
				strings.HasPrefix(x.Sel.Name, "Fprint")),
				of != nil && of.Name == "os" && (x.Sel.Name == "Stdout" || x.Sel.Name == "Stderr"),
				of != nil && (of.Name == "log" && strings.HasPrefix(x.Sel.Name, "Print") ||
					of.Name == "syscall" && x.Sel.Name == "Write"),
				x.Sel.Name == "raw" || x.Sel.Name == "clean" && inner != nil:
				bad = x.Sel.Name
			case x.Sel.Name == "Write" && inner != nil && (inner.Sel.Name == "stdout" ||
				inner.Sel.Name == "stderr"):
				if left--; left < 0 {
					bad = "Write to " + inner.Sel.Name
				}
			}
		case *ast.CallExpr:
			of, _ := x.Fun.(*ast.Ident)
			sel, _ := x.Fun.(*ast.SelectorExpr)
			switch {
			case of != nil && of.Name == "display":
				if left--; left < 0 {
					bad = "conversion to display"
				}
			case of != nil && (of.Name == "println" || of.Name == "print"):
				bad = of.Name
			case sel != nil && sel.Sel.Name == "WriteString" && len(x.Args) > 0:
				if to, ok := x.Args[0].(*ast.SelectorExpr); ok && (to.Sel.Name == "stdout" ||
					to.Sel.Name == "stderr") {
					bad = "WriteString to " + to.Sel.Name
				}
			}
		}
		if bad != "" {
			found = append(found, fmt.Sprintf("%s: %s", set.Position(n.Pos()), bad))
		}
		return true
	})
	return found
}

// Help goes through the printer, too: it can show the environment.
func TestHelpGoesThroughThePrinter(t *testing.T) {
	a, out, _ := testApp(true)
	root := a.root()
	root.SetOut(a.stdout)
	root.AddCommand(&cobra.Command{Use: "x", Long: hostile, Run: func(*cobra.Command, []string) {}})
	root.SetArgs([]string{"help", "x"})
	require.NoError(t, root.Execute())
	require.Contains(t, out.String(), `\u009b`)
	require.NotContains(t, out.String(), "\u202e")
}

// The bar of work of any size fits a terminal of 80 columns, and a longer line is cut: one that
// wraps round fills the window.
func TestTheBarFitsTheTerminal(t *testing.T) {
	for _, p := range []api.Progress{
		{Doing: "importing", Bytes: 1000 << 30, TotalBytes: 1023 << 30, Files: 123456, TotalFiles: 999999},
		{Doing: "fetching", Bytes: 1000 << 30, TotalBytes: 1023 << 30},
		{Doing: "checking", Bytes: 1, TotalBytes: 1 << 50, Entries: 1 << 40},
	} {
		var out bytes.Buffer
		w := newPrinter(&out, true)
		width := w.rewrite(barText(p, 0, 1000*time.Second), 0)
		require.Less(t, width, usualColumns)
		require.Less(t, len(strings.TrimPrefix(out.String(), "\r")), usualColumns)
		require.Equal(t, 0, strings.Count(out.String(), "\n"))
	}
	require.Less(
		t,
		len(
			barText(
				api.Progress{Doing: "fetching", Bytes: 1000 << 30, TotalBytes: 1023 << 30}, 0, time.Hour,
			),
		),
		usualColumns,
	)
}

// A QR code that does not fit the window is not drawn, and its size is told.
func TestQRCodeThatDoesNotFit(t *testing.T) {
	for columns, drawn := range map[int]bool{50: false, 200: true} {
		var out bytes.Buffer
		a := &app{stderr: newPrinter(&out, true)}
		a.stderr.size = func() (int, int) { return columns, columns }
		ticket := "blob" + strings.Repeat("abcdefg2", 40)
		a.showQR(ticket)
		require.Equal(t, drawn, strings.Count(out.String(), "\n") > 5)
		if !drawn {
			require.Contains(t, out.String(), "columns and")
		}
	}
}

// Whether a node of another user runs cannot be told: that is no node, but not allowed (exit code
// 5).
func TestDataDirectoryOfAnotherUser(t *testing.T) {
	err := notYours("/home/other/.skerry", fs.ErrPermission)
	require.Equal(t, 5, api.ExitCode(err))
	require.ErrorContains(t, err, "another user")
}

// Where the process that has a data directory cannot be asked, the error says why: somebody else
// may have taken its socket.
func TestWhoCannotBeAsked(t *testing.T) {
	inUse := &datadir.InUseError{Dir: "d"}
	require.Equal(t, inUse, stillInUse(inUse, nil))
	err := stillInUse(inUse, fmt.Errorf("socket /x: %w", disk.ErrForeignSocket))
	require.ErrorIs(t, err, inUse)
	require.ErrorContains(t, err, "socket /x: a process of another user answers there")
	require.Equal(t, 5, api.ExitCode(err))
	require.ErrorContains(
		t, errNotRunning{"d", disk.ErrForeignSocket}, "a process of another user answers there",
	)
}

// What is at the socket of a data directory is told unless it is the trace of a process that died.
func TestWhatIsAtTheSocket(t *testing.T) {
	a := &app{dir: t.TempDir()}
	d, err := datadir.Open(a.dir, "test")
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	silent := func(path string) error {
		t.Helper()
		require.NoError(t, d.SetAPI(path))
		s, silent, err := a.dial()
		require.NoError(t, err)
		require.Nil(t, s)
		return silent
	}
	path := filepath.Join(t.TempDir(), "s")
	require.NoError(t, silent(path), "it is gone")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	stale.SetUnlinkOnClose(false)
	require.NoError(t, stale.Close())
	require.NoError(t, silent(path), "nobody listens")
	if runtime.GOOS != "windows" { // where it cannot be told from a process that died
		require.ErrorContains(t, silent(strings.Repeat("long", 100)), "long")
	}
}

// No flag tells its default twice, all of them can say what they are, and each length of time takes
// days.
func TestFlagsTellTheirDefaultOnce(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			_, days := f.Value.(*duration)
			require.Equal(
				t, f.Value.Type() == "duration", days, "%s --%s takes days", c.CommandPath(), f.Name,
			)
			require.False(t, strings.Contains(f.Usage, "(default") && f.DefValue != "" &&
				f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0",
				"%s --%s: %s", c.CommandPath(), f.Name, f.DefValue)
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).root())
}

// At the end of input nobody has answered, and nothing is decided.
func TestNoAnswerDecidesNothing(t *testing.T) {
	for input, want := range map[string]bool{
		"y\n": true, "yes": true, "n\n": false, "\n": false, "no": false,
	} {
		a := &app{stdin: strings.NewReader(input), stderr: newPrinter(io.Discard, false)}
		yes, err := a.ask("Really? ")
		require.NoError(t, err, "%q", input)
		require.Equal(t, want, yes, "%q", input)
	}
	_, err := (&app{
		stdin: strings.NewReader(""), stderr: newPrinter(io.Discard, false),
	}).ask("Really? ")
	require.Equal(t, 2, api.ExitCode(err))
}

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"github.com/skerry-sync/skerry/internal/visible"
)

// A printer is the only way to standard output and standard error. Everything that is written to it
// is cleaned (package visible), since nearly all output can contain text of a peer, an app or a
// file: control characters could erase or forge what a person reads. JSON keeps its values.
//
// Only this file names os.Stdout and os.Stderr, and prints with package fmt; a test checks that.
type printer struct {
	mu       sync.Mutex // held while something is written: logs and messages come side by side
	clean    *visible.Writer
	raw      io.Writer
	terminal bool
	size     func() (columns, rows int) // of the terminal
}

// The size of a terminal that does not tell its own.
const usualColumns, usualRows = 80, 24

func usualSize() (columns, rows int) { return usualColumns, usualRows }

func newPrinter(w io.Writer, terminal bool) *printer {
	return &printer{clean: visible.NewWriter(w), raw: w, terminal: terminal, size: usualSize}
}

func printerOf(f *os.File) *printer {
	p := newPrinter(f, term.IsTerminal(int(f.Fd())))
	p.size = func() (columns, rows int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil || columns < 2 || rows < 2 {
			return usualSize()
		}
		return columns, rows
	}
	return p
}

func standardOutput() *printer { return printerOf(os.Stdout) }
func standardError() *printer  { return printerOf(os.Stderr) }

// Write implements io.Writer, for logs, help and JSON.
func (p *printer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clean.Write(b)
}

// A display is text for people that is safe to show: made by displayf, or a constant. Its line ends
// are our own. The type keeps strings of others from being joined to it.
type display string

// displayf formats like fmt.Sprintf. What arguments become is cleaned to one line, so that it
// cannot pretend to be output of ours; only displays are taken as they are.
func displayf(format string, args ...any) display {
	safe := make([]any, len(args))
	for i, arg := range args {
		safe[i] = cleaned{arg}
	}
	return display(fmt.Sprintf(format, safe...))
}

// cleaned is an argument whose text is made visible.
type cleaned struct{ arg any }

// Format implements fmt.Formatter.
func (c cleaned) Format(f fmt.State, verb rune) {
	text := fmt.Sprintf(fmt.FormatString(f, verb), c.arg)
	if _, ok := c.arg.(display); !ok {
		text = visible.Text(cut(text))
	}
	_, _ = io.WriteString(f, text) // a State has no errors
}

// maxShown is how many bytes of one argument, or of one error, are shown. The longest ticket is
// shorter.
const maxShown = 32 << 10

func cut(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes more)", text[:maxShown], len(text)-maxShown)
}

func joinDisplays(parts []display, between string) (out display) {
	for i, p := range parts {
		if i > 0 {
			out += display(between)
		}
		out += p
	}
	return out
}

// text writes a line for people. On a terminal, what is wider than that goes on in further lines,
// which are indented and do not break words.
func (p *printer) text(text display) error {
	if !p.terminal {
		return p.line(text)
	}
	columns, _ := p.size()
	lines := strings.Split(string(text), "\n")
	for i, l := range lines {
		begin := len(l) - len(strings.TrimLeft(l, " "))
		lines[i] = wrapLine(l, min(begin, columns/2)+2, columns)
	}
	return p.line(display(strings.Join(lines, "\n")))
}

// hanging breaks a line for a terminal, so that what goes on stands below a column.
func (p *printer) hanging(line display, indent int) display {
	if !p.terminal {
		return line
	}
	columns, _ := p.size()
	return display(wrapLine(string(line), min(indent, columns/2), columns))
}

// line writes a line as it is.
func (p *printer) line(text display) error {
	_, err := io.WriteString(p, string(text)+"\n")
	return err
}

// prompt writes text without a line end.
func (p *printer) prompt(text display) error {
	_, err := io.WriteString(p, string(text))
	return err
}

// problem writes an error. Further lines of it are indented: they may be of others, and must not
// look like lines of ours.
func (p *printer) problem(err error) {
	text := strings.ReplaceAll(visible.Lines("skerry: "+cut(err.Error())), "\n", "\n  ")
	_ = p.text(display(text)) // there is nobody left to tell
}

// rewrite writes text over the present line of a terminal, and blanks up to width. It returns the
// width of text.
func (p *printer) rewrite(text display, width int) int {
	line := visible.Text(string(text))
	columns, _ := p.size()
	line = line[:min(len(line), columns-1)] // one that wraps round could not be rewritten; it is ASCII
	p.mu.Lock()
	defer p.mu.Unlock()
	// only progress
	_, _ = io.WriteString(p.raw, "\r"+line+strings.Repeat(" ", max(0, width-len(line))))
	return len(line)
}

// erase takes width characters off the present line of a terminal.
func (p *printer) erase(width int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	columns, _ := p.size()
	_, _ = io.WriteString(p.raw, "\r"+strings.Repeat(" ", min(width, columns-1))+"\r") // likewise
}

// content calls write with where the content of blobs and values is to go. To a file or another
// program that is byte for byte; on a terminal what cannot be shown is escaped.
func (p *printer) content(write func(io.Writer) error) error {
	if !p.terminal {
		return write(p.raw)
	}
	return errors.Join(write(p), p.clean.Flush())
}

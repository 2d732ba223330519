package main

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/api"
)

// absPath makes a path of an argument absolute. An empty one is a mistake, such as a variable of a
// shell that is not set: taken as the current directory, it would be shared, or written to.
func absPath(arg string) (string, error) {
	if arg == "" {
		return "", api.UsageErrorf("a path is empty: name a file or a directory (. is the current one)")
	}
	return filepath.Abs(arg)
}

// print writes a result: as JSON, as its essential (nothing if that is empty), or for people.
//
// The essential is cleaned to one line, as all that is not made by displayf: for exact values there
// is JSON.
func (a *app) print(value any, essential string, text display) error {
	return a.printLines(value, displayf("%s", essential), text)
}

// printLines is print for an essential of several lines.
func (a *app) printLines(value any, essential, text display) error {
	a.bar.clear()
	switch {
	case a.json:
		return a.printJSON(value)
	case a.quiet:
		if essential == "" {
			return nil
		}
		text = essential
	}
	if text == essential {
		return a.stdout.line(text) // for scripts, or to be kept as it is
	}
	return a.stdout.text(text)
}

func (a *app) printJSON(value any) error {
	a.bar.clear()
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(value)
}

// note tells a person something beside the result.
func (a *app) note(format string, args ...any) {
	if !a.quiet && !a.json {
		a.bar.clear()
		_ = a.stderr.text(displayf(format, args...)) // there is nobody left to tell
	}
}

// list collects or prints the items of a list, depending on the form of output.
type list[T any] struct {
	a     *app
	items []T
	line  func(T) (essential string, text display)
}

func newList[T any](a *app, line func(T) (essential string, text display)) *list[T] {
	return &list[T]{a: a, items: []T{}, line: line}
}

func (l *list[T]) add(item T) error {
	if l.a.json {
		l.items = append(l.items, item)
		return nil
	}
	essential, text := l.line(item)
	return l.a.print(item, essential, text)
}

// stop ends a list at an error: what has been done by then is told all the same.
func (l *list[T]) stop(err error) error {
	if len(l.items) > 0 {
		return errors.Join(err, l.end())
	}
	return err
}

func (l *list[T]) end() error {
	if l.a.json {
		return l.a.printJSON(l.items)
	}
	return nil
}

func bytesText(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	if u == 0 {
		return strconv.FormatUint(n, 10) + " B"
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[u]
}

// count gives a number of things, of which one has the name.
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

func timeText(micros uint64) string {
	return time.UnixMicro(int64(micros)).Local().Format("2006-01-02 15:04:05")
}

// bar shows the progress of long work on a terminal, in one line that is rewritten.
type bar struct {
	w     *printer // nil shows nothing
	start time.Time
	doing string
	base  uint64 // bytes when this stage began
	width int    // of what stands there
}

func (a *app) newBar() *bar {
	b := &bar{start: time.Now()}
	a.bar = b
	if a.stderr.terminal && !a.quiet {
		b.w = a.stderr
	}
	return b
}

// quietTime is how long work may take before a bar appears.
const quietTime = 300 * time.Millisecond

func (b *bar) show(p api.Progress) {
	if b.w == nil {
		return
	}
	now := time.Now()
	if p.Doing != b.doing {
		b.doing, b.start, b.base = p.Doing, now, p.Bytes
	}
	elapsed := now.Sub(b.start)
	if elapsed < quietTime {
		return
	}
	text := barText(p, b.base, elapsed)
	b.width = b.w.rewrite(text, b.width)
}

// barText gives what, how much of how much, rate, and time left.
func barText(p api.Progress, base uint64, elapsed time.Duration) display {
	text := displayf("%-9s ", p.Doing)
	if p.TotalBytes > 0 {
		done := min(float64(p.Bytes)/float64(p.TotalBytes), 1)
		const cells = 12
		full := int(done * cells)
		text += displayf(
			"[%s%s] %3.0f%% ", strings.Repeat("#", full), strings.Repeat(".", cells-full), done*100,
		)
	}
	if p.Bytes > 0 {
		text += displayf("%s", bytesText(p.Bytes))
		if p.TotalBytes > 0 {
			text += displayf(" of %s", bytesText(p.TotalBytes))
		}
	}
	switch {
	case p.TotalFiles > 1:
		text += displayf("  %d/%d files", p.Files, p.TotalFiles)
	case p.Files > 0:
		text += displayf("  %d items", p.Files)
	case p.Entries > 0:
		text += displayf("%d entries", p.Entries)
	}
	if rate := float64(p.Bytes-min(base, p.Bytes)) / elapsed.Seconds(); rate > 0 {
		text += displayf("  %s/s", bytesText(uint64(rate)))
		if p.TotalBytes > p.Bytes {
			left := time.Duration(float64(p.TotalBytes-p.Bytes) / rate * float64(time.Second))
			text += displayf("  %s left", left.Round(time.Second))
		}
	}
	return text
}

// clear takes the bar off the terminal, so that something else can be printed there.
func (b *bar) clear() {
	if b != nil && b.w != nil && b.width > 0 {
		b.w.erase(b.width + len("^C")) // which terminals show where an interrupt was typed
		b.width = 0
	}
}

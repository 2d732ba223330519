// Command readme runs the console blocks of README.md, as somebody would who reads it from the top:
// each on the machine that it speaks of, which is a home directory of its own here. What a command
// prints must be what stands below it.
//
//	go run ./.ci/readme README.md
//
// A word of the page that ends with "…" stands for what a command printed in its place, there and
// wherever the page repeats it. Commands that stay (a node, a watch) run until the next heading.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// block says what a block needs that the page says in words. It is named by its first command.
type block struct {
	on     string            // the machine
	before string            // shell, run there
	words  map[string]string // of the page, and the shell that prints what each stands for
	after  string            // shell, run there: fails if what the block promises is not so
	tells  string            // a command whose exit code is an opinion
}

const address = `skerry --dir ~/.skerry status --json | ` +
	`grep -o '/ip4/127.0.0.1/tcp/[0-9]*/p2p/[A-Za-z0-9]*' | head -n 1`

var blocks = map[string]block{
	"skerry share ~/photos": {
		on: "one", before: "mkdir -p photos/empty && seq 100000 >photos/numbers && date >photos/date",
	},
	"skerry get blob": {on: "two", after: "diff -r ../one/photos photos"},
	"skerry replica new notes": {
		on:     "one",
		before: "NODE",
		after:  `skerry replica get notes greeting | grep -qx hello`,
	},
	"skerry replica join doc": {
		on: "two", before: "NODE",
		after: `cd ../one && export HOME=$PWD && for i in $(seq 600); do ` +
			`skerry replica get notes reply 2>/dev/null | grep -qx 'hello to you' && exit; sleep 0.1; done; exit 1`,
	},
	"skerry replica share notes --mode write --prefix guests/": {
		on: "one",
		words: map[string]string{
			"AUTHOR": `skerry replica share notes --mode write --prefix guests/ -q >../guest/ticket && ` +
				`(cd ../guest && HOME=$PWD skerry replica join "$(cat ticket)" --name notes -q >&2) && ` +
				`skerry replica grants notes | grep guests/ | grep -oE '[a-z2-7]{52}' | head -n 1`,
		},
	},
	"skerry replica new letters --encrypted": {on: "one", before: "NODE"},
	"skerry identity new --words":            {on: "one", after: "cp identity-new ../new/printed"},
	"skerry identity import --mnemonic-file words": {
		on:     "new",
		before: `NODE grep -oE "([a-z]+ ){23}[a-z]+" printed >words`,
		words: map[string]string{
			"/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…": "cd ../one && HOME=$PWD && " + address,
		},
	},
	"skerry seed serve --relay": {on: "seed"},
	"mkdir -p ~/.skerry": {
		on: "one", tells: "skerry doctor", // here, nobody outside can reach anybody
		after: `skerry doctor --network | grep "registrations that stand: 1"`,
	},
	"skerry collections check collections.json": {
		on:     "documents",
		before: `awk '/^cat > collections.json/ { on = 1 } /^skerry/ { on = 0 } on' "$DOCS/collections.md" | sh`,
		after: `for i in $(seq 600); do curl -fsS http://127.0.0.1:8500/v1/list/news && exit; ` +
			`sleep 0.1; done; exit 1`,
	},
}

// stays are the commands that run until they are interrupted, and what they print when they are at
// work.
var stays = map[string]string{
	"skerry share ": "blob", "skerry up": "", "skerry seed serve": "reachable at",
	"skerry collections serve": "", "skerry replica watch": "",
}

type runner struct {
	work, docs string
	words      map[string]string // of the page -> what they stand for
	running    []*process
	nodes      map[string]bool // machines with a node
}

type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan error
}

// output is what a command has printed so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: readme FILE")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(page string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "readme")
	if err != nil {
		return err
	}
	r := &runner{work: work, words: map[string]string{}, nodes: map[string]bool{}}
	defer func() { err = errors.Join(err, r.end(), os.RemoveAll(work)) }()
	if r.docs, err = filepath.Abs(filepath.Join(filepath.Dir(page), "docs")); err != nil {
		return err
	}
	build := exec.CommandContext(
		ctx, "go", "build", "-o", filepath.Join(work, "bin", "skerry"), "./cmd/skerry",
	)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	for _, word := range []string{"tcp/4001", "udp/4001", "127.0.0.1:8500"} { // others may use these
		port, err := freePort()
		if err != nil {
			return err
		}
		r.words[word] = strings.NewReplacer("4001", port, "8500", port).Replace(word)
	}
	seen := map[string]bool{}
	var lines []string
	inside := false
	for _, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "## "):
			if err := r.end(); err != nil {
				return err
			}
		case line == "```console":
			inside, lines = true, nil
		case line == "```" && inside:
			inside = false
			name, err := r.block(ctx, lines)
			if err != nil {
				return fmt.Errorf("%w\nin the block\n%s", err, strings.Join(lines, "\n"))
			}
			seen[name] = true
		case inside:
			lines = append(lines, line)
		}
	}
	for name := range blocks {
		if !seen[name] {
			return fmt.Errorf("no block of %s begins with %q any more", page, name)
		}
	}
	fmt.Printf("%d blocks of %s work\n", len(seen), page)
	return nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// block runs one, and returns its name.
func (r *runner) block(ctx context.Context, lines []string) (string, error) {
	name := ""
	for n := range blocks {
		if strings.HasPrefix(lines[0], "$ "+n) && len(n) > len(name) {
			name = n
		}
	}
	if name == "" {
		return "", fmt.Errorf("say in .ci/readme on which machine this runs: %s", lines[0])
	}
	b := blocks[name]
	if before, ok := strings.CutPrefix(b.before, "NODE"); ok {
		b.before = before
		if err := r.node(ctx, b.on); err != nil {
			return "", err
		}
	}
	if b.before != "" {
		if _, err := r.shell(ctx, b.on, b.before); err != nil {
			return "", fmt.Errorf("before: %w", err)
		}
	}
	for len(lines) > 0 {
		command, ok := strings.CutPrefix(lines[0], "$ ")
		if !ok {
			return "", fmt.Errorf("no command: %s", lines[0])
		}
		n := 1
		for n < len(lines) && !strings.HasPrefix(lines[n], "$ ") {
			n++
		}
		if err := r.command(ctx, b, command, lines[1:n]); err != nil {
			return "", err
		}
		lines = lines[n:]
	}
	if b.after != "" {
		if _, err := r.shell(ctx, b.on, r.filled(b.after)); err != nil {
			return "", fmt.Errorf("after: %w", err)
		}
	}
	return name, nil
}

// node has a node run on a machine, as the page asks for in words.
func (r *runner) node(ctx context.Context, on string) error {
	if r.nodes[on] {
		return nil
	}
	r.nodes[on] = true
	if _, err := r.start(ctx, on, "skerry up"); err != nil {
		return err
	}
	_, err := r.shell(
		ctx, on, "for i in $(seq 600); do skerry status -q && exit; sleep 0.1; done; exit 1",
	)
	return err
}

func (r *runner) command(ctx context.Context, b block, command string, prints []string) error {
	for word, shell := range b.words {
		if r.words[word] == "" && strings.Contains(command, word) {
			out, err := r.shell(ctx, b.on, shell)
			if err != nil {
				return fmt.Errorf("what %s stands for: %w", word, err)
			}
			r.words[word] = strings.TrimSpace(out)
		}
	}
	command = r.filled(command)
	fmt.Printf("%s$ %s\n", b.on, command)
	for prefix, works := range stays {
		if strings.HasPrefix(command, prefix) {
			return r.stay(ctx, b.on, command, works, prints)
		}
	}
	out, err := r.shell(ctx, b.on, command)
	if err != nil && (b.tells == "" || !strings.HasPrefix(command, b.tells)) {
		return err
	}
	return r.compare(out, prints)
}

// filled returns shell with what the words of the page stand for, the longest first: an address has
// a port in it.
func (r *runner) filled(shell string) string {
	words := slices.SortedFunc(maps.Keys(r.words), func(a, b string) int { return len(b) - len(a) })
	for _, w := range words {
		shell = strings.ReplaceAll(shell, w, r.words[w])
	}
	return shell
}

// stay begins a command that runs on, and waits until it has printed what it should.
func (r *runner) stay(ctx context.Context, on, command, works string, prints []string) error {
	if strings.HasPrefix(command, "skerry up") {
		return r.node(ctx, on)
	}
	p, err := r.start(ctx, on, command)
	if err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		out := p.out.String()
		if strings.Contains(out, works) {
			if err = r.compare(out, prints); err == nil {
				return nil
			}
		}
		select {
		case ended := <-p.done:
			p.done <- ended
			return fmt.Errorf("ended: %w\n%s", ended, out)
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w\nprinted\n%s", err, out)
		}
	}
}

// compare requires that each line of the page was printed, and learns what its words stand for.
func (r *runner) compare(out string, prints []string) error {
	for _, line := range prints {
		want := strings.Fields(line)
		found := slices.ContainsFunc(strings.Split(out, "\n"), func(have string) bool {
			return r.same(want, strings.Fields(have))
		})
		if !found {
			return fmt.Errorf("the page says that this is printed:\n%s\nand this is:\n%s", line, out)
		}
	}
	return nil
}

var digits = regexp.MustCompile(`[0-9]+`)

func (r *runner) same(want, have []string) bool {
	if len(want) != len(have) {
		return false
	}
	learned := map[string]string{}
	for i, w := range want {
		is, known := r.words[w]
		switch {
		case known && is == have[i] || w == have[i]:
		case known || !strings.HasSuffix(w, "…"):
			return false
		case strings.HasPrefix(w, "/"): // an address: the same protocols
			shape := func(s string) string {
				s, _, _ = strings.Cut(s, "/p2p/")
				return digits.ReplaceAllString(s, "0")
			}
			if shape(w) != shape(have[i]) {
				return false
			}
			learned[w] = have[i]
		case strings.HasPrefix(w, "blob") || strings.HasPrefix(w, "doc"):
			if have[i][:3] != w[:3] {
				return false
			}
			learned[w] = have[i]
		default: // an id
			learned[w] = have[i]
		}
	}
	for w, is := range learned {
		r.words[w] = is
	}
	return true
}

// home makes the home directory of a machine, whose nodes look for nobody in the local network.
func (r *runner) home(on string) (string, error) {
	home := filepath.Join(r.work, on)
	config := filepath.Join(home, ".skerry", "config")
	if _, err := os.Stat(config); err == nil {
		return home, nil
	}
	if err := os.MkdirAll(filepath.Dir(config), 0o700); err != nil {
		return "", err
	}
	for _, other := range []string{"guest", "new"} { // whom a block hands something
		if err := os.MkdirAll(filepath.Join(r.work, other), 0o700); err != nil {
			return "", err
		}
	}
	lines := "no-discovery = true\n"
	if on != "seed" {
		lines += "listen = /ip4/127.0.0.1/tcp/0\n"
	}
	return home, os.WriteFile(config, []byte(lines), 0o600)
}

func (r *runner) prepare(ctx context.Context, on, command string) (*exec.Cmd, error) {
	home, err := r.home(on)
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, "bash", "-c", command)
	c.Dir = home
	c.Env = append(os.Environ(), "HOME="+home, "DOCS="+r.docs, "SKERRY_PASSWORD=correct horse",
		"PATH="+filepath.Join(r.work, "bin")+":"+os.Getenv("PATH"))
	return c, nil
}

// shell runs a command to its end, and returns what it printed.
func (r *runner) shell(ctx context.Context, on, command string) (string, error) {
	c, err := r.prepare(ctx, on, command)
	if err != nil {
		return "", err
	}
	var out, told bytes.Buffer
	c.Stdout, c.Stderr = &out, &told
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", command, err, out.Bytes(), told.Bytes())
	}
	if strings.HasPrefix(command, "skerry identity new") {
		err = os.WriteFile(
			filepath.Join(c.Dir, "identity-new"), slices.Concat(out.Bytes(), told.Bytes()), 0o600,
		)
	}
	return out.String(), err
}

func (r *runner) start(ctx context.Context, on, command string) (*process, error) {
	c, err := r.prepare(ctx, on, "exec "+command)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: c, out: &output{}, done: make(chan error, 1)}
	c.Stdout, c.Stderr = p.out, p.out
	if err := c.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- c.Wait() }()
	r.running = append(r.running, p)
	return p, nil
}

// end interrupts what stays, and waits for it.
func (r *runner) end() (err error) {
	for _, p := range slices.Backward(r.running) {
		_ = p.cmd.Process.Signal(syscall.SIGINT) // it may have ended
		select {
		case <-p.done:
		case <-time.After(time.Minute):
			err = errors.Join(err, fmt.Errorf("does not end: %s", p.cmd), p.cmd.Process.Kill())
			<-p.done
		}
	}
	r.running = nil
	clear(r.nodes)
	return err
}

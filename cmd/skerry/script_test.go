package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"skerry": main})
}

// TestScripts runs the terminal sessions in testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("TMPDIR", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"random": random, "mistype": mistype, "setenv": setenv, "eventually": eventually,
			"sametree": sameTree, "exits": exits, "text": text, "freeport": freePort,
			"setcode": setCode, "until": until, "web": web, "post": post, "webuntil": webUntil, "hangup": hangup, "called": called,
			"latin1": latin1,
			"edit":   edit,
		},
	})
}

// random FILE SIZE makes a file of incompressible bytes, the same each time.
func random(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(b)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// mistype FILE changes one character in the middle of the file.
func mistype(ts *testscript.TestScript, _ bool, args []string) {
	b := []byte(ts.ReadFile(args[0]))
	i := len(b) / 2
	if b[i] == 'a' {
		b[i] = 'b'
	} else {
		b[i] = 'a'
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// setenv NAME FILE sets a variable to the first line of a file.
func setenv(ts *testscript.TestScript, _ bool, args []string) {
	line, _, _ := strings.Cut(strings.TrimSpace(ts.ReadFile(args[1])), "\n")
	ts.Setenv(args[0], line)
}

// eventually COMMAND... runs a command until it succeeds, or with ! until it fails, for up to 20
// seconds.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(
		20 * time.Millisecond,
	) {
		if err = ts.Exec(args[0], args[1:]...); (err != nil) == neg {
			return
		}
	}
	ts.Fatalf("%v (to fail: %v) never happened: %v", args, neg, err)
}

// until REGEXP COMMAND... runs a command until it succeeds and its output matches, for up to 20
// seconds.
func until(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[0])
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(
		50 * time.Millisecond,
	) {
		if err := ts.Exec(args[1], args[2:]...); err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%v never gave %s", args[1:], args[0])
}

// web URL REGEXP... fails unless what is at an address, got with HTTP, matches all of these.
func web(ts *testscript.TestScript, _ bool, args []string) {
	resp, err := http.Get(args[0])
	ts.Check(err)
	b, err := io.ReadAll(resp.Body)
	ts.Check(errors.Join(err, resp.Body.Close()))
	for _, want := range args[1:] {
		if !regexp.MustCompile("(?m)" + want).Match(b) {
			ts.Fatalf("%s, which answers %s, has no %s", args[0], resp.Status, want)
		}
	}
}

// called STATUS HOST URL gets an address with another Host, as a page does whose name points there.
func called(ts *testscript.TestScript, _ bool, args []string) {
	req, err := http.NewRequest(http.MethodGet, args[2], nil)
	ts.Check(err)
	req.Host = args[1]
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	if !strings.HasPrefix(resp.Status, args[0]) {
		ts.Fatalf("%s as %s answers %s", args[2], args[1], resp.Status)
	}
}

// webuntil URL REGEXP gets an address until the answer matches, for up to 20 seconds.
func webUntil(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[1])
	var last []byte
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(
		20 * time.Millisecond,
	) {
		resp, err := http.Get(args[0])
		if err != nil {
			continue
		}
		last, err = io.ReadAll(resp.Body)
		ts.Check(errors.Join(err, resp.Body.Close()))
		if want.Match(last) {
			return
		}
	}
	ts.Fatalf("%s never gave %s, at last %s", args[0], args[1], last)
}

// post STATUS URL JSON REGEXP... posts JSON and looks into the answer.
func post(ts *testscript.TestScript, _ bool, args []string) {
	resp, err := http.Post(args[1], "application/json", strings.NewReader(args[2]))
	ts.Check(err)
	b, err := io.ReadAll(resp.Body)
	ts.Check(errors.Join(err, resp.Body.Close()))
	if !strings.HasPrefix(resp.Status, args[0]) {
		ts.Fatalf("%s answers %s: %s", args[1], resp.Status, b)
	}
	for _, want := range args[3:] {
		if !regexp.MustCompile(want).Match(b) {
			ts.Fatalf("%s answers %s, which has no %s", args[1], b, want)
		}
	}
}

// hangup sends SIGHUP to the command that was started last.
func hangup(ts *testscript.TestScript, _ bool, _ []string) {
	all := ts.BackgroundCmds()
	ts.Check(all[len(all)-1].Process.Signal(syscall.SIGHUP))
}

// sametree A B fails unless two directories hold the same names, contents, links and execute bits.
func sameTree(ts *testscript.TestScript, neg bool, args []string) {
	a, err := describe(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := describe(ts.MkAbs(args[1]))
	ts.Check(err)
	if same := a == b; same == neg {
		ts.Fatalf("same: %v\n%s:\n%s\n%s:\n%s", same, args[0], a, args[1], b)
	}
}

func describe(dir string) (string, error) {
	var out bytes.Buffer
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		content := []byte("dir")
		switch {
		case d.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			content = []byte("-> " + target)
		case !d.IsDir():
			if content, err = os.ReadFile(name); err != nil {
				return err
			}
		}
		fmt.Fprintf(&out, "%s %v %d %x\n", rel, d.IsDir() ||
			st.Mode()&0o111 != 0, len(content), content[:min(len(content), 64)])
		return nil
	})
	return out.String(), err
}

// exits CODE COMMAND... fails unless the command ends with this exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, expected %s", code, args[0])
	}
}

// text FILE CONTENT makes a file of just these bytes, without a line end.
func text(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(args[1]), 0o644))
}

// latin1 FILE CONTENT makes a file of text that ends with a byte that is not UTF-8.
func latin1(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(args[1]+"\xe9"), 0o644))
}

// freeport NAME sets a variable to a TCP port on which nobody listens.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	ts.Check(l.Close())
}

// setcode NAME DIR waits until an app's request waits at the node of a data directory, and sets a
// variable to its code.
func setCode(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(
		20 * time.Millisecond,
	) {
		out, err := exec.Command("skerry", "--dir", args[1], "vault", "requests", "-q").Output()
		if code := strings.TrimSpace(string(out)); err == nil && code != "" {
			ts.Setenv(args[0], code)
			return
		}
	}
	ts.Fatalf("no request came to %s", args[1])
}

package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// damagedDir is a data directory whose files are damaged one by one.
type damagedDir struct {
	t   *testing.T
	dir string
}

// run runs a command, and checks that whatever is damaged, it ends with one sentence about it.
func (d *damagedDir) run(in string, args ...string) (code int, out string) {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), "skerry", append([]string{"--dir", d.dir}, args...)...)
	cmd.Stdin = strings.NewReader(in)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		require.NoError(d.t, err)
	}
	said := stderr.String()
	for _, bad := range []string{"goroutine ", "panic", "runtime error", "nil pointer"} {
		require.NotContains(d.t, said, bad, "%q", args)
	}
	require.LessOrEqual(d.t, strings.Count(said, "skerry: "), 1, "%q says: %s", args, said)
	code = cmd.ProcessState.ExitCode()
	require.GreaterOrEqual(d.t, code, 0, "%q was killed", args)
	if code != 0 {
		require.Contains(d.t, said, "skerry: ", "%q says nothing", args)
	}
	return code, stdout.String()
}

// must runs a command that must succeed.
func (d *damagedDir) must(in string, args ...string) string {
	d.t.Helper()
	code, out := d.run(in, args...)
	require.Zero(d.t, code, "%q", args)
	return strings.TrimSpace(out)
}

const damagedEntries = 120

// Sixteen flipped bytes in any file of the store: no command shows a stack trace or hangs, what is
// not damaged can still be had, and store repair makes a store with which all goes on.
func TestDamagedDirectory(t *testing.T) {
	whole := &damagedDir{t, t.TempDir()}
	whole.must("", "replica", "new", "kept")
	whole.must("", "replica", "new", "left")
	value := func(i int) string { return strings.Repeat(fmt.Sprintf("value %d ", i), 1+i*5) }
	lines := ""
	for i := range damagedEntries {
		lines += fmt.Sprintf(`{"key":"k%03d","value":%q}`+"\n", i, value(i))
	}
	whole.must(lines, "replica", "import", "kept", "-")
	large := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(large)
	for i := range 3 {
		hash := whole.must(string(large[i<<20:]), "blob", "add", "-", "-q")
		require.Len(t, hash, 64)
	}
	ticket := whole.must("", "replica", "share", "left", "-q")

	var files []string
	require.NoError(t, filepath.WalkDir(whole.dir, func(path string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(whole.dir, path)
		inStore := strings.HasPrefix(rel, "kv/") || strings.HasPrefix(rel, "content/")
		if err != nil || !e.Type().IsRegular() || !inStore || e.Name() == "ballast" ||
			e.Name() == "LOCK" {
			return err
		}
		if info, err := e.Info(); err != nil || info.Size() < 64 {
			return err
		}
		files = append(files, rel)
		return nil
	}))
	require.Greater(t, len(files), 4)
	for i, file := range files {
		for _, part := range []int{2, 7}[i%2 : i%2+1] {
			t.Run(fmt.Sprintf("%s at %d tenths", file, part), func(t *testing.T) {
				d := &damagedDir{t, filepath.Join(t.TempDir(), "node")}
				require.NoError(t, os.CopyFS(d.dir, os.DirFS(whole.dir)))
				require.NoError(t, os.RemoveAll(filepath.Join(d.dir, "kv", "ballast")))
				at := filepath.Join(d.dir, file)
				b, err := os.ReadFile(at)
				require.NoError(t, err)
				for i := range 16 {
					b[len(b)*part/10+i] ^= 0xff
				}
				require.NoError(t, os.WriteFile(at, b, 0o600))

				for _, args := range [][]string{
					{"replica", "ls"}, {"blob", "ls"}, {"replica", "list", "kept"},
					{"replica", "get", "kept", "k007"},
					{"replica", "export", "kept", filepath.Join(
						d.dir, "..", "out",
					)}, {"replica", "verify", "kept"},
					{"blob", "verify"}, {"blob", "verify", "--repair"}, {"blob", "gc"}, {"replica", "leave", "left"},
					{"replica", "join", ticket, "--name", "again"}, {"replica", "set", "kept", "new", "value"},
				} {
					d.run("", args...)
				}
				code, _ := d.run("", "store", "repair")
				require.Contains(t, []int{0, 4}, code)
				code, _ = d.run("", "store", "repair")
				require.Contains(t, []int{0, 4}, code, "what content is lost is told again")
				d.must("", "replica", "ls")
				d.must("", "blob", "ls")
				d.must("", "blob", "gc")
				have := strings.Count(d.must("", "replica", "list", "kept", "-q"), "\n") + 1
				require.Greater(t, have, damagedEntries/4, "most is saved")
				intact := 0
				for i := 0; i < damagedEntries; i += 30 {
					if code, out := d.run("", "replica", "get", "kept", fmt.Sprintf("k%03d", i)); code == 0 {
						require.Equal(t, value(i), out, "what is given is right")
						intact++
					}
				}
				require.Greater(t, intact, 1)
				d.must("", "replica", "set", "kept", "after", "the repair")
				require.Equal(t, "the repair", d.must("", "replica", "get", "kept", "after"))
			})
		}
	}
}

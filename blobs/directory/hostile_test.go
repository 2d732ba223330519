package directory

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/blobstest"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// costly are manifests that cost much to check if each path is compared with all directories above
// it, or with all paths before it. n is about their number of bytes.
var costly = map[string]func(n int) Manifest{
	"all in the deepest directory": func(n int) (m Manifest) {
		dir := strings.Repeat(strings.Repeat("a", 30)+"/", MaxDepth-1)
		for i := range n / len(dir) {
			m = append(m, Entry{Path: fmt.Sprintf("%s%08d", dir, i), Kind: Empty})
		}
		return m
	},
	"each in a directory of its own": func(n int) (m Manifest) {
		for i := range n / 10 {
			m = append(m, Entry{Path: fmt.Sprintf("%08d/x", i), Kind: Empty})
		}
		return m
	},
	"each in a deep directory of its own": func(n int) (m Manifest) {
		below := strings.Repeat("/a", MaxDepth-1)
		for i := range n / (8 + len(below)) {
			m = append(m, Entry{Path: fmt.Sprintf("%08d%s", i, below), Kind: Empty})
		}
		return m
	},
	"each begins with the one before": func(n int) (m Manifest) {
		for block := 0; n > 0; block++ {
			for i := 1; i < MaxPath-10 && n > 0; i++ {
				m = append(m, Entry{Path: fmt.Sprintf("%08d", block) + strings.Repeat("a", i), Kind: Empty})
				n -= i
			}
		}
		return m
	},
}

// Checking a manifest, and creating its directories, takes steps in proportion to its bytes.
func TestCheckIsLinear(t *testing.T) {
	testkit.OneGoroutine(t)
	for name, list := range costly {
		t.Run(name, func(t *testing.T) {
			steps := func(n int) (bytes, check, walk int) {
				m := list(n)
				check, err := m.check()
				require.NoError(t, err)
				w := walker{root: openTemp(t)}
				for _, e := range m[:min(len(m), 10)] {
					if len(path.Base(e.Path)) < 256 { // else no file system takes it
						require.NoError(t, w.other(e))
						bytes += len(e.Path)
					}
				}
				require.NoError(t, w.up(0))
				require.LessOrEqual(t, w.steps, bytes, "no more directories are opened than there are names")
				return len(m.Bytes()), check, w.steps
			}
			for _, n := range []int{1 << 17, 1 << 18, 1 << 19} {
				bytes, check, _ := steps(n)
				require.LessOrEqual(t, check, 2*bytes, "%d bytes", bytes)
			}
		})
	}
}

func openTemp(t *testing.T) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	return root
}

// Directories that follow on each other are opened once, however many entries they have.
func TestWalkerOpensOnce(t *testing.T) {
	w := walker{root: openTemp(t)}
	for _, e := range costly["all in the deepest directory"](1 << 17) {
		require.NoError(t, w.other(Entry{Path: e.Path, Kind: Link, Target: "x"}))
	}
	require.NoError(t, w.up(0))
	require.Equal(t, MaxDepth-1, w.steps)
}

func TestManifestLimits(t *testing.T) {
	testkit.OneGoroutine(t)
	deep := func(n int) string { return strings.Repeat("a/", n-1) + "b" }
	m := Manifest{{Path: deep(MaxDepth), Kind: Empty}}
	_, err := ParseManifest(m.Bytes())
	require.NoError(t, err)
	m[0].Path = deep(MaxDepth + 1)
	_, err = ParseManifest(m.Bytes())
	var bad *NameError
	require.ErrorAs(t, err, &bad)

	// 65,536 paths that stand for 4.2 million directories.
	m = nil
	for i := range 1 << 16 {
		m = append(m, Entry{Path: fmt.Sprintf("%05x%s", i, strings.Repeat("/a", 65)), Kind: Empty})
	}
	_, err = ParseManifest(m.Bytes())
	require.ErrorContains(t, err, "more than 4194304 paths and directories")

	// Two files whose chunks cannot be children of one sequence.
	chunks := make([]uint64, blobs.MaxChildren/2)
	for i := range chunks {
		chunks[i] = chunked.MaxChunk
	}
	m = Manifest{{Path: "a", Kind: File, Chunks: chunks}, {Path: "b", Kind: File, Chunks: chunks}}
	_, err = ParseManifest(m.Bytes())
	require.ErrorContains(t, err, "more than 4194303 files and chunks")
	require.NoError(
		t,
		Manifest{
			{Path: "a", Kind: File}, {Path: "a-", Kind: File}, {Path: "a-/b", Kind: File},
		}[:2].Check(),
	)
}

// The rule about paths below entries, said plainly, gives the same answers.
func FuzzCheckBelow(f *testing.F) {
	f.Add("a\na-\na/b")
	f.Add("a\naa\naaa\nab/c")
	f.Fuzz(func(t *testing.T, text string) {
		var m Manifest
		all := map[string]bool{}
		for p := range strings.SplitSeq(text, "\n") {
			if CheckPath(p) != nil || len(m) > 0 && m[len(m)-1].Path >= p {
				return
			}
			m = append(m, Entry{Path: p, Kind: File})
			all[p] = true
		}
		want := true
		for p := range all {
			for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
				want = want && !all[dir]
			}
		}
		if got := m.Check() == nil; got != want {
			t.Errorf("%q: %v, expected %v", text, got, want)
		}
	})
}

// A tree that is deeper than a manifest may be is refused by name, not cut.
func TestImportTooDeep(t *testing.T) {
	s := blobstest.New(t)
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, strings.Repeat("a/", MaxDepth)), 0o700))
	_, err := Import(bg, s, dir, ImportOptions{})
	require.NoError(t, err)
	require.NoError(
		t, os.WriteFile(filepath.Join(dir, strings.Repeat("a/", MaxDepth), "f"), nil, 0o600),
	)
	_, err = Import(bg, s, dir, ImportOptions{})
	var bad *NameError
	require.ErrorAs(t, err, &bad)
}

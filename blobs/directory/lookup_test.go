package directory

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs"
)

// made returns a directory of these entries; file number n has the hash {n}.
func made(t require.TestingT, entries ...Entry) *Directory {
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	d := &Directory{Manifest: entries, Sequence: blobs.Sequence{blobs.Hash{}}}
	require.NoError(t, d.Manifest.Check())
	for _, e := range entries {
		for range e.children() {
			d.Sequence = append(d.Sequence, blobs.Hash{byte(len(d.Sequence))})
		}
	}
	return d
}

func link(at, target string) Entry { return Entry{Path: at, Kind: Link, Target: target} }

func file(at string, size uint64) Entry { return Entry{Path: at, Kind: File, Size: size} }

// Links to directories and chains of links lead to what a file system would show.
// https://github.com/ipfs/kubo/issues/4486 and 9525
func TestResolve(t *testing.T) {
	entries := []Entry{
		file("real/a/file", 1), file("real/b", 2), file("top", 3), {Path: "real/empty", Kind: Empty},
		link("dir", "real"), link("deep/up", "../real/a"), link("one", "two"), link("two", "three"),
		link("three", "dir/a/file"), link("self", "self"), link("ping", "pong"), link("pong", "ping"),
		link("gone", "nowhere"), link("void", "real/empty"), link("through", "deep/up"),
		link("filelink", "top"), link("dots", "./real/./a"),
	}
	for i := range MaxLinks {
		entries = append(entries, link(fmt.Sprintf("chain%02d", i), fmt.Sprintf("chain%02d", i+1)))
	}
	entries = append(entries, file(fmt.Sprintf("chain%02d", MaxLinks), 4))
	d := made(t, entries...)
	for name, want := range map[string]string{
		"": "", "top": "top", "real": "real", "dir": "real", "dir/": "real", "dir/a/file": "real/a/file",
		"deep/up": "real/a", "deep/up/file": "real/a/file", "one": "real/a/file", "void": "real/empty",
		"through/file": "real/a/file", "dots/file": "real/a/file", "real/empty": "real/empty",
		"chain00": "chain40",
	} {
		at, err := d.Resolve(name)
		require.NoError(t, err, name)
		require.Equal(t, want, at, name)
	}
	for name, says := range map[string]string{
		"self": "more than 40 links", "ping": "more than 40 links", "gone": `leads to "nowhere"`,
		"no": "not exist in the directory", "top/x": "not exist in the directory",
		"filelink/x": "which is not in the directory", "real/empty/x": "not exist in the directory",
		"dir/gone": `leads to "real/gone"`, "..": "out of the directory",
		"dir/../..": "out of the directory",
	} {
		_, err := d.Resolve(name)
		require.ErrorIs(t, err, fs.ErrNotExist, name)
		require.ErrorContains(t, err, says, name)
	}
}

// Looking up and listing agree with a walk over all entries, whatever the names.
func TestLookupIsAWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(
			rapid.StringMatching(`[a.0!]{1,2}(/[a.0!]{1,2}){0,2}`), 1, 12, rapid.ID[string],
		).Draw(t, "names")
		var entries []Entry
		for i, name := range names {
			e := file(name, uint64(i+1))
			if rapid.Bool().Draw(t, "chunked") {
				e.Chunks = []uint64{uint64(i), 1}
			}
			entries = append(entries, e)
			slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
			if Manifest(entries).Check() != nil {
				entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Path == name })
			}
		}
		if len(entries) == 0 {
			return
		}
		d := made(t, entries...)
		child, dirs := 1, map[string]map[string]uint64{"": {}}
		for _, e := range d.Manifest {
			got, content, err := d.Find(e.Path)
			require.NoError(t, err)
			require.Equal(t, e, got)
			require.Equal(t, []blobs.Hash(d.Sequence[child:child+e.children()]), content.Hashes)
			child += e.children()
			for at := e.Path; at != "."; at = path.Dir(at) {
				dir := path.Dir(at)
				if dir == "." {
					dir = ""
				}
				if dirs[dir] == nil {
					dirs[dir] = map[string]uint64{}
				}
				dirs[dir][path.Base(at)] += e.Size
			}
		}
		for dir, want := range dirs {
			require.True(t, d.IsDir(dir))
			got := map[string]uint64{}
			for _, c := range d.List(dir) {
				require.NotContains(t, got, c.Name)
				got[c.Name] = c.Size
			}
			require.Equal(t, want, got, dir)
		}
	})
}

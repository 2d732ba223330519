package directory

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/blobstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

// plant creates files from a map of path to content; a content of "-> x" makes a link, a path
// ending in / a directory, one ending in * an executable.
func plant(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for p, content := range files {
		name := filepath.Join(dir, p)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		switch {
		case p[len(p)-1] == '/':
			require.NoError(t, os.MkdirAll(name, 0o755))
		case len(content) > 3 && content[:3] == "-> ":
			require.NoError(t, os.Symlink(content[3:], name))
		case p[len(p)-1] == '*':
			require.NoError(t, os.WriteFile(name[:len(name)-1], []byte(content), 0o755))
		default:
			require.NoError(t, os.WriteFile(name, []byte(content), 0o644))
		}
	}
}

// snapshot describes a tree in the way that a directory keeps it.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, _ := filepath.Rel(dir, name)
		st, err := d.Info()
		require.NoError(t, err)
		switch {
		case d.IsDir():
			out[rel+"/"] = "dir"
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(name)
			require.NoError(t, err)
			out[rel] = "-> " + target
		default:
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			out[rel] = fmt.Sprintf("%v %x", st.Mode()&0o111 != 0, blobs.HashOf(b))
		}
		return nil
	}))
	return out
}

func TestRoundTrip(t *testing.T) {
	s := blobstest.New(t)
	dir := filepath.Join(t.TempDir(), "in")
	big := make([]byte, blobs.SegmentSize+100)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(big)
	plant(t, dir, map[string]string{
		"a.txt": "hello", "bin/run*": "#!/bin/sh", "deep/er/x": "", "deep/er/y": string(big),
		"empty/": "", "deep/void/": "",
		"link": "-> deep/er/x", "deep/up": "-> ../a.txt", "deep/er/same": "-> x", "to-dir": "-> deep", "dangling": "-> nothing/here",
		"space and ünicode": "x", "a": "sorts before a.txt and a/…", "a-dir/z": "1", "same-content": "hello",
	})
	info, err := Import(bg, s, dir, ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, 8, info.Files)
	again, err := Import(bg, s, dir, ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, info.Hash, again.Hash, "the same tree has the same name")

	d, err := Load(bg, s, info.Hash)
	require.NoError(t, err)
	require.Equal(t, info.Size, d.Size())
	var last Progress
	out := filepath.Join(t.TempDir(), "out")
	require.NoError(t, d.Export(bg, s, out, func(p Progress) { last = p }))
	require.Equal(t, snapshot(t, dir), snapshot(t, out))
	require.Equal(t, 8, last.TotalFiles)
	require.Equal(t, info.Size, last.TotalBytes)

	err = d.Export(bg, s, out, nil)
	require.Error(t, err, "a directory with something in it is not overwritten")
	require.Equal(t, snapshot(t, dir), snapshot(t, out))
}

func TestUnsafeLinksAndSpecialFiles(t *testing.T) {
	s := blobstest.New(t)
	for name, target := range map[string]string{
		"abs": "/etc/passwd", "up": "../x", "sneaky": "sub/../../x", "behind": "sub/..",
	} {
		dir := t.TempDir()
		plant(t, dir, map[string]string{"sub/f": "x", name: "-> " + target})
		_, err := Import(bg, s, dir, ImportOptions{})
		var bad *NameError
		require.ErrorAs(t, err, &bad, name)
		require.Equal(t, name, bad.Path)
		require.ErrorContains(t, err, "--skip-unsafe-links")
		info, err := Import(bg, s, dir, ImportOptions{SkipUnsafeLinks: true})
		require.NoError(t, err)
		require.Equal(t, []string{name}, info.Skipped)
	}
	dir := t.TempDir()
	pipe(t, filepath.Join(dir, "pipe"))
	info, err := Import(bg, s, dir, ImportOptions{})
	require.NoError(t, err, "a pipe is passed over, not read")
	require.Equal(t, []string{"pipe"}, info.Skipped)
}

func TestHostileManifests(t *testing.T) {
	for name, m := range map[string]Manifest{
		"absolute":            {{Path: "/etc/passwd", Kind: File}},
		"parent":              {{Path: "../x", Kind: File}},
		"parent inside":       {{Path: "a/../../x", Kind: File}},
		"dot":                 {{Path: "./x", Kind: File}},
		"empty part":          {{Path: "a//x", Kind: File}},
		"trailing slash":      {{Path: "a/", Kind: Empty}},
		"zero byte":           {{Path: "a\x00b", Kind: File}},
		"out of order":        {{Path: "b", Kind: File}, {Path: "a", Kind: File}},
		"twice":               {{Path: "a", Kind: File}, {Path: "a", Kind: File}},
		"below a file":        {{Path: "a", Kind: File}, {Path: "a/b", Kind: File}},
		"below a link":        {{Path: "a", Kind: Link, Target: "b"}, {Path: "a/b", Kind: File}},
		"deep below a link":   {{Path: "a", Kind: Link, Target: "b"}, {Path: "a-", Kind: File}, {Path: "a/c/b", Kind: File}},
		"link up":             {{Path: "a", Kind: Link, Target: "../b"}},
		"link up from below":  {{Path: "d/a", Kind: Link, Target: "../../b"}},
		"absolute link":       {{Path: "a", Kind: Link, Target: "/b"}},
		"climb behind a link": {{Path: "d/l", Kind: Link, Target: ".."}, {Path: "x", Kind: Link, Target: "d/l/../y"}},
		"backslash":           {{Path: "a", Kind: Link, Target: `..\b`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseManifest(m.Bytes())
			var bad *NameError
			require.ErrorAs(t, err, &bad)
		})
	}
}

func TestExportRefusesWrongSizes(t *testing.T) {
	s := blobstest.New(t)
	content, err := s.ImportBytes(bg, []byte("four"))
	require.NoError(t, err)
	m := Manifest{{Path: "f", Kind: File, Size: 5}}
	manifest, err := s.ImportBytes(bg, m.Bytes())
	require.NoError(t, err)
	seq, err := s.ImportBytes(bg, blobs.Sequence{manifest.Hash, content.Hash}.Bytes())
	require.NoError(t, err)
	d, err := Load(bg, s, seq.Hash)
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "out")
	require.ErrorContains(t, d.Export(bg, s, out, nil), "says 5 bytes")
	require.NoFileExists(t, out)

	short, err := s.ImportBytes(bg, blobs.Sequence{manifest.Hash}.Bytes())
	require.NoError(t, err)
	_, err = Load(bg, s, short.Hash)
	require.ErrorContains(t, err, "manifest lists 1 files")
	_, err = Load(bg, s, content.Hash)
	require.ErrorIs(t, err, blobs.ErrNotSequence)
}

// The format is fixed by this golden value.
func TestManifestGolden(t *testing.T) {
	m := Manifest{
		{Path: "a", Kind: File, Size: 300}, {Path: "b", Kind: Executable}, {Path: "c", Kind: Empty},
		{Path: "d", Kind: Link, Target: "a"},
	}
	want := append([]byte("skerry directory 1\n\x04"),
		1, 1, 'a', 0xac, 2, 2, 1, 'b', 0, 3, 1, 'c', 4, 1, 'd', 1, 'a')
	require.Equal(t, want, m.Bytes())
	back, err := ParseManifest(want)
	require.NoError(t, err)
	require.Equal(t, m, back)
	require.Len(t, back.Files(), 2)
}

// The kinds of files in chunks, likewise.
func TestManifestGoldenChunks(t *testing.T) {
	m := Manifest{
		{Path: "a", Kind: File, Size: 301, Chunks: []uint64{300, 1}},
		{Path: "b", Kind: Executable, Size: 2, Chunks: []uint64{2}},
	}
	want := append([]byte("skerry directory 1\n\x02"), 5, 1, 'a', 2, 0xac, 2, 1, 6, 1, 'b', 1, 2)
	require.Equal(t, want, m.Bytes())
	back, err := ParseManifest(want)
	require.NoError(t, err)
	require.Equal(t, m, back)
	for _, bad := range [][]byte{
		{5, 1, 'a', 0}, {5, 1, 'a', 1, 0}, {5, 1, 'a', 1, 0x81, 0x80, 0x20}, {5, 1, 'a', 9, 1},
	} {
		_, err := ParseManifest(append([]byte("skerry directory 1\n\x01"), bad...))
		require.Error(t, err, "%v", bad)
	}
}

// Large files are kept in chunks, unless they are to be whole, or to stay where they are; all three
// come back the same.
func TestLargeFiles(t *testing.T) {
	s := blobstest.New(t)
	dir := filepath.Join(t.TempDir(), "in")
	large := make([]byte, 9<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(large)
	plant(
		t, dir,
		map[string]string{
			"large*": string(large), "mid": string(large[:1<<20]), "small": "x", "none": "",
		},
	)
	for _, o := range []ImportOptions{{}, {Whole: true}, {Reference: true}} {
		info, err := Import(bg, s, dir, o)
		require.NoError(t, err)
		require.EqualValues(t, 10<<20+1, info.Size)
		d, err := Load(bg, s, info.Hash)
		require.NoError(t, err)
		e, content, err := d.Find("large")
		require.NoError(t, err)
		require.Equal(t, Executable, e.Kind)
		if !o.Whole && !o.Reference {
			require.Equal(t, 1, info.Chunked)
			require.Greater(t, len(content.Hashes), 16)
			require.Len(t, d.ExpectedSizes(), len(d.Sequence))
		} else {
			require.Zero(t, info.Chunked)
			require.Equal(t, []blobs.Hash{blobs.HashOf(large)}, content.Hashes)
		}
		out := filepath.Join(t.TempDir(), "out")
		require.NoError(t, d.Export(bg, s, out, nil))
		require.Equal(t, snapshot(t, dir), snapshot(t, out))
		_, _, err = d.Find("nothing")
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(Manifest{{Path: "c", Kind: File, Size: 3, Chunks: []uint64{1, 2}}}.Bytes())
	f.Add(Manifest{{Path: "a/b", Kind: File, Size: 3}, {Path: "l", Kind: Link, Target: "a"}}.Bytes())
	f.Add([]byte(magic + "\xff\xff\xff\x7f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		again, err := ParseManifest(m.Bytes())
		require.NoError(t, err)
		require.Equal(t, m, again)
		said, err := EntriesOf(b[:min(len(b), 32)]) // before anything is parsed
		require.NoError(t, err)
		require.EqualValues(t, len(m), said)
		for _, e := range m {
			require.True(t, filepath.IsLocal(e.Path))
			require.False(t, bytes.ContainsRune([]byte(e.Path), 0))
		}
	})
}

// A directory whose only contents are left out is kept, empty.
func TestDirectoryOfWhatIsLeftOutIsKept(t *testing.T) {
	s, in := blobstest.New(t), t.TempDir()
	plant(t, in, map[string]string{"a/b/link": "-> /etc/passwd", "c": "x"})
	require.NoError(t, os.Mkdir(filepath.Join(in, "d"), 0o755))
	pipe(t, filepath.Join(in, "d", "pipe"))
	info, err := Import(bg, s, in, ImportOptions{SkipUnsafeLinks: true})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"a/b/link", "d/pipe"}, info.Skipped)
	d, err := Load(bg, s, info.Hash)
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "out")
	require.NoError(t, d.Export(bg, s, out, nil))
	got := snapshot(t, out)
	require.Contains(t, got, "a/b/")
	require.Contains(t, got, "d/")
	require.NotContains(t, got, "a/b/link")
}

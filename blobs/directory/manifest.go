// Package directory keeps a tree of files as a sequence of blobs: the first child is a manifest of
// names, the others are the contents of the files, in the manifest's order.
//
// What belongs here: the manifest's format and rules, and the way from a directory on disk to blobs
// and back. What never belongs here: following a directory as it changes (that is folder), peers,
// and single files, which are plain blobs.
//
// Kept are relative paths, contents, whether a file may be executed, empty directories and symbolic
// links. Owners, times and other permissions are not: they mean little on another machine.
package directory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
)

// Kind says what stands under a path.
type Kind byte

// The kinds of a manifest, by their bytes in it.
const (
	File       Kind = 1
	Executable Kind = 2 // a file that may be executed
	Empty      Kind = 3 // a directory with nothing in it; others are implied by what they hold
	Link       Kind = 4 // a symbolic link
)

// Entry is one path of a directory.
type Entry struct {
	Path   string // slash-separated, relative
	Kind   Kind
	Size   uint64 // of a file, in bytes
	Target string // of a link, relative to the directory that holds the link
	// Chunks are the lengths of the chunks in which a large file is kept (package chunked), as many
	// children of the sequence; nil for a file that is one blob.
	Chunks []uint64
}

// children returns how many children of the sequence hold the content of the entry.
func (e Entry) children() int {
	switch {
	case !e.IsFile():
		return 0
	case e.Chunks != nil:
		return len(e.Chunks)
	}
	return 1
}

// IsFile reports whether the entry has content.
func (e Entry) IsFile() bool { return e.Kind == File || e.Kind == Executable }

// Manifest lists a directory, in ascending order of the paths' bytes.
type Manifest []Entry

// Limits of a manifest. Checking one takes a time in proportion to its bytes, and creating what it
// lists takes no more than MaxEntries steps.
const (
	MaxEntries      = 1 << 22   // entries, together with the directories that they imply
	MaxPath         = 4096      // bytes of a path or a link's target
	MaxDepth        = 128       // names in a path
	MaxManifestSize = 256 << 20 // bytes
)

const tooDeep = "more than 128 names deep"

// magic begins every manifest. The format, version 1:
//
//	magic    19 bytes  "skerry directory 1\n"
//	count    varint    entries; with the directories that they imply at most 4,194,304
//	entries            each: kind u8; path as varint length (1..4096) and bytes, at most 128 names; for a file its size as a varint, for a link
//	                   its target as varint length (1..4096) and bytes; for a file in chunks their number and the length of each as varints
//
// In it, a file in chunks is of kind 5, or of kind 6 if it may be executed.
const magic = "skerry directory 1\n"

const (
	chunkedFile       Kind = 5
	chunkedExecutable Kind = 6
)

// ErrNotDirectory reports bytes that do not begin like a manifest.
var ErrNotDirectory = errors.New("not a directory manifest")

// NameError reports a path or link that must not be created, since it could lead out of the target
// directory or cannot exist.
type NameError struct{ Path, Reason string }

func (e *NameError) Error() string {
	return fmt.Sprintf("refused name %s: %s", quoted(e.Path), e.Reason)
}

// quotedBytes is how much of a name of somebody else's an error shows: its beginning and its end.
const quotedBytes = 160

// quoted quotes a name for an error. Of a long one it shows the beginning, the end and the length:
// a path may have 4 KiB, and quoted four times as many.
func quoted(name string) string {
	if len(name) <= quotedBytes {
		return strconv.Quote(name)
	}
	head, tail := name[:quotedBytes/2], name[len(name)-quotedBytes/4:]
	head, tail = strings.ToValidUTF8(head, ""), strings.ToValidUTF8(tail, "") // a letter may be cut
	return fmt.Sprintf("%q…%q (%d bytes)", head, tail, len(name))
}

// IsManifest reports whether b begins like a manifest; the first 19 bytes are enough.
func IsManifest(b []byte) bool { return bytes.HasPrefix(b, []byte(magic)) }

// EntriesOf returns how many entries a manifest says it has, from its first 32 bytes. No manifest
// with more or fewer can be parsed.
func EntriesOf(first []byte) (uint64, error) {
	if !IsManifest(first) {
		return 0, ErrNotDirectory
	}
	count, n := binary.Uvarint(first[len(magic):])
	if n <= 0 || count > MaxEntries {
		return 0, errors.New("directory manifest: its number of entries is cut short or too large")
	}
	return count, nil
}

// Bytes encodes m, which must be valid.
func (m Manifest) Bytes() []byte {
	b := binary.AppendUvarint([]byte(magic), uint64(len(m)))
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	for _, e := range m {
		kind := e.Kind
		if e.Chunks != nil {
			kind += chunkedFile - File
		}
		b = append(b, byte(kind))
		text(e.Path)
		switch {
		case e.Chunks != nil:
			b = chunked.AppendSizes(b, e.Chunks)
		case e.IsFile():
			b = binary.AppendUvarint(b, e.Size)
		case e.Kind == Link:
			text(e.Target)
		}
	}
	return b
}

// ParseManifest decodes and checks b. It returns ErrNotDirectory or a *NameError where they apply.
func ParseManifest(b []byte) (Manifest, error) {
	if !IsManifest(b) {
		return nil, ErrNotDirectory
	}
	r := bytes.NewReader(b[len(magic):])
	cut := func(err error) error { return fmt.Errorf("directory manifest: cut short: %w", err) }
	text := func() (string, error) {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return "", cut(err)
		}
		if n == 0 || n > MaxPath || n > uint64(r.Len()) {
			return "", fmt.Errorf("directory manifest: a name of %d bytes", n)
		}
		s := make([]byte, n)
		_, err = r.Read(s)
		return string(s), err
	}
	count, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, cut(err)
	}
	if count > MaxEntries || count > uint64(r.Len()) { // an entry takes more than a byte
		return nil, fmt.Errorf("directory manifest: %d entries", count)
	}
	m := make(Manifest, 0, min(count, 1<<16))
	children := 1 // of the sequence; the first is the manifest
	for range count {
		kind, err := r.ReadByte()
		if err != nil {
			return nil, cut(err)
		}
		e := Entry{Kind: Kind(kind)}
		if e.Path, err = text(); err != nil {
			return nil, err
		}
		switch e.Kind {
		case chunkedFile, chunkedExecutable:
			e.Kind -= chunkedFile - File
			if e.Chunks, err = chunked.ReadSizes(r); err != nil {
				return nil, fmt.Errorf("directory manifest: %s: %w", quoted(e.Path), err)
			}
			for _, n := range e.Chunks {
				e.Size += n
			}
		case File, Executable:
			if e.Size, err = binary.ReadUvarint(r); err != nil {
				return nil, cut(err)
			}
		case Link:
			if e.Target, err = text(); err != nil {
				return nil, err
			}
		case Empty:
		default:
			return nil, fmt.Errorf(
				"directory manifest: %s is of unknown kind %d: use a newer skerry", quoted(e.Path),
				kind,
			)
		}
		if children += e.children(); children > blobs.MaxChildren {
			return nil, fmt.Errorf("directory manifest: more than %d files and chunks", blobs.MaxChildren-1)
		}
		m = append(m, e)
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("directory manifest: %d bytes too many", r.Len())
	}
	return m, m.Check()
}

// Files returns the entries that have content, in the order of their children in the sequence; the
// first file begins with child 1.
func (m Manifest) Files() []Entry {
	return slices.DeleteFunc(slices.Clone(m), func(e Entry) bool { return !e.IsFile() })
}

// Check returns a *NameError unless creating the entries in an empty directory touches nothing
// outside it and takes at most MaxEntries steps.
func (m Manifest) Check() error {
	_, err := m.check()
	return err
}

// check is Check. It also returns how many steps it took: bytes compared, and paths taken off a
// list.
//
// Since the paths are in ascending order, all that begin with one path follow on it. above holds
// the entries whose paths the present one begins with, each of which begins with the one before it.
// Only the last of them needs a check: it was itself checked against the others, and the present
// path goes on like it. A path begins with one of above exactly if it has that much in common with
// the path before, so each path is compared once, and taken off the list once.
func (m Manifest) check() (steps int, err error) {
	var above []string
	total := 0
	for i, e := range m {
		before := ""
		if i > 0 {
			before = m[i-1].Path
		}
		if err := CheckPath(e.Path); err != nil {
			return steps, err
		}
		same, names := common(before, e.Path)
		steps += min(len(before), len(e.Path))
		if i > 0 && before >= e.Path {
			return steps, &NameError{e.Path, "paths are out of order or twice there"}
		}
		if e.Kind == Link {
			if err := checkLink(e); err != nil {
				return steps, err
			}
		}
		if total += names; total > MaxEntries {
			return steps, fmt.Errorf("directory manifest: more than %d paths and directories", MaxEntries)
		}
		for len(above) > 0 && len(above[len(above)-1]) > same {
			above = above[:len(above)-1]
			steps++
		}
		if n := len(above); n > 0 {
			dir := above[n-1]
			if e.Path[len(dir)] == '/' { // else writing below it could follow a link out of the directory
				return steps, &NameError{
					e.Path, fmt.Sprintf("%s is not a directory that may hold it", quoted(dir)),
				}
			}
		}
		above = append(above, e.Path)
	}
	return steps, nil
}

// common returns how many bytes two paths have in common from the start, and how many names next
// has that are not in a directory which before is in, too: those that are created for it.
func common(before, next string) (same, names int) {
	for same < len(before) && same < len(next) && before[same] == next[same] {
		same++
	}
	return same, 1 + strings.Count(next[same:], "/")
}

// CheckPath returns a *NameError unless p may be created inside a directory.
func CheckPath(p string) error {
	if len(p) > MaxPath {
		return &NameError{p[:64] + "…", fmt.Sprintf("longer than %d bytes", MaxPath)}
	}
	if strings.ContainsRune(p, 0) {
		return &NameError{p, "contains a zero byte"}
	}
	if strings.Count(p, "/") >= MaxDepth {
		return &NameError{p, tooDeep}
	}
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." || name == ".." {
			return &NameError{p, "must be a relative path without empty parts, . or .."}
		}
	}
	return nil
}

// checkLink allows targets of the form ../../a/b with no more ".." than the link lies deep. Names
// may pass through other links, which are held to the same rule; a ".." behind a name is refused,
// because it would climb from wherever that name leads.
func checkLink(e Entry) error {
	if strings.ContainsRune(e.Target, 0) || len(e.Target) > MaxPath || e.Target == "" {
		return &NameError{e.Path, "link target is empty, too long or contains a zero byte"}
	}
	if strings.HasPrefix(e.Target, "/") || strings.Contains(e.Target, "\\") {
		return &NameError{e.Path, fmt.Sprintf("link to %s leads out of the directory", quoted(e.Target))}
	}
	depth, descended := strings.Count(e.Path, "/"), false
	for name := range strings.SplitSeq(e.Target, "/") {
		switch name {
		case "", ".":
		case "..":
			if depth--; depth < 0 || descended {
				return &NameError{
					e.Path,
					fmt.Sprintf("link to %s may lead out of the directory", quoted(e.Target)),
				}
			}
		default:
			descended = true
		}
	}
	return nil
}

package directory

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/blobs/chunked"
)

// MaxLinks is how many symbolic links are followed on the way to one path, as on Linux.
const MaxLinks = 40

// find returns the place of the first entry whose path is not less than p, and whether it is p.
func (m Manifest) find(p string) (int, bool) {
	return slices.BinarySearchFunc(m, p, func(e Entry, p string) int {
		return strings.Compare(e.Path, p)
	})
}

// below returns the entries that lie in dir or deeper, all of them for "". In order, these follow
// on each other: their paths begin alike.
func (m Manifest) below(dir string) Manifest {
	if dir == "" {
		return m
	}
	from, _ := m.find(dir + "/")
	to, _ := m.find(dir + "0") // "0" follows on "/"
	return m[from:to]
}

// Find returns the entry at a slash-separated path, and the blobs that hold its content if it is a
// file. Links are not followed. It returns an error that wraps fs.ErrNotExist if there is none; a
// directory that is not empty has none.
func (d *Directory) Find(name string) (Entry, chunked.Chunks, error) {
	i, ok := d.Manifest.find(name)
	if !ok {
		return Entry{}, chunked.Chunks{}, fmt.Errorf(
			"%s: %w in the directory", quoted(name), fs.ErrNotExist,
		)
	}
	e := d.Manifest[i]
	if !e.IsFile() {
		return e, chunked.Chunks{}, nil
	}
	child := 1
	for _, before := range d.Manifest[:i] {
		child += before.children()
	}
	return e, d.content(e, child), nil
}

// Resolve follows the symbolic links in all parts of a path, the last included, and returns a path
// that is without. What is there is a file, or a directory if IsDir says so. It returns errors that
// wrap fs.ErrNotExist if a part is not there, or leads out of the directory, and if there are more
// links than MaxLinks, such as in a loop.
func (d *Directory) Resolve(name string) (string, error) {
	at, links := "", 0
	todo := strings.Split(name, "/")
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "" {
				return "", fmt.Errorf(
					"%w: a link in %s leads out of the directory", fs.ErrNotExist, quoted(name),
				)
			}
			at = at[:max(strings.LastIndexByte(at, '/'), 0)]
			continue
		}
		next := part
		if at != "" {
			next = at + "/" + part
		}
		i, ok := d.Manifest.find(next)
		switch {
		case ok && d.Manifest[i].Kind == Link:
			if links++; links > MaxLinks {
				return "", fmt.Errorf(
					"%w: %s goes through more than %d links", fs.ErrNotExist, quoted(name),
					MaxLinks,
				)
			}
			todo = append(strings.Split(d.Manifest[i].Target, "/"), todo...)
		case !ok && !d.IsDir(next) && links > 0:
			return "", fmt.Errorf("%w: a link in %s leads to %s, which is not in the directory",
				fs.ErrNotExist, quoted(name), quoted(next))
		case !ok && !d.IsDir(next):
			return "", fmt.Errorf("%s: %w in the directory", quoted(name), fs.ErrNotExist)
		default:
			at = next
		}
	}
	return at, nil
}

// IsDir reports whether a path is that of a directory, an empty one too; "" always is.
func (d *Directory) IsDir(name string) bool {
	if i, ok := d.Manifest.find(name); ok {
		return d.Manifest[i].Kind == Empty
	}
	return name == "" || len(d.Manifest.below(name)) > 0
}

// Child is what lies in a directory, by its name in it.
type Child struct {
	Name   string
	Kind   Kind   // Empty for every directory
	Size   uint64 // in bytes; of a directory, of all files in it and deeper
	Target string // of a link
}

// Below returns how many entries lie in the directory at a path, and deeper: List has at most as
// many lines.
func (d *Directory) Below(name string) int { return len(d.Manifest.below(name)) }

// List returns what lies in the directory at a path without links, in the order of names: those of
// directories with a slash behind them. It takes a time in proportion to all that lies there and
// deeper.
func (d *Directory) List(name string) (list []Child) {
	skip := len(name)
	if name != "" {
		skip++
	}
	for _, e := range d.Manifest.below(name) {
		first, _, deeper := strings.Cut(e.Path[skip:], "/")
		if !deeper {
			kind := e.Kind
			if kind == Executable {
				kind = File
			}
			list = append(list, Child{first, kind, e.Size, e.Target})
			continue
		}
		// All that lies in one directory follows on each other.
		if n := len(list); n > 0 && list[n-1].Kind == Empty && list[n-1].Name == first {
			list[n-1].Size += e.Size
			continue
		}
		list = append(list, Child{Name: first, Kind: Empty, Size: e.Size})
	}
	return list
}

package directory

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
)

// maxName is what the file systems that there are take as a name, in bytes.
const maxName = 255

// CheckFile returns an error unless p can be the path of a file on disk: what CheckPath returns, or
// that a name in it is too long.
func CheckFile(p string) error {
	if err := CheckPath(p); err != nil {
		return err
	}
	for name := range strings.SplitSeq(p, "/") {
		if len(name) > maxName {
			return fmt.Errorf("a name in it has %d bytes, and a file's has at most %d", len(name),
				maxName)
		}
	}
	return nil
}

// Named is a file that is to be in a directory.
type Named struct {
	Path    string
	Content chunked.Chunks
	Whole   bool // the content is one blob, and not in chunks
}

// Gather makes a directory of files, to be written with ExportFrom: it has a manifest, but not as a
// blob. Files whose path is that of a directory which others need are hidden: they are left out.
// The paths of all must differ, and be such that CheckFile takes them; else it returns an error.
func Gather(files []Named) (d *Directory, hidden []string, err error) {
	below := map[string]bool{} // directories that files need
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "." && !below[dir]; dir = path.Dir(dir) {
			below[dir] = true
		}
	}
	files = slices.Clone(files)
	slices.SortStableFunc(files, func(x, y Named) int { return strings.Compare(x.Path, y.Path) })
	d = &Directory{Sequence: blobs.Sequence{{}}}
	for _, f := range files {
		if below[f.Path] {
			hidden = append(hidden, f.Path)
			continue
		}
		e := Entry{Path: f.Path, Kind: File, Size: f.Content.Size()}
		if !f.Whole {
			e.Chunks = f.Content.Sizes
		}
		d.Manifest = append(d.Manifest, e)
		d.Sequence = append(d.Sequence, f.Content.Hashes...)
	}
	return d, hidden, d.Manifest.Check()
}

package gateway

import (
	"slices"
	"sync"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
)

// Directories that are kept parsed: at most so many, and so many entries of them together (some
// 100 bytes each). A larger one is parsed for each request.
const (
	keptDirectories = 16
	keptEntries     = 1 << 18
)

// recent keeps the directories that were asked for last, the newest first. Whoever walks through
// one asks for many of its addresses.
type recent struct {
	mu   sync.Mutex
	dirs []keptDirectory
}

type keptDirectory struct {
	hash blobs.Hash
	dir  *directory.Directory
}

// cost counts the children of the sequence as well: a manifest need not name them one by one.
func (k *keptDirectory) cost() int { return len(k.dir.Manifest) + len(k.dir.Sequence) }

func (c *recent) get(h blobs.Hash) *directory.Directory {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.dirs, func(k keptDirectory) bool { return k.hash == h })
	if i < 0 {
		return nil
	}
	k := c.dirs[i]
	c.dirs = slices.Insert(slices.Delete(c.dirs, i, i+1), 0, k)
	return k.dir
}

func (c *recent) put(h blobs.Hash, dir *directory.Directory) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirs = slices.DeleteFunc(c.dirs, func(k keptDirectory) bool { return k.hash == h })
	c.dirs = slices.Insert(c.dirs, 0, keptDirectory{h, dir})
	total := 0
	for i := range c.dirs {
		if total += c.dirs[i].cost(); total > keptEntries || i == keptDirectories {
			clear(c.dirs[i:])
			c.dirs = c.dirs[:i]
			return
		}
	}
}

package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
)

// Form says what a hash is known to name.
type Form int

// The forms.
const (
	Unknown  Form = iota // a bare hash: look and see
	Raw                  // a blob
	Sequence             // a sequence, of a directory or of anything
)

// Content is what a hash names, once it is all in the store.
type Content struct {
	Hash      blobs.Hash
	Size      uint64               // of the blob, or of all children
	Directory *directory.Directory // nil unless it is one
	Fetched   Fetched
}

// GetProgress tells how far Get has come.
type GetProgress struct {
	Fetched uint64 // bytes verified in this run
	Total   uint64 // bytes to fetch in this run, as far as is known; 0 while nothing is
}

// Get brings everything that h names into the store, from providers and, for what they lack, from connected peers. It goes on
// where an earlier Get stopped. Errors are those of Fetch, and of directory.Load.
func (n *Node) Get(ctx context.Context, h blobs.Hash, form Form, providers []peer.AddrInfo, progress func(GetProgress)) (Content, error) {
	g := getter{n: n, out: Content{Hash: h}, providers: n.withConnected(providers), progress: progress}
	err := g.run(ctx, form)
	if err == nil {
		err = n.Blobs.Sync(ctx)
	}
	return g.out, err
}

// withConnected adds the connected peers behind the given ones.
func (n *Node) withConnected(providers []peer.AddrInfo) []peer.AddrInfo {
	seen := map[peer.ID]bool{}
	out := append([]peer.AddrInfo(nil), providers...)
	for _, p := range providers {
		seen[p.ID] = true
	}
	for _, p := range n.Peers() {
		if !seen[p.ID] {
			out = append(out, peer.AddrInfo{ID: p.ID})
		}
	}
	return out
}

type getter struct {
	n         *Node
	providers []peer.AddrInfo
	progress  func(GetProgress)
	told      GetProgress
	out       Content
}

func (g *getter) fetch(ctx context.Context, wants ...Want) error {
	got, err := g.n.Fetch(ctx, wants, g.providers, func(k int) {
		g.told.Fetched += uint64(k)
		if g.progress != nil {
			g.progress(g.told)
		}
	})
	g.out.Fetched.Bytes += got.Bytes
	for _, p := range got.Providers {
		g.useFirst(p)
	}
	return err
}

// useFirst notes that p gives content, and asks it first from now on.
func (g *getter) useFirst(p peer.ID) {
	for i, q := range g.providers {
		if q.ID == p {
			copy(g.providers[1:i+1], g.providers[:i])
			g.providers[0] = q
		}
	}
	for _, known := range g.out.Fetched.Providers {
		if known == p {
			return
		}
	}
	g.out.Fetched.Providers = append(g.out.Fetched.Providers, p)
}

func (g *getter) run(ctx context.Context, form Form) error {
	if err := g.fetch(ctx, Want{Hash: g.out.Hash}); err != nil {
		return err
	}
	info, err := g.n.Blobs.Stat(ctx, g.out.Hash)
	if err != nil {
		return err
	}
	g.out.Size = info.Size
	if form == Raw || form == Unknown && (info.Size == 0 || info.Size%blobs.HashSize != 0 || info.Size > blobs.MaxChildren*blobs.HashSize) {
		return nil
	}
	b, err := g.n.Blobs.ReadAll(ctx, g.out.Hash, blobs.MaxChildren*blobs.HashSize)
	if err != nil {
		return err
	}
	seq, err := blobs.ParseSequence(b)
	if err != nil || len(seq) == 0 {
		return err
	}
	// The first child tells a directory from another sequence. If nobody has it, a bare hash names a blob that only looks like a sequence.
	if err := g.fetch(ctx, Want{Hash: seq[0]}); err != nil {
		var missing *MissingError
		if form == Unknown && (errors.As(err, &missing) && len(missing.Causes) == 0 || errors.Is(err, ErrOffline)) {
			return nil
		}
		return fmt.Errorf("sequence %s: %w", g.out.Hash.Short(), err)
	}
	var wants []Want
	switch dir, err := directory.Load(ctx, g.n.Blobs, g.out.Hash); {
	case err == nil:
		g.out.Directory, g.out.Size = dir, dir.Size()
		for i, size := range dir.ExpectedSizes() {
			wants = append(wants, Want{dir.Sequence[i], size})
		}
	case errors.Is(err, directory.ErrNotDirectory), errors.Is(err, blobs.ErrTooLarge):
		if form == Unknown {
			return nil
		}
		for _, h := range seq {
			wants = append(wants, Want{Hash: h})
		}
	default:
		return err
	}
	if g.told.Total, err = g.toFetch(ctx, wants); err != nil {
		return err
	}
	g.told.Total += g.told.Fetched
	if err := g.fetch(ctx, wants...); err != nil {
		return fmt.Errorf("sequence %s: %w", g.out.Hash.Short(), err)
	}
	return nil
}

// toFetch adds up what is missing.
func (g *getter) toFetch(ctx context.Context, wants []Want) (total uint64, err error) {
	missing, err := g.n.missing(ctx, wants)
	if err != nil {
		return 0, err
	}
	for _, w := range missing {
		total += w.Size
		if info, err := g.n.Blobs.Stat(ctx, w.Hash); err == nil {
			total -= min(total, info.Present)
		} else if !errors.Is(err, blobs.ErrNotFound) {
			return 0, err
		}
	}
	return total, nil
}

// Export writes the content to name, which must not exist: a file, or a directory with everything in it.
func (n *Node) Export(ctx context.Context, c *Content, name string, progress func(directory.Progress)) error {
	if c.Directory != nil {
		return c.Directory.Export(ctx, n.Blobs, name, progress)
	}
	return n.Blobs.Export(ctx, c.Hash, name, func(written uint64) {
		if progress != nil {
			progress(directory.Progress{TotalFiles: 1, Bytes: written, TotalBytes: c.Size})
		}
	})
}

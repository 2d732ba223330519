package content

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
)

// Form says what a hash is known to name.
type Form int

// The forms.
const (
	Unknown  Form = iota // a bare hash: look and see
	Raw                  // a blob
	Sequence             // a sequence, of a directory, of a file in chunks, or of anything
)

// Content is what a hash names, once it is all in the store.
type Content struct {
	Hash      blobs.Hash
	Size      uint64               // of the blob, or of all children
	Directory *directory.Directory // nil unless it is one
	Chunks    *chunked.Index       // nil unless it is a file in chunks
	Children  blobs.Sequence       // of any sequence
	Fetched   Fetched
}

// mayBeSequence reports whether a blob of a size can be a sequence that names something.
func mayBeSequence(size uint64) bool {
	return size > 0 && size%blobs.HashSize == 0 && size <= blobs.MaxChildren*blobs.HashSize
}

// IsSequence reports whether the content is more than the blob itself.
func (c *Content) IsSequence() bool { return len(c.Children) > 0 }

// GetProgress tells how far Get has come.
type GetProgress struct {
	Fetched uint64 // bytes verified in this run
	Total   uint64 // bytes to fetch in this run, as far as is known; 0 while nothing is
}

// Get brings everything that h names into the store, from the providers together and, for what they
// lack, from connected peers. It goes on where an earlier Get stopped. Errors are those of Fetch,
// and of directory.Load. into is the exchange's store: if that holds, what Get brings is not
// collected before its hold ends, and else not before Get has ended.
func (x *Exchange) Get(
	ctx context.Context, into *blobs.Store, h blobs.Hash, form Form, providers []peer.AddrInfo,
	progress func(GetProgress),
) (_ Content, err error) {
	into, release := into.Hold()
	defer release()
	g := getter{out: Content{Hash: h}, progress: progress}
	g.f = x.newFetcher(link.Named(ctx), into, providers, x.peers(), false, g.came)
	err = g.run(ctx, form)
	g.out.Fetched, err = g.f.end(err)
	if err == nil {
		err = into.Sync(ctx)
	}
	return g.out, err
}

type getter struct {
	f        *fetcher
	progress func(GetProgress)
	out      Content
	mended   bool // what was damaged here has been fetched again

	mu   sync.Mutex
	told GetProgress
}

func (g *getter) came(k int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told.Fetched += uint64(k)
	if g.told.Total > 0 {
		g.told.Total = max(g.told.Total, g.told.Fetched)
	}
	if g.progress != nil {
		g.progress(g.told)
	}
}

// expect adds bytes to what is to be fetched.
func (g *getter) expect(ctx context.Context, wants []Want) error {
	total, err := g.f.toFetch(ctx, wants)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told.Total = g.told.Fetched + total
	return nil
}

func (g *getter) run(ctx context.Context, form Form) error {
	info, err := g.root(ctx, form)
	if err != nil {
		return err
	}
	g.out.Size = info.Size
	if form == Raw || form == Unknown && !mayBeSequence(info.Size) {
		return nil
	}
	// What is damaged here would name children that nobody has.
	stored := g.f.store.Check(ctx, g.out.Hash, blobs.Everything)
	if err := g.f.mend(stored); err != nil {
		return err
	}
	b, err := g.f.store.ReadAll(ctx, g.out.Hash, blobs.MaxChildren*blobs.HashSize)
	if err != nil {
		return err
	}
	seq, err := blobs.ParseSequence(b)
	if err != nil || len(seq) == 0 {
		return err
	}
	// The first child tells a directory, or a file in chunks, from another sequence. If nobody has it,
	// a bare hash names a blob that only looks like a sequence.
	if err := g.f.fetch(Want{Hash: seq[0]}); err != nil {
		var missing *MissingError
		nowhere := errors.As(err, &missing) && len(missing.Causes) == 0
		if form == Unknown && (nowhere || errors.Is(err, link.ErrOffline)) {
			return nil
		}
		return fmt.Errorf("sequence %s: %w", g.out.Hash.Short(), err)
	}
	wants, err := g.children(ctx, seq, form)
	if _, damaged := errors.AsType[*blobs.DamageError](err); damaged && !g.mended {
		g.mended = true
		if err := g.f.mend(err); err != nil {
			return err
		}
		return g.run(ctx, form)
	}
	if err != nil || wants == nil {
		return err
	}
	g.out.Children = seq
	if err := g.expect(ctx, wants); err != nil {
		return err
	}
	if err := g.f.fetch(wants...); err != nil {
		return fmt.Errorf("sequence %s: %w", g.out.Hash.Short(), err)
	}
	return nil
}

// root fetches the blob itself.
func (g *getter) root(ctx context.Context, form Form) (blobs.Info, error) {
	var err error
	if form == Sequence {
		err = g.f.fetchSequence(g.out.Hash)
	} else {
		if err := g.expectRoot(ctx); err != nil {
			return blobs.Info{}, err
		}
		err = g.f.fetch(Want{Hash: g.out.Hash})
	}
	if err == nil {
		err = g.f.rc.Flush()
	}
	if err != nil {
		return blobs.Info{}, err
	}
	return g.f.store.Stat(ctx, g.out.Hash)
}

// expectRoot sets the total of a blob that is here in part; that of an unknown one becomes known
// with its size.
func (g *getter) expectRoot(ctx context.Context) error {
	info, err := g.f.store.Stat(ctx, g.out.Hash)
	if errors.Is(err, blobs.ErrNotFound) {
		g.f.sizeKnown = func(size uint64) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.told.Total = max(g.told.Total, size)
		}
		return nil
	}
	if err == nil && !info.Complete {
		g.mu.Lock()
		g.told.Total = info.Size - info.Present
		g.mu.Unlock()
	}
	return err
}

// children returns what is to be fetched for the children of seq, once its first child is here; nil
// if seq is no sequence after all.
func (g *getter) children(
	ctx context.Context, seq blobs.Sequence, form Form,
) (wants []Want, err error) {
	if err := g.f.rc.Flush(); err != nil {
		return nil, err
	}
	dir, err := directory.Load(ctx, g.f.store, g.out.Hash)
	if err == nil {
		g.out.Directory, g.out.Size = dir, dir.Size()
		for i, size := range dir.ExpectedSizes() {
			wants = append(wants, Want{Hash: dir.Sequence[i], Size: size})
		}
		return wants, nil
	}
	if !errors.Is(err, directory.ErrNotDirectory) && !errors.Is(err, blobs.ErrTooLarge) {
		return nil, err
	}
	chunks, err := chunked.Open(ctx, g.f.store, g.out.Hash)
	if err == nil {
		g.out.Chunks, g.out.Size = chunks, chunks.Size()
		err = chunks.Each(ctx, func(c chunked.Chunks) error {
			wants = append(wants, chunkWants(c)...)
			return nil
		})
		return wants, err
	}
	if !errors.Is(err, chunked.ErrNotChunked) {
		return nil, err
	}
	if form == Unknown {
		return nil, nil
	}
	for _, h := range seq {
		wants = append(wants, Want{Hash: h})
	}
	return wants, nil
}

// toFetch adds up what is missing.
func (f *fetcher) toFetch(ctx context.Context, wants []Want) (total uint64, err error) {
	hashes := make([]blobs.Hash, len(wants))
	for i, w := range wants {
		hashes[i] = w.Hash
	}
	err = f.store.Stats(ctx, hashes, func(
		i int, info blobs.Info, known bool, _ func() (blobs.Ranges, error),
	) error {
		switch {
		case !known:
			total += wants[i].Size
		case !info.Complete:
			total += info.Size - info.Present
		}
		return nil
	})
	return total, err
}

// Export writes the content, which is in a store, to name, which must not exist: a file, or a
// directory with everything in it. It returns an error of the kind NoSpace if there is
// no room for that.
func (c *Content) Export(
	ctx context.Context, from *blobs.Store, name string, progress func(directory.Progress),
) error {
	size := c.Size
	if c.Directory == nil && c.Chunks == nil {
		size = 0 // it is as large as what the store has of it
	}
	ctx, room, err := from.NewRoom(ctx, name, size)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return room.End(ctx, c.export(ctx, from, name, func(p directory.Progress) {
		room.Wrote(p.Bytes)
		if progress != nil {
			progress(p)
		}
	}))
}

func (c *Content) export(
	ctx context.Context, from *blobs.Store, name string, progress func(directory.Progress),
) error {
	report := func(written uint64) {
		progress(directory.Progress{TotalFiles: 1, Bytes: written, TotalBytes: c.Size})
	}
	switch {
	case c.Directory != nil:
		return c.Directory.Export(ctx, from, name, progress)
	case c.Chunks != nil:
		return blobs.WriteNew(name, func(f *os.File) error {
			return c.Chunks.CopyTo(ctx, f, report)
		})
	}
	return from.Export(ctx, c.Hash, name, report)
}

// FetchPart brings byte ranges of the blob h and, if children is not nil, those byte ranges of each
// of its children, into the store. A sequence that is not known here comes with its children in one
// request.
func (x *Exchange) FetchPart(
	ctx context.Context, h blobs.Hash, ranges, children blobs.Ranges, providers []peer.AddrInfo,
	progress func(GetProgress),
) (Fetched, error) {
	g := getter{progress: progress}
	g.f = x.newFetcher(link.Named(ctx), x.blobs, providers, x.peers(), false, g.came)
	got, err := g.f.end(g.part(ctx, h, ranges, children))
	if err == nil {
		err = x.blobs.Sync(ctx)
	}
	return got, err
}

func (g *getter) part(ctx context.Context, h blobs.Hash, ranges, children blobs.Ranges) error {
	if children == nil {
		return g.f.fetch(Want{Hash: h, Ranges: ranges})
	}
	all := &wire.Children{Count: blobs.MaxChildren, Ranges: children.Align()}
	if err := g.f.fetchPart([]Want{{Hash: h}}, all); err != nil {
		return err
	}
	if err := g.f.rc.Flush(); err != nil {
		return storeFault{err}
	}
	content, err := g.f.store.ReadAll(ctx, h, blobs.MaxChildren*blobs.HashSize)
	if err != nil {
		return err
	}
	seq, err := blobs.ParseSequence(content)
	if err != nil {
		return err
	}
	wants := make([]Want, len(seq))
	for i, child := range seq {
		wants[i] = Want{Hash: child, Ranges: children}
	}
	g.f.finishChildren()
	return g.f.fetch(wants...)
}

// finishChildren waits until the children that come with a sequence have come.
func (f *fetcher) finishChildren() {
	for {
		changed := f.sched.Changed()
		if !f.sched.ChildrenComing() {
			return
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return
		}
	}
}

package project

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"path/filepath"
	"strings"
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/internal/disk"
)

// ContentPrefix is where a project keeps the content of all versions of its assets, by their hashes
// in hex, so that they are synced and kept.
const ContentPrefix = "/content/"

func contentKey(h [32]byte) []byte { return fmt.Appendf(nil, "%s%x", ContentPrefix, h) }

// NewAsset is an asset to be added, or a new version of one.
type NewAsset struct {
	FileName string // of the content, by which what is "" below is chosen
	ID       string // letters, digits and hyphens
	Name     string
	Format   string    // a media type
	Author   string    // an identity id; "" is the project's owner
	Now      time.Time // zero is time.Now
	// Sign, unless it is nil, signs the asset.
	Sign func(ctx context.Context, a Asset) (SignedAsset, error)
	// Progress, unless it is nil, is told how many bytes of the content have been stored.
	Progress func(read uint64)
}

// asset is what is known of it without its content.
func (n *NewAsset) asset(p *Project) Asset {
	base := filepath.Base(n.FileName)
	a := Asset{ID: n.ID, Name: n.Name, Format: n.Format, Author: n.Author}
	if a.ID == "" {
		a.ID = assetID(base)
	}
	if a.Name == "" {
		a.Name = base
	}
	if a.Format == "" {
		if a.Format = mime.TypeByExtension(filepath.Ext(base)); a.Format == "" {
			a.Format = "application/octet-stream"
		}
	}
	if a.Author == "" {
		a.Author = p.Owner
	}
	a.Created = orNow(n.Now)
	a.Updated = a.Created
	return a
}

func orNow(t time.Time) time.Time {
	if t.IsZero() {
		t = time.Now()
	}
	return seconds(t)
}

// assetID makes an id of a file's name.
func assetID(name string) string {
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, name)
	return strings.Trim(id[:min(len(id), MaxID)], "-")
}

// AddAsset adds an asset with the content of a file, which is open at its beginning, or makes that
// the new version of the asset: the version before it is kept, and the new one is derived from it.
// Content, asset, reference and signature are written together or not at all. It returns
// ErrInvalid.
func (o *Opened) AddAsset(
	ctx context.Context, n NewAsset, file *disk.File,
) (f FoundAsset, err error) {
	a := n.asset(&o.Project)
	if a.Content, a.Size, err = hashFile(ctx, file); err != nil {
		return f, err
	}
	type message struct{ key, value []byte }
	var all []message
	old, err := o.Asset(ctx, a.ID)
	if err == nil {
		if old.Content != a.Content {
			r := newReference(a.ID, "", a.ID, old.Content, DerivedFrom, a.Updated)
			all = append(all, message{r.Key(), r.Marshal()})
		}
		a.Created = old.Created
		if a.Updated.Before(a.Created) {
			a.Updated = a.Created
		}
	} else if _, none := errors.AsType[*NoAssetError](err); !none {
		return f, err
	}
	if err := a.Check(); err != nil {
		return f, err
	}
	all = append(all, message{a.Key(), a.Marshal()})
	if n.Sign != nil {
		signed, err := n.Sign(ctx, a)
		if err != nil {
			return f, err
		}
		all = append(all, message{signed.Key(), signed.Marshal()})
	}
	err = o.r.Update(ctx, n.Progress, func(b Batch) error {
		if err := b.SetFrom(contentKey(a.Content), file); err != nil {
			return err
		}
		if err := unchanged(ctx, file, &a); err != nil {
			return err
		}
		for _, m := range all {
			if err := b.Set(m.key, m.value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	return o.found(ctx, a.Key()), nil
}

// unchanged reads a file again, whose content has been stored meanwhile: what was stored must be
// what the asset says.
func unchanged(ctx context.Context, file *disk.File, a *Asset) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h, size, err := hashFile(ctx, file)
	if err != nil || h != a.Content || size != a.Size {
		return errors.Join(
			fmt.Errorf("%s has changed while it was added: try again", file.Name()), err)
	}
	return nil
}

// hashFile returns the BLAKE3 hash and the size of a file, and goes back to its beginning.
func hashFile(ctx context.Context, f *disk.File) (h [32]byte, size uint64, err error) {
	sum := blake3.New(32, nil)
	r := f.Reader()
	for buf := make([]byte, 1<<20); ; {
		n, err := r.Read(buf)
		_, _ = sum.Write(buf[:n]) // never fails
		size += uint64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return h, 0, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	sum.Sum(h[:0])
	_, err = f.Seek(0, io.SeekStart)
	return h, size, err
}

// Version is one of an asset's.
type Version struct {
	Asset   string
	Project string // if it is another
	Content [32]byte
	At      time.Time // when it was derived from; of the present one, when it was updated
	Here    bool      // its content is here
}

// MaxHistory is about how many versions History returns at most.
const MaxHistory = 10_000

// History follows the chain of what an asset was derived from. The present version is the first.
// It returns a *NoAssetError.
func (o *Opened) History(ctx context.Context, id string) ([]Version, error) {
	a, err := o.Asset(ctx, id)
	if err != nil {
		return nil, err
	}
	refs, err := o.References(ctx)
	if err != nil {
		return nil, err
	}
	has := func(h [32]byte) bool {
		is, err := o.r.Has(ctx, contentKey(h))
		return err == nil && is // what cannot be told is not here
	}
	out := []Version{{Asset: a.ID, Content: a.Content, At: a.Updated, Here: has(a.Content)}}
	seen := map[string]bool{}
	for queue := []string{a.ID}; len(queue) > 0 && len(out) < MaxHistory; queue = queue[1:] {
		if seen[queue[0]] {
			continue
		}
		seen[queue[0]] = true
		for i := len(refs) - 1; i >= 0; i-- { // the latest first
			r := &refs[i]
			if r.Source != queue[0] || r.Type != DerivedFrom || r.Fault != nil {
				continue
			}
			out = append(out, Version{r.Target, r.Project, r.Content, r.Created,
				r.Project == "" && has(r.Content)})
			if r.Project == "" {
				queue = append(queue, r.Target)
			}
		}
	}
	return out, nil
}

package project

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
)

// Replica is what a project needs of the replica that it lives in. A node's handle is one.
type Replica interface {
	// ID returns the replica's id.
	ID() replica.ID
	// Get returns the latest value of a key. It may wait for content that is on its way. It returns
	// replica.ErrNotFound, and blobs.ErrTooLarge for content of more than most bytes.
	Get(ctx context.Context, key []byte, most uint64) ([]byte, error)
	// Has reports whether all content of the latest value of a key is here. It returns
	// replica.ErrNotFound.
	Has(ctx context.Context, key []byte) (bool, error)
	// Latest yields the latest entry of each key that q selects, in their order.
	Latest(ctx context.Context, q replica.Query) iter.Seq2[replica.Item, error]
	// Update writes all that fn sets, or nothing if fn fails. What was written is durable then.
	// progress, unless it is nil, is told how many bytes of a value have been read.
	Update(ctx context.Context, progress func(read uint64), fn func(Batch) error) error
}

// Batch takes what is to be set together.
type Batch interface {
	Set(key, value []byte) error
	// SetFrom sets a key to what content yields; it is read when SetFrom returns. A *disk.File is
	// read as a file, and may be larger than what is held in memory.
	SetFrom(key []byte, content io.Reader) error
}

// Finder looks for the replica of the project with an id. It returns nil if that is not here, or
// may not be read.
type Finder func(ctx context.Context, project string) (Replica, error)

// once returns a Finder for one goroutine that asks f about each project once.
func (f Finder) once() Finder {
	if f == nil {
		return nil
	}
	type found struct {
		r   Replica
		err error
	}
	known := map[string]found{}
	return func(ctx context.Context, project string) (Replica, error) {
		x, ok := known[project]
		if !ok {
			x.r, x.err = f(ctx, project)
			known[project] = x
		}
		return x.r, x.err
	}
}

// ErrNone reports a replica that is no project.
var ErrNone = kind.New(kind.NotFound, "not a project")

// A NoAssetError reports an asset that a project does not have.
type NoAssetError struct {
	Replica replica.ID
	Asset   string
}

func (e *NoAssetError) Error() string {
	return fmt.Sprintf("project %s has no asset %q", IDOf(e.Replica), e.Asset)
}

// Kind implements kind.Of.
func (e *NoAssetError) Kind() kind.Kind { return kind.NotFound }

// Opened is a project in its replica.
type Opened struct {
	Project
	r    Replica
	find Finder
}

// Create makes a project of a replica. It returns ErrInvalid.
func Create(ctx context.Context, r Replica, p Project) error {
	if err := p.Check(r.ID()); err != nil {
		return err
	}
	return r.Update(ctx, nil, func(b Batch) error { return b.Set(p.Key(), p.Marshal()) })
}

// Read reads the project that a replica is. It returns ErrNone; with ErrMalformed, ErrInvalid and
// what keeps it from being read, it returns what it has of the project.
func Read(ctx context.Context, r Replica) (p Project, err error) {
	b, err := r.Get(ctx, []byte(ProjectKey), MaxEncoded)
	if errors.Is(err, replica.ErrNotFound) {
		return p, ErrNone
	}
	if err != nil {
		return p, message(err)
	}
	if p, err = Parse(b); err == nil {
		err = p.Check(r.ID())
	}
	return p, err
}

// message is the error of reading a message: what is too long is none.
func message(err error) error {
	if errors.Is(err, blobs.ErrTooLarge) {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return err
}

// Open reads a project, as Read does. find, unless it is nil, is asked where other projects are.
func Open(ctx context.Context, r Replica, find Finder) (*Opened, error) {
	p, err := Read(ctx, r)
	if err != nil {
		return nil, err
	}
	return &Opened{p, r, find}, nil
}

// FoundAsset is an asset as it was found.
type FoundAsset struct {
	Asset
	// Signed is set if it has a signature, and Wrong says what is wrong with that.
	Signed bool
	Wrong  error
	// Fault is what is wrong with the asset, which may be there in part then.
	Fault error
}

// Assets returns the assets, in the order of their ids. What is wrong with one hides no other.
func (o *Opened) Assets(ctx context.Context) (all []FoundAsset, err error) {
	for it, err := range o.r.Latest(ctx, replica.Query{Prefix: []byte(AssetPrefix)}) {
		if err != nil {
			return all, err
		}
		all = append(all, o.found(ctx, it.Key))
	}
	return all, nil
}

// found reads the asset under a key, and its signature.
func (o *Opened) found(ctx context.Context, key []byte) (f FoundAsset) {
	b, err := o.r.Get(ctx, key, MaxEncoded)
	if err == nil {
		f.Asset, err = ParseAsset(b)
	}
	if err == nil {
		if err = f.Check(); err == nil {
			err = standsUnder(f.Key(), key)
		}
	}
	if err != nil {
		f.ID, f.Fault = strings.TrimPrefix(string(key), AssetPrefix), message(err)
		return f
	}
	f.Signed, f.Wrong = o.signature(ctx, &f.Asset)
	return f
}

// standsUnder returns ErrInvalid for a message that is not under its key.
func standsUnder(want, key []byte) error {
	if bytes.Equal(want, key) {
		return nil
	}
	return fmt.Errorf("%w: it stands under %s", ErrInvalid, key)
}

// signature reports whether an asset is signed, and what is wrong with the signature.
func (o *Opened) signature(ctx context.Context, a *Asset) (signed bool, wrong error) {
	b, err := o.r.Get(ctx, []byte(SignaturePrefix+a.ID), MaxEncoded)
	if errors.Is(err, replica.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return true, message(err)
	}
	s, err := ParseSignedAsset(b)
	if err == nil {
		err = s.Verify()
	}
	if err == nil && (s.Asset.Content != a.Content || s.Asset.Author != a.Author) {
		err = errors.New("it is for another version")
	}
	return true, err
}

// Asset returns an asset, or a *NoAssetError.
func (o *Opened) Asset(ctx context.Context, id string) (Asset, error) {
	return assetOf(ctx, o.r, id)
}

func assetOf(ctx context.Context, r Replica, id string) (a Asset, err error) {
	b, err := r.Get(ctx, []byte(AssetPrefix+id), MaxEncoded)
	if errors.Is(err, replica.ErrNotFound) {
		return a, &NoAssetError{r.ID(), id}
	}
	if err != nil {
		return a, message(err)
	}
	if a, err = ParseAsset(b); err == nil {
		err = a.Check()
	}
	return a, err
}

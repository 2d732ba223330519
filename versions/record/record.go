package record

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
)

// Kind says what a version does.
type Kind uint8

const (
	// Value gives the item a content.
	Value Kind = iota
	// Deletion takes it away.
	Deletion
	// Resolution gives it the content by which a person has ended a conflict.
	Resolution
	kinds
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case Value:
		return "value"
	case Deletion:
		return "deletion"
	case Resolution:
		return "resolution"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Limits.
const (
	// MaxRecord is the most bytes of a record.
	MaxRecord = 64 << 10
	// MaxAncestors is how many superseded versions a record names.
	MaxAncestors = 16
	// MaxDevices is how many devices a context may have.
	MaxDevices = 1024
	// MaxResolved is how many heads one version resolves.
	MaxResolved = 64
	// MaxParts is how many versions a batch may have.
	MaxParts = 1 << 16
	// MaxCounter is the greatest counter, and the greatest height.
	MaxCounter = 1<<62 - 1
	// MaxSize is the most bytes of all contents of a version.
	MaxSize = blobs.MaxSize - MaxRecord
)

// Hash is a hash of content, keyed by the replica: equal contents of two replicas have different
// ones.
type Hash [32]byte

// ShortHash is the first half of a Hash, by which old contents are known again.
type ShortHash [16]byte

// Short returns the first half.
func (h Hash) Short() ShortHash { return ShortHash(h[:16]) }

const hashContext = "github.com/skerry-sync/skerry versions 1 content"

// Hasher returns what hashes the contents of a replica: BLAKE3 with a key that is derived from the
// replica's id by BLAKE3's key derivation, with the context that docs/protocol/versions.md names.
func Hasher(id replica.ID) *blake3.Hasher { return HashesOf(id).Hasher() }

// HashOf returns the hash of a content.
func HashOf(id replica.ID, content []byte) (h Hash) { return HashesOf(id).Of(content) }

// Hashes computes content hashes in one replica. Its methods may be called at the same time.
type Hashes struct {
	key  [32]byte
	used sync.Pool // *blake3.Hasher, which are large
}

// HashesOf returns what computes content hashes in a replica, many of them.
func HashesOf(id replica.ID) *Hashes {
	x := &Hashes{}
	blake3.DeriveKey(x.key[:], hashContext, id[:])
	return x
}

// Hasher is Hasher in the replica.
func (x *Hashes) Hasher() *blake3.Hasher { return blake3.New(32, x.key[:]) }

// Of returns the hash of a content.
func (x *Hashes) Of(content []byte) (h Hash) {
	hasher, _ := x.used.Get().(*blake3.Hasher)
	if hasher == nil {
		hasher = x.Hasher()
	}
	_, _ = hasher.Write(content) // never fails
	hasher.Sum(h[:0])
	hasher.Reset()
	x.used.Put(hasher)
	return h
}

// Content is what an item holds. Its bytes follow the record.
type Content struct {
	Size uint64 // in bytes
	Hash Hash
}

// Ancestor is a version that has been superseded.
type Ancestor struct {
	Dot
	// Height is that of its record.
	Height uint64
	// Time is that of its entry, in µs since 1970.
	Time uint64
	// Hash is of its content; zero for a deletion.
	Hash ShortHash
	// Kept says that its content follows the version's own, and Size how many bytes it has.
	Kept bool
	Size uint64
}

// compareAncestors orders versions from the newest: one is higher than all that it supersedes.
func compareAncestors(a, b *Ancestor) int {
	return cmp.Or(cmp.Compare(b.Height, a.Height), a.Dot.Compare(b.Dot))
}

// Batch says of which batch a version is a part: one of the versions that a device has written with
// consecutive counters. What keys they have is in an entry of its own.
type Batch struct {
	First uint64 // counter of the first part
	Parts uint64
}

// FirstOf returns the first part of the batch that a version is a part of.
func (b *Batch) FirstOf(part Dot) Dot { return Dot{part.Device, b.First} }

// Record is one version of an item.
type Record struct {
	Kind Kind
	// Dot names the version. The author is not in the record.
	Dot Dot
	// Height is one more than that of the highest version that it supersedes; 1 for the first.
	Height uint64
	// Generation is how many automatic merges follow on each other up to this one; 0 for an edit.
	Generation uint8
	// Schema is the version of the form that the content has, as whoever writes it says.
	Schema uint64
	// Context is what the version supersedes: edits and deletions, all that came before.
	Context Vector
	// Resolved are the heads that it takes the place of, sorted.
	Resolved []Dot
	// Content is what the item holds; zero for a deletion.
	Content Content
	// Ancestors are the last versions that it supersedes, the newest first.
	Ancestors []Ancestor
	// Cut says that there were more ancestors.
	Cut bool
	// Batch is nil for a version that is written by itself.
	Batch *Batch
}

// Vector returns the version itself and all that it supersedes.
func (r *Record) Vector() Vector { return slices.Clone(r.Context).With(r.Dot) }

// AsAncestor returns what a version that supersedes this one says of it, with its content kept.
// time is that of its entry.
func (r *Record) AsAncestor(time uint64) Ancestor {
	a := Ancestor{Dot: r.Dot, Height: r.Height, Time: time}
	if r.Kind != Deletion {
		a.Hash, a.Kept, a.Size = r.Content.Hash.Short(), true, r.Content.Size
	}
	return a
}

// ErrMalformed reports bytes that are no record, or one that contradicts itself.
var ErrMalformed = errors.New("malformed version record")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// check returns what a record contradicts itself in.
func (r *Record) check() error {
	switch {
	case r.Kind >= kinds:
		return malformed("%s", r.Kind)
	case r.Dot.Counter == 0 || r.Dot.Counter > MaxCounter:
		return malformed("counter %d", r.Dot.Counter)
	case r.Height == 0 || r.Height > MaxCounter:
		return malformed("height %d", r.Height)
	case r.Context.Of(r.Dot.Device) >= r.Dot.Counter:
		return malformed("version %s supersedes itself", r.Dot)
	case len(r.Context) > MaxDevices:
		return malformed("a context of %d devices, at most %d", len(r.Context), MaxDevices)
	case len(r.Resolved) > MaxResolved:
		return malformed("%d resolved heads, at most %d", len(r.Resolved), MaxResolved)
	case len(r.Ancestors) > MaxAncestors:
		return malformed("%d ancestors, at most %d", len(r.Ancestors), MaxAncestors)
	case (r.Kind == Deletion) != (r.Content.Hash == Hash{}),
		r.Kind == Deletion && r.Content.Size > 0:
		return malformed("a %s with a content of %d bytes, hash %x", r.Kind, r.Content.Size,
			r.Content.Hash)
	}
	for i, d := range r.Context {
		switch {
		case d.Counter == 0 || d.Counter > MaxCounter:
			return malformed("counter %d in the context", d.Counter)
		case i > 0 && r.Context[i-1].Device.Compare(d.Device) >= 0:
			return malformed("the context is not in order")
		}
	}
	for i, d := range r.Resolved {
		switch {
		case !r.Context.Covers(d):
			return malformed("resolved head %s is not in the context", d)
		case i > 0 && r.Resolved[i-1].Compare(d) >= 0:
			return malformed("the resolved heads are not in order")
		}
	}
	for i := range r.Ancestors {
		a := &r.Ancestors[i]
		switch {
		case !r.Context.Covers(a.Dot):
			return malformed("ancestor %s is not in the context", a.Dot)
		case a.Height == 0 || a.Height >= r.Height:
			return malformed("ancestor %s has height %d, and the version %d", a.Dot, a.Height, r.Height)
		case i > 0 && compareAncestors(&r.Ancestors[i-1], a) >= 0:
			return malformed("the ancestors are not in order")
		case !a.Kept && a.Size > 0 || a.Kept && a.Hash == ShortHash{}:
			return malformed("ancestor %s has a content that it cannot have", a.Dot)
		}
	}
	left := uint64(MaxSize)
	for i := range len(r.Ancestors) + 1 {
		size := r.sizeOf(i - 1)
		if size > left {
			return malformed("contents of more than %d bytes", uint64(MaxSize))
		}
		left -= size
	}
	return r.checkBatch()
}

func (r *Record) checkBatch() error {
	b := r.Batch
	switch {
	case b == nil:
		return nil
	case b.Parts == 0 || b.Parts > MaxParts:
		return malformed("a batch of %d versions, at most %d", b.Parts, MaxParts)
	case b.First == 0 || b.First > r.Dot.Counter || r.Dot.Counter-b.First >= b.Parts:
		return malformed("version %s is no part of its batch", r.Dot)
	}
	return nil
}

// sizeOf returns how many bytes of an ancestor's content follow the record; -1 is for the version.
func (r *Record) sizeOf(ancestor int) uint64 {
	if ancestor < 0 {
		return r.Content.Size
	}
	return r.Ancestors[ancestor].Size
}

// Place returns where the content of an ancestor is in what follows the record; -1 is the version's
// own. That of an ancestor which is not kept has no bytes.
func (r *Record) Place(ancestor int) (offset, size uint64) {
	for i := -1; i < ancestor; i++ {
		offset += r.sizeOf(i)
	}
	return offset, r.sizeOf(ancestor)
}

// Following returns how many bytes follow the record.
func (r *Record) Following() uint64 {
	offset, size := r.Place(len(r.Ancestors) - 1)
	return offset + size
}

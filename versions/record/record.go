package record

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"lukechampine.com/blake3"

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
	MaxRecord = 128 << 10
	// MaxInline is the most bytes of one content that a record holds itself.
	MaxInline = 4 << 10
	// MaxAncestors is how many superseded versions a record names.
	MaxAncestors = 16
	// MaxDevices is how many devices a context may have.
	MaxDevices = 1024
	// MaxResolved is how many heads one version resolves.
	MaxResolved = 64
	// MaxParts is how many versions a batch may have.
	MaxParts = 1024
	// MaxCounter is the greatest counter, and the greatest height.
	MaxCounter = 1<<62 - 1
	// MaxChunks is how many chunks the contents of a record have together.
	MaxChunks = 1 << 20
)

// Hash is a hash of content, keyed by the replica: equal contents of two replicas have different
// ones.
type Hash [32]byte

// ShortHash is the first half of a Hash, by which old contents are known again.
type ShortHash [16]byte

// Short returns the first half.
func (h Hash) Short() ShortHash { return ShortHash(h[:16]) }

const hashContext = "github.com/skerry-sync/skerry versions 1 content"

// Hasher returns what hashes the contents of a replica: the BLAKE3 hash with the key that is derived
// from the replica's id, in BLAKE3's key derivation mode, with the context that
// docs/protocol/versions.md names.
func Hasher(id replica.ID) *blake3.Hasher {
	var key [32]byte
	blake3.DeriveKey(key[:], hashContext, id[:])
	return blake3.New(32, key[:])
}

// HashOf returns the hash of a content.
func HashOf(id replica.ID, content []byte) (h Hash) {
	x := Hasher(id)
	_, _ = x.Write(content) // never fails
	x.Sum(h[:0])
	return h
}

// Form says where a content is.
type Form uint8

const (
	// None is no content, that of a deletion.
	None Form = iota
	// Inline is in the record.
	Inline
	// Chunked is in the chunks that follow the record in the entry's sequence.
	Chunked
	forms
)

// Content says where the content of a version is, and what it is.
type Content struct {
	Form   Form
	Bytes  []byte // Inline
	Size   uint64 // Chunked, in bytes, in plain
	Chunks uint64 // Chunked
	Hash   Hash   // Chunked
}

// HashIn returns the hash of a content in a replica; the zero hash if there is none.
func (c *Content) HashIn(id replica.ID) Hash {
	switch c.Form {
	case Inline:
		return HashOf(id, c.Bytes)
	case Chunked:
		return c.Hash
	}
	return Hash{}
}

// Len returns how many bytes a content has.
func (c *Content) Len() uint64 {
	if c.Form == Inline {
		return uint64(len(c.Bytes))
	}
	return c.Size
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
	// Kept says where its content is, if the record keeps it.
	Kept Content
}

// compareAncestors orders versions from the newest: a version is higher than all that it supersedes.
func compareAncestors(a, b *Ancestor) int {
	return cmp.Or(cmp.Compare(b.Height, a.Height), a.Dot.Compare(b.Dot))
}

// Batch says of which batch a version is a part. Its parts have consecutive counters.
type Batch struct {
	First uint64   // counter of the first part
	Keys  [][]byte // of all parts in plain, in the order of their counters
}

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
	// Content is what the item holds.
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

// AsAncestor returns what a version that supersedes this one says of it, with its content where it
// is now. time is that of its entry.
func (r *Record) AsAncestor(id replica.ID, time uint64) Ancestor {
	a := Ancestor{Dot: r.Dot, Height: r.Height, Time: time, Kept: r.Content}
	if r.Kind != Deletion {
		a.Hash = r.Content.HashIn(id).Short()
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
	case (r.Kind == Deletion) != (r.Content.Form == None):
		return malformed("a %s with content of form %d", r.Kind, r.Content.Form)
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
		}
	}
	return errors.Join(r.checkContents(), r.checkBatch())
}

func (r *Record) checkContents() error {
	chunks := uint64(0)
	for _, c := range r.contents() {
		switch {
		case c.Form >= forms:
			return malformed("content of form %d", c.Form)
		case c.Form == Inline && len(c.Bytes) > MaxInline:
			return malformed("%d bytes of content, at most %d", len(c.Bytes), MaxInline)
		case c.Form == Chunked && (c.Chunks == 0 || c.Chunks > MaxChunks || c.Size < c.Chunks):
			return malformed("content of %d bytes in %d chunks", c.Size, c.Chunks)
		}
		if chunks += c.Chunks; chunks > MaxChunks {
			return malformed("%d chunks of content, at most %d", chunks, MaxChunks)
		}
	}
	return nil
}

func (r *Record) checkBatch() error {
	b := r.Batch
	switch {
	case b == nil:
		return nil
	case len(b.Keys) == 0 || len(b.Keys) > MaxParts:
		return malformed("a batch of %d versions, at most %d", len(b.Keys), MaxParts)
	case b.First == 0 || b.First > r.Dot.Counter || r.Dot.Counter-b.First >= uint64(len(b.Keys)):
		return malformed("version %s is no part of its batch", r.Dot)
	}
	return nil
}

// contents returns all contents of a record in the order in which their chunks follow on it.
func (r *Record) contents() []*Content {
	all := make([]*Content, 0, 1+len(r.Ancestors))
	all = append(all, &r.Content)
	for i := range r.Ancestors {
		all = append(all, &r.Ancestors[i].Kept)
	}
	return all
}

// ChunksOf returns which chunks of the entry's sequence, counted from the one behind the record,
// hold a content of the record: its own, or that of an ancestor, by its index; -1 for its own.
func (r *Record) ChunksOf(ancestor int) (from, to uint64) {
	for i, c := range r.contents() {
		to = from + c.Chunks
		if i == ancestor+1 {
			return from, to
		}
		from = to
	}
	return from, from
}

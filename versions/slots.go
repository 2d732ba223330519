package versions

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/record"
)

// Slots is the replica that versions are kept in, of each key one slot for each author; package
// onnode has those of a node. Its methods may be called at the same time.
type Slots interface {
	ID() replica.ID
	// Entries yields the entries of all authors that q selects, by keys in plain. There may be several
	// of one author and key, sealed with keys of several epochs: one after the other, the newest last.
	Entries(ctx context.Context, q replica.Query) iter.Seq2[replica.Item, error]
	// Entry returns the newest entry of a key by an author. It returns replica.ErrNotFound, also for a
	// tombstone.
	Entry(ctx context.Context, key []byte, by replica.AuthorID) (replica.Entry, error)
	// Unreadable returns an error, which is replica.ErrNoReadKey, if there may be entries that cannot
	// be read here, of whichever items.
	Unreadable(ctx context.Context) error
	// EntriesOf returns the entries of all authors under some keys, those of each key in its place.
	EntriesOf(ctx context.Context, keys [][]byte) ([][]replica.Item, error)
	// EntriesBy is Entry of some keys, each in its place; nil where there is none.
	EntriesBy(ctx context.Context, by replica.AuthorID, keys [][]byte) ([]*replica.Entry, error)
	// Tiny returns the contents of entries, each in its place, of those that are small and at hand
	// together; nil for others, of which Open says more. The caller may keep and change them.
	Tiny(ctx context.Context, all []*replica.Entry) ([][]byte, error)
	// Open opens the content of an entry, as long as ctx lives, and does not wait for it. It returns
	// plan.ErrMissing if that is not all here, and record.ErrMalformed if there can be none; so do
	// reads of it.
	Open(ctx context.Context, e *replica.Entry) (Content, error)
	// Put signs and stores values, all in one order, and returns when they are durable.
	Put(ctx context.Context, as replica.SecretKey, all []Value) ([]replica.Item, error)
	// Displaced yields the entries of a key, of all keys for nil, whose place has been taken by
	// entries of the same author that came from elsewhere, in the order in which that happened. Their
	// content is kept until Forget.
	Displaced(ctx context.Context, key []byte) iter.Seq2[replica.Item, error]
	// Void yields the entries by authors of this device that nobody lets write any more, which
	// therefore are in no slot. Their content is kept until Forget.
	Void(ctx context.Context) iter.Seq2[replica.Item, error]
	// Forget forgets what Displaced or Void has yielded.
	Forget(ctx context.Context, displaced ...replica.Item) error
}

// Content is what is stored for an entry.
type Content interface {
	io.ReaderAt
	Size() int64
}

// Value is what a key is set to.
type Value struct {
	Key    []byte
	Stream io.Reader
	// Check is given the entry whose place the value takes, nil for none. If it returns an error,
	// nothing is written, or not all. Nothing takes that place in between.
	Check func(old *replica.Entry) error
}

// Device is what a device keeps of itself for one replica.
type Device struct {
	Author      replica.AuthorID
	Incarnation record.Incarnation
	// Reserved is the greatest counter that the device may have used.
	Reserved uint64
	// Copied says that the device's author writes elsewhere, too: it needs a new one.
	Copied bool
	// Rescue is another author of the device, which publishes versions of others where the device has
	// one of its own; zero for nobody.
	Rescue replica.AuthorID
	// Held is a time, in µs since 1970: of this device's entries, those until then are known to be
	// elsewhere, with their content.
	Held uint64
	// Former is the author whose versions are still to be published as the device's own; zero for
	// nobody.
	Former replica.AuthorID
}

// State keeps a Device. What Save has stored is durable when it returns.
type State interface {
	// Load returns ErrNoDevice if there is none.
	Load(ctx context.Context) (Device, error)
	Save(ctx context.Context, d Device) error
}

// ErrNoDevice reports a replica in which the device has not written yet.
var ErrNoDevice = errors.New("no versions have been written here")

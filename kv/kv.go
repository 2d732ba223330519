// Package kv defines the ordered, transactional key-value store that everything durable in a node
// stands on.
//
// What belongs here: the interface, its guarantees and its errors. Each backend is a folder of its
// own (pebble, which nodes use, and badger), and every backend passes the one suite in kvtest. What
// never belongs here: knowledge of blobs, entries or any other record; each package above owns the
// keys under its own first byte (see docs/protocol/storage.md).
//
// Start at [Store].
package kv

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/skerry-sync/skerry/internal/kind"
)

// Limits that every backend accepts and every caller keeps to.
const (
	// MaxKeySize is the longest key in bytes. It is small enough for a B-tree index of a SQL database.
	MaxKeySize = 2048
	// MaxValueSize is the longest value in bytes.
	MaxValueSize = 1<<20 - 1<<10
)

var (
	// ErrNotFound reports that a key has no value.
	ErrNotFound = errors.New("key not found")
	// ErrConflict reports that an Update kept losing to other writers until its retries were used up.
	ErrConflict = errors.New("transaction conflict: too many concurrent writers of the same keys")
	// ErrTooBig reports an Update that changes more than a backend can commit at once (some 2 MiB of
	// small records).
	ErrTooBig = errors.New("transaction too big")
	// ErrClosed reports the use of a closed store.
	ErrClosed = errors.New("store is closed")
)

// NoSpaceError reports a write refused because the file system is nearly full. Nothing of it was
// written.
type NoSpaceError struct {
	Dir     string
	Free    uint64 // bytes left to this user
	Reserve uint64 // bytes that must stay free
}

func (e *NoSpaceError) Error() string {
	return fmt.Sprintf(
		"disk full: %s has %d MiB left and %d MiB must stay free; make room and try again", e.Dir,
		e.Free>>20, e.Reserve>>20,
	)
}

// Kind implements kind.Of.
func (e *NoSpaceError) Kind() kind.Kind { return kind.NoSpace }

// VersionError reports a store written by a newer program, or a directory that holds something
// else.
type VersionError struct {
	Dir       string
	Have, Max int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf(
		"store %s has format version %d, this program knows versions up to %d: use a newer skerry", e.Dir,
		e.Have, e.Max,
	)
}

// OldFormatError reports a store that was written before format 1, by a program that was never
// released.
type OldFormatError struct{ Dir string }

func (e *OldFormatError) Error() string {
	return fmt.Sprintf(
		"store %s was written by an older program, of before the first release: with that program, "+
			"export what is to be kept (replica export, blob export), and start with an empty directory",
		e.Dir,
	)
}

// CorruptError reports a file of the store that is damaged. What does not need the damaged part can
// still be read and written.
type CorruptError struct {
	File string // the damaged file, or the directory if it is not known which
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf(
		"the store is damaged: %s cannot be read; stop the node, and run skerry store repair", e.File,
	)
}

// Kind implements kind.Of.
func (e *CorruptError) Kind() kind.Kind { return kind.Verification }

func (e *CorruptError) Unwrap() error { return e.Err }

// LockedError reports a store directory that another process has open.
type LockedError struct{ Dir string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("store %s is in use by another process", e.Dir)
}

// CheckSizes is what every backend says of a key and a value that are to be written: an error if
// one is too long, or the key is empty or the store's own.
func CheckSizes(key, value []byte) error {
	if len(key) == 0 || len(key) > MaxKeySize {
		return fmt.Errorf("key of %d bytes: must be 1 to %d", len(key), MaxKeySize)
	}
	if key[0] == 0 {
		return errors.New("keys that begin with a zero byte belong to the store itself")
	}
	if len(value) > MaxValueSize {
		return fmt.Errorf("value of %d bytes: must be at most %d", len(value), MaxValueSize)
	}
	return nil
}

// Pair is a key and its value as yielded by Scan. Both slices are valid only until the next step of
// the scan.
type Pair struct{ Key, Value []byte }

// Range selects the keys From <= key < To. A nil From starts at the first key, a nil To ends after
// the last.
type Range struct{ From, To []byte }

// Prefix returns the range of all keys that begin with p.
func Prefix(p []byte) Range {
	return Range{From: p, To: After(p)}
}

// After returns the smallest key greater than every key that begins with p, or nil if there is
// none.
func After(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			end := make([]byte, i+1)
			copy(end, p)
			end[i]++
			return end
		}
	}
	return nil
}

// ScanOptions tune a scan; the zero value reads keys and values in ascending order.
type ScanOptions struct {
	Reverse  bool // from the last key down
	KeysOnly bool // leave Pair.Value nil; much cheaper for large values
}

// Reader reads from one consistent state of the store.
type Reader interface {
	// Get returns a copy of the value of key, or ErrNotFound.
	Get(key []byte) ([]byte, error)
	// Peek calls fn with the value of key without copying it, or returns ErrNotFound. The slice is
	// valid only during fn; fn must not block, since a backend may hold a lock on the file behind it.
	Peek(key []byte, fn func(value []byte) error) error
	// Has reports whether key has a value.
	Has(key []byte) (bool, error)
	// Scan yields the pairs of r in key order. After an error it yields no more. In an Update, one
	// scan must end before the next begins; in a View they may be nested.
	Scan(r Range, o ScanOptions) iter.Seq2[Pair, error]
}

// Writer collects changes. Key and value slices belong to the store until the surrounding call
// returns.
type Writer interface {
	Set(key, value []byte) error
	Delete(key []byte) error
}

// Txn reads and writes; it sees its own writes.
type Txn interface {
	Reader
	Writer
}

// Store is an ordered key-value store.
//
// What an Update or Batch wrote survives the death of the process as soon as the call has returned,
// and the loss of power as soon as a later Sync has returned.
type Store interface {
	// View runs fn on a snapshot: it sees every transaction that was committed before, and none after.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn and commits its changes atomically, as if no other transaction ran at the same
	// time. fn runs again when a key it read was changed meanwhile, so it must have no effect but on
	// its arguments and on variables that it sets afresh each time, and it must begin no other Update
	// or Batch. Keys that a scan did not meet are not watched: to guard against additions to a range,
	// read and write one key that stands for it. Returns fn's error unchanged, ErrConflict, ErrTooBig
	// or *NoSpaceError.
	Update(ctx context.Context, fn func(Txn) error) error
	// Batch runs fn and writes its changes in as many transactions as they need. It is not atomic:
	// after an error or a crash, any of the changes may be there. fn runs once.
	Batch(ctx context.Context, fn func(Writer) error) error
	// Sync returns when everything committed before the call is on stable storage. Concurrent calls
	// share the work.
	Sync(ctx context.Context) error
	// Compact gives the room of what was deleted or overwritten back to the file system, as far as the
	// backend can tell what that is. Other calls go on beside it.
	Compact(ctx context.Context) error
	// Close ends all background work and closes the store. It waits for calls under way, so it must
	// not be called within one; those that begin later get ErrClosed.
	Close() error
}

// Sized is a Store that can tell how many bytes its records take where it lies, with what is
// deleted and not given back yet. It may be out of date by a second, but counts what was written
// meanwhile.
type Sized interface{ Used() uint64 }

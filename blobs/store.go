package blobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
)

var (
	// ErrNotFound reports a blob that the store knows nothing of.
	ErrNotFound = kind.New(kind.NotFound, "blob not found")
	// ErrIncomplete reports a read of content that the store does not have (yet).
	ErrIncomplete = errors.New("blob is incomplete")
	// ErrAmbiguous reports a hash prefix that fits several blobs.
	ErrAmbiguous = kind.New(kind.Usage, "hash prefix is ambiguous")
)

// Store keeps blobs in a kv.Store and in files. Its methods may be called at the same time from
// many goroutines.
type Store struct {
	*shared
	hold *hold // what Collect leaves alone for whoever has this store; nil of what Open returns
}

// shared is what a store and those that hold on it are made of.
type shared struct {
	kv    kv.Store
	files *files.Store

	// writing is held for reading from a write to a file until the commit of the record that makes it
	// part of a blob, so that Sync and Collect can wait for those under way.
	writing sync.RWMutex
	epoch   uint64 // counts syncs; guarded by writing

	touches    touches
	collect    sync.Mutex // held by Collect: one at a time
	settleTime time.Duration

	read atomic.Uint64 // bytes of content that readers were given
}

// BytesRead returns how many bytes of content Readers have given since the store was opened.
func (s *Store) BytesRead() uint64 { return s.read.Load() }

// Open returns the store kept in s and fs, after clearing away what interrupted imports and
// deletions left. No other Store may be open on them.
func Open(ctx context.Context, s kv.Store, fs *files.Store) (*Store, error) {
	st := &Store{shared: &shared{kv: s, files: fs, settleTime: settleTime}}
	for _, step := range []func(context.Context) error{st.checkFormat, st.clearGarbage, st.recover} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("open blob store: %w", err)
		}
	}
	return st, nil
}

// checkFormat refuses a store of a newer format, and marks an empty one with this.
func (s *Store) checkFormat(ctx context.Context) error {
	return s.kv.Update(ctx, func(tx kv.Txn) error {
		err := tx.Peek([]byte(keyFormat), func(v []byte) error {
			have, n := binary.Uvarint(v)
			if n <= 0 {
				return errMalformed
			}
			if have != formatVersion {
				return &kv.VersionError{Dir: s.files.Dir(), Have: int(have), Max: formatVersion}
			}
			return nil
		})
		if errors.Is(err, kv.ErrNotFound) {
			return tx.Set([]byte(keyFormat), binary.AppendUvarint(nil, formatVersion))
		}
		return err
	})
}

// clearGarbage finishes deletions, and takes back imports, that the end of the last process cut
// short.
func (s *Store) clearGarbage(ctx context.Context) error {
	var garbage []contentID
	err := s.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keyGarbage)), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			garbage = append(garbage, contentID(binary.BigEndian.Uint64(p.Key[len(keyGarbage):])))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range garbage {
		if err := s.reap(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func newContentID() contentID { return contentID(rand.Uint64()) }

// Info describes a blob in the store.
type Info struct {
	Hash     Hash
	Size     uint64 // proved, also for a partial blob
	Complete bool
	Present  uint64 // content bytes present, whole groups

	Modified  time.Time // of that file when it was added
	Reference string    // path of the file it lies in, if it is not the store's own
}

// Stat describes the blob h, or returns ErrNotFound.
func (s *Store) Stat(ctx context.Context, h Hash) (info Info, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		rec, err := getRecord(r, h)
		info = rec.info(h)
		return err
	})
	return info, err
}

// Has reports whether the blob h is there and complete.
func (s *Store) Has(ctx context.Context, h Hash) (has bool, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		has, err = Has(r, h)
		return err
	})
	return has, err
}

// StatIn describes the blob h, as part of a larger transaction, or returns ErrNotFound.
func StatIn(r kv.Reader, h Hash) (Info, error) {
	rec, err := getRecord(r, h)
	return rec.info(h), err
}

// Has reports whether the store kept in r's kv.Store has the complete blob h, as part of a larger
// transaction.
func Has(r kv.Reader, h Hash) (bool, error) {
	rec, err := getRecord(r, h)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil && rec.state != statePartial, err
}

// List yields all blobs in hash order, from one state of the store.
func (s *Store) List(ctx context.Context) iter.Seq2[Info, error] { return s.list(ctx, nil) }

func (s *Store) list(ctx context.Context, prefix []byte) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		stopped := false
		err := s.kv.View(ctx, func(r kv.Reader) error {
			for p, err := range r.Scan(kv.Prefix(append([]byte(keyRecord), prefix...)), kv.ScanOptions{}) {
				if err != nil {
					return err
				}
				rec, err := parseRecord(p.Value)
				if err != nil {
					return err
				}
				if !yield(rec.info(Hash(p.Key[len(keyRecord):])), nil) {
					stopped = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(Info{}, err)
		}
	}
}

// Totals counts the store's blobs.
type Totals struct {
	Count   int    // blobs known, whole or partial
	Partial int    // of these, partial
	Bytes   uint64 // content bytes present
}

// Totals counts what is in the store; the cost grows with the number of blobs, not with their size.
func (s *Store) Totals(ctx context.Context) (t Totals, err error) {
	for info, err := range s.List(ctx) {
		if err != nil {
			return t, err
		}
		t.Count++
		t.Bytes += info.Present
		if !info.Complete {
			t.Partial++
		}
	}
	return t, nil
}

// MinPrefix is how many hex digits Resolve asks for at least.
const MinPrefix = 8

// Resolve returns the hash that text names: 64 hex digits, or the first 8 or more digits of exactly
// one blob in the store. It returns ErrNotHash, ErrNotFound or ErrAmbiguous.
func (s *Store) Resolve(ctx context.Context, text string) (Hash, error) {
	if len(text) == 2*HashSize {
		return ParseHash(text)
	}
	if len(text) < MinPrefix || len(text) > 2*HashSize {
		return Hash{}, fmt.Errorf(
			"%w, or the first %d or more of a blob here: %q", ErrNotHash, MinPrefix, text,
		)
	}
	low, err := ParseHash(text + zeros[len(text):])
	if err != nil {
		return Hash{}, fmt.Errorf("%w: %q", ErrNotHash, text)
	}
	var found []Hash
	for info, err := range s.list(ctx, low[:len(text)/2]) {
		if err != nil {
			return Hash{}, err
		}
		if hex := info.Hash.String(); hex[:len(text)] == low.String()[:len(text)] {
			if found = append(found, info.Hash); len(found) > 1 {
				return Hash{}, fmt.Errorf("%w: %s fits %s and %s", ErrAmbiguous, text, found[0], found[1])
			}
		}
	}
	if len(found) == 0 {
		return Hash{}, fmt.Errorf("%w: no blob begins with %s", ErrNotFound, text)
	}
	return found[0], nil
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// StatRanges describes the blob h, and says which byte ranges of it are there: of a whole one, all
// positions up to its size, or the position 0 if it is empty. It returns ErrNotFound.
func (s *Store) StatRanges(ctx context.Context, h Hash) (info Info, present Ranges, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		rec, err := getRecord(r, h)
		if err != nil {
			return err
		}
		info = rec.info(h)
		if info.Complete {
			present = Ranges{{0, max(info.Size, 1)}}
			return nil
		}
		groups, err := presentGroups(r, rec)
		present = groups.bytesOf(rec.size)
		return err
	})
	return info, present, err
}

// Stats calls fn for each of the hashes, from one state of the store: whether the blob is known,
// what is known of it, and a function that returns the byte ranges that are there of a partial one.
func (s *Store) Stats(
	ctx context.Context, hashes []Hash,
	fn func(i int, info Info, known bool, present func() (Ranges, error)) error,
) error {
	return s.kv.View(ctx, func(r kv.Reader) error {
		for i, h := range hashes {
			rec, err := getRecord(r, h)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			present := func() (Ranges, error) {
				groups, err := presentGroups(r, rec)
				return groups.bytesOf(rec.size), err
			}
			if err := fn(i, rec.info(h), err == nil, present); err != nil {
				return err
			}
		}
		return nil
	})
}

// Present returns the byte ranges of h that the store has; empty if it knows nothing of h.
func (s *Store) Present(ctx context.Context, h Hash) (Ranges, error) {
	var out Ranges
	err := s.kv.View(ctx, func(r kv.Reader) error {
		rec, err := getRecord(r, h)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		groups, err := presentGroups(r, rec)
		out = groups.bytesOf(rec.size)
		return err
	})
	return out, err
}

func presentGroups(r kv.Reader, rec record) (Ranges, error) {
	all := Ranges{{0, groupCount(rec.size)}}
	if rec.state != statePartial {
		return all, nil
	}
	var out Ranges
	for p, err := range r.Scan(kv.Prefix(idKey(keyMask, rec.id)), kv.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		if len(p.Value) != 4 || len(p.Key) != len(keyMask)+12 {
			return nil, fmt.Errorf("%w: a mask", errMalformed)
		}
		first := uint64(binary.BigEndian.Uint32(p.Key[len(keyMask)+8:])) * fanOut
		for mask := binary.LittleEndian.Uint32(p.Value); mask != 0; {
			start := bits.TrailingZeros32(mask)
			length := bits.TrailingZeros32(^(mask >> start))
			at := Range{first + uint64(start), first + uint64(start+length)}
			if n := len(out); n > 0 && out[n-1].End == at.Start {
				out[n-1].End = at.End
			} else {
				out = append(out, at)
			}
			if start+length >= 32 {
				break
			}
			mask = mask >> (start + length) << (start + length)
		}
	}
	return out, nil
}

// Delete removes the blob h, or returns ErrNotFound. Readers that have it open fail with
// ErrNotFound, or go on. A referenced file stays; only what is known of it goes. The room of a
// small blob is given back by Collect.
func (s *Store) Delete(ctx context.Context, h Hash) error {
	var rec record
	ctx = kv.ToMakeRoom(ctx)
	err := s.kv.Update(ctx, func(tx kv.Txn) (err error) {
		if rec, err = getRecord(tx, h); err != nil {
			return err
		}
		return forget(tx, h, rec)
	})
	if err != nil {
		return err
	}
	return s.reapRecord(ctx, rec)
}

// forget removes the record of h and marks what lies under its id as garbage.
func forget(tx kv.Txn, h Hash, rec record) error {
	switch {
	case rec.state == stateInline:
		return errors.Join(tx.Delete(recordKey(h)), tx.Delete(inlineKey(h)))
	case rec.hasBlocks():
		return errors.Join(tx.Delete(recordKey(h)), tx.Set(idKey(keyGarbage, rec.id), nil))
	}
	return tx.Delete(recordKey(h))
}

// reapRecord removes what a record that has been forgotten pointed at.
func (s *Store) reapRecord(ctx context.Context, rec record) error {
	if !rec.hasBlocks() {
		return nil
	}
	return s.reap(ctx, rec.id)
}

// reap deletes the file and blocks under id and then the mark that they are garbage.
func (s *Store) reap(ctx context.Context, id contentID) error {
	ctx = kv.ToMakeRoom(ctx)
	if err := s.files.Remove(id); err != nil {
		return err
	}
	for _, kind := range []string{keyTree, keyMask} {
		if err := s.deleteAll(ctx, idKey(kind, id)); err != nil {
			return err
		}
	}
	return s.kv.Update(ctx, func(tx kv.Txn) error { return tx.Delete(idKey(keyGarbage, id)) })
}

func (s *Store) deleteAll(ctx context.Context, prefix []byte) error {
	return s.kv.View(ctx, func(r kv.Reader) error {
		return s.kv.Batch(ctx, func(w kv.Writer) error {
			for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{KeysOnly: true}) {
				if err != nil {
					return err
				}
				if err := w.Delete(bytes.Clone(p.Key)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

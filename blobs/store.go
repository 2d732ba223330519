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

	"github.com/skerry-sync/skerry/kv"
)

// Records of the store; all keys begin with 'b'. Integers in keys are big-endian, so that they sort.
//
//	b h hash[32]                  what is known of a blob: see record
//	b i hash[32]                  the content of a blob of at most one group
//	b s id[8] 00 index[4]         a segment: mask u32 LE of the groups it holds, its parents in pre-order (64 bytes each,
//	                              zero where unknown), then those groups, back to back
//	b s id[8] level[1] index[4]   a block of parents above the segments, level >= 1, zero where unknown
//	b m id[8] index[4]            while a blob is partial: the mask of a segment, again, small and quick to scan
//	b d id[8]                     the segments under id are garbage: an import under way, or a deletion not yet finished
//
// Content lies under a random id, since a stream's hash is known only at its end. A partial blob's size is always proved:
// its record is made only after the last group has been verified.
const (
	keyRecord  = "bh"
	keyInline  = "bi"
	keySegment = "bs"
	keyMask    = "bm"
	keyGarbage = "bd"
)

var (
	// ErrNotFound reports a blob that the store knows nothing of.
	ErrNotFound = errors.New("blob not found")
	// ErrIncomplete reports a read of content that the store does not have (yet).
	ErrIncomplete = errors.New("blob is incomplete")
	// ErrAmbiguous reports a hash prefix that fits several blobs.
	ErrAmbiguous = errors.New("hash prefix is ambiguous")
)

// Store keeps blobs in a kv.Store. Its methods may be called at the same time from many goroutines.
type Store struct{ kv kv.Store }

// Open returns the store kept in s, after clearing away what interrupted imports and deletions left. No other Store may be
// open on s.
func Open(ctx context.Context, s kv.Store) (*Store, error) {
	st := &Store{kv: s}
	var garbage []contentID
	err := s.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keyGarbage)), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			garbage = append(garbage, contentID(binary.BigEndian.Uint64(p.Key[len(keyGarbage):])))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	for _, id := range garbage {
		if err := st.reap(ctx, id); err != nil {
			return nil, fmt.Errorf("open blob store: %w", err)
		}
	}
	return st, nil
}

// contentID names the segments of one blob.
type contentID uint64

func newContentID() contentID { return contentID(rand.Uint64()) }

// state of a blob in its record.
type state byte

const (
	stateInline   state = 0
	stateComplete state = 1
	statePartial  state = 2
)

// record is the value under keyRecord: version u8 = 1, state u8, size varint; unless inline, then id u64 BE; if partial, then
// the number of groups present as a varint.
type record struct {
	state state
	size  uint64
	id    contentID
	have  uint64
}

func (r record) marshal() []byte {
	b := binary.AppendUvarint([]byte{1, byte(r.state)}, r.size)
	if r.state != stateInline {
		b = binary.BigEndian.AppendUint64(b, uint64(r.id))
	}
	if r.state == statePartial {
		b = binary.AppendUvarint(b, r.have)
	}
	return b
}

func parseRecord(b []byte) (r record, err error) {
	bad := errors.New("blob store: malformed record")
	if len(b) < 3 || b[0] != 1 || b[1] > byte(statePartial) {
		return r, bad
	}
	r.state = state(b[1])
	b = b[2:]
	size, n := binary.Uvarint(b)
	if n <= 0 {
		return r, bad
	}
	r.size, b = size, b[n:]
	if r.state != stateInline {
		if len(b) < 8 {
			return r, bad
		}
		r.id, b = contentID(binary.BigEndian.Uint64(b)), b[8:]
	}
	if r.state == statePartial {
		if r.have, n = binary.Uvarint(b); n <= 0 {
			return r, bad
		}
	}
	return r, nil
}

func recordKey(h Hash) []byte { return append([]byte(keyRecord), h[:]...) }
func inlineKey(h Hash) []byte { return append([]byte(keyInline), h[:]...) }
func idKey(kind string, id contentID) []byte {
	return binary.BigEndian.AppendUint64([]byte(kind), uint64(id))
}
func blockKey(id contentID, level int, index uint64) []byte {
	return binary.BigEndian.AppendUint32(append(idKey(keySegment, id), byte(level)), uint32(index))
}
func maskKey(id contentID, index uint64) []byte {
	return binary.BigEndian.AppendUint32(idKey(keyMask, id), uint32(index))
}

func getRecord(r kv.Reader, h Hash) (rec record, err error) {
	err = r.Peek(recordKey(h), func(v []byte) error {
		rec, err = parseRecord(v)
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		return rec, fmt.Errorf("%w: %s", ErrNotFound, h)
	}
	return rec, err
}

// Info describes a blob in the store.
type Info struct {
	Hash     Hash
	Size     uint64 // proved, also for a partial blob
	Complete bool
	Present  uint64 // content bytes present, whole groups
}

func (r record) info(h Hash) Info {
	i := Info{Hash: h, Size: r.size, Complete: r.state != statePartial, Present: r.size}
	if !i.Complete {
		i.Present = min(r.have*GroupSize, r.size)
	}
	return i
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

// Has reports whether the store kept in r's kv.Store has the complete blob h, as part of a larger transaction.
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

// Resolve returns the hash that text names: 64 hex digits, or the first 8 or more digits of exactly one blob in the store.
// It returns ErrNotHash, ErrNotFound or ErrAmbiguous.
func (s *Store) Resolve(ctx context.Context, text string) (Hash, error) {
	if len(text) == 2*HashSize {
		return ParseHash(text)
	}
	if len(text) < MinPrefix || len(text) > 2*HashSize {
		return Hash{}, fmt.Errorf("%w, or the first %d or more of a blob here: %q", ErrNotHash, MinPrefix, text)
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
			return nil, errors.New("blob store: malformed mask")
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

// Delete removes the blob h, or returns ErrNotFound. Readers that have it open fail with ErrNotFound.
func (s *Store) Delete(ctx context.Context, h Hash) error {
	var rec record
	err := s.kv.Update(ctx, func(tx kv.Txn) (err error) {
		if rec, err = getRecord(tx, h); err != nil {
			return err
		}
		return s.forget(tx, h, rec)
	})
	if err != nil {
		return err
	}
	if rec.state == stateInline {
		return nil
	}
	return s.reap(ctx, rec.id)
}

// forget removes the record of h and marks its content as garbage.
func (s *Store) forget(tx kv.Txn, h Hash, rec record) error {
	if rec.state == stateInline {
		return errors.Join(tx.Delete(recordKey(h)), tx.Delete(inlineKey(h)))
	}
	return errors.Join(tx.Delete(recordKey(h)), tx.Set(idKey(keyGarbage, rec.id), nil))
}

// reap deletes the content under id and then the mark that it is garbage.
func (s *Store) reap(ctx context.Context, id contentID) error {
	for _, kind := range []string{keySegment, keyMask} {
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

// Sync returns when everything stored before the call survives the loss of power.
func (s *Store) Sync(ctx context.Context) error { return s.kv.Sync(ctx) }

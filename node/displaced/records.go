package displaced

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"slices"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Records in the store; integers are big-endian:
//
//	n p replica[32]              displaced entries are kept: version u8 = 1, the last number u64,
//	                             how many u64
//	n e replica[32] place[16] author[32] number[8]
//	                             an entry as peers send it; place is the first half of the BLAKE3
//	                             hash of its key
//	n a replica[32] author[32]   how many of the author's: u32
//
// Numbers count up in the order in which entries were displaced.
const (
	keyKept  = "np"
	keyEntry = "ne"
	keyCount = "na"
)

const tallyVersion = 1

var errMalformed = errors.New("node store: malformed record of displaced entries")

// tally is what the mark of a replica holds.
type tally struct{ next, count uint64 }

func (t tally) marshal() []byte {
	b := binary.BigEndian.AppendUint64([]byte{tallyVersion}, t.next)
	return binary.BigEndian.AppendUint64(b, t.count)
}

func parseTally(b []byte) (t tally, err error) {
	if len(b) != 17 || b[0] != tallyVersion {
		return t, errMalformed
	}
	return tally{binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:])}, nil
}

func keptKey(id replica.ID) []byte { return append([]byte(keyKept), id[:]...) }

func countKey(e *replica.Entry) []byte {
	return append(append([]byte(keyCount), e.Replica[:]...), e.Author[:]...)
}

func entriesOf(id replica.ID) []byte { return append([]byte(keyEntry), id[:]...) }

// entriesOfKey is what the keys of records begin with of entries of one key.
func entriesOfKey(id replica.ID, key []byte) []byte {
	place := blake3.Sum256(key)
	return append(entriesOf(id), place[:16]...)
}

// entriesAt is what the keys of records begin with of entries that had the place of e.
func entriesAt(e *replica.Entry) []byte {
	return append(entriesOfKey(e.Replica, e.Key), e.Author[:]...)
}

func entryKey(e *replica.Entry, number uint64) []byte {
	return binary.BigEndian.AppendUint64(entriesAt(e), number)
}

const entryKeyLength = len(keyEntry) + 32 + 16 + 32 + 8

func numberOf(key []byte) (uint64, error) {
	if len(key) != entryKeyLength {
		return 0, errMalformed
	}
	return binary.BigEndian.Uint64(key[entryKeyLength-8:]), nil
}

// numbersAt returns the numbers of the records of entries that had the place of e.
func numbersAt(rd kv.Reader, e *replica.Entry) (all []uint64, err error) {
	for p, err := range rd.Scan(kv.Prefix(entriesAt(e)), kv.ScanOptions{KeysOnly: true}) {
		if err != nil {
			return nil, err
		}
		n, err := numberOf(p.Key)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// recordOf returns the key of the record of an entry; nil if there is none.
func recordOf(rd kv.Reader, e *replica.Entry) (key []byte, err error) {
	want := e.ID()
	for p, err := range rd.Scan(kv.Prefix(entriesAt(e)), kv.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		got, err := parseEntry(p.Value)
		if err != nil {
			return nil, err
		}
		if got.ID() == want {
			return slices.Clone(p.Key), nil
		}
	}
	return nil, nil
}

// parseEntry returns an entry of its own, which does not change with b.
func parseEntry(b []byte) (e replica.Entry, err error) {
	if e, err = replica.ParseEntry(slices.Clone(b)); err != nil {
		err = errors.Join(errMalformed, err)
	}
	return e, err
}

// countOf returns how many entries are recorded of e's author.
func countOf(rd kv.Reader, e *replica.Entry) (n uint32, err error) {
	b, err := rd.Get(countKey(e))
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case len(b) != 4:
		return 0, errMalformed
	}
	return binary.BigEndian.Uint32(b), nil
}

// All yields the entries of a replica that were displaced, in the order in which that happened,
// from one state of the store: those with one of some keys, or, for nil, all.
func (l *List) All(
	ctx context.Context, id replica.ID, keys [][]byte,
) iter.Seq2[replica.Entry, error] {
	return func(yield func(replica.Entry, error) bool) {
		k := l.get(id)
		if k == nil || !k.any() {
			return
		}
		var spans []kv.Range
		for _, key := range keys {
			spans = append(spans, kv.Prefix(entriesOfKey(id, key)))
		}
		if keys == nil {
			spans = []kv.Range{kv.Prefix(entriesOf(id))}
		}
		stopped, none := false, false
		err := l.cfg.Store.View(ctx, func(rd kv.Reader) error {
			all, err := ordered(rd, spans)
			none = len(all) == 0
			for i := 0; i < len(all) && err == nil && !stopped; i++ {
				var e replica.Entry
				if err = rd.Peek(all[i].key, func(b []byte) error {
					e, err = parseEntry(b)
					return err
				}); err == nil {
					stopped = !yield(e, nil)
				}
			}
			return err
		})
		if err == nil && none && keys == nil { // what was about to be recorded was not
			err = l.forget(ctx, id, k, nil)
		}
		if err != nil && !stopped {
			yield(replica.Entry{}, err)
		}
	}
}

// numbered is the key of a record.
type numbered struct {
	number uint64
	key    []byte
}

// ordered returns the keys of records by their numbers.
func ordered(rd kv.Reader, spans []kv.Range) (all []numbered, err error) {
	for _, span := range spans {
		for p, err := range rd.Scan(span, kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return nil, err
			}
			n, err := numberOf(p.Key)
			if err != nil {
				return nil, err
			}
			all = append(all, numbered{n, slices.Clone(p.Key)})
		}
	}
	slices.SortFunc(all, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	return all, nil
}

// Kept returns the replicas in which displaced entries are kept and there may be some.
func (l *List) Kept() (all []replica.ID) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for id, k := range l.of {
		if k.any() {
			all = append(all, id)
		}
	}
	return all
}

// eachRecorded calls fn for each replica of which there are records of entries or counts.
func (l *List) eachRecorded(rd kv.Reader, fn func(replica.ID)) error {
	for _, kind := range []string{keyEntry, keyCount} {
		span := kv.Prefix([]byte(kind))
		for {
			var id replica.ID
			found := false
			for p, err := range rd.Scan(span, kv.ScanOptions{KeysOnly: true}) {
				if err != nil {
					return err
				}
				if len(p.Key) < len(kind)+32 {
					return errMalformed
				}
				id, found = replica.ID(p.Key[len(kind):]), true
				break
			}
			if !found {
				break
			}
			fn(id)
			if span.From = kv.After(append([]byte(kind), id[:]...)); span.From == nil {
				break
			}
		}
	}
	return nil
}

// erase deletes the records of entries of a replica, and their counts.
func (l *List) erase(ctx context.Context, id replica.ID) error {
	ctx = kv.ToMakeRoom(ctx)
	for _, kind := range []string{keyEntry, keyCount} {
		span := kv.Prefix(append([]byte(kind), id[:]...))
		var keys [][]byte
		err := l.cfg.Store.View(ctx, func(rd kv.Reader) error {
			keys = nil
			for p, err := range rd.Scan(span, kv.ScanOptions{KeysOnly: true}) {
				if err != nil {
					return err
				}
				keys = append(keys, slices.Clone(p.Key))
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := kv.DeleteAll(ctx, l.cfg.Store, keys); err != nil {
			return err
		}
	}
	return nil
}

package replica

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica/seal"
)

// Plain shows the entries of a replica under the keys that people gave them, whether it is
// encrypted or not, as the read keys stand when it is made. Of an encrypted replica, entries of
// several epochs may have the same key; those of one author are one, of which the newest counts.
type Plain struct {
	s    *Store
	r    Replica
	now  EpochKey // to seal with
	no   error    // why there is none
	keys []openKey
	some error // why entries of some epoch cannot be opened

	unreadable uint64
}

// openKey is a read key, ready to open names and small contents.
type openKey struct {
	EpochKey
	names    *seal.Names
	contents *seal.Contents
}

// Item is an entry with its key in plain.
type Item struct {
	Key   []byte
	Entry Entry // with the sealed key of an encrypted replica
}

// Plain returns the view of the replica id with the read keys that are here. It returns
// ErrNotFound, and ErrNoReadKey if it is encrypted and there are none. Without the key of the
// present epoch what is older can still be read.
func (s *Store) Plain(ctx context.Context, id ID) (*Plain, error) {
	p := &Plain{s: s}
	err := s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		p.r, p.keys, p.now, p.no = *r, nil, EpochKey{}, nil
		if !r.Encrypted {
			return nil
		}
		now, all, err := readKeys(rd, r)
		if err != nil && (!errors.Is(err, ErrNoReadKey) || len(all) == 0) {
			return err
		}
		p.now, p.no, p.some = now, err, err
		for _, k := range all {
			p.keys = append(p.keys, openKey{k, k.Key.Names(k.Epoch), k.Key.Contents(k.Epoch)})
		}
		if p.some == nil {
			p.some, err = lacking(rd, r, all)
			return err
		}
		return nil
	})
	return p, err
}

// Encrypted reports whether the replica's names and content are sealed.
func (p *Plain) Encrypted() bool { return p.r.Encrypted }

// Unreadable returns how many entries were met until now that no read key here opens.
func (p *Plain) Unreadable() uint64 { return p.unreadable }

// Lacking returns nil if the read keys of all epochs that are known are here, so that all entries
// can be opened, and otherwise an error that is ErrNoReadKey.
func (p *Plain) Lacking() error { return p.some }

// EveryEpoch is Entries, with all entries that one author has under a key in several epochs, the
// newest last. Whoever writes deletes those of older epochs, so there are such only of authors who
// write in several places, and while not all has come.
func (p *Plain) EveryEpoch(ctx context.Context, q Query) iter.Seq2[Item, error] {
	if !p.r.Encrypted || q.ByTime {
		return p.Entries(ctx, q)
	}
	return p.ordered(ctx, q, func(all []Item) []Item { return all })
}

// Sealing returns the read key to seal content with, or ErrNoReadKey or ErrUnprovedKey.
func (p *Plain) Sealing() (EpochKey, error) {
	if p.now.Epoch == 0 {
		return p.now, cmp.Or(p.no, fmt.Errorf("replica %s: %w", p.r.Name, ErrNoReadKey))
	}
	return p.now, nil
}

// OpenContent opens sealed content of which r has size bytes, with the read key of its epoch. It
// returns seal.ErrSealed.
func (p *Plain) OpenContent(r io.ReaderAt, size uint64) (*seal.Reader, error) {
	var head [seal.HeadSize]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		if err == io.EOF {
			err = fmt.Errorf("content %w: it is too short", seal.ErrSealed)
		}
		return nil, err
	}
	epoch, err := seal.Epoch(head[:])
	if err != nil {
		return nil, err
	}
	var fit []openKey
	for _, k := range p.keys {
		if k.Epoch == epoch {
			fit = append(fit, k)
		}
	}
	if len(fit) == 1 {
		return fit[0].Key.Open(r, size)
	}
	err = fmt.Errorf("content of epoch %d %w: its key is not here", epoch, seal.ErrSealed)
	for _, k := range fit {
		var open *seal.Reader
		if open, err = k.Key.Open(r, size); err != nil {
			return nil, err
		}
		var first [1]byte
		if _, err = open.ReadAt(first[:], 0); err == nil || err == io.EOF && open.Size() == 0 {
			return open, nil
		}
		if !errors.Is(err, seal.ErrSealed) { // another key of that epoch may open it
			return nil, err
		}
	}
	return nil, err
}

// Open returns an entry of the replica with its key in plain; ok is false if no read key opens it.
func (p *Plain) Open(e Entry) (it Item, ok bool) {
	if !p.r.Encrypted {
		return Item{e.Key, e}, true
	}
	if it, ok = p.open(e); !ok {
		p.unreadable++
	}
	return it, ok
}

// open is Open of an entry of an encrypted replica, but it counts nothing.
func (p *Plain) open(e Entry) (it Item, ok bool) {
	epoch, err := seal.EpochOf(e.Key)
	if err == nil {
		for _, k := range p.keys {
			if k.Epoch != epoch {
				continue
			}
			if name, err := k.names.Open(e.Key); err == nil {
				return Item{name, e}, true
			}
		}
	}
	return it, false
}

// openAtOnce is how many entries are opened at a time.
const openAtOnce = 1 << 12

// openAll opens entries of an encrypted replica, on all processors, and returns those that match,
// in no order.
func (p *Plain) openAll(entries []Entry, match func(*Item) bool) []Item {
	const each = 256
	parts := slices.Collect(slices.Chunk(entries, each))
	opened, unreadable := make([][]Item, len(parts)), make([]uint64, len(parts))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, part := range parts {
		g.Go(func() error {
			for _, e := range part {
				it, ok := p.open(e)
				if !ok {
					unreadable[i]++
				} else if match(&it) {
					opened[i] = append(opened[i], it)
				}
			}
			return nil
		})
	}
	_ = g.Wait() // never fails
	for _, n := range unreadable {
		p.unreadable += n
	}
	return slices.Concat(opened...)
}

// Entries yields what q selects, as Store.Entries does, by keys in plain. In the order of keys, all
// that q selects of an encrypted replica is held in memory.
func (p *Plain) Entries(ctx context.Context, q Query) iter.Seq2[Item, error] {
	if !p.r.Encrypted {
		return items(p.s.Entries(ctx, p.r.ID, q))
	}
	if q.ByTime {
		return p.byTime(ctx, q)
	}
	return p.ordered(ctx, q, newestOfEach)
}

// newestOfEach leaves of items, which are in the order of compareItems, the newest of each key and
// author.
func newestOfEach(all []Item) []Item {
	kept := all[:0]
	for i, it := range all {
		if i+1 == len(all) || all[i+1].Entry.Author != it.Entry.Author ||
			!bytes.Equal(all[i+1].Key, it.Key) {
			kept = append(kept, it)
		}
	}
	return kept
}

// compareItems orders items by keys in plain, authors, and time.
func compareItems(a, b Item) int {
	return cmp.Or(bytes.Compare(a.Key, b.Key), bytes.Compare(a.Entry.Author[:], b.Entry.Author[:]),
		CompareVersions(&a.Entry, &b.Entry))
}

// Latest yields for each key the entry that stands for it, as Store.Latest does, by keys in plain.
func (p *Plain) Latest(ctx context.Context, q Query) iter.Seq2[Item, error] {
	if !p.r.Encrypted {
		return items(p.s.Latest(ctx, p.r.ID, q))
	}
	return p.ordered(ctx, q, func(all []Item) []Item {
		kept := all[:0]
		for _, it := range all {
			switch last := len(kept) - 1; {
			case last < 0 || !bytes.Equal(kept[last].Key, it.Key):
				kept = append(kept, it)
			case CompareVersions(&it.Entry, &kept[last].Entry) > 0:
				kept[last] = it
			}
		}
		return kept
	})
}

// LatestOf returns the entry that stands for key, or ErrNotFound if there is none or it is a
// tombstone.
func (p *Plain) LatestOf(ctx context.Context, key []byte) (Item, error) {
	if key == nil {
		key = []byte{}
	}
	for it, err := range p.Latest(ctx, Query{Key: key}) {
		return it, err
	}
	return Item{}, ErrNotFound
}

func items(entries iter.Seq2[Entry, error]) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for e, err := range entries {
			if !yield(Item{e.Key, e}, err) || err != nil {
				return
			}
		}
	}
}

// selectedBy is Query.selects, with the key in plain.
func (it *Item) selectedBy(q *Query) bool {
	e := it.Entry
	e.Key = it.Key
	return q.selects(&e)
}

func (p *Plain) byTime(ctx context.Context, q Query) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		sealed := q
		sealed.Key, sealed.Prefix, sealed.Limit = nil, nil, 0
		n := 0
		for e, err := range p.s.Entries(ctx, p.r.ID, sealed) {
			if err != nil {
				yield(Item{}, err)
				return
			}
			it, ok := p.Open(e)
			if !ok || !it.selectedBy(&q) {
				continue
			}
			if n++; !yield(it, nil) || n == q.Limit {
				return
			}
		}
	}
}

// ordered yields items in the order of keys: those that pick leaves of all with the wanted keys,
// which it gets in the order of compareItems.
func (p *Plain) ordered(
	ctx context.Context, q Query, pick func([]Item) []Item,
) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		all, err := p.withKeys(ctx, &q)
		if err != nil {
			yield(Item{}, err)
			return
		}
		slices.SortFunc(all, compareItems)
		all = slices.DeleteFunc(pick(all), func(it Item) bool { return !it.selectedBy(&q) })
		if q.Reverse {
			slices.Reverse(all)
		}
		if q.Limit > 0 {
			all = all[:min(q.Limit, len(all))]
		}
		for _, it := range all {
			if !yield(it, nil) {
				return
			}
		}
	}
}

// withKeys returns all entries, also tombstones, whose keys q selects. It looks only where such can
// be.
func (p *Plain) withKeys(ctx context.Context, q *Query) (all []Item, err error) {
	queries := []Query{{Tombstones: true}}
	if part := bytes.LastIndexByte(q.Prefix, '/'); q.Key != nil || part >= 0 {
		queries = nil
		for _, k := range p.keys {
			sealed := Query{Tombstones: true}
			if q.Key != nil {
				sealed.Key, err = k.names.Seal(q.Key)
			} else {
				sealed.Prefix, err = k.names.SealPrefix(q.Prefix[:part+1])
			}
			if errors.Is(err, seal.ErrName) { // no entry can have such a key
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			queries = append(queries, sealed)
		}
	}
	var some []Entry // a few at a time, since most may not match
	open := func() {
		all = append(all, p.openAll(some, func(it *Item) bool {
			return (q.Key == nil || bytes.Equal(it.Key, q.Key)) && bytes.HasPrefix(it.Key, q.Prefix)
		})...)
		some = some[:0]
	}
	for _, sealed := range queries {
		for e, err := range p.s.Entries(ctx, p.r.ID, sealed) {
			if err != nil {
				return nil, err
			}
			if some = append(some, e); len(some) == openAtOnce {
				open()
			}
		}
	}
	open()
	return all, nil
}

// SealPrefix returns what the keys of entries begin with whose keys in plain begin with prefix, one
// for each read key: prefix itself if the replica is not encrypted. It returns seal.ErrName for a
// prefix that does not end with a slash.
func (p *Plain) SealPrefix(prefix []byte) (sealed [][]byte, err error) {
	if !p.r.Encrypted || len(prefix) == 0 {
		return [][]byte{prefix}, nil
	}
	for _, k := range p.keys {
		one, err := k.names.SealPrefix(prefix)
		if err != nil {
			return nil, err
		}
		sealed = append(sealed, one)
	}
	return sealed, nil
}

// SealKey returns the keys of entries whose key in plain is key, one for each read key: key itself
// if the replica is not encrypted. No entry can have a key for which it returns seal.ErrName.
func (p *Plain) SealKey(key []byte) (sealed [][]byte, err error) {
	if !p.r.Encrypted {
		return [][]byte{key}, nil
	}
	for _, k := range p.keys {
		one, err := k.names.Seal(key)
		if err != nil {
			return nil, err
		}
		sealed = append(sealed, one)
	}
	return sealed, nil
}

// OpenPrefix returns the prefix of a grant in plain; ok is false if no read key opens it.
func (p *Plain) OpenPrefix(sealed []byte) (prefix []byte, ok bool) {
	if !p.r.Encrypted {
		return sealed, true
	}
	var keys []EpochKey
	for _, k := range p.keys {
		keys = append(keys, k.EpochKey)
	}
	return openPrefix(keys, sealed)
}

// WritePlain signs and stores changes of the replica that p shows, as Write does. The keys of the
// changes are in plain, and so are those of the items that are returned; the content must have been
// sealed with the key that p.Sealing returns. What the author wrote under the same keys in earlier
// epochs is deleted with them. It is not a method of p, so that whoever has p can only read.
func (s *Store) WritePlain(
	ctx context.Context, p *Plain, author SecretKey, changes []Change,
) ([]Item, error) {
	if !p.r.Encrypted {
		entries, err := s.Write(ctx, p.r.ID, author, changes)
		out := make([]Item, len(entries))
		for i, e := range entries {
			out[i] = Item{e.Key, e}
		}
		return out, err
	}
	sealed, err := p.sealChanges(ctx, author.Author(), changes)
	if err != nil {
		return nil, err
	}
	entries, err := s.write(ctx, p.r.ID, author, sealed, true)
	var out []Item
	for _, e := range entries {
		if epoch, _ := seal.EpochOf(e.Key); epoch == p.now.Epoch {
			if it, ok := p.Open(e); ok {
				out = append(out, it)
			}
		}
	}
	return out, err
}

func (p *Plain) sealChanges(
	ctx context.Context, author AuthorID, changes []Change,
) (sealed []Change, err error) {
	now, err := p.Sealing()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(p.keys, func(k openKey) bool { return k.EpochKey == now })
	err = p.s.view(ctx, p.r.ID, func(rd kv.Reader, r *Replica) error {
		sealed = make([]Change, 0, len(changes))
		for _, c := range changes {
			plain := c.Key
			if c.Key, err = p.keys[i].names.Seal(plain); err != nil {
				return fmt.Errorf("key %.64q: %w", plain, err)
			}
			for j, k := range p.keys {
				if j == i {
					continue
				}
				old, err := k.names.Seal(plain)
				if err != nil {
					return err
				}
				e, err := getEntry(rd, r, old, author)
				if errors.Is(err, ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				// What is written now is the newest of the author's, however the clock has gone.
				c.after = max(c.after, e.Timestamp)
				if !e.IsTombstone() && k.Epoch < now.Epoch {
					sealed = append(sealed, Change{Key: old, Hash: blobs.EmptyHash})
				}
			}
			sealed = append(sealed, c)
		}
		return nil
	})
	return sealed, err
}

// HasAny reports whether one of some authors has an entry, or a tombstone, under one of some keys.
// It costs much less than looking for the entries of all authors. The replica must not be
// encrypted.
func (p *Plain) HasAny(
	ctx context.Context, authors []AuthorID, keys ...[]byte,
) (has bool, err error) {
	for _, key := range keys {
		for _, author := range authors {
			at, _ := entryKey(p.r.number, key, author)
			// One view each: what is read first in one is looked up without an iterator.
			err = p.s.kv.View(ctx, func(rd kv.Reader) error {
				has, err = rd.Has(at)
				return err
			})
			if has || err != nil {
				return has, err
			}
		}
	}
	return false, nil
}

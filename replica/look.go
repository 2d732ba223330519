package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica/seal"
)

// EntriesNow is Entries of a view that may be old, of a replica that was not encrypted when it was
// made: it also yields ErrNotFound if the replica is not held any more, and ErrEncrypted if it has
// been found to be encrypted since. So whoever looks at many keys, one by one, needs no new view
// for each.
func (p *Plain) EntriesNow(ctx context.Context, q Query) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		stopped, n := false, 0
		err := p.s.view(ctx, p.r.ID, func(rd kv.Reader, r *Replica) error {
			if r.Encrypted {
				return fmt.Errorf("replica %s: %w", r.Name, ErrEncrypted)
			}
			return walkQuery(rd, r, &q, func(e Entry) bool {
				n++
				stopped = !yield(Item{e.Key, e}, nil) || n == q.Limit
				return !stopped
			})
		})
		if err != nil && !stopped {
			yield(Item{}, err)
		}
	}
}

// EntriesOf returns the entries of all authors under some keys in plain, those of each key in its
// place, in the order of authors, without tombstones: all that EveryEpoch yields. It costs much
// less than that for each. The view may be as old as that of EntriesNow; errors are the same.
func (p *Plain) EntriesOf(ctx context.Context, keys [][]byte) (all [][]Item, err error) {
	err = p.s.view(ctx, p.r.ID, func(rd kv.Reader, r *Replica) error {
		if r.Encrypted != p.r.Encrypted {
			return fmt.Errorf("replica %s: %w", r.Name, ErrEncrypted)
		}
		all = make([][]Item, len(keys))
		for i, plain := range keys {
			if i%lookEvery == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			sealed, err := p.SealKey(plain)
			if errors.Is(err, seal.ErrName) { // no entry can have such a key
				continue
			}
			if err != nil {
				return err
			}
			var some []Item
			for _, k := range sealed {
				err := walkEntries(rd, r, orderOfKey(k), false, func(e Entry) bool {
					some = append(some, Item{plain, e})
					return true
				})
				if err != nil {
					return err
				}
			}
			if len(sealed) > 1 {
				slices.SortFunc(some, compareItems)
			}
			all[i] = slices.DeleteFunc(some, func(it Item) bool { return it.Entry.IsTombstone() })
		}
		return nil
	})
	return all, err
}

// lookEvery is after how many keys EntriesOf looks whether its context has ended.
const lookEvery = 256

// EntriesBy returns the entries of some keys in plain by an author, each in its place; nil where
// there is none, or a tombstone. Of several epochs the newest counts. The view may be as old as
// that of EntriesNow; errors are the same.
func (p *Plain) EntriesBy(
	ctx context.Context, author AuthorID, keys [][]byte,
) (all []*Entry, err error) {
	err = p.s.view(ctx, p.r.ID, func(rd kv.Reader, r *Replica) error {
		if r.Encrypted != p.r.Encrypted {
			return fmt.Errorf("replica %s: %w", r.Name, ErrEncrypted)
		}
		all = make([]*Entry, len(keys))
		for i, plain := range keys {
			sealed, err := p.SealKey(plain)
			if errors.Is(err, seal.ErrName) {
				continue
			}
			if err != nil {
				return err
			}
			if all[i], err = newestBy(rd, r, sealed, author); err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

// newestBy returns the newest of an author's entries under some keys; nil if there is none, or that
// is a tombstone.
func newestBy(rd kv.Reader, r *Replica, keys [][]byte, author AuthorID) (best *Entry, err error) {
	for _, k := range keys {
		e, err := getEntry(rd, r, k, author)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if best == nil || CompareVersions(&e, best) > 0 {
			best = &e
		}
	}
	if best != nil && best.IsTombstone() {
		best = nil
	}
	return best, nil
}

// SealBytes appends content to dst, sealed with the key that Sealing returns. Errors are the same.
func (p *Plain) SealBytes(dst, content []byte) ([]byte, error) {
	now, err := p.Sealing()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(p.keys, func(k openKey) bool { return k.EpochKey == now })
	return p.keys[i].contents.SealBytes(dst, content)
}

// OpenBytes opens sealed content as a whole, with the read key of its epoch. It returns
// seal.ErrSealed.
func (p *Plain) OpenBytes(sealed []byte) ([]byte, error) {
	epoch, err := seal.Epoch(sealed)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("content of epoch %d %w: its key is not here", epoch, seal.ErrSealed)
	for _, k := range p.keys {
		if k.Epoch != epoch {
			continue
		}
		var open []byte
		if open, err = k.contents.OpenBytes(sealed); err == nil {
			return open, nil
		}
	}
	return nil, err
}

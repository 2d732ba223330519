package wanted

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// An entry claims that content of a hash has a size. Anybody who may write can claim anything,
// about any hash. A claim is decided only by what the hash commits to: the proved size of the blob
// or, of a file in chunks, the sum of its list. So a claim that is wrong once is wrong for ever. It
// is then a record, and no longer wanted; other claims about the same hash do not depend on it:
//
//	n x replica[32] hash[32] size[8] place[16]   proved size u64, author[32], key of the entry
const keyRefuted = "nx"

// RefutedClaim is an entry that gives a size which its hash does not have.
type RefutedClaim struct {
	Author  replica.AuthorID
	Key     []byte // of the entry, as it is stored
	Hash    blobs.Hash
	Claimed uint64 // bytes
	Proved  uint64 // bytes: the size of the blob
}

// refutedKey returns the key of the record that the claim is wrong whose wantedKey is given.
func refutedKey(wanted []byte) []byte {
	return append([]byte(keyRefuted), wanted[len(keyWanted):]...)
}

// setRefuted notes that a claim is wrong, in the place of its record as wanted.
func setRefuted(tx kv.Txn, w *Content, proved uint64) error {
	b := binary.BigEndian.AppendUint64(nil, proved)
	return tx.Set(refutedKey(w.Record), append(append(b, w.Author[:]...), w.Key...))
}

// RefutedClaims calls fn with the entries of a replica that give a size which their hash does not
// have, as far as this node has found out. Entries that have been replaced meanwhile are left out.
func (l *List) RefutedClaims(
	ctx context.Context, id replica.ID, fn func(RefutedClaim) error,
) error {
	var obsolete [][]byte
	err := l.kv.View(ctx, func(r kv.Reader) error {
		prefix := append([]byte(keyRefuted), id[:]...)
		for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			w, err := Parse(p)
			if err != nil {
				return err
			}
			stands, err := w.stands(r)
			if err != nil {
				return err
			}
			if !stands {
				if len(obsolete) < DropAtOnce {
					obsolete = append(obsolete, w.Record)
				}
				continue
			}
			c := RefutedClaim{w.Author, w.Key, w.Hash, w.Size, w.Proved}
			if err := fn(c); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, l.Drop(ctx, obsolete))
}

// stands reports whether the entry still makes the claim.
func (w *Content) stands(r kv.Reader) (bool, error) {
	e, err := replica.EntryIn(r, w.Replica, w.Key, w.Author)
	if errors.Is(err, replica.ErrNotFound) {
		return false, nil
	}
	return err == nil && e.Hash == w.Hash && e.Size == w.Size, err
}

// Refute moves wanted content whose claims are wrong, by Proved, to the refuted ones, says whose
// they are, and tells those who wait.
func (l *List) Refute(ctx context.Context, wrong []Content) error {
	if len(wrong) == 0 {
		return nil
	}
	const most = 1 << 20 // bytes of keys in one transaction
	for at := 0; at < len(wrong); {
		end, bytes := at, 0
		for ; end < len(wrong) && (end == at || bytes < most); end++ {
			bytes += len(wrong[end].Key)
		}
		some := wrong[at:end]
		at = end
		err := l.kv.Update(ctx, func(tx kv.Txn) error {
			for i := range some {
				w := &some[i]
				stands, err := w.stands(tx)
				if err == nil && stands {
					err = setRefuted(tx, w, w.Proved)
				}
				if err == nil && stands && l.cfg.Host != nil {
					err = l.cfg.Host.Refute(tx, &replica.Entry{
						Replica: w.Replica, Author: w.Author, Key: w.Key, Hash: w.Hash, Size: w.Size,
					})
				}
				if err = errors.Join(err, tx.Delete(w.Record)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	type who struct {
		replica replica.ID
		author  replica.AuthorID
	}
	count, example := map[who]int{}, map[who]*Content{}
	for i := range wrong {
		at := who{wrong[i].Replica, wrong[i].Author}
		count[at]++
		example[at] = &wrong[i]
	}
	for at := range maps.Keys(count) {
		w := example[at]
		l.cfg.Log.Warn("entries claim a wrong size for their content, which is not fetched for them",
			"replica", at.replica, "author", at.author, "entries", count[at], "key", w.Key,
			"hash", w.Hash, "claimed", w.Size, "proved", w.Proved)
	}
	l.arrived.publish()
	return nil
}

// forgetRefuted drops the records of a replica that has been left.
func (l *List) forgetRefuted(ctx context.Context, id replica.ID) error {
	for {
		var keys [][]byte
		err := l.kv.View(ctx, func(r kv.Reader) error {
			prefix := append([]byte(keyRefuted), id[:]...)
			for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{KeysOnly: true}) {
				if err != nil {
					return err
				}
				if keys = append(keys, bytes.Clone(p.Key)); len(keys) == DropAtOnce {
					return nil
				}
			}
			return nil
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := l.Drop(ctx, keys); err != nil {
			return err
		}
	}
}

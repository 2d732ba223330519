package node

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
func setRefuted(tx kv.Txn, w *wantedContent, proved uint64) error {
	b := binary.BigEndian.AppendUint64(nil, proved)
	return tx.Set(refutedKey(w.key), append(append(b, w.author[:]...), w.entry...))
}

// RefutedClaims calls fn with the entries of a replica that give a size which their hash does not
// have, as far as this node has found out. Entries that have been replaced meanwhile are left out.
func (n *Node) RefutedClaims(ctx context.Context, id replica.ID, fn func(RefutedClaim) error) error {
	var obsolete [][]byte
	err := n.kv.View(ctx, func(r kv.Reader) error {
		prefix := append([]byte(keyRefuted), id[:]...)
		for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			w, err := parseClaim(p)
			if err != nil {
				return err
			}
			stands, err := w.stands(r)
			if err != nil {
				return err
			}
			if !stands {
				if len(obsolete) < dropAtOnce {
					obsolete = append(obsolete, w.key)
				}
				continue
			}
			c := RefutedClaim{w.author, w.entry, w.hash, w.size, binary.BigEndian.Uint64(p.Value)}
			if err := fn(c); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, n.dropKeys(ctx, obsolete))
}

// stands reports whether the entry still makes the claim.
func (w *wantedContent) stands(r kv.Reader) (bool, error) {
	e, err := replica.EntryIn(r, w.replica, w.entry, w.author)
	if errors.Is(err, replica.ErrNotFound) {
		return false, nil
	}
	return err == nil && e.Hash == w.hash && e.Size == w.size, err
}

// refute moves wanted content whose claims are wrong to the refuted ones.
func (n *Node) refute(ctx context.Context, wrong []wantedContent) error {
	if len(wrong) == 0 {
		return nil
	}
	const most = 1 << 20 // bytes of keys in one transaction
	for at := 0; at < len(wrong); {
		end, bytes := at, 0
		for ; end < len(wrong) && (end == at || bytes < most); end++ {
			bytes += len(wrong[end].entry)
		}
		some := wrong[at:end]
		at = end
		err := n.kv.Update(ctx, func(tx kv.Txn) error {
			for i := range some {
				w := &some[i]
				stands, err := w.stands(tx)
				if err == nil && stands {
					err = setRefuted(tx, w, w.proved)
				}
				if err == nil && stands && n.cfg.Host != nil {
					err = n.cfg.Host.Refute(tx, &replica.Entry{
						Replica: w.replica, Author: w.author, Key: w.entry, Hash: w.hash, Size: w.size,
					})
				}
				if err = errors.Join(err, tx.Delete(w.key)); err != nil {
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
	count, example := map[who]int{}, map[who]*wantedContent{}
	for i := range wrong {
		at := who{wrong[i].replica, wrong[i].author}
		count[at]++
		example[at] = &wrong[i]
	}
	for at := range maps.Keys(count) {
		w := example[at]
		n.log.Warn("entries claim a wrong size for their content, which is not fetched for them", "replica", at.replica, "author", at.author,
			"entries", count[at], "key", w.entry, "hash", w.hash, "claimed", w.size, "proved", w.proved)
	}
	n.arrived.publish()
	return nil
}

// forgetRefuted drops the records of a replica that has been left.
func (n *Node) forgetRefuted(ctx context.Context, id replica.ID) error {
	for {
		var keys [][]byte
		err := n.kv.View(ctx, func(r kv.Reader) error {
			for p, err := range r.Scan(kv.Prefix(append([]byte(keyRefuted), id[:]...)), kv.ScanOptions{KeysOnly: true}) {
				if err != nil {
					return err
				}
				if keys = append(keys, bytes.Clone(p.Key)); len(keys) == dropAtOnce {
					return nil
				}
			}
			return nil
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := n.dropKeys(ctx, keys); err != nil {
			return err
		}
	}
}

package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"iter"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/reconcile"
)

// EntrySet is the set of a replica's entries for reconciliation: the key is the order bytes, the id the hash of the signed bytes, the data
// the entry with its signature.
func (s *Store) EntrySet(id ID) reconcile.Set {
	return reconcile.Scanned(func(ctx context.Context, r reconcile.Range) iter.Seq2[reconcile.Item, error] {
		return func(yield func(reconcile.Item, error) bool) {
			order := kv.Range{From: r.From, To: r.To}
			if len(r.To) == 0 {
				order.To = nil
			}
			var key, data []byte
			stopped := false
			err := s.kv.View(ctx, func(rd kv.Reader) error {
				return walkEntries(rd, id, order, false, func(e Entry) bool {
					key = append(append(appendEscaped(key[:0], e.Key), 0, endOfKey), e.Author[:]...)
					signed := e.signedBytes(data[:0])
					data = append(signed, e.Signature[:]...)
					stopped = !yield(reconcile.Item{Key: key, Mark: markOf(&e, blake3.Sum256(signed)), Data: data}, nil)
					return !stopped
				})
			})
			if err != nil && !stopped {
				yield(reconcile.Item{}, err)
			}
		}
	})
}

// GrantSet is the set of a replica's grants, which is reconciled before the entries that need them: the key is the author and the grant's
// id, the data the grant with its signature.
func (s *Store) GrantSet(id ID) reconcile.Set {
	return reconcile.Scanned(func(ctx context.Context, r reconcile.Range) iter.Seq2[reconcile.Item, error] {
		return func(yield func(reconcile.Item, error) bool) {
			prefix := idKey(keyGrant, id)
			scan := kv.Prefix(prefix)
			scan.From = append(bytes.Clone(prefix), r.From...)
			if len(r.To) > 0 {
				scan.To = append(bytes.Clone(prefix), r.To...)
			}
			stopped := false
			err := s.kv.View(ctx, func(rd kv.Reader) error {
				for p, err := range rd.Scan(scan, kv.ScanOptions{}) {
					if err != nil {
						return err
					}
					if len(p.Key) != len(prefix)+64 {
						return errBadEntryKey
					}
					item := reconcile.Item{Key: p.Key[len(prefix):], Mark: grantMark(p.Key[len(prefix)+32:]), Data: p.Value}
					if stopped = !yield(item, nil); stopped {
						return nil
					}
				}
				return nil
			})
			if err != nil && !stopped {
				yield(reconcile.Item{}, err)
			}
		}
	})
}

// Fingerprint returns the digest of all entries of a replica: equal on two nodes exactly if they hold the same ones.
func (s *Store) Fingerprint(ctx context.Context, id ID) ([32]byte, error) {
	sum, err := reconcile.SummaryOf(ctx, s.EntrySet(id), reconcile.All)
	return sum.Hash(), err
}

func markOf(e *Entry, id [32]byte) (m reconcile.Mark) {
	m.ID = id
	binary.BigEndian.PutUint64(m.Element[:], e.Timestamp)
	copy(m.Element[8:], id[:])
	return m
}

func grantMark(id []byte) reconcile.Mark {
	return reconcile.Mark{ID: [32]byte(id), Element: reconcile.Element(id)}
}

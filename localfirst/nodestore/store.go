// Package nodestore keeps what an engine (package localfirst) remembers in the store of its node.
//
// What belongs here: a localfirst.Store among the node's records. What never belongs here: values
// of apps, what records mean, and other records of the node.
//
// Start at [Open].
package nodestore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"unicode/utf8"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/localfirst"
)

// MaxName is the most bytes of a store's name.
const MaxName = 255

// ErrName reports a name that no store can have.
var ErrName = kind.New(kind.Usage, "the name of a store is UTF-8 of 1 to 255 bytes")

func checkName(name string) error {
	if name == "" || len(name) > MaxName || !utf8.ValidString(name) {
		return fmt.Errorf("store %.64q: %w", name, ErrName)
	}
	return nil
}

// Store is a localfirst.Store in a node's. Its methods may be called at the same time, until the
// node is closed.
type Store struct {
	in   kv.Store
	name string
	at   []byte // what the keys of its records begin with
}

// Open returns the store of a name, which is the app's, in that of a node (node.Node.Store), and
// makes it if there is none. If a Drop was interrupted, it is finished first.
func Open(ctx context.Context, in kv.Store, name string) (*Store, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	s := &Store{in, name, recordsOf(name)}
	e, err := s.entry(ctx)
	if err == nil && e.dropped {
		if err := Drop(ctx, in, name); err != nil {
			return nil, err
		}
		err = kv.ErrNotFound
	}
	if errors.Is(err, kv.ErrNotFound) {
		err = s.mark(ctx, entry{name: name})
	}
	if err != nil {
		return nil, s.failed(err)
	}
	return s, nil
}

func (s *Store) entry(ctx context.Context) (e entry, err error) {
	err = s.in.View(ctx, func(r kv.Reader) error {
		return r.Peek(storeKey(s.name), func(b []byte) error {
			e, err = parseEntry(b)
			return err
		})
	})
	return e, err
}

// mark writes the record of the store.
func (s *Store) mark(ctx context.Context, e entry) error {
	return s.update(ctx, func(tx kv.Txn) error { return tx.Set(storeKey(s.name), e.marshal()) })
}

// update makes a transaction that is durable when it returns.
func (s *Store) update(ctx context.Context, f func(kv.Txn) error) error {
	if err := s.in.Update(ctx, f); err != nil {
		return err
	}
	return s.in.Sync(ctx)
}

func (s *Store) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the engine's store %.64q: %w", s.name, err)
}

// Names returns the names of the stores in a node's, in order, with those that are being dropped.
func Names(ctx context.Context, in kv.Store) (names []string, err error) {
	err = in.View(ctx, func(r kv.Reader) error {
		names = nil
		for p, err := range r.Scan(kv.Prefix([]byte(keyStore)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			e, err := parseEntry(p.Value)
			if err != nil {
				return err
			}
			names = append(names, e.name)
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

// Drop deletes a store, which no engine may have open. What it did not come to, Open and another
// Drop go on with. A name that no store has is no error.
func Drop(ctx context.Context, in kv.Store, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	s := &Store{in, name, recordsOf(name)}
	// A store of which a part is gone would look like one in which that was never known.
	if err := s.mark(ctx, entry{name, true}); err != nil {
		return s.failed(err)
	}
	for {
		all, err := s.some(ctx, s.at)
		if err == nil && len(all) > 0 {
			err = in.Batch(ctx, func(w kv.Writer) error { return deleteAll(w, all) })
		}
		if err != nil {
			return s.failed(err)
		}
		if len(all) == 0 {
			break
		}
	}
	return s.failed(s.update(ctx, func(tx kv.Txn) error { return tx.Delete(storeKey(name)) }))
}

func deleteAll(w kv.Writer, keys [][]byte) error {
	for _, k := range keys {
		if err := w.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// atOnce is how many records are deleted at once: their keys fit in a transaction.
const atOnce = 500

// some returns the keys of the first records whose keys begin with some bytes.
func (s *Store) some(ctx context.Context, begin []byte) (keys [][]byte, err error) {
	err = s.in.View(ctx, func(r kv.Reader) error {
		keys = nil
		for p, err := range r.Scan(kv.Prefix(begin), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			if keys = append(keys, bytes.Clone(p.Key)); len(keys) == atOnce {
				break
			}
		}
		return nil
	})
	return keys, err
}

func (s *Store) begin(k localfirst.Kind, namespace, collection string) []byte {
	b := make([]byte, 0, beforeKey+64)
	return appendCollection(appendGroup(append(b, s.at...), k, namespace), collection)
}

func (s *Store) keyOf(n *localfirst.Name) []byte {
	return appendKey(s.begin(n.Kind, n.Namespace, n.Collection), n.Key)
}

// Get implements localfirst.Store.
func (s *Store) Get(ctx context.Context, n localfirst.Name) (value []byte, err error) {
	k := s.keyOf(&n)
	err = s.in.View(ctx, func(r kv.Reader) error {
		return r.Peek(k, func(b []byte) error {
			_, v, err := parseRecord(k[beforeKey:], b)
			value = append([]byte{}, v...)
			return err
		})
	})
	if errors.Is(err, kv.ErrNotFound) {
		return nil, fmt.Errorf("record %s: %w", n, localfirst.ErrNotFound)
	}
	if err != nil {
		return nil, s.failed(err)
	}
	return value, nil
}

// errLeft ends a scan whose loop was left.
var errLeft = errors.New("the loop was left")

// Scan implements localfirst.Store.
func (s *Store) Scan(
	ctx context.Context, k localfirst.Kind, namespace, collection string,
) iter.Seq2[localfirst.Record, error] {
	return func(yield func(localfirst.Record, error) bool) {
		err := s.in.View(ctx, func(r kv.Reader) error {
			name := localfirst.Name{Kind: k, Namespace: namespace, Collection: collection}
			return scan(ctx, r, s.begin(k, namespace, collection), name, yield)
		})
		if err != nil && !errors.Is(err, errLeft) {
			yield(localfirst.Record{}, s.failed(err))
		}
	}
}

// scan yields records in the order of their keys. Long ones that begin alike come in the order of
// their hashes, so they are gathered and sorted.
func scan(
	ctx context.Context, r kv.Reader, begin []byte, name localfirst.Name,
	yield func(localfirst.Record, error) bool,
) error {
	var alike []localfirst.Record
	var first []byte // what they begin with
	flush := func() error {
		slices.SortFunc(alike, func(a, b localfirst.Record) int { return cmp.Compare(a.Key, b.Key) })
		for _, r := range alike {
			if !yield(r, nil) {
				return errLeft
			}
		}
		alike = alike[:0]
		return nil
	}
	for p, err := range r.Scan(kv.Prefix(begin), kv.ScanOptions{}) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		k := p.Key[beforeKey:]
		key, value, err := parseRecord(k, p.Value)
		if err != nil {
			return err
		}
		if len(alike) > 0 && (len(k) <= cut || !bytes.Equal(k[:cut], first)) {
			if err := flush(); err != nil {
				return err
			}
		}
		name.Key = key
		if len(k) > cut {
			first = append(first[:0], k[:cut]...)
			alike = append(alike, localfirst.Record{Name: name, Value: append([]byte{}, value...)})
			continue
		}
		if !yield(localfirst.Record{Name: name, Value: value}, nil) {
			return errLeft
		}
	}
	return flush()
}

// Apply implements localfirst.Store.
func (s *Store) Apply(ctx context.Context, all []localfirst.Record) error {
	if err := localfirst.CheckBatch(all); err != nil || len(all) == 0 {
		return err
	}
	return s.failed(s.update(ctx, func(tx kv.Txn) error {
		for i := range all {
			r := &all[i]
			var err error
			if k := s.keyOf(&r.Name); r.Value == nil {
				err = tx.Delete(k)
			} else {
				err = tx.Set(k, marshalRecord(r.Key, r.Value))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// ForgetIdentitySecrets implements localfirst.Store.
func (s *Store) ForgetIdentitySecrets(ctx context.Context, keyID string) error {
	begin := appendGroup(slices.Clone(s.at), localfirst.SecretRecord, keyID)
	for {
		all, err := s.some(ctx, begin)
		if err != nil {
			return s.failed(err)
		}
		if len(all) == 0 {
			return nil
		}
		if err := s.update(ctx, func(tx kv.Txn) error { return deleteAll(tx, all) }); err != nil {
			return s.failed(err)
		}
	}
}

var _ localfirst.Store = (*Store)(nil)

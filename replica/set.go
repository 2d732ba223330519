package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"sync"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/reconcile/tree"
)

// entrySet is the set of a replica's entries for reconciliation: the key is the order bytes, the id
// the hash of the signed bytes, the element the timestamp and the first 8 bytes of the id, the data
// the entry with its signature.
type entrySet struct {
	s  *Store
	id ID
}

var _ reconcile.Set = entrySet{}

// EntrySet returns the set of a replica's entries. Its summaries come from the tree.
func (s *Store) EntrySet(id ID) reconcile.Set { return entrySet{s, id} }

// PrefixRange is the range of an EntrySet that holds the entries whose keys begin with prefix.
func PrefixRange(prefix []byte) reconcile.Range {
	r := orderOfPrefix(prefix)
	return reconcile.Range{From: r.From, To: r.To}
}

func (s entrySet) Summaries(
	ctx context.Context, bounds [][]byte,
) (sums []reconcile.Summary, err error) {
	err = s.s.view(ctx, s.id, func(rd kv.Reader, r *Replica) error {
		sums, err = treeOf(r).Summaries(rd, bounds)
		if errors.Is(err, tree.ErrNoTree) {
			sums, err = make([]reconcile.Summary, len(bounds)-1), needsNoTree(rd, r)
		}
		return err
	})
	return sums, err
}

func (s entrySet) Split(
	ctx context.Context, span reconcile.Range, k int,
) (parts []reconcile.Part, err error) {
	err = s.s.view(ctx, s.id, func(rd kv.Reader, r *Replica) error {
		parts, err = treeOf(r).Split(rd, span, k)
		if errors.Is(err, tree.ErrNoTree) {
			parts, err = []reconcile.Part{{Range: span}}, needsNoTree(rd, r)
		}
		return err
	})
	return parts, err
}

func orderRange(r reconcile.Range) kv.Range {
	if len(r.To) == 0 {
		return kv.Range{From: r.From}
	}
	return kv.Range{From: r.From, To: r.To}
}

// itemBuffers are used again for each item.
type itemBuffers struct{ key, data []byte }

func (b *itemBuffers) item(e *Entry) reconcile.Item {
	b.key = append(append(appendEscaped(b.key[:0], e.Key), 0, endOfKey), e.Author[:]...)
	signed := e.signedBytes(b.data[:0])
	b.data = append(signed, e.Signature[:]...)
	return reconcile.Item{Key: b.key, Mark: markOf(e.Timestamp, hashOf(signed)), Data: b.data}
}

func (s entrySet) Items(
	ctx context.Context, span reconcile.Range,
) iter.Seq2[reconcile.Item, error] {
	return s.yield(ctx, func(rd kv.Reader, r *Replica, visit func(*Entry) bool) error {
		return walkEntries(rd, r, orderRange(span), false, func(e Entry) bool { return visit(&e) })
	})
}

func (s entrySet) Find(
	ctx context.Context, span reconcile.Range, elements []reconcile.Element,
) iter.Seq2[reconcile.Item, error] {
	within := func(e *Entry) bool { return span.Contains(orderBytes(e.Key, e.Author)) }
	return s.yield(ctx, func(rd kv.Reader, r *Replica, visit func(*Entry) bool) error {
		authors := writerIDs{rd: rd, of: r.number}
		for _, element := range elements {
			for p, err := range rd.Scan(
				kv.Prefix(append(numberKey(keyByTime, r.number), element[:]...)), kv.ScanOptions{},
			) {
				if err != nil {
					return err
				}
				if len(p.Value) < 4 {
					return errBadRecord
				}
				author, err := authors.get(binary.BigEndian.Uint32(p.Value))
				if err != nil {
					return err
				}
				e, err := getEntry(rd, r, bytes.Clone(p.Value[4:]), author)
				if err != nil {
					return err
				}
				if within(&e) && !visit(&e) {
					return nil
				}
			}
		}
		return nil
	})
}

func (s entrySet) yield(
	ctx context.Context, run func(kv.Reader, *Replica, func(*Entry) bool) error,
) iter.Seq2[reconcile.Item, error] {
	return func(yield func(reconcile.Item, error) bool) {
		var buf itemBuffers
		stopped := false
		err := s.s.view(ctx, s.id, func(rd kv.Reader, r *Replica) error {
			return run(rd, r, func(e *Entry) bool {
				stopped = !yield(buf.item(e), nil)
				return !stopped
			})
		})
		if err != nil && !stopped {
			yield(reconcile.Item{}, err)
		}
	}
}

// treeItems yields what the tree needs to know of entries.
func (r *Replica) treeItems(rd kv.Reader, span reconcile.Range) iter.Seq2[tree.Item, error] {
	return func(yield func(tree.Item, error) bool) {
		var buf itemBuffers
		stopped := false
		err := walkEntries(rd, r, orderRange(span), false, func(e Entry) bool {
			it := buf.item(&e)
			stopped = !yield(tree.Item{Key: it.Key, Mark: it.Mark}, nil)
			return !stopped
		})
		if err != nil && !stopped {
			yield(tree.Item{}, err)
		}
	}
}

// Fingerprint returns the digest of all entries of a replica: equal on two nodes exactly if they
// hold the same ones. It returns ErrNotFound.
func (s *Store) Fingerprint(ctx context.Context, id ID) ([32]byte, error) {
	sum, err := reconcile.SummaryOf(ctx, s.EntrySet(id), reconcile.All)
	return sum.Hash(), err
}

// SharedFingerprint is the digest of what a replica's holders agree on, its entries and its
// statements: equal on two nodes exactly if a session would find nothing to do. It is remembered
// until the replica changes. It returns ErrNotFound.
func (s *Store) SharedFingerprint(ctx context.Context, id ID) ([32]byte, error) {
	if f, ok := s.prints.get(id); ok {
		return f, nil
	}
	before := s.prints.now()
	entries, err := reconcile.SummaryOf(ctx, s.EntrySet(id), reconcile.All)
	if err != nil {
		return [32]byte{}, err
	}
	st, err := s.StatementsFingerprint(ctx, id)
	if err != nil {
		return [32]byte{}, err
	}
	e := entries.Hash()
	f := hashOf(append(e[:], st[:]...))
	s.prints.put(id, f, before)
	return f, nil
}

// StatementsFingerprint is the digest of a replica's statements. It is remembered until they
// change.
func (s *Store) StatementsFingerprint(ctx context.Context, id ID) ([32]byte, error) {
	if f, ok := s.statementPrints.get(id); ok {
		return f, nil
	}
	before := s.statementPrints.now()
	sum, err := reconcile.SummaryOf(ctx, s.StatementSet(id), reconcile.All)
	if err != nil {
		return [32]byte{}, err
	}
	f := sum.Hash()
	s.statementPrints.put(id, f, before)
	return f, nil
}

// maxPrints is the number of fingerprints that are remembered.
const maxPrints = 1 << 17

// prints remembers fingerprints.
type prints struct {
	mu      sync.Mutex
	known   map[ID][32]byte
	changes uint64 // of all replicas
}

func (p *prints) get(id ID) (f [32]byte, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok = p.known[id]
	return f, ok
}

func (p *prints) now() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changes
}

// put remembers a fingerprint, unless something has changed since.
func (p *prints) put(id ID, f [32]byte, since uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changes != since {
		return
	}
	if p.known == nil || len(p.known) >= maxPrints {
		p.known = map[ID][32]byte{}
	}
	p.known[id] = f
}

// changed forgets that of a replica, after a transaction that has changed it.
func (p *prints) changed(id ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes++
	delete(p.known, id)
}

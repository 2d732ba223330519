package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/reconcile/tree"
)

// CheckReport is what Check has found.
type CheckReport struct {
	Entries     uint64   // that were read, with tombstones
	Bad         uint64   // of these, entries that should not be there: a wrong signature, or no grant
	Fingerprint [32]byte // of all entries, computed from them
	Faults      []string // what does not agree with the entries: indexes, counts, the tree
	Repaired    bool     // the faults have been mended
}

// maxFaults is how many faults a report names.
const maxFaults = 16

// Check reads every entry of the replica id, verifies its signature and grant, and compares the
// indexes, the counts and the summary tree with what the entries say. It verifies every statement,
// and that the store keeps those that it should (see delegated.go). With repair, all indexes are
// written anew if one is wrong, and statements that should not be there are deleted; entries are
// never changed. Writers wait meanwhile. progress, if set, is told how many entries have been read.
// It returns ErrNotFound.
func (s *Store) Check(
	ctx context.Context, id ID, repair bool, progress func(entries uint64),
) (rep CheckReport, err error) {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	var r Replica
	var stated checkedStatements
	err = s.view(ctx, id, func(rd kv.Reader, held *Replica) error {
		r = *held
		c := checking{
			s: s, rd: rd, r: held, rep: &rep, progress: progress, writers: map[AuthorID]*writer{},
		}
		err := errors.Join(c.run(ctx), c.statements(ctx))
		stated = c.stated
		return err
	})
	if err != nil || !repair || len(rep.Faults) == 0 {
		return rep, err
	}
	if err := errors.Join(s.repairStatements(ctx, id, &stated), s.rebuild(ctx, &r)); err != nil {
		return rep, fmt.Errorf("repair replica %s: %w", id.Short(), err)
	}
	rep.Repaired = true
	return rep, s.kv.Sync(ctx)
}

type checking struct {
	s        *Store
	rd       kv.Reader
	r        *Replica
	rep      *CheckReport
	progress func(uint64)
	counts   Counts
	writers  map[AuthorID]*writer
	batch    []Entry
	stated   checkedStatements
}

func (c *checking) fault(format string, args ...any) {
	if len(c.rep.Faults) < maxFaults {
		c.rep.Faults = append(c.rep.Faults, fmt.Sprintf(format, args...))
	}
}

func (c *checking) run(ctx context.Context) error {
	var failed error
	err := walkEntries(c.rd, c.r, kv.Range{}, false, func(e Entry) bool {
		failed = errors.Join(ctx.Err(), c.entry(&e))
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if err := c.signatures(); err != nil {
		return err
	}
	if c.progress != nil {
		c.progress(c.rep.Entries)
	}
	if err := c.sums(); err != nil {
		return err
	}
	return c.tree()
}

func (c *checking) entry(e *Entry) error {
	c.rep.Entries++
	c.counts.add(e, 1)
	w := c.writers[e.Author]
	if w == nil {
		w = &writer{}
		c.writers[e.Author] = w
	}
	w.entries++
	id := e.ID()
	err := c.rd.Peek(timeKey(c.r.number, e.Timestamp, &id), func(b []byte) error {
		if len(b) < 4 || !bytes.Equal(b[4:], e.Key) {
			return errBadRecord
		}
		ids := writerIDs{rd: c.rd, of: c.r.number}
		author, err := ids.get(binary.BigEndian.Uint32(b))
		if err == nil && author != e.Author {
			return errBadRecord
		}
		return err
	})
	if errors.Is(err, kv.ErrNotFound) || errors.Is(err, errBadRecord) {
		c.fault(
			"entry %q by %s: its record by time is missing or wrong", e.Key[:min(64, len(e.Key))], e.Author,
		)
	} else if err != nil {
		return err
	}
	c.batch = append(c.batch, *e)
	if len(c.batch) == batchSize {
		return c.signatures()
	}
	return nil
}

// signatures verifies what has been collected.
func (c *checking) signatures() error {
	good, _ := c.s.verifyAll(c.batch)
	c.rep.Bad += uint64(len(c.batch) - len(good))
	allows := map[AuthorID]Authority{}
	for i := range good {
		e := &good[i]
		a, ok := allows[e.Author]
		if !ok {
			var err error
			if a, err = authority(c.rd, c.r.ID, e.Author); err != nil {
				return err
			}
			allows[e.Author] = a
		}
		if !a.Allows(e) {
			c.rep.Bad++
		}
	}
	c.batch = c.batch[:0]
	if c.progress != nil {
		c.progress(c.rep.Entries)
	}
	return nil
}

// sums compares counts, authors and the number of records by time.
func (c *checking) sums() error {
	have, err := getTally(c.rd, c.r.number)
	if err != nil && !errors.Is(err, errBadRecord) {
		return err
	}
	if have.Entries != c.counts.Entries || have.Tombstones != c.counts.Tombstones {
		c.fault(
			"the counts are %d entries and %d tombstones, there are %d and %d", have.Entries,
			have.Tombstones, c.counts.Entries, c.counts.Tombstones,
		)
	}
	for author, want := range c.writers {
		w, err := getWriter(c.rd, c.r.number, author)
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, errBadRecord) {
			return err
		}
		if w.entries != want.entries {
			c.fault("author %s has %d entries, recorded are %d", author, want.entries, w.entries)
		}
	}
	prefix := numberKey(keyWriter, c.r.number)
	for p, err := range c.rd.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
		if err != nil {
			return err
		}
		author := AuthorID(p.Key[len(prefix):])
		if w, err := parseWriter(p.Value); c.writers[author] == nil && (err != nil || w.entries != 0) {
			c.fault("author %s has no entries, recorded are %d", author, w.entries)
		}
	}
	var byTime uint64
	for _, err := range c.rd.Scan(
		kv.Prefix(numberKey(keyByTime, c.r.number)), kv.ScanOptions{KeysOnly: true},
	) {
		if err != nil {
			return err
		}
		byTime++
	}
	if byTime != c.rep.Entries {
		c.fault("there are %d records by time for %d entries", byTime, c.rep.Entries)
	}
	return nil
}

func (c *checking) tree() error {
	total, err := treeOf(c.r).Verify(c.rd)
	var fault *tree.Fault
	switch {
	case errors.As(err, &fault):
		c.fault("%v", fault)
	case errors.Is(err, tree.ErrNoTree):
		if c.rep.Entries > 0 {
			c.fault("%v", err)
		}
	case err != nil:
		return err
	default:
		c.rep.Fingerprint = total.Hash()
		return nil
	}
	var sum reconcile.Summary
	for it, err := range c.r.treeItems(c.rd, reconcile.All) {
		if err != nil {
			return err
		}
		sum.Add(it.Mark)
	}
	c.rep.Fingerprint = sum.Hash()
	return nil
}

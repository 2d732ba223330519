package blobs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"syscall"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
)

// Damage is a part of a blob whose stored bytes no longer give its hash.
type Damage struct {
	Hash  Hash
	Range Range // bytes
	Cause string
	Tree  bool // the hash tree above the bytes is damaged
}

// A DamageError reports a blob of which what is stored here is not what its name says. Nobody else
// is at fault: the content is to be fetched again.
type DamageError struct {
	Hash   Hash
	Damage []Damage
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("blob %s is damaged in this node's store: skerry blob verify --repair %s "+
		"fetches it again from peers", e.Hash.Short(), e.Hash)
}

// Kind implements kind.Of.
func (e *DamageError) Kind() kind.Kind { return kind.Verification }

func (d Damage) String() string {
	return fmt.Sprintf("blob %s: bytes %d to %d: %s", d.Hash, d.Range.Start, d.Range.End, d.Cause)
}

// Verify hashes all content of the blob h that the store has and compares it with the tree and the
// name. It returns what is damaged, or ErrNotFound. progress, if not nil, is told the bytes looked
// at so far.
//
// Damage is proved: a hash that does not match, or content that does not exist. Content that cannot
// be looked at now (no permission, too many open files, a fault of the device) is an error, and
// says nothing about the blob; what Verify returns as damaged beside an error is still damaged.
func (s *Store) Verify(ctx context.Context, h Hash, progress func(bytes uint64)) ([]Damage, error) {
	return s.verify(ctx, h, Everything, progress)
}

// Check hashes again what the store has of the byte ranges of the blob h. It returns a *DamageError
// if some of it is damaged, else the errors of Verify. Whoever finds that a stored blob does not
// make sense calls it before blaming somebody for that.
func (s *Store) Check(ctx context.Context, h Hash, ranges Ranges) error {
	damage, err := s.verify(ctx, h, ranges, nil)
	if len(damage) > 0 {
		return &DamageError{h, damage}
	}
	return err
}

func (s *Store) verify(
	ctx context.Context, h Hash, ranges Ranges, progress func(bytes uint64),
) ([]Damage, error) {
	if progress == nil {
		progress = func(uint64) {}
	}
	v := verifier{ctx: ctx, h: h, progress: progress}
	err := s.kv.View(ctx, func(r kv.Reader) (err error) {
		if v.c, err = s.openContent(r, h); err != nil {
			return err
		}
		v.r = r
		if v.c.rec.state == stateInline {
			return v.inline()
		}
		v.have, err = presentGroups(r, v.c.rec)
		if errors.Is(err, errMalformed) {
			v.reportTree(Range{0, v.c.g.counts[0]}, "the list of its parts is damaged")
			return nil
		}
		if err != nil {
			return err
		}
		v.have = v.have.Intersect(ranges.groupsOf(v.c.rec.size))
		return v.block(v.c.g.top(), 0, h, true)
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("verify blob %s: %w", h.Short(), err)
	}
	return v.damage, err
}

// provesDamage reports whether an error of looking at content means that the content is not there
// any more, or is not what was stored. All other errors may be gone the next time.
func provesDamage(err error) bool {
	if ref, ok := errors.AsType[*ReferenceError](err); ok && ref.Err == nil {
		return true // the file has other content
	}
	_, special := errors.AsType[*disk.NotRegularError](err)
	return special || errors.Is(err, errGone) || errors.Is(err, errMalformed) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, syscall.ENOTDIR) // a file has the place of the directory that it was in
}

type verifier struct {
	ctx      context.Context
	r        kv.Reader
	h        Hash
	c        content
	have     Ranges // groups
	done     uint64
	progress func(uint64)
	damage   []Damage
	buf      []byte
}

func (v *verifier) inline() error {
	data, err := v.c.inline(v.r)
	if err != nil && !provesDamage(err) {
		return err
	}
	if err != nil || uint64(len(data)) != v.c.rec.size || HashOf(data) != v.h {
		v.report(Range{0, 1}, "content does not match")
	}
	v.progress(v.c.rec.size)
	return nil
}

func (v *verifier) report(groups Range, cause string) {
	size := v.c.rec.size
	v.damage = append(
		v.damage,
		Damage{
			Hash: v.h, Range: Range{groups.Start * GroupSize, min(groups.End*GroupSize, size)}, Cause: cause,
		},
	)
}

func (v *verifier) reportTree(groups Range, cause string) {
	v.report(groups, cause)
	v.damage[len(v.damage)-1].Tree = true
}

func (v *verifier) block(level int, index uint64, cv Hash, root bool) error {
	if err := v.ctx.Err(); err != nil {
		return err
	}
	n := v.c.g.children(level, index)
	groups := v.c.g.groups(level, index, 0, n)
	if !v.have.Overlaps(groups) {
		return nil
	}
	if level == 0 {
		return v.segment(index, cv, root)
	}
	var tree []byte
	if n > 1 {
		var err error
		switch tree, err = v.c.upper(v.r, level, index); {
		case provesDamage(err):
			v.reportTree(groups, "hash tree is missing")
			return nil
		case err != nil:
			return err
		}
	}
	return v.node(tree, level, index, 0, n, cv, root)
}

func (v *verifier) node(
	tree []byte, level int, index uint64, first, n int, cv Hash, root bool,
) error {
	groups := v.c.g.groups(level, index, first, n)
	if !v.have.Overlaps(groups) {
		return nil
	}
	if n == 1 {
		return v.block(level-1, index*fanOut+uint64(first), cv, root)
	}
	if hashParent(tree[:parentSize], root) != cv {
		v.reportTree(groups, "hash tree does not match")
		return nil
	}
	l := leftCount(n)
	if err := v.node(
		tree[parentSize:], level, index, first, l, Hash(tree[:HashSize]), false,
	); err != nil {
		return err
	}
	return v.node(
		tree[l*parentSize:], level, index, first+l, n-l, Hash(tree[HashSize:parentSize]), false,
	)
}

// segment checks the groups of a segment, each by itself, so that all damage is found.
func (v *verifier) segment(index uint64, cv Hash, root bool) error {
	groups := v.c.g.groups(0, index, 0, v.c.g.children(0, index))
	view, err := v.c.viewSegment(v.r, index)
	switch {
	case provesDamage(err):
		v.reportTree(groups, "hash tree is missing")
		return nil
	case err != nil:
		return err
	}
	x, err := v.c.bytes()
	switch {
	case provesDamage(err):
		v.report(groups, missingCause(err))
		return nil
	case err != nil:
		return err
	}
	defer x.close()
	if v.c.rec.state == statePacked {
		switch view.tree, err = v.c.packedTree(x); {
		case provesDamage(err):
			v.report(groups, "content is missing")
			return nil
		case err != nil:
			return err
		}
	}
	if v.buf == nil {
		v.buf = make([]byte, GroupSize)
	}
	if err := v.groups(x, view, view.tree, 0, view.n, cv, root); err != nil {
		return err
	}
	v.done += uint64(bits.OnesCount32(view.mask)) * GroupSize
	v.progress(min(v.done, v.c.rec.size))
	return nil
}

func missingCause(err error) string {
	var ref *ReferenceError
	if errors.As(err, &ref) {
		return ref.Error()
	}
	return "content is missing"
}

func (v *verifier) groups(
	x source, view segmentView, tree []byte, first, n int, cv Hash, root bool,
) error {
	at := Range{view.first + uint64(first), view.first + uint64(first+n)}
	if !v.have.Overlaps(at) {
		return nil
	}
	if n == 1 {
		data := v.buf[:groupLen(v.c.rec.size, at.Start)]
		err := x.readAt(data, at.Start*GroupSize)
		switch {
		case err != nil && !provesDamage(err):
			return fmt.Errorf("at byte %d: %w", at.Start*GroupSize, err)
		case v.c.rec.state == stateReferenced && (err != nil || hashGroup(data, at.Start, root) != cv):
			v.report(at, v.c.referenceFault(err).Error())
		case err != nil:
			v.report(at, "content is missing")
		case hashGroup(data, at.Start, root) != cv:
			v.report(at, "content does not match")
		}
		return nil
	}
	if hashParent(tree[:parentSize], root) != cv {
		v.reportTree(at, "hash tree does not match")
		return nil
	}
	l := leftCount(n)
	err := v.groups(x, view, tree[parentSize:], first, l, Hash(tree[:HashSize]), false)
	if err != nil {
		return err
	}
	return v.groups(x, view, tree[l*parentSize:], first+l, n-l, Hash(tree[HashSize:parentSize]), false)
}

// Replaceable returns what to ask a peer for, so that it can take the place of what is damaged of
// the blob h (see NewReplacer): size, the length of the blob in bytes, and ranges, at least one.
// whole means that ranges is all of the blob, and that its size must be proved first.
//
// ok is false if the store cannot replace a part of this blob: it is larger than a segment and lies
// in a file of the user's, which is not written to, or its list of parts is damaged. The ranges are
// then those that are damaged, by which a peer can show that it has them before Drop.
func (s *Store) Replaceable(ctx context.Context, h Hash, damage []Damage) (
	size uint64, ranges Ranges, whole, ok bool, err error,
) {
	rec, err := s.lookUp(ctx, h)
	switch {
	case err != nil:
		return 0, nil, false, false, err
	case !rec.hasFile() && rec.size <= SegmentSize:
		return rec.size, Everything, true, true, nil
	}
	var all []Range
	for _, d := range damage {
		r := d.Range
		if d.Tree { // to mend a tree takes all that is below it
			r.Start -= r.Start % SegmentSize
			r.End = min(
				r.Start+max(SegmentSize, (r.End-r.Start+SegmentSize-1)/SegmentSize*SegmentSize),
				rec.size,
			)
		}
		all = append(all, Range{r.Start, max(r.End, r.Start+1)})
	}
	ok = rec.hasFile()
	if rec.state == statePartial {
		err = s.kv.View(ctx, func(r kv.Reader) error {
			_, err := presentGroups(r, rec)
			return err
		})
		if errors.Is(err, errMalformed) { // what is here of it cannot be told
			ok, err = false, nil
		}
	}
	return rec.size, NewRanges(all...), false, ok, err
}

// Drop forgets what is damaged, so that it can be fetched again: the groups, of a blob that has a
// file of its own; of another, or if the last group or the upper tree is damaged, the whole blob.
// Of a segment whose tree is damaged, all goes.
func (s *Store) Drop(ctx context.Context, h Hash, damage []Damage) error {
	if len(damage) == 0 {
		return nil
	}
	rec, err := s.lookUp(ctx, h)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	bad, segments := damagedGroups(rec.size, damage)
	count := groupCount(rec.size)
	// Without its last group, the size of a blob is not proved.
	if !rec.hasFile() || segments == nil || bad.Overlaps(Range{count - 1, count}) {
		err := s.Delete(ctx, h)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	if rec.state == stateComplete {
		// The masks of a complete blob are not looked at, so they may be written before the record says
		// that it is partial.
		if err := s.writeMasks(ctx, rec); err != nil {
			return fmt.Errorf("drop damaged content of blob %s: %w", h.Short(), err)
		}
	}
	err = s.kv.Update(ctx, func(tx kv.Txn) error {
		now, err := getRecord(tx, h)
		if err != nil || now.state != rec.state || now.id != rec.id {
			return err
		}
		if now.state == stateComplete {
			now.state, now.have = statePartial, count
		}
		for index, whole := range segments {
			mask, err := getMask(tx, now.id, index)
			if err != nil {
				return err
			}
			n := newGeometry(now.size).children(0, index)
			lost := fullMask(n)
			if !whole {
				lost = maskOf(bad, index, n)
			} else if err := tx.Delete(blockKey(now.id, 0, index)); err != nil {
				return err
			}
			now.have -= uint64(bits.OnesCount32(mask & lost))
			if err := tx.Set(
				maskKey(now.id, index), binary.LittleEndian.AppendUint32(nil, mask&^lost),
			); err != nil {
				return err
			}
		}
		return tx.Set(recordKey(h), now.marshal())
	})
	if err != nil {
		return fmt.Errorf("drop damaged content of blob %s: %w", h.Short(), err)
	}
	return nil
}

// damagedGroups returns the groups of the damage, and the segments they lie in, with whether all of
// a segment is lost. segments is nil if the tree above segments is damaged, or there is too much to
// note.
func damagedGroups(size uint64, damage []Damage) (bad Ranges, segments map[uint64]bool) {
	const most = 4096
	segments = map[uint64]bool{}
	var all []Range
	for _, d := range damage {
		groups := Range{
			d.Range.Start / GroupSize, max((d.Range.End+GroupSize-1)/GroupSize, d.Range.Start/GroupSize+1),
		}
		first, last := groups.Start/fanOut, (groups.End-1)/fanOut
		if d.Tree && first != last || last-first+uint64(len(segments)) > most {
			return nil, nil
		}
		if d.Tree {
			groups = Range{first * fanOut, min((first+1)*fanOut, groupCount(size))}
		}
		for i := first; i <= last; i++ {
			segments[i] = segments[i] || d.Tree
		}
		all = append(all, groups)
	}
	return NewRanges(all...), segments
}

// maskOf returns which of the n groups of a segment are in groups.
func maskOf(groups Ranges, index uint64, n int) (mask uint32) {
	for _, r := range groups.Intersect(Ranges{{index * fanOut, index*fanOut + uint64(n)}}) {
		mask |= fullMask(int(r.End-r.Start)) << (r.Start - index*fanOut)
	}
	return mask
}

// writeMasks notes every group of a complete blob as there.
func (s *Store) writeMasks(ctx context.Context, rec record) error {
	g := newGeometry(rec.size)
	return s.kv.Batch(ctx, func(w kv.Writer) error {
		for index := range (g.counts[0] + fanOut - 1) / fanOut {
			mask := fullMask(g.children(0, index))
			if err := w.Set(
				maskKey(rec.id, index), binary.LittleEndian.AppendUint32(nil, mask),
			); err != nil {
				return err
			}
		}
		return nil
	})
}

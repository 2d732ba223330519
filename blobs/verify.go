package blobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/kv"
)

// Damage is a part of a blob whose stored bytes no longer give its hash.
type Damage struct {
	Hash  Hash
	Range Range // bytes; the whole blob if its upper tree is damaged
	Cause string
}

func (d Damage) String() string {
	return fmt.Sprintf("blob %s: bytes %d to %d: %s", d.Hash, d.Range.Start, d.Range.End, d.Cause)
}

// Verify hashes all content of the blob h that the store has and compares it with the tree and the name. It returns what is damaged, or
// ErrNotFound. progress, if not nil, is told the bytes looked at so far.
func (s *Store) Verify(ctx context.Context, h Hash, progress func(bytes uint64)) ([]Damage, error) {
	if progress == nil {
		progress = func(uint64) {}
	}
	v := verifier{ctx: ctx, s: s, h: h, progress: progress}
	err := s.kv.View(ctx, func(r kv.Reader) error {
		rec, err := getRecord(r, h)
		if err != nil {
			return err
		}
		v.r, v.rec, v.g = r, rec, newGeometry(rec.size)
		if rec.state == stateInline {
			return v.inline()
		}
		present, err := presentGroups(r, rec)
		if err != nil {
			return err
		}
		v.have = present
		return v.block(v.g.top(), 0, h, true)
	})
	return v.damage, err
}

type verifier struct {
	ctx      context.Context
	s        *Store
	r        kv.Reader
	h        Hash
	rec      record
	g        geometry
	have     Ranges // groups
	done     uint64
	progress func(uint64)
	damage   []Damage
}

func (v *verifier) inline() error {
	data, err := v.r.Get(inlineKey(v.h))
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	if err != nil || uint64(len(data)) != v.rec.size || HashOf(data) != v.h {
		v.report(Range{0, 1}, "content does not match")
	}
	v.progress(v.rec.size)
	return nil
}

func (v *verifier) report(groups Range, cause string) {
	v.damage = append(v.damage, Damage{v.h, Range{groups.Start * GroupSize, min(groups.End*GroupSize, v.rec.size)}, cause})
}

func (v *verifier) block(level int, index uint64, cv Hash, root bool) error {
	if err := v.ctx.Err(); err != nil {
		return err
	}
	n := v.g.children(level, index)
	groups := v.g.groups(level, index, 0, n)
	if !v.have.Overlaps(groups) {
		return nil
	}
	if level == 0 {
		return v.segment(index, cv, root)
	}
	var tree []byte
	if n > 1 {
		var err error
		tree, err = v.r.Get(blockKey(v.rec.id, level, index))
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return err
		}
		if err != nil || len(tree) != treeBytes(n) {
			v.report(groups, "hash tree is missing")
			return nil
		}
	}
	return v.node(tree, level, index, 0, n, cv, root)
}

func (v *verifier) node(tree []byte, level int, index uint64, first, n int, cv Hash, root bool) error {
	groups := v.g.groups(level, index, first, n)
	if !v.have.Overlaps(groups) {
		return nil
	}
	if n == 1 {
		return v.block(level-1, index*fanOut+uint64(first), cv, root)
	}
	if hashParent(tree[:parentSize], root) != cv {
		v.report(groups, "hash tree does not match")
		return nil
	}
	l := leftCount(n)
	if err := v.node(tree[parentSize:], level, index, first, l, Hash(tree[:HashSize]), false); err != nil {
		return err
	}
	return v.node(tree[l*parentSize:], level, index, first+l, n-l, Hash(tree[HashSize:parentSize]), false)
}

// segment checks the groups of a segment, each by itself, so that all damage is found.
func (v *verifier) segment(index uint64, cv Hash, root bool) error {
	var s storedSegment
	value, err := v.r.Get(blockKey(v.rec.id, 0, index))
	if err == nil {
		s, err = parseSegment(value, v.g, index)
	}
	if err != nil {
		n := v.g.children(0, index)
		v.report(v.g.groups(0, index, 0, n), "segment is missing or malformed")
		return nil
	}
	v.groups(s, s.tree, 0, s.n, cv, root)
	v.done += uint64(len(s.content))
	v.progress(v.done)
	return nil
}

func (v *verifier) groups(s storedSegment, tree []byte, first, n int, cv Hash, root bool) {
	at := Range{s.first + uint64(first), s.first + uint64(first+n)}
	if !v.have.Overlaps(at) {
		return
	}
	if n == 1 {
		group := s.group(first)
		if group == nil || hashGroup(group, at.Start, root) != cv {
			v.report(at, "content does not match")
		}
		return
	}
	if hashParent(tree[:parentSize], root) != cv {
		v.report(at, "hash tree does not match")
		return
	}
	l := leftCount(n)
	v.groups(s, tree[parentSize:], first, l, Hash(tree[:HashSize]), false)
	v.groups(s, tree[l*parentSize:], first+l, n-l, Hash(tree[HashSize:parentSize]), false)
}

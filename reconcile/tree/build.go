package tree

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/reconcile"
)

// Build writes the tree of all items in rd. No records of a tree may be under the prefix. The
// height is written last, so a tree that is not finished is none.
func (t *Tree) Build(rd kv.Reader, w kv.Writer) error {
	b := building{t: t, w: w}
	for it, err := range t.Items(rd, reconcile.All) {
		if err == nil {
			err = b.add(it)
		}
		if err != nil {
			return fmt.Errorf("build summary tree: %w", err)
		}
	}
	return b.finish()
}

// building holds the node under way of each level.
type building struct {
	t      *Tree
	w      kv.Writer
	levels []*node // from level 1
}

func (b *building) add(it Item) error {
	if len(b.levels) == 0 {
		b.levels = []*node{{}}
	}
	bound := b.t.Bound(it.Key)
	h := levelOf(bound)
	if h == 0 && b.levels[0].sum.Count >= crowded<<fanoutLog && bound != nil {
		h = 1
	}
	if h > 0 && !bytes.Equal(bound, b.levels[0].bound) {
		if err := b.cut(h, bytes.Clone(bound)); err != nil {
			return err
		}
	}
	b.levels[0].sum.Add(it.Mark)
	b.levels[0].last = append(b.levels[0].last[:0], it.Key[:min(len(it.Key), maxLast)]...)
	return nil
}

// cut ends the nodes of levels 1 to h, and begins new ones at bound.
func (b *building) cut(h int, bound []byte) error {
	for level := 1; level <= h; level++ {
		n := b.levels[level-1]
		if level == len(b.levels) {
			b.levels = append(b.levels, &node{})
		}
		if err := b.end(level, n); err != nil {
			return err
		}
		b.levels[level-1] = &node{bound: bound}
	}
	return nil
}

func (b *building) end(level int, n *node) error {
	if level < len(b.levels) {
		up := b.levels[level]
		up.sum.Merge(&n.sum)
		up.last = later(up.last, n.last)
	}
	if err := b.w.Set(b.t.key(level, bounds, n.bound), nil); err != nil {
		return err
	}
	return b.w.Set(b.t.key(level, nodes, n.bound), n.marshal())
}

func (b *building) finish() error {
	if len(b.levels) == 0 {
		b.levels = []*node{{}}
	}
	for level := 1; level <= len(b.levels); level++ {
		if err := b.end(level, b.levels[level-1]); err != nil {
			return err
		}
	}
	return b.t.setHeight(b.w, len(b.levels))
}

// Fault is a difference between the tree and the items.
type Fault struct {
	Level int
	Bound []byte
	What  string
}

func (f *Fault) Error() string {
	return fmt.Sprintf("summary tree: node %d/%x: %s", f.Level, f.Bound, f.What)
}

// Verify computes every node from the items and returns the summary of them all. The error is a
// *Fault that names the first node that is wrong, or ErrNoTree.
func (t *Tree) Verify(rd kv.Reader) (total reconcile.Summary, err error) {
	h, err := t.height(rd)
	if errors.Is(err, ErrNoTree) {
		return total, err
	}
	if err != nil {
		return total, err
	}
	v := verifying{t: t, rd: rd, levels: make([]verifiedLevel, h)}
	for i := range v.levels {
		l := &v.levels[i]
		var stop func()
		l.next, stop = iter.Pull2(rd.Scan(t.span(i+1, nil, nil), kv.ScanOptions{KeysOnly: true}))
		defer stop()
	}
	for level := h; level >= 1; level-- {
		if err := v.begin(level, nil); err != nil {
			return total, err
		}
	}
	for it, err := range t.Items(rd, reconcile.All) {
		if err == nil {
			err = v.add(it)
		}
		if err != nil {
			return total, err
		}
	}
	for level := 1; level <= h; level++ {
		if err := v.finish(level); err != nil {
			return total, err
		}
	}
	for _, kind := range []byte{bounds, nodes} {
		above := kv.Range{From: t.key(h+1, kind, nil), To: kv.After(append(bytes.Clone(t.Prefix), kind))}
		for _, err := range rd.Scan(above, kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return total, err
			}
			return total, &Fault{Level: h + 1, What: "is above the top"}
		}
	}
	return v.total, nil
}

// verifying computes the node under way of each level.
type verifying struct {
	t      *Tree
	rd     kv.Reader
	levels []verifiedLevel
	total  reconcile.Summary
}

type verifiedLevel struct {
	next  func() (kv.Pair, error, bool)
	want  *node // as stored
	have  node  // as computed
	count int   // of nodes taken up
	ahead []byte
	more  bool // there is another node, at ahead
}

// begin takes up the stored node of a level that must begin at bound.
func (v *verifying) begin(level int, bound []byte) error {
	l := &v.levels[level-1]
	if l.want == nil { // the first of the level
		if err := v.pull(level); err != nil {
			return err
		}
		if !l.more || len(l.ahead) > 0 {
			return &Fault{level, nil, "is missing"}
		}
	}
	var err error
	if l.want, err = v.t.node(v.rd, level, l.ahead); errors.Is(err, errMalformed) {
		return &Fault{level, l.ahead, err.Error()}
	} else if err != nil {
		return err
	}
	l.have, l.count = node{}, l.count+1
	if !bytes.Equal(bound, l.want.bound) {
		return &Fault{level, l.want.bound, "begins where no node of the level below does"}
	}
	return v.pull(level)
}

// pull reads the next bound of a level ahead.
func (v *verifying) pull(level int) error {
	l := &v.levels[level-1]
	p, err, ok := l.next()
	if err != nil {
		return err
	}
	if l.more = ok; ok {
		l.ahead = bytes.Clone(v.t.bound(p.Key))
	}
	return nil
}

func (v *verifying) add(it Item) error {
	for v.levels[0].more && bytes.Compare(v.levels[0].ahead, it.Key) <= 0 {
		if err := v.step(); err != nil {
			return err
		}
	}
	l := &v.levels[0]
	l.have.sum.Add(it.Mark)
	l.have.last = append(l.have.last[:0], it.Key[:min(len(it.Key), maxLast)]...)
	return nil
}

// step ends the node of level 1, and those of upper levels that end with it.
func (v *verifying) step() error {
	bound := v.levels[0].ahead
	for level := 1; level <= len(v.levels); level++ {
		l := &v.levels[level-1]
		if !l.more || !bytes.Equal(l.ahead, bound) {
			break
		}
		if err := v.end(level); err != nil {
			return err
		}
		if err := v.begin(level, bound); err != nil {
			return err
		}
	}
	return nil
}

// end compares the node under way with its record, and hands it up.
func (v *verifying) end(level int) error {
	l := &v.levels[level-1]
	switch {
	case l.have.sum != l.want.sum:
		return &Fault{
			level, l.want.bound,
			fmt.Sprintf(
				"holds the wrong sum (of %d items, there are %d)", l.want.sum.Count, l.have.sum.Count,
			),
		}
	case bytes.Compare(l.want.last, l.have.last) < 0 || l.more &&
		bytes.Compare(l.want.last, l.ahead) > 0:
		// that of an item that was removed is right: none comes after it
		return &Fault{level, l.want.bound, "names the wrong last key"}
	}
	if level == len(v.levels) {
		v.total = l.have.sum
		return nil
	}
	up := &v.levels[level]
	up.have.sum.Merge(&l.have.sum)
	up.have.last = bytes.Clone(later(up.have.last, l.have.last))
	return nil
}

// finish ends the last node of a level, and makes sure that there are no nodes without a bound.
func (v *verifying) finish(level int) error {
	for level == 1 && v.levels[0].more {
		if err := v.step(); err != nil {
			return err
		}
	}
	if l := &v.levels[level-1]; l.more {
		return &Fault{level, l.ahead, "begins where no node of the level below does"}
	}
	stored := 0
	for _, err := range v.rd.Scan(
		kv.Prefix(v.t.key(level, nodes, nil)), kv.ScanOptions{KeysOnly: true},
	) {
		if err != nil {
			return err
		}
		stored++
	}
	if want := v.levels[level-1].count; stored != want {
		return &Fault{level, nil, fmt.Sprintf("begins a level of %d nodes, but %d bounds", stored, want)}
	}
	return v.end(level)
}

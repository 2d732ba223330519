package tree

import (
	"bytes"
	"errors"
	"slices"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/reconcile"
)

// touched is a node that changed, or was cut, and by how much.
type touched struct {
	bound []byte // where it begins
	delta reconcile.Summary
	last  []byte // of what was added
}

// apply is one run of Apply.
type apply struct {
	t       *Tree
	rd      kv.Reader
	w       kv.Writer
	height  int // before; 0 if there is no tree
	touched []touched
	fresh   [][]byte // bounds that are new on the level in hand, in order
	changed []*node  // of the level in hand, in order
}

// Apply writes to w what makes the tree follow changes of the set. The changes are in ascending
// order of their keys, one for each key; rd shows the set and the tree before all of them. A tree
// that is not there is begun, which is right only for a set that is empty before.
func (t *Tree) Apply(rd kv.Reader, w kv.Writer, changes []Change) error {
	if len(changes) == 0 {
		return nil
	}
	h, err := t.height(rd)
	if err != nil && !errors.Is(err, ErrNoTree) {
		return err
	}
	a := apply{t: t, rd: rd, w: w, height: h}
	if err := a.leaves(changes); err != nil {
		return err
	}
	level := 1
	for ; level < h || len(a.fresh) > 0 && level < maxHeight; level++ {
		if err := a.inner(level + 1); err != nil {
			return err
		}
	}
	if level == h {
		return nil
	}
	return t.setHeight(w, level)
}

func (t *Tree) setHeight(w kv.Writer, h int) error {
	return w.Set(t.heightKey(), []byte{version, byte(h)})
}

// leaves brings level 1 up to date.
func (a *apply) leaves(changes []Change) error {
	for len(changes) > 0 {
		n, err := a.t.floor(a.rd, 1, changes[0].Key)
		if err != nil {
			return err
		}
		if n == nil {
			n = &node{}
		}
		var next []byte
		single := len(changes) == 1 && levelOf(a.t.Bound(changes[0].Key)) == 0 &&
			n.sum.Count < crowded<<fanoutLog
		if !single {
			if next, err = a.t.next(a.rd, 1, n.bound); err != nil {
				return err
			}
		}
		k := len(changes)
		if next != nil {
			k, _ = slices.BinarySearchFunc(changes, next, func(c Change, at []byte) int {
				return bytes.Compare(c.Key, at)
			})
		}
		if err := a.leaf(n, next, changes[:k]); err != nil {
			return err
		}
		changes = changes[k:]
	}
	return nil
}

// leaf changes one node of level 1, which ends at next, or cuts it.
func (a *apply) leaf(n *node, next []byte, changes []Change) error {
	var fresh [][]byte
	for i := range changes {
		if c := &changes[i]; c.Add != nil {
			if b := a.t.Bound(c.Key); levelOf(b) > 0 && bytes.Compare(b, n.bound) > 0 && (len(fresh) == 0 ||
				!bytes.Equal(b, fresh[len(fresh)-1])) {
				fresh = append(fresh, bytes.Clone(b))
			}
		}
	}
	if len(fresh) == 0 && n.sum.Count+uint64(len(changes)) > crowded<<fanoutLog {
		if b := a.t.Bound(changes[len(changes)/2].Key); bytes.Compare(b, n.bound) > 0 {
			fresh = append(fresh, bytes.Clone(b))
		}
	}
	to := touched{bound: n.bound}
	if len(fresh) == 0 {
		for i := range changes {
			c := &changes[i]
			if c.Remove != nil {
				to.delta.Remove(*c.Remove)
			}
			if c.Add != nil {
				to.delta.Add(*c.Add)
				to.last = cut(c.Key)
			}
		}
		n.sum.Merge(&to.delta)
		n.last = later(n.last, to.last)
		return a.touch(1, to, n)
	}
	old := n.sum
	parts := []*node{{bound: n.bound, stored: n.stored}}
	for _, b := range fresh {
		parts = append(parts, &node{bound: b})
	}
	at := 0
	put := func(key []byte, m reconcile.Mark) {
		for at+1 < len(parts) && bytes.Compare(parts[at+1].bound, key) <= 0 {
			at++
		}
		parts[at].sum.Add(m)
		parts[at].last = append(parts[at].last[:0], key[:min(len(key), maxLast)]...)
	}
	i := 0
	take := func() {
		if changes[i].Add != nil {
			put(changes[i].Key, *changes[i].Add)
		}
		i++
	}
	if old.Count > 0 {
		for it, err := range a.t.Items(a.rd, reconcile.Range{From: n.bound, To: next}) {
			if err != nil {
				return err
			}
			for i < len(changes) && bytes.Compare(changes[i].Key, it.Key) < 0 {
				take()
			}
			if i == len(changes) || !bytes.Equal(changes[i].Key, it.Key) { // what is replaced counts no more
				put(it.Key, it.Mark)
			}
		}
	}
	for i < len(changes) {
		take()
	}
	for _, p := range parts {
		to.delta.Merge(&p.sum)
		to.last = later(to.last, p.last)
	}
	to.delta.Subtract(&old)
	a.fresh = append(a.fresh, fresh...)
	return a.touch(1, to, parts...)
}

// touch writes a node that has changed, or the parts of one that has been cut.
func (a *apply) touch(level int, to touched, parts ...*node) error {
	a.touched = append(a.touched, to)
	a.changed = append(a.changed, parts...)
	for _, n := range parts {
		if !n.stored {
			if err := a.w.Set(a.t.key(level, bounds, n.bound), nil); err != nil {
				return err
			}
		}
		if err := a.w.Set(a.t.key(level, nodes, n.bound), n.marshal()); err != nil {
			return err
		}
	}
	return nil
}

// inner brings a level above the first up to date, from what happened on the one below.
func (a *apply) inner(level int) error {
	below, fresh, changed := a.touched, a.fresh, a.changed
	a.touched, a.fresh, a.changed = nil, nil, nil
	for len(below) > 0 {
		n, err := a.t.floor(a.rd, level, below[0].bound)
		if err != nil {
			return err
		}
		if n == nil {
			n = &node{}
		}
		var next []byte
		k, b, c := len(below), len(fresh), len(changed)
		if len(below) > 1 || len(fresh) > 0 {
			if next, err = a.t.next(a.rd, level, n.bound); err != nil {
				return err
			}
		}
		if next != nil {
			k, _ = slices.BinarySearchFunc(below, next, func(x touched, at []byte) int {
				return bytes.Compare(x.bound, at)
			})
			b, _ = slices.BinarySearchFunc(fresh, next, bytes.Compare)
			c, _ = slices.BinarySearchFunc(changed, next, func(x *node, at []byte) int {
				return bytes.Compare(x.bound, at)
			})
		}
		if err := a.innerNode(level, n, next, below[:k], fresh[:b], changed[:c]); err != nil {
			return err
		}
		below, fresh, changed = below[k:], fresh[b:], changed[c:]
	}
	return nil
}

func (a *apply) innerNode(
	level int, n *node, next []byte, below []touched, candidates [][]byte, changed []*node,
) error {
	to := touched{bound: n.bound}
	for i := range below {
		to.delta.Merge(&below[i].delta)
		to.last = later(to.last, below[i].last)
	}
	var fresh [][]byte
	for _, b := range candidates {
		if levelOf(b) >= level {
			fresh = append(fresh, b)
		}
	}
	if len(fresh) == 0 && len(candidates) > 0 &&
		n.sum.Count+to.delta.Count > crowded<<(fanoutLog*level) {
		fresh = append(fresh, candidates[len(candidates)/2])
	}
	if len(fresh) == 0 && level <= a.height {
		n.sum.Merge(&to.delta)
		n.last = later(n.last, to.last)
		return a.touch(level, to, n)
	}
	parts := []*node{{bound: n.bound, stored: n.stored}}
	for _, b := range fresh {
		parts = append(parts, &node{bound: b})
	}
	at := 0
	put := func(bound []byte, sum *reconcile.Summary, last []byte) {
		for at+1 < len(parts) && bytes.Compare(parts[at+1].bound, bound) <= 0 {
			at++
		}
		parts[at].sum.Merge(sum)
		if len(last) > 0 {
			parts[at].last = bytes.Clone(last)
		}
	}
	i := 0
	take := func() {
		put(changed[i].bound, &changed[i].sum, changed[i].last)
		i++
	}
	for c, err := range a.t.children(a.rd, level-1, n.bound, next) {
		if err != nil {
			return err
		}
		for i < len(changed) && bytes.Compare(changed[i].bound, c[0]) < 0 {
			take()
		}
		if i < len(changed) && bytes.Equal(changed[i].bound, c[0]) {
			continue // it has changed
		}
		n, err := a.t.node(a.rd, level-1, c[0])
		if err != nil {
			return err
		}
		put(c[0], &n.sum, n.last)
	}
	for i < len(changed) {
		take()
	}
	a.fresh = append(a.fresh, fresh...)
	return a.touch(level, to, parts...)
}

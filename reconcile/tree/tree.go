// Package tree keeps the summaries of an ordered set in a kv store, so that those of any range are
// found in a time that grows with the logarithm of the set.
//
// What belongs here: the records of the tree, their updates in the transaction that changes the
// set, and reading, checking and rebuilding them. What never belongs here: what an item is and
// where it is stored; the owner of the set hands items in.
//
// The tree has levels. On each, the order of all keys is cut at bounds into nodes, and a node's
// record holds the summary of the items from its bound up to the next. The bounds of a level are
// among those of the level below; the top level has one node for everything. Whether a key is a
// bound, and up to which level, follows from its hash: with a probability of 1/64 it is one on
// level 1, with 1/64² also on level 2, and so on. So the same items have the same tree on all
// nodes, in whatever order they came, and peers that compare ranges between bounds find them summed
// up already. There is one exception: a node that grows to 16 times its usual size, be it by chance
// or by the skill of someone who chooses keys, is cut where the next item comes.
//
// Nothing else depends on which keys are bounds: any choice gives right answers.
//
// Start at [Tree].
package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/reconcile"
)

// Records, all under the tree's prefix:
//
//	00                version u8 = 1, height u8
//	01 level bound    a node of the level begins here; level is u8, 1 to height; the first node of a level has the empty bound
//	02 level bound    the node: count u64 LE, sum (1,024 lanes, u16 LE), sketch (8 sums of 16 bytes LE), then the key of the last item that it
//	                  ever had, of which at most 1,100 bytes
//
// Bounds have records of their own because these never change: a log-structured store is slow to
// scan over what has many versions.
const (
	version   = 1
	maxHeight = 9
	fanoutLog = 6 // a key is a bound of a level with a probability of 2^-6 for each level
	crowded   = 16
	maxLast   = 1100
)

// MaxBound is the length of the longest bound.
const MaxBound = 1024

// ErrNoTree reports that the set has no tree, or one of another version: it must be built.
var ErrNoTree = errors.New("there is no summary tree")

// Item is an item of the set as the tree sees it.
type Item struct {
	Key []byte
	reconcile.Mark
}

// Tree is the summary tree of a set. It holds no state: it can be made anew for every use.
type Tree struct {
	// Prefix is that of the tree's records.
	Prefix []byte
	// Items yields the items of a range in order, as they are in rd. They need only be valid until the
	// next step.
	Items func(rd kv.Reader, r reconcile.Range) iter.Seq2[Item, error]
	// Bound returns the bound that stands for a key: a prefix of it, or nil if it is to be none. It
	// must be at most MaxBound long, not empty, and no bound of another key may lie between it and the
	// key.
	Bound func(key []byte) []byte
}

// Change is what happens to the item with one key.
type Change struct {
	Key    []byte
	Remove *reconcile.Mark // what was there
	Add    *reconcile.Mark // what comes
}

// levelOf returns up to which level a bound is one by its hash; 0 for none.
func levelOf(bound []byte) int {
	if len(bound) == 0 {
		return 0
	}
	h := blake3.Sum256(bound)
	return min(bits.TrailingZeros64(binary.LittleEndian.Uint64(h[:]))/fanoutLog, maxHeight-1)
}

// The first byte behind the prefix.
const (
	top    = 0
	bounds = 1
	nodes  = 2
)

func (t *Tree) key(level int, kind byte, bound []byte) []byte {
	k := make([]byte, 0, len(t.Prefix)+2+len(bound))
	return append(append(append(k, t.Prefix...), kind, byte(level)), bound...)
}

func (t *Tree) heightKey() []byte { return append(bytes.Clone(t.Prefix), top) }

// span returns the kv range of the bounds of a level in [from, to); a nil to has no end.
func (t *Tree) span(level int, from, to []byte) kv.Range {
	r := kv.Range{From: t.key(level, bounds, from), To: t.key(level, bounds, to)}
	if to == nil {
		r.To = t.key(level+1, bounds, nil)
	}
	return r
}

// bound takes a bound from the key of its record.
func (t *Tree) bound(key []byte) []byte { return key[len(t.Prefix)+2:] }

func (t *Tree) height(rd kv.Reader) (h int, err error) {
	err = rd.Peek(t.heightKey(), func(b []byte) error {
		if len(b) != 2 || b[0] != version || b[1] < 1 || b[1] > maxHeight {
			return ErrNoTree
		}
		h = int(b[1])
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		return 0, ErrNoTree
	}
	return h, err
}

// node is one record.
type node struct {
	bound  []byte
	last   []byte // at most maxLast bytes
	sum    reconcile.Summary
	stored bool // its bound has a record
}

func (n *node) marshal() []byte {
	b, _ := n.sum.AppendBinary(make([]byte, 0, reconcile.SummarySize+len(n.last))) // never fails
	return append(b, n.last...)
}

var errMalformed = errors.New("summary tree: malformed record")

func parseNode(bound, b []byte) (*node, error) {
	if len(b) < reconcile.SummarySize || len(b) > reconcile.SummarySize+maxLast {
		return nil, errMalformed
	}
	n := &node{bound: bytes.Clone(bound), last: bytes.Clone(b[reconcile.SummarySize:]), stored: true}
	return n, n.sum.UnmarshalBinary(b[:reconcile.SummarySize])
}

func (t *Tree) node(rd kv.Reader, level int, bound []byte) (n *node, err error) {
	err = rd.Peek(t.key(level, nodes, bound), func(b []byte) error {
		n, err = parseNode(bound, b)
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		return nil, fmt.Errorf("%w: node %d/%x is missing", errMalformed, level, bound)
	}
	return n, err
}

// endsBefore reports whether a last key, which may be cut, is surely smaller than a bound.
func endsBefore(last, bound []byte) bool {
	return bytes.Compare(last, bound) < 0 && (len(last) < maxLast || !bytes.HasPrefix(bound, last))
}

func cut(key []byte) []byte { return bytes.Clone(key[:min(len(key), maxLast)]) }

// later returns the greater of two last keys.
func later(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return b
	}
	return a
}

// Height returns the number of levels, or ErrNoTree.
func (t *Tree) Height(rd kv.Reader) (int, error) { return t.height(rd) }

// floor returns the node of a level that holds a key, or nil if that level is not there yet.
func (t *Tree) floor(rd kv.Reader, level int, key []byte) (*node, error) {
	r := kv.Range{From: t.key(level, bounds, nil), To: append(t.key(level, bounds, key), 0)}
	r.To = r.To[:min(len(r.To), kv.MaxKeySize)] // no bound is that long
	for p, err := range rd.Scan(r, kv.ScanOptions{Reverse: true, KeysOnly: true}) {
		if err != nil {
			return nil, err
		}
		return t.node(rd, level, t.bound(p.Key))
	}
	return nil, nil
}

// next returns the bound behind the one given, or nil.
func (t *Tree) next(rd kv.Reader, level int, bound []byte) ([]byte, error) {
	for p, err := range rd.Scan(
		t.span(level, append(bytes.Clone(bound), 0), nil), kv.ScanOptions{KeysOnly: true},
	) {
		if err != nil {
			return nil, err
		}
		return bytes.Clone(t.bound(p.Key)), nil
	}
	return nil, nil
}

// children yields the bounds of a level from lo, which must be one, up to hi, each with the bound
// where its node ends; a nil end is that of all keys.
func (t *Tree) children(rd kv.Reader, level int, lo, hi []byte) iter.Seq2[[2][]byte, error] {
	return func(yield func([2][]byte, error) bool) {
		var c [2][]byte
		any := false
		for p, err := range rd.Scan(t.span(level, lo, hi), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				yield(c, err)
				return
			}
			c[1] = bytes.Clone(t.bound(p.Key))
			if any && !yield(c, nil) {
				return
			}
			c[0], any = c[1], true
		}
		if any {
			c[1] = hi
			yield(c, nil)
		}
	}
}

// Summaries returns the summaries of the consecutive ranges between bounds, of which there are at
// least two, in ascending order; an empty last bound has no end. It returns ErrNoTree.
func (t *Tree) Summaries(rd kv.Reader, bounds [][]byte) ([]reconcile.Summary, error) {
	h, err := t.height(rd)
	if err != nil {
		return nil, err
	}
	s := summing{
		t: t, rd: rd, bounds: bounds, sums: make([]reconcile.Summary, len(bounds)-1), part: -1,
	}
	if len(bounds[len(bounds)-1]) == 0 {
		s.bounds = bounds[:len(bounds)-1]
	}
	return s.sums, s.level(h, nil, nil)
}

// summing adds up nodes for consecutive ranges, from left to right.
type summing struct {
	t      *Tree
	rd     kv.Reader
	bounds [][]byte // without an empty last one
	sums   []reconcile.Summary
	part   int // the range that the walk is in; -1 before the first bound
}

func (s *summing) over() bool { return s.part >= len(s.sums) }

// reach moves on to the range that holds key.
func (s *summing) reach(key []byte) {
	for s.part+1 < len(s.bounds) && bytes.Compare(s.bounds[s.part+1], key) <= 0 {
		s.part++
	}
}

// level adds up the nodes of a level from the bound lo, which is one of its own, to hi.
func (s *summing) level(level int, lo, hi []byte) error {
	for c, err := range s.t.children(s.rd, level, lo, hi) {
		if err != nil {
			return err
		}
		s.reach(c[0])
		if s.over() {
			return nil
		}
		inside := s.part+1 < len(s.bounds) && (c[1] == nil || bytes.Compare(s.bounds[s.part+1], c[1]) < 0)
		if !inside && s.part < 0 {
			continue
		}
		n, err := s.t.node(s.rd, level, c[0])
		switch {
		case err != nil:
			return err
		case !inside ||
			endsBefore(n.last, s.bounds[s.part+1]): // nothing of the node is in the next range
			if s.part >= 0 {
				s.sums[s.part].Merge(&n.sum)
			}
		case level > 1:
			err = s.level(level-1, c[0], c[1])
		default:
			err = s.items(c[0], c[1])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *summing) items(lo, hi []byte) error {
	if s.part < 0 && len(s.bounds) > 0 {
		lo = later(lo, s.bounds[0])
	}
	for it, err := range s.t.Items(s.rd, reconcile.Range{From: lo, To: hi}) {
		if err != nil {
			return err
		}
		if s.reach(it.Key); s.over() {
			return nil
		}
		if s.part >= 0 {
			s.sums[s.part].Add(it.Mark)
		}
	}
	return nil
}

// Split divides r into at most k consecutive parts of about equal counts that cover it; k >= 2. It
// returns ErrNoTree.
func (t *Tree) Split(rd kv.Reader, r reconcile.Range, k int) ([]reconcile.Part, error) {
	h, err := t.height(rd)
	if err != nil {
		return nil, err
	}
	first, err := t.first(rd, r)
	if err != nil {
		return nil, err
	}
	var inside [][]byte
	level := h
	for ; level >= 1; level-- {
		if inside, err = t.inside(rd, level, reconcile.Range{From: first, To: r.To}); err != nil {
			return nil, err
		}
		if len(inside) >= evenly*k || level == 1 {
			break
		}
	}
	nodes := len(inside) >= k/4 && len(inside) > 0
	if !nodes { // all within a few nodes of level 1
		if inside, err = t.itemSeparators(rd, r, k); err != nil {
			return nil, err
		}
	}
	cells, err := t.Summaries(rd, slices.Concat([][]byte{r.From}, inside, [][]byte{r.To}))
	if err != nil {
		return nil, err
	}
	var total, seen uint64
	for i := range cells {
		total += cells[i].Count
	}
	parts := []reconcile.Part{{Range: r, Summary: cells[0]}}
	for i := 1; i < len(cells); i++ {
		last := &parts[len(parts)-1]
		seen += cells[i-1].Count
		// The j-th part ends at the cell where the count is nearest to j/k of all.
		if len(parts) == k || (2*seen+cells[i].Count)*uint64(k) < 2*total*uint64(len(parts)) {
			last.Merge(&cells[i])
			continue
		}
		sep := inside[i-1]
		if nodes {
			if sep, err = t.shorten(rd, level, inside, i-1, first); err != nil {
				return nil, err
			}
		}
		last.To = sep
		parts = append(
			parts, reconcile.Part{Range: reconcile.Range{From: sep, To: r.To}, Summary: cells[i]},
		)
	}
	return parts, nil
}

// evenly is how many nodes Split would have for each part: their sizes differ much, those of some
// together less.
const evenly = 4

// first returns the key of the first item in r, or where r begins if it has none: a bound before it
// would cut off nothing.
func (t *Tree) first(rd kv.Reader, r reconcile.Range) ([]byte, error) {
	for it, err := range t.Items(rd, r) {
		return bytes.Clone(it.Key), err
	}
	return r.From, nil
}

// inside returns the bounds of a level inside of r.
func (t *Tree) inside(rd kv.Reader, level int, r reconcile.Range) (inside [][]byte, err error) {
	to := r.To
	if len(to) == 0 {
		to = nil
	}
	for p, err := range rd.Scan(
		t.span(level, append(bytes.Clone(r.From), 0), to), kv.ScanOptions{KeysOnly: true},
	) {
		if err != nil {
			return nil, err
		}
		inside = append(inside, bytes.Clone(t.bound(p.Key)))
	}
	return inside, nil
}

// shorten returns the shortest bound that has the same items on its two sides as the one at a place
// among those inside a range whose first item is from.
func (t *Tree) shorten(
	rd kv.Reader, level int, inside [][]byte, at int, from []byte,
) (sep []byte, err error) {
	var before *node
	if at > 0 {
		before, err = t.node(rd, level, inside[at-1])
	} else {
		before, err = t.floor(rd, level, from)
	}
	if err != nil {
		return nil, err
	}
	last := from
	if before != nil {
		last = later(last, later(before.bound, before.last))
	}
	if !endsBefore(last, inside[at]) { // a last key that is cut
		return inside[at], nil
	}
	return reconcile.Separator(last, inside[at]), nil
}

// itemSeparators returns at most k-1 bounds between items of a range that holds few.
func (t *Tree) itemSeparators(rd kv.Reader, r reconcile.Range, k int) (seps [][]byte, err error) {
	var last []byte
	first := true
	for it, err := range t.Items(rd, r) {
		if err != nil {
			return nil, err
		}
		if !first {
			seps = append(seps, reconcile.Separator(last, it.Key))
		}
		last, first = append(last[:0], it.Key...), false
	}
	if n := len(seps) + 1; n > k {
		for i := 1; i < k; i++ {
			seps[i-1] = seps[i*n/k-1]
		}
		seps = seps[:k-1]
	}
	return seps, nil
}

// Erase removes the tree.
func (t *Tree) Erase(rd kv.Reader, w kv.Writer) error {
	for p, err := range rd.Scan(kv.Prefix(t.Prefix), kv.ScanOptions{KeysOnly: true}) {
		if err == nil {
			err = w.Delete(bytes.Clone(p.Key))
		}
		if err != nil {
			return fmt.Errorf("erase summary tree: %w", err)
		}
	}
	return nil
}

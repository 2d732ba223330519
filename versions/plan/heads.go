package plan

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/record"
)

// Version is a version of an item as its entry gives it.
type Version struct {
	*record.Record
	Author replica.AuthorID
	Time   uint64 // of the entry, in µs since 1970
	// Displaced says that another version of its author, which does not name it, took its slot. So the
	// counter of its dot may have been used twice, and that a context covers it says nothing.
	Displaced bool
	// Entry is what the contents of the version are in, from the byte At on. No plan depends on them.
	Entry *replica.Entry
	At    int64
	// Whole is all that is stored for the entry, with verified content of the version, if that is
	// little; nil if it is to be read.
	Whole []byte
}

// compare orders versions from the greatest.
func compare(a, b *Version) int {
	return cmp.Or(cmp.Compare(b.Time, a.Time), bytes.Compare(b.Author[:], a.Author[:]),
		b.Dot.Compare(a.Dot))
}

// MaxHeads is how many heads of an item are merged. Whoever may write can have others write, and so
// make many: an item with more is in conflict.
const MaxHeads = record.MaxResolved

// Heads returns the versions that no other one supersedes, the greatest (time, author) first. What
// honest devices write has no cycles. Of versions that supersede each other in a circle, none of
// them supersedes another of these: somebody lies about what came before, and a lie takes nothing
// away from view.
func Heads(all []*Version) []*Version {
	if len(all) < 2 {
		return slices.Clone(all)
	}
	over := above(all)
	circle := circles(over)
	var heads []*Version
	for i, v := range all {
		if !slices.ContainsFunc(over[i], func(j int) bool { return circle[j] != circle[i] }) {
			heads = append(heads, v)
		}
	}
	slices.SortFunc(heads, compare)
	return heads
}

// above returns, for each version, which others supersede it.
func above(all []*Version) [][]int {
	over := make([][]int, len(all))
	byDevice := make(map[record.Device][]int, len(all))
	for i, v := range all {
		byDevice[v.Dot.Device] = append(byDevice[v.Dot.Device], i)
	}
	for j, w := range all {
		for _, d := range w.Context {
			for _, i := range byDevice[d.Device] {
				if w.Supersedes(all[i]) {
					over[i] = append(over[i], j)
				}
			}
		}
	}
	return over
}

// Supersedes reports whether a version was written by somebody who knew another one: its context
// covers that, and it names it among its ancestors, with its content, unless it has more of them
// than it names. So counters that were used twice, and contexts that lie, seldom hide a version.
func (v *Version) Supersedes(o *Version) bool {
	return v.Context.Covers(o.Dot) && (v.Cut && !o.Displaced || v.Names(o))
}

// Names reports whether a version names another one among its ancestors, with its content.
func (v *Version) Names(o *Version) bool {
	return slices.ContainsFunc(v.Ancestors, func(a record.Ancestor) bool {
		return a.Dot == o.Dot && a.Hash == o.AsAncestor(0).Hash
	})
}

// circles returns for each node of a graph the number of its strongly connected component, by
// Tarjan's algorithm (SIAM J. Comput. 1(2), 1972). It does not recurse: a chain may be long.
func circles(to [][]int) []int {
	const open = -1
	var (
		number    = make([]int, len(to)) // in the order of visits, from 1
		low       = make([]int, len(to))
		component = make([]int, len(to))
		stack     []int
		visits, n int
	)
	type frame struct{ node, next int }
	for start := range to {
		if number[start] != 0 {
			continue
		}
		path := []frame{{node: start}}
		for len(path) > 0 {
			f := &path[len(path)-1]
			if f.next == 0 && number[f.node] == 0 {
				visits++
				number[f.node], low[f.node], component[f.node] = visits, visits, open
				stack = append(stack, f.node)
			}
			if f.next < len(to[f.node]) {
				next := to[f.node][f.next]
				f.next++
				switch {
				case number[next] == 0:
					path = append(path, frame{node: next})
				case component[next] == open:
					low[f.node] = min(low[f.node], number[next])
				}
				continue
			}
			done := f.node
			if path = path[:len(path)-1]; len(path) > 0 {
				parent := path[len(path)-1].node
				low[parent] = min(low[parent], low[done])
			}
			if low[done] != number[done] {
				continue
			}
			for last := -1; last != done; {
				last = stack[len(stack)-1]
				stack = stack[:len(stack)-1]
				component[last] = n
			}
			n++
		}
	}
	return component
}

// Vector returns all versions that some heads and what they supersede are.
func Vector(heads []*Version) (v record.Vector) {
	for _, h := range heads {
		v = v.Union(h.Vector())
	}
	return v
}

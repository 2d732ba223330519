package plan

import (
	"cmp"
	"slices"

	"github.com/skerry-sync/skerry/versions/record"
)

// Over returns what a version says of all that it supersedes: some heads, and what
// these supersede. The dot, the kind and the content are missing, and the generation is 0. keeps
// says whether the content of an ancestor is kept, one of the heads or older; it is asked about the
// newest first.
func Over(
	heads []*Version, by record.Device, keeps func(record.Ancestor) bool,
) *record.Record {
	r := &record.Record{Dot: record.Dot{Device: by}, Height: 1}
	if len(heads) == 0 {
		return r
	}
	r.Context = Vector(heads).Bounded(by)
	var all []record.Ancestor
	for _, h := range heads {
		r.Resolved = append(r.Resolved, h.Dot)
		r.Height = max(r.Height, min(h.Height+1, record.MaxCounter))
		r.Cut = r.Cut || h.Cut
		all = append(append(all, h.AsAncestor(h.Time)), h.Ancestors...)
	}
	slices.SortFunc(r.Resolved, record.Dot.Compare)
	r.Resolved = slices.Compact(r.Resolved)
	if len(r.Resolved) > record.MaxResolved {
		r.Resolved = r.Resolved[:record.MaxResolved]
	}
	// What claims to be as high as the version, which only one that lies can, is left out, and so is
	// what Bounded took out.
	all = slices.DeleteFunc(all, func(a record.Ancestor) bool {
		return a.Height >= r.Height || !r.Context.Covers(a.Dot)
	})
	slices.SortFunc(all, func(a, b record.Ancestor) int {
		return cmp.Or(cmp.Compare(b.Height, a.Height), a.Dot.Compare(b.Dot),
			keptFirst(a.Kept, b.Kept))
	})
	all = slices.CompactFunc(all, func(a, b record.Ancestor) bool {
		return a.Dot == b.Dot && a.Height == b.Height
	})
	if len(all) > record.MaxAncestors {
		all, r.Cut = all[:record.MaxAncestors], true
	}
	for i := range all {
		if a := &all[i]; a.Kept && !keeps(*a) {
			a.Kept, a.Size = false, 0
		}
	}
	r.Ancestors = all
	return r
}

func keptFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

package plan

import (
	"cmp"
	"slices"

	"github.com/skerry-sync/skerry/versions/record"
)

// Over returns what a version says of all that it supersedes: some heads, and what
// these supersede. The dot, the kind and the content are missing, and the generation is 0. keeps
// says whether the content of an ancestor is kept, one of the heads or older; it is asked about the
// newest first. seen is what other devices have seen: the newest ancestor that one of the first
// maxBases of them has seen is named, however old, since its next edit follows on that.
func Over(
	heads []*Version, by record.Device, seen []record.Vector, keeps func(record.Ancestor) bool,
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
		all, r.Cut = most(all, seen), true
	}
	for i := range all {
		if a := &all[i]; a.Kept && !keeps(*a) {
			a.Kept, a.Size = false, 0
		}
	}
	r.Ancestors = all
	return r
}

// maxBases is how many places among the ancestors are kept for what devices have seen last.
const maxBases = record.MaxAncestors / 2

// most returns record.MaxAncestors of more ancestors: those that devices have seen last, and
// otherwise the newest.
func most(all []record.Ancestor, seen []record.Vector) []record.Ancestor {
	bases := map[int]bool{}
	for _, v := range seen[:min(len(seen), maxBases)] {
		at := slices.IndexFunc(all, func(a record.Ancestor) bool { return v.Covers(a.Dot) })
		if at >= 0 {
			bases[at] = true
		}
	}
	room := record.MaxAncestors - len(bases)
	out := make([]record.Ancestor, 0, record.MaxAncestors)
	for i, a := range all {
		switch {
		case bases[i]:
			out = append(out, a)
		case room > 0:
			out, room = append(out, a), room-1
		}
	}
	return out
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

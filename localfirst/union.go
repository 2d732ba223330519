package localfirst

import (
	"maps"
	"slices"
)

// MergeSets merges sets that are written as slices; compare orders the items, and is 0 for two that
// are the same. Items that one side has added are in the result, those that one has removed are
// not. Without a base, the result is the union. It has each item once, in order; of items that are
// the same but look different, local's.
//
// It is commutative if compare is 0 for identical items only, and without a base associative.
func MergeSets[E any](compare func(a, b E) int) MergeFunc[[]E] {
	sorted := func(s []E) []E {
		s = slices.Clone(s)
		slices.SortStableFunc(s, compare)
		return slices.CompactFunc(s, func(a, b E) bool { return compare(a, b) == 0 })
	}
	return func(_ string, base *[]E, local, remote []E) ([]E, bool, error) {
		var was []E
		if base != nil {
			was = sorted(*base)
		}
		l, r := sorted(local), sorted(remote)
		in := func(s []E, item E) bool {
			_, found := slices.BinarySearchFunc(s, item, compare)
			return found
		}
		merged := []E{}
		for _, item := range l {
			if in(r, item) || !in(was, item) {
				merged = append(merged, item)
			}
		}
		for _, item := range r {
			if !in(l, item) && !in(was, item) {
				merged = append(merged, item)
			}
		}
		slices.SortFunc(merged, compare)
		return merged, true, nil
	}
}

// MergeMaps merges maps entry by entry. An entry that one side has added, changed or deleted is so
// in the result; one that a side has changed and the other deleted is changed. Without a base, the
// result is the union.
//
// Entries that both sides have changed, or that both have without a base, are merged by each; if
// each leaves one to a person, so is the whole map. If each is nil, local's stands. equal reports
// whether two values are the same.
//
// It is commutative if each is; without a base it is associative if each is, or is nil.
func MergeMaps[K comparable, V any](
	equal func(a, b V) bool, each func(key K, base *V, local, remote V) (V, bool, error),
) MergeFunc[map[K]V] {
	return func(_ string, base *map[K]V, local, remote map[K]V) (map[K]V, bool, error) {
		var was map[K]V
		var failed error
		all := true
		if base != nil {
			was = *base
		}
		merged := make(map[K]V, max(len(local), len(remote)))
		keys := maps.Clone(local)
		if keys == nil {
			keys = map[K]V{}
		}
		maps.Copy(keys, remote)
		for k := range keys {
			b, had := was[k]
			l, inLocal := local[k]
			r, inRemote := remote[k]
			switch {
			case !inRemote:
				if !had || !equal(b, l) {
					merged[k] = l
				}
			case !inLocal:
				if !had || !equal(b, r) {
					merged[k] = r
				}
			case equal(l, r), had && equal(b, r):
				merged[k] = l
			case had && equal(b, l):
				merged[k] = r
			case each == nil:
				merged[k] = l
			default:
				var before *V
				if had {
					before = &b
				}
				v, resolved, err := each(k, before, l, r)
				if err != nil && (failed == nil || err.Error() < failed.Error()) {
					failed = err // of several the same, though maps have no order
				}
				all = all && resolved && err == nil
				merged[k] = v
			}
		}
		if !all {
			return local, false, failed
		}
		return merged, true, nil
	}
}

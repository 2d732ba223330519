package merge

import (
	"bytes"
	"slices"
	"strings"
)

// Set merges JSON arrays that stand for sets: the order of the items and how often one comes say
// nothing. An item that one side added is in the result, one that a side removed is not, and there
// is never a conflict between two sets. Without a base, and where the base is no array, the result
// is the union.
//
// A result that has the same items as an input is that input. Any other has each item once, in the
// order of their bytes.
func Set(base, local, remote []byte) ([]byte, error) {
	if merged, ok := settled(base, local, remote); ok {
		return merged, nil
	}
	var p values
	b, l, r, err := p.parseAll(base, local, remote)
	if err != nil {
		return nil, err
	}
	if l.kind != '[' || r.kind != '[' {
		return nil, conflict(NotSet)
	}
	was, ours, theirs := itemsOf(b), itemsOf(l), itemsOf(r)
	set := map[int32]*value{}
	for n, item := range ours {
		if other := theirs[n]; other != nil {
			set[n] = pick(nil, item, other)
		} else if was[n] == nil {
			set[n] = item
		}
	}
	for n, item := range theirs {
		if ours[n] == nil && was[n] == nil {
			set[n] = item
		}
	}
	isOurs, isTheirs := sameItems(set, ours), sameItems(set, theirs)
	switch {
	case isOurs && isTheirs:
		return shorter(local, remote), nil
	case isOurs:
		return local, nil
	case isTheirs:
		return remote, nil
	}
	return writeSet(set)
}

// itemsOf returns the items of an array by their numbers, each as it is written in the shortest
// way.
func itemsOf(v *value) map[int32]*value {
	items := map[int32]*value{}
	if v == nil || v.kind != '[' {
		return items
	}
	for _, item := range v.items {
		if other := items[item.number]; other != nil {
			item = pick(nil, item, other)
		}
		items[item.number] = item
	}
	return items
}

func sameItems(a, b map[int32]*value) bool {
	for n := range a {
		if b[n] == nil {
			return false
		}
	}
	return len(a) == len(b)
}

func writeSet(set map[int32]*value) ([]byte, error) {
	items := make([]string, 0, len(set))
	for _, item := range set {
		compact, err := compactJSON(item.raw)
		if err != nil {
			return nil, err
		}
		items = append(items, compact)
	}
	slices.Sort(items)
	var out bytes.Buffer
	out.WriteByte('[')
	out.WriteString(strings.Join(items, ","))
	out.WriteByte(']')
	return out.Bytes(), nil
}

package merge

import (
	"bytes"
	"slices"
	"strconv"
)

// writeArray appends the merged array.
func (m *jsonMerge) writeArray(out *bytes.Buffer, base, local, remote *value) error {
	if base == nil || base.kind != '[' {
		base = &value{}
	}
	b, l, r := m.byID(base), m.byID(local), m.byID(remote)
	if b.at != nil && l.at != nil && r.at != nil {
		return m.writeByID(out, b, l, r)
	}
	if !itemwise(base) || !itemwise(local) || !itemwise(remote) {
		return conflict(BothChanged)
	}
	sequences, numbers := sequencesOf(base, local, remote)
	pieces, _, ok := threeWay(sequences[0], sequences[1], sequences[2], numbers)
	if !ok {
		return conflict(BothChanged)
	}
	sep := byte('[')
	for _, p := range pieces {
		was, l, r := base.items[p.base.from:p.base.to], local.items[p.local.from:p.local.to],
			remote.items[p.remote.from:p.remote.to]
		switch p.from {
		case fromLocal:
			r = l
		case fromRemote:
			l = r
		}
		for i := range l {
			var b *value
			if p.from == fromAll {
				b = was[i]
			}
			out.WriteByte(sep)
			sep = ','
			out.WriteString(pick(b, l[i], r[i]).raw)
		}
	}
	endArray(out, sep)
	return nil
}

// endArray ends an array whose next item would come after sep.
func endArray(out *bytes.Buffer, sep byte) {
	if sep == '[' {
		out.WriteByte('[')
	}
	out.WriteByte(']')
}

// itemwise says if an array is merged item by item.
func itemwise(v *value) bool {
	return !slices.ContainsFunc(v.items, func(item *value) bool {
		return item.kind != '"' && item.kind != '{'
	})
}

// sequencesOf numbers the items of three arrays anew, from 0 to below numbers: threeWay costs that
// much, and a text may have very many arrays.
func sequencesOf(arrays ...*value) (sequences [3]sequence, numbers int) {
	anew := map[int32]int32{}
	for i, array := range arrays {
		for _, item := range array.items {
			n, known := anew[item.number]
			if !known {
				n = int32(len(anew))
				anew[item.number] = n
			}
			sequences[i] = append(sequences[i], n)
		}
	}
	return sequences, len(anew)
}

// identified is an array whose items are told apart by a member.
type identified struct {
	ids   []int32 // numbers of the items' ids, in order
	items []*value
	at    map[int32]int // place of each id; nil if the items cannot be told apart
}

// get returns the item with an id; nil if there is none.
func (a identified) get(id int32) *value {
	if i, there := a.at[id]; there {
		return a.items[i]
	}
	return nil
}

// byID tells the items of an array apart by the member that the options name, if there is one.
func (m *jsonMerge) byID(v *value) identified {
	if m.ByID == "" {
		return identified{}
	}
	a := identified{items: v.items, at: make(map[int32]int, len(v.items))}
	for i, item := range v.items {
		id := item.get(m.id)
		if id == nil || id.kind != '"' && id.kind != '0' {
			return identified{}
		}
		a.ids, a.at[id.number] = append(a.ids, id.number), i
	}
	if len(a.at) != len(a.ids) {
		return identified{}
	}
	return a
}

func (m *jsonMerge) writeByID(out *bytes.Buffer, base, local, remote identified) error {
	order, ok := m.order(base, local, remote)
	if !ok {
		return conflict(BothChanged)
	}
	sep := byte('[')
	for _, id := range order {
		out.WriteByte(sep)
		sep = ','
		if err := m.write(out, base.get(id), local.get(id), remote.get(id)); err != nil {
			at, there := base.at[id]
			if !there {
				at = local.at[id]
			}
			return within(err, strconv.Itoa(at))
		}
	}
	endArray(out, sep)
	return nil
}

// order returns the ids of the merged array. One side gives the order, and the items of the other
// are put between: the side that moved items, or remote. It reports false if both moved items that
// all three have, in different ways.
func (m *jsonMerge) order(base, local, remote identified) ([]int32, bool) {
	was, l, r := shared(base, local, remote), shared(local, base, remote), shared(remote, base, local)
	first, second := remote, local
	switch {
	case slices.Equal(l, was), slices.Equal(l, r):
	case slices.Equal(r, was), m.PreferLocal:
		first, second = local, remote
	default:
		return nil, false
	}
	stays := func(id int32) bool { return !m.gone(base.get(id), local.get(id), remote.get(id)) }
	// The items that only second has, by the item of first that they stand behind; none has -1.
	const front = int32(-1)
	behind, at := map[int32][]int32{}, front
	for _, id := range second.ids {
		switch there := first.get(id) != nil; {
		case there:
			at = id
		case stays(id):
			behind[at] = append(behind[at], id)
		}
	}
	// Local's new items stand behind remote's at the same place.
	localLast := slices.Equal(l, was) || slices.Equal(l, r)
	var order []int32
	waiting := behind[front]
	if !localLast {
		order, waiting = waiting, nil
	}
	for _, id := range first.ids {
		if second.get(id) != nil {
			order, waiting = append(order, waiting...), nil
		}
		if stays(id) {
			order = append(order, id)
		}
		if localLast {
			waiting = append(waiting, behind[id]...)
		} else {
			order = append(order, behind[id]...)
		}
	}
	return append(order, waiting...), true
}

// shared returns the ids that all three arrays have, in a's order.
func shared(a, b, c identified) []int32 {
	var ids []int32
	for _, id := range a.ids {
		if b.get(id) != nil && c.get(id) != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

package merge

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
)

// Carry writes a JSON value anew and keeps what its writer does not know. text is the value as it
// stands, known is what the writer understood of it, and now is what the writer wants it to be. All
// are JSON.
//
// What is the same in known and now stays as text has it, byte for byte: members that known does
// not show, and digits that the writer's numbers have no room for. What the writer changed is as
// now has it; a member that it deleted is gone, with all that is in it. Objects are treated member
// by member. Names of members that differ in upper and lower case alone are one, since decoders
// take them so.
//
// Items of arrays belong together if they have the same string or number in the member byID (such
// as "id"; empty for none). Others do if they are the same in known and now; of those that are
// left, the first, the second and so on do, if known and now have equally many.
//
// The error is a *Conflict: an input is not JSON, or is too large. The result has no spaces where
// it is not as text or now has it.
func Carry(text, known, now []byte, byID string) ([]byte, error) {
	var c carrier
	k, t, n, err := c.parseAll(known, text, now)
	if err == nil && k == nil {
		err = conflict(NotJSON)
	}
	if err != nil {
		return nil, err
	}
	if byID != "" {
		c.byID, c.id = true, c.number(`"`+byID)
	}
	var out bytes.Buffer
	c.write(&out, t, k, n)
	return out.Bytes(), nil
}

type carrier struct {
	values
	byID bool
	id   int32 // number of the key that tells items apart
}

// write appends the value now with what t has beside k. t and k are nil for what is not there.
func (c *carrier) write(out *bytes.Buffer, t, k, now *value) {
	switch {
	case t == nil:
		out.WriteString(now.raw)
	case same(k, now):
		out.WriteString(t.raw)
	case t.kind == '{' && now.kind == '{':
		c.writeObject(out, t, k, now)
	case t.kind == '[' && now.kind == '[' && k != nil && k.kind == '[' &&
		len(k.items) == len(t.items):
		c.writeArray(out, t, k, now)
	default:
		out.WriteString(now.raw)
	}
}

// fold returns what is the same for the names of members that decoders take for one.
func fold(key *value) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, key.said())
}

// aliases returns the names of members of t that are spelt otherwise in what the writer knows of t,
// by their numbers. An alias is nil if t has the writer's spelling too, or again.
func aliases(t, k *value) map[int32]*value {
	if k == nil || k.kind != '{' {
		return nil
	}
	var by map[string]*value
	var found map[int32]*value
	for _, i := range slices.Backward(t.order) {
		key := t.members[i].key
		if k.get(key.number) != nil {
			continue
		}
		if by == nil {
			by, found = map[string]*value{}, map[int32]*value{}
			for _, m := range k.members {
				by[fold(m.key)] = m.key
			}
		}
		name := fold(key)
		if spelt, known := by[name]; known {
			if spelt != nil && t.get(spelt.number) != nil {
				spelt = nil
			}
			found[key.number], by[name] = spelt, nil
		}
	}
	return found
}

func (c *carrier) writeObject(out *bytes.Buffer, t, k, now *value) {
	sep := byte('{')
	put := func(key *value) {
		out.WriteByte(sep)
		sep = ','
		out.WriteString(key.raw)
		out.WriteByte(':')
	}
	other := aliases(t, k)
	done := map[int32]bool{}
	for _, i := range t.order {
		key := t.members[i].key
		if spelt, is := other[key.number]; is && now.get(key.number) == nil {
			if key = spelt; key == nil {
				continue
			}
		}
		was, is := k.get(key.number), now.get(key.number)
		switch {
		case is != nil:
			done[key.number] = true
			put(key)
			c.write(out, t.members[i].value, was, is)
		case was == nil:
			put(key)
			out.WriteString(t.members[i].value.raw)
		}
	}
	for _, i := range now.order {
		if m := now.members[i]; !done[m.key.number] {
			put(m.key)
			out.WriteString(m.value.raw)
		}
	}
	if sep == '{' {
		out.WriteByte('{')
	}
	out.WriteByte('}')
}

func (c *carrier) writeArray(out *bytes.Buffer, t, k, now *value) {
	from := c.pair(k, now)
	sep := byte('[')
	for i, item := range now.items {
		out.WriteByte(sep)
		sep = ','
		if from[i] < 0 {
			out.WriteString(item.raw)
			continue
		}
		c.write(out, t.items[from[i]], k.items[from[i]], item)
	}
	endArray(out, sep)
}

// pair returns for each item of now the place of the item of k that it belongs to; -1 for none.
func (c *carrier) pair(k, now *value) []int {
	const none = -1
	from, used := make([]int, len(now.items)), make([]bool, len(k.items))
	for i := range from {
		from[i] = none
	}
	match := func(of func(*value) (int32, bool)) {
		places := map[int32][]int{}
		for i, item := range k.items {
			if n, ok := of(item); ok && !used[i] {
				places[n] = append(places[n], i)
			}
		}
		for i, item := range now.items {
			n, ok := of(item)
			if free := places[n]; ok && from[i] == none && len(free) > 0 {
				from[i], used[free[0]], places[n] = free[0], true, free[1:]
			}
		}
	}
	id := func(item *value) (int32, bool) {
		v := item.get(c.id)
		if !c.byID || v == nil || v.kind != '"' && v.kind != '0' {
			return 0, false
		}
		return v.number, true
	}
	match(id)
	match(func(item *value) (int32, bool) {
		_, has := id(item)
		return item.number, !has
	})
	var left, open []int
	for i, item := range k.items {
		if _, has := id(item); !has && !used[i] {
			left = append(left, i)
		}
	}
	for i, item := range now.items {
		if _, has := id(item); !has && from[i] == none {
			open = append(open, i)
		}
	}
	if len(left) == len(open) {
		for i, at := range open {
			from[at] = left[i]
		}
	}
	return from
}

package merge

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// JSON merges JSON values: [Options] without any.
func JSON(base, local, remote []byte) ([]byte, error) {
	return Options{}.JSON(base, local, remote)
}

// Map merges JSON objects whose members stand for themselves, and never finds a conflict in them:
// where both sides changed the same member, local's stands, and a change stands against a deletion.
// Objects within are merged in the same way. If both sides changed an array, local's stands unless
// the changes can be merged.
func Map(base, local, remote []byte) ([]byte, error) {
	return Options{PreferLocal: true, object: true}.JSON(base, local, remote)
}

// Options say how JSON is merged beyond the rules of [Options.JSON].
type Options struct {
	// ByID names a member (such as "id") that tells objects in arrays apart. An array whose items
	// are all objects with a distinct string or number there is merged like an object with a member
	// for each item. New items stand behind the item that they stood behind, remote's before
	// local's, since local is the later side. Items that were moved stay so if one side did it.
	ByID string
	// PreferLocal settles what would be a conflict: local's value stands, and a change of either
	// side stands against a deletion.
	PreferLocal bool

	object bool // that the contents are to be objects
}

// JSON merges JSON values. What only one side changed is taken from it as it is written there, so
// numbers keep all their digits. What both changed alike is that. If both changed a value:
//
//   - Objects are merged member by member. A base that has no object there counts as {}.
//   - Arrays of strings and of objects are merged item by item, as [Text] merges lines. Others
//     are one value: the places of numbers in a point or a row have a meaning.
//   - All else is a conflict, also a change on one side of what the other deleted.
//
// A result that says the same as an input is that input. Any other is compact; members that the
// base has come first in the base's order, then new ones in the order of their keys' bytes.
func (o Options) JSON(base, local, remote []byte) ([]byte, error) {
	if merged, ok := settled(base, local, remote); ok {
		return merged, nil
	}
	m := jsonMerge{Options: o}
	b, l, r, err := m.parseAll(base, local, remote)
	if err != nil {
		return nil, err
	}
	if o.object && (l.kind != '{' || r.kind != '{') {
		return nil, conflict(NotMap)
	}
	if m.ByID != "" {
		m.id = m.number(`"` + m.ByID)
	}
	var out bytes.Buffer
	if err := m.write(&out, b, l, r); err != nil {
		return nil, err
	}
	return m.finish(out.Bytes(), local, remote, l, r)
}

type jsonMerge struct {
	values
	Options
	id int32 // number of the key ByID
}

// parseAll parses the inputs. b is nil if there is no base.
func (p *values) parseAll(base, local, remote []byte) (b, l, r *value, err error) {
	if tooLarge(base, local, remote) {
		return nil, nil, nil, conflict(TooLarge)
	}
	if base != nil {
		b, err = p.parse(base)
	}
	l, errLocal := p.parse(local)
	r, errRemote := p.parse(remote)
	for _, e := range []error{errLocal, errRemote} {
		// Of several reasons the same is reported whichever side is local.
		if err == nil || e != nil && e.Error() < err.Error() {
			err = e
		}
	}
	return b, l, r, err
}

// finish returns the input that says the same as the result, or the result without spaces.
func (p *values) finish(merged, local, remote []byte, l, r *value) ([]byte, error) {
	result, err := p.parseValid(string(merged))
	switch {
	case err != nil:
		return nil, err
	case same(result, l) && same(result, r):
		return shorter(local, remote), nil
	case same(result, l):
		return local, nil
	case same(result, r):
		return remote, nil
	}
	compact, err := compactJSON(string(merged))
	return []byte(compact), err
}

// compactJSON returns a text without spaces between its values.
func compactJSON(text string) (string, error) {
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(text)); err != nil {
		return "", conflict(NotJSON)
	}
	return out.String(), nil
}

// shorter returns the shorter of two texts, or the one that comes first in the order of bytes.
func shorter[T string | []byte](a, b T) T {
	if len(a) < len(b) || len(a) == len(b) && string(a) <= string(b) {
		return a
	}
	return b
}

// same says if two values say the same; nil stands for a member that is not there.
func same(a, b *value) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.number == b.number
}

// pick returns one of two values that say the same: as the side wrote it that wrote it anew, else
// the shorter.
func pick(base, local, remote *value) *value {
	switch {
	case base != nil && local.raw == base.raw:
		return remote
	case base != nil && remote.raw == base.raw:
		return local
	case shorter(local.raw, remote.raw) == local.raw:
		return local
	}
	return remote
}

// settle returns what stands of a value that at most one side changed, or both alike; nil if it is
// deleted. It reports false if both changed it in different ways.
func settle(base, local, remote *value) (stands *value, ok bool) {
	switch {
	case local == nil && remote == nil:
		return nil, true
	case same(local, remote):
		return pick(base, local, remote), true
	case same(local, base):
		return remote, true
	case same(remote, base):
		return local, true
	}
	return nil, false
}

// gone says if the value is in no result.
func (m *jsonMerge) gone(base, local, remote *value) bool {
	stands, ok := settle(base, local, remote)
	return ok && stands == nil
}

// write appends what stands of a value that is not gone.
func (m *jsonMerge) write(out *bytes.Buffer, base, local, remote *value) error {
	if stands, ok := settle(base, local, remote); ok {
		out.WriteString(stands.raw)
		return nil
	}
	err := conflict(BothChanged)
	if local != nil && remote != nil && local.kind == remote.kind {
		before := out.Len()
		switch local.kind {
		case '{':
			return m.writeObject(out, base, local, remote)
		case '[':
			if err = m.writeArray(out, base, local, remote); err == nil {
				return nil
			}
			out.Truncate(before)
		}
	}
	switch {
	case !m.PreferLocal:
		return err
	case local != nil:
		out.WriteString(local.raw)
	default:
		out.WriteString(remote.raw)
	}
	return nil
}

func (m *jsonMerge) writeObject(out *bytes.Buffer, base, local, remote *value) error {
	var keys []*value
	if base != nil {
		for _, i := range base.order {
			keys = append(keys, base.members[i].key)
		}
	}
	old := len(keys)
	for _, side := range []*value{local, remote} {
		for _, x := range side.members {
			if base.get(x.key.number) == nil {
				keys = append(keys, x.key)
			}
		}
	}
	slices.SortFunc(keys[old:], func(a, b *value) int {
		return cmp.Or(strings.Compare(a.said(), b.said()), cmp.Compare(len(a.raw), len(b.raw)),
			strings.Compare(a.raw, b.raw))
	})
	keys = slices.CompactFunc(keys, func(a, b *value) bool { return a.number == b.number })
	sep := byte('{')
	for _, key := range keys {
		b, l, r := base.get(key.number), local.get(key.number), remote.get(key.number)
		if m.gone(b, l, r) {
			continue
		}
		out.WriteByte(sep)
		sep = ','
		out.WriteString(key.raw)
		out.WriteByte(':')
		if err := m.write(out, b, l, r); err != nil {
			return within(err, key.said())
		}
	}
	if sep == '{' {
		out.WriteByte('{')
	}
	out.WriteByte('}')
	return nil
}

// within puts the name of a member before the place of a conflict.
func within(err error, name string) error {
	c := *err.(*Conflict)
	c.At = "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name) + c.At
	return &c
}

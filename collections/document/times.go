package document

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/skerry-sync/skerry/collections/value"
)

// Concurrent versions of a document become one field by field. A field is anything but an object
// with members; arrays count as a whole. What was written or deleted later stands; an object stands
// against a field that was set at its place, as far as it was written later. The result is a
// function of the set of versions, the same in whatever order they come, and a version that was
// written with knowledge of others stands for them.

// keepDeleted is for how many milliseconds it is remembered that a field was deleted.
const keepDeleted = 30 * 24 * 3600 * 1000

// Next returns the version of a document that data makes of old, which may be nil, at a time in
// Unix milliseconds, or later if old is later.
func Next(old *Document, data *value.Object, now int64, author *Author, whole bool) *Document {
	if old == nil {
		return New(data, now, author, whole)
	}
	d := New(data, max(now, old.latest()+1), author, whole)
	if !whole && !old.Whole {
		d.Times = short(stamp(field{old.Data, true, old.times()}, true, data, float64(d.Time)), d.Time)
	}
	return d
}

func (d *Document) times() any {
	if d.Times == nil {
		return float64(d.Time)
	}
	return d.Times
}

// short returns nil for times that are all the document's own.
func short(times any, own int64) any {
	if times == float64(own) {
		return nil
	}
	return times
}

// latest is the latest time in a document.
func (d *Document) latest() int64 {
	const most = 1<<53 - 2 // what is after that is no whole number
	return max(d.Time, int64(min(latest(d.times()), most)))
}

// Within returns a version that has no time later than most: itself, unless it has later ones,
// which are at then. Both are Unix milliseconds, and at is at most most. Whoever has made a version
// up may have given it times that no later write has, over which nothing would stand.
func (d *Document) Within(most, at int64) *Document {
	if d.Time <= most && latest(d.times()) <= float64(most) {
		return d
	}
	own := *d
	if own.Time > most {
		own.Time = at
	}
	if d.Times != nil {
		own.Times = within(d.Times, float64(most), float64(at))
	}
	return &own
}

func within(times any, most, at float64) any {
	switch t := times.(type) {
	case float64:
		if t > most {
			return at
		}
	case *value.Object:
		o := &value.Object{}
		for k, v := range t.All() {
			o.Set(k, within(v, most, at))
		}
		return o
	case value.Array:
		return value.Array{within(t[0], most, at), within(t[1], most, at)}
	}
	return times
}

func latest(times any) (t float64) {
	floor, members, one := split(times)
	t = max(floor, one)
	for _, v := range members.All() {
		t = max(t, latest(v))
	}
	return t
}

// never is before all times.
const never = -1.0

// split takes times apart: what was there before floor is gone; the rest has the times of members,
// or all of it one.
func split(times any) (floor float64, members *value.Object, one float64) {
	switch t := times.(type) {
	case float64:
		return never, nil, t
	case *value.Object:
		return never, t, never
	case value.Array:
		floor, _ = t[0].(float64)
		members, _ = t[1].(*value.Object)
		return floor, members, never
	}
	return never, nil, never
}

// pack is the reverse of split: one number if all members of o have the same time and nothing else
// needs to be known.
func pack(floor float64, o, members *value.Object) any {
	if floor > never {
		return value.Array{floor, members}
	}
	if members.Len() != o.Len() || o.Len() == 0 {
		return members
	}
	var one any
	for _, t := range members.All() {
		if _, ok := t.(float64); !ok || one != nil && t != one {
			return members
		}
		one = t
	}
	return one
}

// field is a field or an object of a version, or the memory that there was one.
type field struct {
	v     any
	there bool
	times any
}

// tree returns the object if there is one with members, or with deleted ones.
func (f field) tree() (o *value.Object, ok bool) {
	if !f.there {
		return nil, false
	}
	o, ok = f.v.(*value.Object)
	_, one := f.times.(float64)
	return o, ok && (o.Len() > 0 || !one)
}

// part returns a member of an object; ok is false if nothing is known of it.
func (f field) part(key string) (part field, ok bool) {
	o, isTree := f.tree()
	if !isTree {
		return part, false
	}
	part.v, part.there = o.Get(key)
	_, members, one := split(f.times)
	if members == nil {
		part.times = one
		return part, part.there
	}
	if part.times, ok = members.Get(key); !ok {
		part.times = never
	}
	return part, ok || part.there
}

// time is that of a field that is no tree.
func (f field) time() float64 { return latest(f.times) }

// keys returns the members of an object that are or were there.
func (f field) keys() (all []string) {
	o, _ := f.tree()
	for k := range o.All() {
		all = append(all, k)
	}
	_, members, _ := split(f.times)
	for k := range members.All() {
		if _, ok := o.Get(k); !ok {
			all = append(all, k)
		}
	}
	return all
}

// stamp returns the times of v, which is written over old, of which something is known if known is
// set.
func stamp(old field, known bool, v any, now float64) any {
	_, oldTree := old.tree()
	o, ok := v.(*value.Object)
	if !ok || o.Len() == 0 {
		if known && !oldTree && old.there && same(old.v, v) {
			return old.time()
		}
		return now
	}
	floor := never
	if oldTree {
		floor, _, _ = split(old.times)
	} else if known { // what it has taken the place of must not come back
		floor = old.time()
	}
	members := &value.Object{}
	for k, v := range o.All() {
		part, known := old.part(k)
		members.Set(k, stamp(part, known, v, now))
	}
	if oldTree {
		for _, k := range old.keys() {
			if _, ok := o.Get(k); ok {
				continue
			}
			if part, _ := old.part(k); part.there {
				members.Set(k, now)
			} else if t := part.time(); now-t < keepDeleted {
				members.Set(k, t)
			}
		}
	}
	return pack(floor, o, members)
}

func same(a, b any) bool {
	return bytes.Equal(value.AppendCanonical(nil, a), value.AppendCanonical(nil, b))
}

// Merge returns what versions of a document, at least one, are together.
func Merge(versions []*Document) *Document {
	if len(versions) == 1 {
		return versions[0]
	}
	newest := slices.MaxFunc(versions, func(a, b *Document) int {
		if a.Time != b.Time {
			return int(max(-1, min(1, a.Time-b.Time)))
		}
		// The same data can come with other times or proofs: no two versions may tie.
		return cmp.Or(cmp.Compare(a.Hash, b.Hash), bytes.Compare(a.Bytes(), b.Bytes()))
	})
	if slices.ContainsFunc(versions, func(d *Document) bool { return d.Whole }) {
		return newest
	}
	fields := make([]field, len(versions))
	for i, d := range versions {
		fields[i] = field{d.Data, true, d.times()}
	}
	f := join(fields)
	data, _ := f.v.(*value.Object)
	hash := value.Hash(data)
	d := &Document{
		Data: data, Hash: hash, Time: newest.Time, Times: short(f.times, newest.Time), log: newest.log,
		text: value.Append(nil, data),
	}
	for _, v := range versions { // a proof is one of exactly this data
		if v.Hash == hash && v.Author != nil && (d.Author == nil || v.Author.before(d.Author)) {
			d.Author = v.Author
		}
	}
	return d
}

func (a *Author) before(b *Author) bool {
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Signature, b.Signature)) < 0
}

// join returns what stands of several versions of a field.
func join(all []field) field {
	if len(all) == 1 {
		return all[0]
	}
	var trees []field
	var leaf *field // the latest
	floor := never
	for i := range all {
		f := &all[i]
		if _, ok := f.tree(); ok {
			trees = append(trees, *f)
			below, _, _ := split(f.times)
			floor = max(floor, below)
		} else if leaf == nil || later(f, leaf) {
			leaf = f
		}
	}
	if len(trees) == 0 {
		return *leaf
	}
	if leaf != nil {
		floor = max(floor, leaf.time())
	}
	var keys []string
	for _, f := range trees {
		keys = append(keys, f.keys()...)
	}
	slices.Sort(keys)
	o, members := &value.Object{}, &value.Object{}
	for _, k := range slices.Compact(keys) {
		var parts []field
		for _, f := range trees {
			if part, ok := f.part(k); ok {
				parts = append(parts, part)
			}
		}
		part, ok := above(join(parts), floor)
		if !ok {
			continue
		}
		members.Set(k, part.times)
		if part.there {
			o.Set(k, part.v)
		}
	}
	if members.Len() == 0 && leaf != nil {
		return *leaf
	}
	return field{o, true, pack(floor, o, members)}
}

// later reports whether a stands against b, neither of which is a tree.
func later(a, b *field) bool {
	if x, y := a.time(), b.time(); x != y {
		return x > y
	}
	if a.there != b.there {
		return b.there
	}
	return bytes.Compare(value.AppendCanonical(nil, a.v), value.AppendCanonical(nil, b.v)) > 0
}

// above leaves of a field what was written or deleted after floor; ok is false if nothing was.
func above(f field, floor float64) (_ field, ok bool) {
	_, isTree := f.tree()
	own, members, _ := split(f.times)
	if !isTree || members == nil {
		return f, latest(f.times) > floor
	}
	kept, when := &value.Object{}, &value.Object{}
	for _, k := range f.keys() {
		part, _ := f.part(k)
		part, ok := above(part, floor)
		if !ok {
			continue
		}
		when.Set(k, part.times)
		if part.there {
			kept.Set(k, part.v)
		}
	}
	if when.Len() == 0 && own <= floor {
		return field{}, false
	}
	if own <= floor {
		own = never // the floor of what it is in says so
	}
	return field{kept, true, pack(own, kept, when)}, true
}

// Package value holds JSON values as JavaScript has them, since the published clients of
// collections hash, sign and merge them as such: numbers are float64, strings may hold lone
// surrogates, the members of an object have an order, and there is one canonical form.
//
// What belongs here: parsing, both ways of writing, the hash, and the pure functions on values that
// the protocol names (merge, sanitize). What never belongs here: what a document or a certificate
// is.
//
// A value is nil, a bool, a float64, a string, an Array or an *Object. Strings are in WTF-8, that
// is UTF-8 in which a lone surrogate is encoded like any code point, so that the order of their
// bytes is the order of code points. See docs/protocol/starfish-v3.md, "Canonical JSON".
package value

import (
	"cmp"
	"iter"
	"slices"
	"strconv"
)

// Array is a JSON array.
type Array []any

// Member is a member of an object.
type Member struct {
	Key   string
	Value any
}

// Object is a JSON object. Keys that are array indices come first, in the order of their numbers,
// the others in the order in which they were first set, as in ECMAScript's OrdinaryOwnPropertyKeys.
// The zero value is an empty object.
//
// Keys come from strangers, so nothing here may cost the square of their number: making an object
// of n members costs n log n steps at most, in whatever order they come.
type Object struct {
	members []Member
	indices int            // how many members have a key that is an array index
	at      map[string]int // place of each key in members; nil while there are few
	// jumbled is set once members are in the order in which they were set, and no more in that of the
	// object. They are put in order anew by whoever reads them all.
	jumbled bool
}

// few is how many members are looked through one by one.
const few = 32

// objectOf returns an object with members, which are copied; of those with the same key the last
// counts.
func objectOf(members []Member) *Object {
	o := &Object{}
	if len(members) > few {
		o.at = make(map[string]int, len(members))
	}
	for i := range members {
		key := members[i].Key
		if _, is := arrayIndex(key); is {
			return NewObject(members...)
		}
		if o.at == nil {
			if find(members[:i], key) >= 0 {
				return NewObject(members...)
			}
		} else if o.at[key] = i; len(o.at) == i {
			return NewObject(members...)
		}
	}
	o.members = slices.Clone(members)
	return o
}

func find(members []Member, key string) int {
	if key == "" {
		return slices.IndexFunc(members, func(m Member) bool { return m.Key == "" })
	}
	last := len(key) - 1 // keys of one object often begin alike
	for i := range members {
		if k := members[i].Key; len(k) == len(key) && k[last] == key[last] && k == key {
			return i
		}
	}
	return -1
}

// NewObject returns an object with members; of those with the same key the last counts.
func NewObject(members ...Member) *Object {
	o := &Object{}
	o.members = make([]Member, 0, len(members))
	for i := range members {
		o.Set(members[i].Key, members[i].Value)
	}
	o.settle()
	return o
}

// settle puts the members in order.
func (o *Object) settle() {
	if !o.jumbled {
		return
	}
	o.members, o.jumbled = o.inOrder(), false
	if o.at != nil {
		o.reindex()
	}
}

// inOrder returns the members in the order of the object, and leaves the object as it is, since
// several goroutines may read it at once.
func (o *Object) inOrder() []Member {
	if !o.jumbled {
		return o.members
	}
	type numbered struct {
		n uint32
		m Member
	}
	indices := make([]numbered, 0, o.indices)
	for _, m := range o.members {
		if n, is := arrayIndex(m.Key); is {
			indices = append(indices, numbered{n, m})
		}
	}
	slices.SortFunc(indices, func(a, b numbered) int { return cmp.Compare(a.n, b.n) })
	all := make([]Member, 0, len(o.members))
	for _, x := range indices {
		all = append(all, x.m)
	}
	for _, m := range o.members {
		if _, is := arrayIndex(m.Key); !is {
			all = append(all, m)
		}
	}
	return all
}

// Len returns the number of members; a nil object has none.
func (o *Object) Len() int {
	if o == nil {
		return 0
	}
	return len(o.members)
}

// All yields the members in order.
func (o *Object) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		if o == nil {
			return
		}
		members := o.inOrder()
		for i := range members {
			if !yield(members[i].Key, members[i].Value) {
				return
			}
		}
	}
}

func (o *Object) find(key string) int {
	if o.at != nil {
		if i, ok := o.at[key]; ok {
			return i
		}
		return -1
	}
	return find(o.members, key)
}

// Get returns the value of a member.
func (o *Object) Get(key string) (v any, ok bool) {
	if o == nil {
		return nil, false
	}
	if i := o.find(key); i >= 0 {
		return o.members[i].Value, true
	}
	return nil, false
}

// String returns the value of a member that is a string.
func (o *Object) String(key string) (s string, ok bool) {
	v, _ := o.Get(key)
	s, ok = v.(string)
	return s, ok
}

// Set sets a member.
func (o *Object) Set(key string, v any) {
	if i := o.find(key); i >= 0 {
		o.members[i].Value = v
		return
	}
	if n, is := arrayIndex(key); is {
		o.jumbled = o.jumbled || o.indices < len(o.members) || o.indices > 0 && last(o.members) > n
		o.indices++
	}
	o.members = append(o.members, Member{key, v})
	switch {
	case o.at != nil:
		o.at[key] = len(o.members) - 1
	case len(o.members) > few:
		o.reindex()
	}
}

// last returns the number that is the key of the last member.
func last(members []Member) uint32 {
	n, _ := arrayIndex(members[len(members)-1].Key)
	return n
}

// Delete removes members, of those that there are. It costs as much for many as for one.
func (o *Object) Delete(keys ...string) {
	gone := map[string]bool{}
	for _, key := range keys {
		if o.find(key) >= 0 {
			gone[key] = true
			if _, is := arrayIndex(key); is {
				o.indices--
			}
		}
	}
	if len(gone) == 0 {
		return
	}
	o.members = slices.DeleteFunc(o.members, func(m Member) bool { return gone[m.Key] })
	if o.at != nil {
		o.reindex()
	}
}

func (o *Object) reindex() {
	o.at = make(map[string]int, len(o.members))
	for i := range o.members {
		o.at[o.members[i].Key] = i
	}
}

// Clone returns a copy whose members may be set and deleted; the values are shared.
func (o *Object) Clone() *Object {
	c := &Object{}
	if o != nil {
		c.members, c.indices, c.jumbled = slices.Clone(o.members), o.indices, o.jumbled
		if o.at != nil {
			c.reindex()
		}
		c.settle()
	}
	return c
}

// arrayIndex reports whether key is the canonical text of an integer below 2^32-1 (ECMA-262, "array
// index").
func arrayIndex(key string) (uint32, bool) {
	if len(key) == 0 || len(key) > 10 || key[0] < '0' || key[0] > '9' || key[0] == '0' &&
		len(key) > 1 {
		return 0, false
	}
	n, err := strconv.ParseUint(key, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, false
	}
	return uint32(n), true
}

// unsafeKeys are never taken over by Merge and Sanitize: they change the prototype of objects in
// JavaScript and the class of those in Python.
var unsafeKeys = map[string]bool{
	"__proto__": true, "constructor": true, "prototype": true, "__class__": true, "__dict__": true,
}

// isUnsafe is unsafeKeys, quickly.
func isUnsafe(key string) bool {
	return len(key) >= 8 && (key[0] == '_' || key[0] == 'c' || key[0] == 'p') && unsafeKeys[key]
}

// Sanitize returns o without members of unsafe names, in it or in the objects that are members, at
// any depth. What is within arrays stays as it is. The object is o itself if there are none.
func Sanitize(o *Object) *Object {
	if isSafe(o) {
		return o
	}
	safe := make([]Member, 0, o.Len())
	for k, v := range o.All() {
		if isUnsafe(k) {
			continue
		}
		if inner, ok := v.(*Object); ok {
			v = Sanitize(inner)
		}
		safe = append(safe, Member{k, v})
	}
	return NewObject(safe...)
}

func isSafe(o *Object) bool {
	for k, v := range o.All() {
		if isUnsafe(k) {
			return false
		}
		if inner, ok := v.(*Object); ok && !isSafe(inner) {
			return false
		}
	}
	return true
}

// Merge returns local with the members of remote set in it; where both have an object, these are
// merged. Members of unsafe names are left out of what is merged.
func Merge(local, remote *Object) *Object {
	merged := make([]Member, 0, local.Len()+remote.Len())
	for k, v := range local.All() {
		if !isUnsafe(k) {
			merged = append(merged, Member{k, v})
		}
	}
	for k, v := range remote.All() {
		if isUnsafe(k) {
			continue
		}
		if theirs, ok := v.(*Object); ok {
			ours, _ := local.Get(k)
			if ours, ok := ours.(*Object); ok {
				v = Merge(ours, theirs)
			}
		}
		merged = append(merged, Member{k, v})
	}
	return NewObject(merged...)
}

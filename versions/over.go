package versions

import (
	"encoding/binary"
	"slices"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// over finds out which versions of a key others of that key supersede. Whoever may have others
// write can give a key thousands of versions, of which thousands were displaced: so no two are
// compared that cannot have to do with each other. The zero value knows no versions.
type over struct {
	named map[ancestor]bool
	dots  map[record.Dot][]*plan.Version
	alike map[likeness][]*plan.Version
	cut   []*plan.Version
	sums  map[*plan.Version][32]byte // of contexts, as far as they were needed
}

// ancestor is how a version names another one.
type ancestor struct {
	dot  record.Dot
	hash record.ShortHash
}

// likeness is what a version and its copies have in common, beside the context.
type likeness struct {
	kind   record.Kind
	of     record.Content
	height uint64
}

func likenessOf(v *plan.Version) likeness { return likeness{v.Kind, v.Content, v.Height} }

func overOf(all []*plan.Version) *over {
	o := &over{}
	for _, w := range all {
		o.add(w)
	}
	return o
}

// add takes note of a version that may supersede others.
func (o *over) add(w *plan.Version) {
	if o.named == nil {
		o.named, o.dots = map[ancestor]bool{}, map[record.Dot][]*plan.Version{}
		o.alike, o.sums = map[likeness][]*plan.Version{}, map[*plan.Version][32]byte{}
	}
	for _, a := range w.Ancestors {
		o.named[ancestor{a.Dot, a.Hash}] = true
	}
	o.dots[w.Dot] = append(o.dots[w.Dot], w)
	o.alike[likenessOf(w)] = append(o.alike[likenessOf(w)], w)
	if w.Cut {
		o.cut = append(o.cut, w)
	}
}

// covers reports whether one of the versions supersedes v: it names v, with its content, or it is
// v, published or sealed again, or it does not name all that it supersedes, and v is among that, as
// far as clear says that its context means something.
func (o *over) covers(v *plan.Version, clear func(w *plan.Version) bool) bool {
	return o.named[ancestor{v.Dot, v.AsAncestor(0).Hash}] ||
		slices.ContainsFunc(o.dots[v.Dot], func(w *plan.Version) bool { return isResealed(w, v) }) ||
		slices.ContainsFunc(o.alike[likenessOf(v)], func(w *plan.Version) bool {
			return w.Dot.Device != v.Dot.Device && len(w.Context) == len(v.Context) &&
				o.contextOf(w) == o.contextOf(v)
		}) ||
		slices.ContainsFunc(o.cut, func(w *plan.Version) bool {
			return clear(w) && w.Context.Covers(v.Dot)
		})
}

// contextOf returns a hash of the context of a version.
func (o *over) contextOf(v *plan.Version) [32]byte {
	sum, ok := o.sums[v]
	if !ok {
		h := blake3.New(32, nil)
		var b []byte
		for _, d := range v.Context {
			b = append(append(b[:0], d.Device.Author[:]...), d.Device.Incarnation[:]...)
			_, _ = h.Write(binary.BigEndian.AppendUint64(b, d.Counter)) // never fails
		}
		sum = [32]byte(h.Sum(nil))
		o.sums[v] = sum
	}
	return sum
}

package remote

import (
	"context"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// commonKey is where it lies what both sides had after the last sync.
func commonKey(key string) string { return key + store.Mark + "remote" }

// formerCommonKey is where it lay before.
func formerCommonKey(key string) string { return key + "__remote" }

func (m *Manager) remember(ctx context.Context, key string, data *value.Object) error {
	was, err := m.docs.Get(ctx, commonKey(key))
	if err != nil || was != nil && was.Hash == value.Hash(data) {
		return err
	}
	return m.take(ctx, commonKey(key), data, was, nil)
}

// both makes the two sides have what either has written since the last sync. The other server is
// told first: if this one dies then, it finds its own writes there the next time.
func (m *Manager) both(
	ctx context.Context, r *remote, ours *document.Document, theirs *pulled,
) error {
	key := r.Collection.StoragePath
	common, err := m.docs.Get(ctx, commonKey(key))
	if err == nil && common == nil {
		common, err = m.docs.Get(ctx, formerCommonKey(key))
	}
	if err != nil {
		return err
	}
	var was *value.Object
	if common != nil {
		was = common.Data
	}
	merged := ours.Data
	if theirs.hash != "" && theirs.hash != ours.Hash {
		merged = Merge(was, ours.Data, theirs.data)
		if err := r.fit(merged, "what both servers have written"); err != nil {
			return err
		}
	}
	hash := value.Hash(merged)
	if hash != theirs.hash {
		if err := r.push(ctx, merged, theirs); err != nil {
			return err
		}
	}
	author := theirs.author
	if hash != value.Hash(theirs.data) { // theirs.hash is what the other server says
		author = nil
	}
	if hash != ours.Hash {
		if err := m.take(ctx, key, merged, ours, author); err != nil {
			return err
		}
	}
	return m.remember(ctx, key, merged)
}

// Merge returns what becomes of data that two sides have changed since they had was, which is nil
// if that is not known: what only one has changed counts, and where both have, theirs does; objects
// are merged member by member. Without was all that is theirs counts, and what only ours has.
func Merge(was, ours, theirs *value.Object) *value.Object {
	out := &value.Object{}
	for k, o := range ours.All() {
		t, inTheirs := theirs.Get(k)
		w, inWas := was.Get(k)
		switch {
		case !inTheirs:
			if !inWas || !same(w, o) { // it is new or changed; otherwise they have removed it
				out.Set(k, o)
			}
		case same(o, t):
			out.Set(k, o)
		default:
			oo, isO := o.(*value.Object)
			to, isT := t.(*value.Object)
			wo, _ := w.(*value.Object)
			switch {
			case inWas && same(w, t):
				out.Set(k, o)
			case isO && isT && !(inWas && same(w, o)):
				out.Set(k, Merge(wo, oo, to))
			default:
				out.Set(k, t)
			}
		}
	}
	for k, t := range theirs.All() {
		if _, inOurs := ours.Get(k); inOurs {
			continue
		}
		if w, inWas := was.Get(k); !inWas || !same(w, t) {
			out.Set(k, t)
		}
	}
	return out
}

func same(a, b any) bool {
	return string(value.AppendCanonical(nil, a)) == string(value.AppendCanonical(nil, b))
}

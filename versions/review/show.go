package review

import (
	"context"
	"errors"
	"slices"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/merge"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// MaxShown is how many bytes a content may have to be shown as text.
const MaxShown = 64 << 10

// Shown is a conflict with what its versions hold.
type Shown struct {
	Conflict
	// Base is the last version that all heads follow on; nil if there is none, or it is not known.
	Base *Version
	// Texts are of the heads, in their order.
	Texts []Text
}

// Text is what a person sees of a content.
type Text struct {
	// Text is the content, or the lines in which it differs from that of the base; see merge.Diff.
	Text string
	Diff bool
	// Why says why there is no text; nil if there is one.
	Why error
}

// Why there is no text.
var (
	ErrDeletion = errors.New("it deletes the item")
	ErrNoText   = errors.New("it is not text")
	ErrTooLarge = errors.New("it is too large to be shown")
	ErrNotHere  = errors.New("its content is not here yet")
)

// Show returns a conflict with its contents. It returns ErrNoConflict.
func (s *Service) Show(ctx context.Context, r replica.Replica, key []byte) (x Shown, err error) {
	set, devices, err := s.look(ctx, r)
	if err != nil {
		return x, err
	}
	item, err := read(ctx, set, key)
	switch {
	case err != nil:
		return x, about(r, key, err)
	case item.Conflict == nil:
		return x, about(r, key, ErrNoConflict)
	}
	if x.Conflict, err = s.describe(ctx, r, devices, item); err != nil {
		return x, about(r, key, err)
	}
	base, at := commonBase(item.Heads)
	var old []byte
	if base != nil {
		of, err := s.authors(ctx, r, devices, item, true)
		if err != nil {
			return x, about(r, key, err)
		}
		a := base.Ancestors[at]
		for _, p := range item.History() {
			if p.Dot == a.Dot {
				v := of.version(item, p)
				x.Base = &v
			}
		}
		if a.Kept {
			if old, err = set.Bytes(ctx, base, at, MaxShown); err != nil {
				old = nil // it is shown without
			} else if old == nil {
				old = []byte{}
			}
		}
	}
	for i := range x.Heads {
		x.Texts = append(x.Texts, s.text(ctx, set, item, x.Heads[i], old))
	}
	return x, nil
}

// text returns what a person sees of a head; old is the content of the base, nil for none.
func (s *Service) text(
	ctx context.Context, set *versions.Set, item *versions.Item, v Version, old []byte,
) (t Text) {
	if v.Deleted {
		return Text{Why: ErrDeletion}
	}
	at := slices.IndexFunc(item.Heads, func(h *plan.Version) bool { return h.Dot == v.past.Dot })
	b, err := set.Bytes(ctx, item.Heads[at], -1, MaxShown)
	switch {
	case errors.Is(err, blobs.ErrTooLarge):
		return Text{Why: ErrTooLarge}
	case errors.Is(err, plan.ErrMissing):
		return Text{Why: ErrNotHere}
	case err != nil:
		return Text{Why: err}
	}
	if _, err = merge.Diff(nil, b); err != nil {
		return Text{Why: ErrNoText}
	}
	if old != nil {
		if diff, err := merge.Diff(old, b); err == nil {
			return Text{Text: diff, Diff: true}
		}
	}
	return Text{Text: string(b)}
}

// commonBase returns a head, and the place among its ancestors of the last version that all heads
// follow on, if possible where its content is kept; nil if there is none.
func commonBase(heads []*plan.Version) (of *plan.Version, at int) {
	same := func(a record.Ancestor) func(record.Ancestor) bool {
		return func(b record.Ancestor) bool { return a.Dot == b.Dot && a.Hash == b.Hash }
	}
	if len(heads) == 0 {
		return nil, 0
	}
	for i, a := range heads[0].Ancestors {
		of, at = heads[0], i
		all := true
		for _, h := range heads[1:] {
			j := slices.IndexFunc(h.Ancestors, same(a))
			if all = all && j >= 0; all && h.Ancestors[j].Kept && !of.Ancestors[at].Kept {
				of, at = h, j
			}
		}
		if all {
			return of, at
		}
	}
	return nil, 0
}

package plan

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/versions/record"
)

// MaxGeneration is how many automatic merges may follow on each other. Merge functions that never
// settle stop there, in a conflict.
const MaxGeneration = 8

// Side is a content that is merged: of a version, of an ancestor of it, or what a merge has given.
type Side struct {
	Version  *Version // nil for what a merge has given
	Ancestor int      // its place among the version's ancestors; -1 for the version's own content
	Merged   Merged
}

// Merged is a content that a merge has made.
type Merged interface {
	// Hash returns the content's hash in the replica.
	Hash() record.Hash
}

// MergeFunc merges two contents that follow on base, which is nil if they have nothing in common.
// It must give the same on all devices. ok is false if only a person can merge them; so does an
// error that wraps ErrContents, and says why. An ErrMissing says that a content is not here.
type MergeFunc func(base *Side, local, remote Side) (m Merged, ok bool, err error)

// ErrMissing reports content that is not here yet.
var ErrMissing = errors.New("content is not here")

// Options say how an item is looked at.
type Options struct {
	// Merge merges contents; nil is for those that cannot be merged.
	Merge MergeFunc
	// DeletionStands has a deletion stand against an edit that did not know of it. Otherwise the edit
	// stands.
	DeletionStands bool
	// Author is who writes here.
	Author record.AuthorTag
	// Applied is what the device has shown last, and AppliedHash its content's hash. In a conflict it
	// goes on with that.
	Applied     record.Vector
	AppliedHash record.Hash
	// GiveUp makes a conflict of what is missing: it has been waited for.
	GiveUp bool
}

// Plan says what becomes of an item.
type Plan struct {
	// Heads are all, the greatest first.
	Heads []*Version
	// Show is what the item holds. Neither a version nor a merge is an item without any version.
	Show Side
	// Basis are the heads that an edit of what is shown supersedes.
	Basis []*Version
	// Write says that what is shown is to be written as a version over all heads, of this
	// generation; First, that it is this device that writes it at once. Others do after a while, if it
	// has not come.
	Write      bool
	Generation uint8
	First      bool
	// Conflict says why a person must decide; nil if nobody must.
	Conflict error
	// Missing says that content which is not here is needed to go on. Nothing is written until then.
	Missing bool
}

// Deleted reports whether the item is not there: it was deleted, or never written.
func (p *Plan) Deleted() bool {
	v := p.Show.Version
	return p.Show.Merged == nil && (v == nil || v.Kind == record.Deletion)
}

// Reasons for a conflict.
var (
	ErrContents    = errors.New("the contents cannot be merged")
	ErrNoBase      = errors.New("what the contents have in common is not kept any more")
	ErrGenerations = fmt.Errorf("%d automatic merges followed on each other", MaxGeneration)
	ErrManyHeads   = fmt.Errorf("more than %d versions stand beside each other", MaxHeads)
)

// Make returns the plan for all versions of an item that are here. Of those heads that are the same
// for all, it gives the same merge on every device.
func Make(all []*Version, o Options) (*Plan, error) {
	p := &Plan{Heads: Heads(all)}
	p.Basis = p.Heads
	if len(p.Heads) == 0 {
		return p, nil
	}
	if len(p.Heads) > MaxHeads {
		p.conflict(ErrManyHeads, o)
		return p, nil
	}
	inputs := o.inputs(p.Heads)
	acc := folded{side: Side{Version: inputs[0], Ancestor: -1}, of: inputs[:1]}
	for i, v := range inputs[1:] {
		err := acc.add(v, o)
		switch {
		case errors.Is(err, ErrMissing):
			if !o.GiveUp {
				p.Missing = true
				p.show(o)
				return p, nil
			}
			err = ErrNoBase
			fallthrough
		case errors.Is(err, ErrContents) || errors.Is(err, ErrNoBase):
			p.conflict(err, o)
			return p, nil
		case err != nil:
			return nil, err
		}
		acc.of = inputs[:i+2]
	}
	p.Show = acc.side
	if acc.side.Merged == nil {
		return p, nil // a view, until the next edit
	}
	hash := acc.side.Merged.Hash()
	for _, v := range inputs {
		if v.Kind != record.Deletion && v.Content.Hash == hash {
			p.Show = Side{Version: v, Ancestor: -1}
			return p, nil
		}
		p.Generation = max(p.Generation, v.Generation)
	}
	if p.Generation >= MaxGeneration {
		p.conflict(ErrGenerations, o)
		return p, nil
	}
	p.Generation++
	p.Write = true
	p.First = record.TagOf(p.Heads[0].Author) == o.Author
	return p, nil
}

// inputs returns the heads whose contents are merged: one of each content, one of several merges of
// the same, and no deletion beside an edit.
func (o *Options) inputs(heads []*Version) (inputs []*Version) {
	stands := func(v *Version) bool { return (v.Kind == record.Deletion) == o.DeletionStands }
	some := slices.ContainsFunc(heads, stands)
	for _, v := range heads {
		if some && !stands(v) {
			continue
		}
		same := slices.IndexFunc(inputs, func(x *Version) bool {
			return x.Content.Hash == v.Content.Hash || mergesSame(x, v) // of deletions, it is zero
		})
		switch {
		case same < 0:
			inputs = append(inputs, v)
		case mergesSame(inputs[same], v) && compareHashes(v, inputs[same]) > 0:
			inputs[same] = v
		}
	}
	// That of a merge with the greater hash may stand at another place, and be the content of two.
	slices.SortFunc(inputs, compare)
	return slices.CompactFunc(inputs, func(a, b *Version) bool { return a == b })
}

// mergesSame reports whether two versions are automatic merges of the same heads.
func mergesSame(a, b *Version) bool {
	return a.Generation > 0 && b.Generation > 0 && len(a.Resolved) > 0 &&
		slices.Equal(a.Resolved, b.Resolved)
}

func compareHashes(a, b *Version) int { return bytes.Compare(a.Content.Hash[:], b.Content.Hash[:]) }

// folded is what the merge of some versions has given.
type folded struct {
	side Side
	of   []*Version
}

func (f *folded) hash() record.Hash {
	if f.side.Merged != nil {
		return f.side.Merged.Hash()
	}
	return f.side.Version.Content.Hash
}

// add merges a version into what there is. Errors are ErrMissing, ErrContents and ErrNoBase.
func (f *folded) add(v *Version, o Options) error {
	base, err := f.base(v)
	if err != nil {
		return err
	}
	remote := Side{Version: v, Ancestor: -1}
	if base != nil {
		switch a := base.Version.Ancestors[base.Ancestor]; a.Hash {
		case v.Content.Hash.Short():
			return nil
		case f.hash().Short():
			f.side = remote
			return nil
		}
	}
	if o.Merge == nil {
		return ErrContents
	}
	m, ok, err := o.Merge(base, f.side, remote)
	switch {
	case err != nil:
		return err
	case !ok:
		return ErrContents
	}
	f.side = Side{Merged: m}
	return nil
}

// base returns the greatest version that v and what has been merged so far both follow on; nil if
// they have none. It returns ErrNoBase if they have one, and none is named by both.
func (f *folded) base(v *Version) (*Side, error) {
	for i := range v.Ancestors {
		a := &v.Ancestors[i]
		for _, w := range f.of {
			j := slices.IndexFunc(w.Ancestors, func(b record.Ancestor) bool {
				return a.Dot == b.Dot && a.Hash == b.Hash
			})
			switch {
			case j < 0:
				continue
			case a.Hash == (record.ShortHash{}): // it was deleted, and made anew twice
				return nil, nil
			case !a.Kept && w.Ancestors[j].Kept:
				return &Side{Version: w, Ancestor: j}, nil
			}
			return &Side{Version: v, Ancestor: i}, nil
		}
	}
	mine := v.Vector()
	for _, w := range f.of {
		if mine.Meets(w.Vector()) {
			return nil, ErrNoBase
		}
	}
	return nil, nil
}

// conflict has a person decide.
func (p *Plan) conflict(why error, o Options) {
	p.Conflict = why
	p.show(o)
}

// show has the item show one of its heads: the device's own, whose slot an edit takes, or that
// which follows on what the device has shown.
func (p *Plan) show(o Options) {
	best, most := p.Heads[0], 0
	for _, v := range p.Heads {
		n := 0
		switch {
		case record.TagOf(v.Author) == o.Author:
			n = 5
		case len(o.Applied) > 0 && v.Content.Hash == o.AppliedHash && o.Applied.Covers(v.Dot):
			n = 4
		case len(o.Applied) > 0 && v.Vector().CoversAll(o.Applied):
			n = 3
		case len(o.Applied) > 0 && v.Content.Hash == o.AppliedHash:
			n = 2
		case o.Applied.Covers(v.Dot):
			n = 1
		}
		if n > most {
			best, most = v, n
		}
	}
	p.Show, p.Basis = Side{Version: best, Ancestor: -1}, []*Version{best}
}

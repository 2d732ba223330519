package project

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/replica"
)

// newReference makes a reference whose id follows from what it says, so that saying it twice is
// saying it once.
func newReference(
	source, other, target string, content [32]byte, kind ReferenceType, now time.Time,
) Reference {
	h := blake3.New(16, nil)
	for _, part := range []string{source, other, target, string(content[:]), kind.String()} {
		_, _ = h.Write(append([]byte(part), 0)) // never fails
	}
	return Reference{ID: hex.EncodeToString(h.Sum(nil)), Source: source, Project: other,
		Target: target, Content: content, Type: kind, Created: now}
}

// NewReference is a reference to be added.
type NewReference struct {
	Source  string    // an asset of the project
	Target  string    // an asset of the same project, or of Project
	Project string    // the id of another project
	In      Replica   // of that project, nil if it is not here
	Content *[32]byte // version of the target; nil is its present one
	Type    ReferenceType
	Now     time.Time // zero is time.Now
}

// FoundReference is a reference as it was found.
type FoundReference struct {
	Reference
	// Here is set if the target is here, in this version or another.
	Here bool
	// Fault is what is wrong with the reference, of which there may be nothing but the id then.
	Fault error
}

// AddReference adds a reference. Its source must be here, and so must its target if that is in the
// same project, or without a version in one that is here. It returns a *NoAssetError and
// ErrInvalid.
func (o *Opened) AddReference(ctx context.Context, n NewReference) (f FoundReference, err error) {
	if _, err := o.Asset(ctx, n.Source); err != nil {
		return f, err
	}
	in := n.In
	if n.Project == "" {
		in = o.r
	}
	var content [32]byte
	if n.Content != nil {
		content = *n.Content
	}
	if in != nil {
		a, err := assetOf(ctx, in, n.Target)
		if err != nil && (n.Project == "" || n.Content == nil) {
			return f, err
		}
		if n.Content == nil {
			content = a.Content
		}
	}
	r := newReference(n.Source, n.Project, n.Target, content, n.Type, orNow(n.Now))
	if err := r.Check(); err != nil {
		return f, err
	}
	err = o.r.Update(ctx, nil, func(b Batch) error { return b.Set(r.Key(), r.Marshal()) })
	if err != nil {
		return f, err
	}
	return o.lookUp(ctx, r), nil
}

// lookUp looks whether the target of a reference is here.
func (o *Opened) lookUp(ctx context.Context, r Reference) FoundReference {
	f := FoundReference{Reference: r}
	in := o.r
	if r.Project != "" {
		if o.find == nil {
			return f
		}
		if in, f.Fault = o.find(ctx, r.Project); f.Fault != nil || in == nil {
			return f
		}
	}
	_, err := assetOf(ctx, in, r.Target)
	f.Here = err == nil
	return f
}

// References returns the references, the oldest first. What is wrong with one hides no other.
func (o *Opened) References(ctx context.Context) (all []FoundReference, err error) {
	asked := *o // of many references to one project, only the first looks for it
	asked.find = o.find.once()
	for it, err := range o.r.Latest(ctx, replica.Query{Prefix: []byte(ReferencePrefix)}) {
		if err != nil {
			return nil, err
		}
		r, err := o.reference(ctx, it.Key)
		if err != nil {
			id := strings.TrimPrefix(string(it.Key), ReferencePrefix)
			all = append(all, FoundReference{Reference: Reference{ID: id}, Fault: message(err)})
			continue
		}
		all = append(all, asked.lookUp(ctx, r))
	}
	slices.SortStableFunc(all, func(a, b FoundReference) int { return a.Created.Compare(b.Created) })
	return all, nil
}

// reference reads the reference under a key.
func (o *Opened) reference(ctx context.Context, key []byte) (r Reference, err error) {
	b, err := o.r.Get(ctx, key, MaxEncoded)
	if err != nil {
		return r, err
	}
	if r, err = ParseReference(b); err != nil {
		return r, err
	}
	if err := r.Check(); err != nil {
		return r, err
	}
	return r, standsUnder(r.Key(), key)
}

// Package former moves what earlier versions have stored under names that no request reaches any
// more, to names that requests reach: identities in capitals, wallets' addresses without the
// capitals of their checksum, and parameters that end like the names which servers kept for
// themselves.
//
// What belongs here: which names these are, and what becomes of them. What never belongs here: what
// names requests may have (package config), and how a document or a log lies in a store (document).
//
// Start at Move. Of a replica nothing is moved: what others have signed, they have signed for a
// path.
package former

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/reach"
	"github.com/skerry-sync/skerry/collections/store"
)

// Moved counts what Move has found.
type Moved struct {
	Documents int // under names that requests reach now: documents, files and logs
	Left      int // that stay where they are
}

// Options say how to move.
type Options struct {
	DryRun bool
	// Moving, unless nil, is told of each, before it is moved.
	Moving func(from, to string)
	// Left, unless nil, is told of what stays where no request reaches it, and why.
	Left func(key string, err error)
}

// errNoName reports a key for which there is no name that a request could have.
var errNoName = errors.New("no request can use this id")

// Move moves all that is in a store, which nobody else may write to meanwhile. It may be run again
// after it was interrupted. What cannot be moved stays; a store that fails ends the run.
func Move(ctx context.Context, c *config.Config, s store.Store, o Options) (n Moved, err error) {
	keys, err := keysOf(ctx, s)
	if err != nil {
		return n, err
	}
	f := newNames(c)
	for _, from := range keys {
		to, ok := f.now(from)
		if !ok {
			continue
		}
		switch err := f.move(ctx, s, from, to, o); {
		case err == nil:
			n.Documents++
		case ctx.Err() != nil:
			return n, ctx.Err()
		case errors.Is(err, errNoName), errors.Is(err, document.ErrTaken),
			errors.Is(err, document.ErrCorrupt), errors.Is(err, store.ErrUndecoded):
			n.Left++
			if o.Left != nil {
				o.Left(from, err)
			}
		default:
			return n, fmt.Errorf("rename %s: %w", from, err)
		}
	}
	return n, nil
}

func (f *names) move(ctx context.Context, s store.Store, from, to string, o Options) error {
	switch {
	case to == "":
		return errNoName
	case f.reach.At(to) == nil:
		return fmt.Errorf("%w: no collection has the path %s", errNoName, to)
	case o.DryRun:
		return document.CanMove(ctx, s, from, to)
	}
	if o.Moving != nil {
		o.Moving(from, to)
	}
	return document.Move(ctx, s, from, to)
}

// keysOf returns the keys of all documents, files and logs.
func keysOf(ctx context.Context, s store.Store) (all []string, err error) {
	const page = 1000
	for after := ""; ; {
		some, err := s.List(ctx, "", after, page)
		if err != nil {
			return nil, err
		}
		for _, k := range some {
			if !strings.HasPrefix(k, store.Internal) && document.Owner(k) == k {
				all = append(all, k)
			}
		}
		if len(some) < page {
			return all, nil
		}
		after = some[len(some)-1]
	}
}

// names tells former names from others.
type names struct {
	reach *reach.Map
	all   [][]string // templates, in segments
	inner []string   // what servers kept for themselves beside documents
}

func newNames(c *config.Config) *names {
	f := &names{reach: reach.New(c)}
	for _, col := range c.All() {
		f.all = append(f.all, strings.Split(col.KeyTemplate(), "/"))
	}
	for _, r := range c.Remotes {
		f.inner = append(f.inner, r.Collection.KeyTemplate()+config.FormerRemote)
	}
	return f
}

// now returns what a key is called now; ok is false for one that is called so, or is no document's.
// The name is "" if there is none.
func (f *names) now(key string) (name string, ok bool) {
	if slices.Contains(f.inner, key) {
		return "", false
	}
	segments := strings.Split(key, "/")
next:
	for _, t := range f.all {
		if len(t) != len(segments) {
			continue
		}
		fresh := slices.Clone(segments)
		for i, s := range t {
			param, is := strings.CutPrefix(s, "{")
			if !is && s != segments[i] {
				continue next
			}
			if is {
				fresh[i] = paramNow(strings.TrimSuffix(param, "}"), segments[i])
			}
		}
		if slices.Equal(fresh, segments) && !slices.Contains(fresh, "") {
			return "", false // which the first collection decides, as reach does
		}
		if slices.Contains(fresh, "") {
			return "", true
		}
		return strings.Join(fresh, "/"), true
	}
	return "", false
}

// paramNow returns the form that a parameter has now, "" if it has none.
func paramNow(name, v string) string {
	if name == config.IdentityParam {
		id, ok := config.IdentityOf(v)
		if !ok {
			return ""
		}
		v = id
	}
	for _, end := range []string{config.FormerSegments, config.FormerRemote} {
		for strings.HasSuffix(v, end) { // x__seg is x_seg
			v = strings.TrimSuffix(v, end) + end[1:]
		}
	}
	if !config.IsParam(v) {
		return ""
	}
	return v
}

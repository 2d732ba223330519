// Package review is what a person sees of the versions in a node's replicas, and what a person
// decides: conflicts, how they end, the history of an item, and what is restored of it.
//
// What belongs here: which versions are shown, in which order and under which numbers, and writing
// what was chosen. What never belongs here: which version stands (package plan), how the versions
// of a node are opened (package onnode), what keys mean (an onnode.User says it), and terminals.
//
// Start at [Service]. Nothing here changes a replica unless a person has decided something, and
// only items that have versions: plain values stay plain.
package review

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/onnode"
	"github.com/skerry-sync/skerry/versions/record"
)

// Service answers for the replicas of one node. Its methods may be called at the same time.
type Service struct {
	n    *node.Node
	sets *onnode.Sets
}

// New returns what answers for the replicas of n, whose versions sets opens.
func New(n *node.Node, sets *onnode.Sets) *Service { return &Service{n, sets} }

// Version is a version of an item, or a plain value, as a person sees it.
type Version struct {
	// Number is its place in the list that it is in, from 1.
	Number int
	// ID names it among the versions of the item, whatever comes; empty for a plain value.
	ID string
	// Author is the author's id, or its beginning if no more is known of a former version.
	Author string
	// Here says that the author is one of this node.
	Here bool
	// Device is what the author's device calls itself; empty if it is not known.
	Device string
	Time   time.Time
	// Size is that of the content in bytes; 0 if it is not known.
	Size    uint64
	Deleted bool
	// Head says that no other version supersedes it, and Shown that it is what this device goes on
	// with.
	Head, Shown bool
	// Kept says that its content can be read, and restored.
	Kept bool
	// Plain says that it is a plain value and no version.
	Plain bool

	past  versions.Past
	entry *replica.Entry // of a plain value
}

// Conflict is an item of which a person must choose a version.
type Conflict struct {
	Replica replica.Replica
	Key     []byte
	// Kind is what keeps the item, such as "folder", and Name what people call it there; both are
	// empty if nothing does.
	Kind, Name string
	// Reason says why its versions are not merged.
	Reason error
	// Heads are the versions to choose from, the oldest first: one that comes is the last.
	Heads []Version
}

// Of a replica whose versions cannot be read here, no conflicts are known.
func readable(r replica.Replica) bool { return r.Capability >= replica.Read }

// Conflicts yields all conflicts of a replica, by keys. Versions that are not all here yet have no
// part in them.
func (s *Service) Conflicts(ctx context.Context, r replica.Replica) iter.Seq2[Conflict, error] {
	return func(yield func(Conflict, error) bool) {
		set, devices, err := s.look(ctx, r)
		if err != nil {
			yield(Conflict{}, err)
			return
		}
		for item, err := range set.Contested(ctx) {
			var c Conflict
			if err == nil {
				if item.Conflict == nil {
					continue
				}
				c, err = s.describe(ctx, r, devices, item)
			}
			if !yield(c, failed(r, err)) || err != nil {
				return
			}
		}
	}
}

// All is Conflicts of all replicas of the node that can be read here, by their names.
func (s *Service) All(ctx context.Context) iter.Seq2[Conflict, error] {
	return func(yield func(Conflict, error) bool) {
		all, err := s.n.Replicas().List(ctx)
		if err != nil {
			yield(Conflict{}, err)
			return
		}
		slices.SortFunc(all, func(a, b replica.Replica) int { return strings.Compare(a.Name, b.Name) })
		for _, r := range all {
			if !readable(r) {
				continue
			}
			for c, err := range s.Conflicts(ctx, r) {
				if errors.Is(err, replica.ErrNotFound) {
					break // it was left meanwhile
				}
				if !yield(c, err) || err != nil {
					return
				}
			}
		}
	}
}

// look opens the versions of a replica to be read.
func (s *Service) look(
	ctx context.Context, r replica.Replica,
) (set *versions.Set, devices []versions.DeviceInfo, err error) {
	if set, err = s.sets.Look(ctx, r.ID); err == nil {
		devices, _, err = set.ReadDevices(ctx)
	}
	return set, devices, failed(r, err)
}

func failed(r replica.Replica, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", r.Name, err)
}

// describe returns what a person sees of a conflict.
func (s *Service) describe(
	ctx context.Context, r replica.Replica, devices []versions.DeviceInfo, item *versions.Item,
) (c Conflict, err error) {
	c = Conflict{Replica: r, Key: item.Key, Reason: item.Conflict}
	user, _, err := s.sets.UserOf(ctx, r.ID)
	if err != nil {
		return c, err
	}
	if user != nil {
		c.Kind = user.Kind()
		if c.Name, err = user.Name(ctx, r.ID, item.Key); err != nil {
			return c, err
		}
	}
	about, err := s.authors(ctx, r, devices, item, false)
	if err != nil {
		return c, err
	}
	for _, p := range item.History() {
		if p.Head {
			c.Heads = append(c.Heads, about.version(item, p))
		}
	}
	slices.SortStableFunc(c.Heads, func(a, b Version) int { return a.Time.Compare(b.Time) })
	number(c.Heads)
	return c, nil
}

func number(all []Version) {
	for i := range all {
		all[i].Number = i + 1
	}
}

// authors knows whose versions are whose.
type authors struct {
	of      map[record.AuthorTag]replica.AuthorID
	here    map[replica.AuthorID]bool
	devices map[replica.AuthorID]string
}

// authors returns what is known of the authors of an item: of its heads or, if all are asked for,
// of all that ever had a grant.
func (s *Service) authors(
	ctx context.Context, r replica.Replica, devices []versions.DeviceInfo, item *versions.Item,
	all bool,
) (x authors, err error) {
	x = authors{
		map[record.AuthorTag]replica.AuthorID{}, map[replica.AuthorID]bool{},
		map[replica.AuthorID]string{},
	}
	for _, d := range devices {
		x.devices[d.Author], x.of[record.TagOf(d.Author)] = d.Name, d.Author
	}
	own, err := s.n.Authors().All(ctx)
	if err != nil {
		return x, err
	}
	for _, a := range own {
		x.here[a], x.of[record.TagOf(a)] = true, a
	}
	for _, h := range item.Heads {
		x.of[record.TagOf(h.Author)] = h.Author
	}
	if !all {
		return x, nil
	}
	grants, _, err := s.n.Replicas().GrantStates(ctx, r.ID)
	for i := range grants {
		x.of[record.TagOf(grants[i].Author)] = grants[i].Author
	}
	return x, err
}

// tagText is how much of an author's id the tag of a device gives.
const tagText = 25

func (x *authors) version(item *versions.Item, p versions.Past) Version {
	v := Version{
		ID: p.Dot.String(), Time: p.Time, Size: p.Size, Deleted: p.Deleted, Head: p.Head, Kept: p.Kept,
		past: p,
	}
	if a, ok := x.of[p.Dot.Device.Author]; ok {
		v.Author, v.Here, v.Device = a.String(), x.here[a], x.devices[a]
	} else {
		text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(p.Dot.Device.Author[:])
		v.Author = strings.ToLower(text)[:tagText]
	}
	show := item.Show.Version
	v.Shown = show != nil && item.Show.Ancestor < 0 && show.Dot == p.Dot && p.Head
	return v
}

// ErrNoConflict reports an item that is not in conflict.
var ErrNoConflict = kind.New(
	kind.NotFound, "it is not in conflict (skerry conflicts ls shows what is)",
)

// read reads an item. What is missing of it has been waited for, if there is no more to be had
// without that.
func read(ctx context.Context, set *versions.Set, key []byte) (*versions.Item, error) {
	item, err := set.Read(ctx, key, versions.Looked{})
	if err == nil && item.Missing {
		item, err = set.Read(ctx, key, versions.Looked{Waited: true})
	}
	return item, err
}

// about names an item in errors.
func about(r replica.Replica, key []byte, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%q in %s: %w", key, r.Name, err)
}

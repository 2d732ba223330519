package vaults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/vault"
)

// Catalogue is what a vault lists.
type Catalogue struct {
	Projects []Listed // in the order of their names
	// Faults tell of entries that cannot be read, one each.
	Faults []string
	// Warnings tell of devices of which entries are missing; see vault.Written.
	Warnings []string
	Newest   time.Time // of all entries, or zero
}

// Listed is one project of a Catalogue.
type Listed struct {
	vault.Project
	By      replica.AuthorID
	Updated time.Time
	Held    string             // the replica's name here, or empty
	Restore replica.Capability // what this device may join it with: replica.Write, or replica.Read
}

// Catalogue reads a vault: what is here of it, whether or not a peer can be reached.
func (s *Service) Catalogue(ctx context.Context, v *Vault) (c Catalogue, err error) {
	if err := s.ready(); err != nil {
		return c, err
	}
	p, err := s.n.Replicas().Plain(ctx, v.Replica.ID)
	if err != nil {
		return c, err
	}
	held := map[replica.ID]string{}
	all, err := s.n.Replicas().List(ctx)
	if err != nil {
		return c, err
	}
	for _, r := range all {
		held[r.ID] = r.Name
	}
	for it, err := range p.Latest(ctx, replica.Query{Prefix: vault.Prefix()}) {
		if err != nil {
			return c, err
		}
		one, err := s.openProject(ctx, p, v, &it)
		if err != nil {
			c.Faults = append(
				c.Faults,
				fmt.Sprintf("%s by %s: %v", it.Key, it.Entry.Author.String()[:10], err),
			)
			continue
		}
		entry := Listed{
			Project: one, By: it.Entry.Author, Updated: it.Entry.Time(), Held: held[one.Replica],
			Restore: replica.Read,
		}
		if v.Own() {
			if r, err := s.restoreOf(ctx, p, v, one.Replica); err == nil {
				entry.Restore = r.Capability
			} else if !errors.Is(err, replica.ErrNotFound) {
				c.Faults = append(c.Faults, fmt.Sprintf("%s: %v", vault.RestoreKeyOf(one.Replica), err))
			}
		}
		c.Projects = append(c.Projects, entry)
	}
	slices.SortStableFunc(c.Projects, func(a, b Listed) int {
		if a.Name != b.Name {
			return bytes.Compare([]byte(a.Name), []byte(b.Name))
		}
		return bytes.Compare([]byte(a.ID), []byte(b.ID))
	})
	written, err := s.written(ctx, p, v)
	if err != nil {
		return c, err
	}
	for _, w := range written {
		// What this device has written is here.
		if missing := w.Missing(); missing != "" && w.Author != v.author {
			c.Warnings = append(c.Warnings, missing)
		}
		if at := time.UnixMicro(int64(max(w.Newest, w.HeadAt))); at.After(c.Newest) {
			c.Newest = at
		}
	}
	if k := p.Unreadable(); k > 0 {
		c.Faults = append(c.Faults, fmt.Sprintf("%d entries: %v", k, replica.ErrNoReadKey))
	}
	return c, nil
}

func (s *Service) openProject(
	ctx context.Context, p *replica.Plain, v *Vault, it *replica.Item,
) (vault.Project, error) {
	b, err := s.readSmall(ctx, p, it)
	if err != nil {
		return vault.Project{}, err
	}
	return vault.Open(v.catalogue, it.Key, b)
}

// restoreOf returns what a device may join a project with, or replica.ErrNotFound.
func (s *Service) restoreOf(
	ctx context.Context, p *replica.Plain, v *Vault, id replica.ID,
) (r vault.Restore, err error) {
	key := vault.RestoreKeyOf(id)
	it, err := p.LatestOf(ctx, key)
	if err != nil {
		return r, err
	}
	b, err := s.readSmall(ctx, p, &it)
	if err != nil {
		return r, err
	}
	r, err = vault.OpenRestore(v.restore, key, b)
	if err == nil && r.Replica != id {
		err = fmt.Errorf("%s: %w: it is for another replica", key, vault.ErrNotRestore)
	}
	return r, err
}

// ErrContentMissing reports an entry whose content is not here.
var ErrContentMissing = errors.New("its content is not here yet")

// readSmall reads the content of an entry of a vault.
func (s *Service) readSmall(
	ctx context.Context, p *replica.Plain, it *replica.Item,
) ([]byte, error) {
	held, release := s.n.Hold()
	defer release()
	r, err := held.OpenPlain(ctx, p, &it.Entry)
	if err == nil && r.Size() > vault.MaxSealed {
		return nil, fmt.Errorf("%w: %d bytes", vault.ErrSealed, r.Size())
	}
	var b []byte
	if err == nil {
		b, err = io.ReadAll(r)
	}
	if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrIncomplete) {
		return nil, ErrContentMissing
	}
	return b, err
}

// written collects what is here of each author of a vault.
func (s *Service) written(
	ctx context.Context, p *replica.Plain, v *Vault,
) (all map[replica.AuthorID]*vault.Written, err error) {
	all = map[replica.AuthorID]*vault.Written{}
	heads := map[replica.AuthorID]replica.Item{}
	for e, err := range s.n.Replicas().Entries(ctx, v.Replica.ID, replica.Query{Tombstones: true}) {
		if err != nil {
			return nil, err
		}
		w := all[e.Author]
		if w == nil {
			w = &vault.Written{Author: e.Author}
			all[e.Author] = w
		}
		it, ok := p.Open(e)
		if ok && bytes.Equal(it.Key, vault.HeadKey(e.Author)) {
			// There may be one of an earlier epoch.
			last, ok := heads[e.Author]
			if (!ok || replica.CompareVersions(&e, &last.Entry) > 0) && !e.IsTombstone() {
				heads[e.Author], w.HeadAt = it, e.Timestamp
			}
			continue
		}
		w.Entries = append(w.Entries, e.ID())
		w.Newest = max(w.Newest, e.Timestamp)
	}
	for author, it := range heads {
		b, err := s.readSmall(ctx, p, &it)
		if err != nil {
			continue // then the head is missing
		}
		if h, err := vault.OpenHead(v.catalogue, author, b); err == nil {
			all[author].Head = &h
		}
	}
	return all, nil
}

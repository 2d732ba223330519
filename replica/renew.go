package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica/seal"
)

// Renew makes grants anew that authors of this node have made as delegates, below prefixes that an
// older read key sealed: whoever was let write goes on under the new one. It returns how many it
// made, and ErrTooMany for grants over the limit; it still makes the others. It does nothing where
// the delegate's own grant has not been made anew yet, and with the replica key, which makes its
// own grants anew (see Rotate).
func (s *Store) Renew(ctx context.Context, id ID) (made int, err error) {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	var grants []Grant
	err = s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		grants, err = s.renewals(rd, r)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("renew grants: %w", err)
	}
	var full error // one author with too many grants keeps no other's from being made
	for i := range grants {
		err := s.state(ctx, id, []Statement{&grants[i]})
		switch {
		case err == nil:
			made++
		case errors.Is(err, ErrTooMany):
			full = errors.Join(full, fmt.Errorf("renew a grant for %s: %w", grants[i].Author, err))
		default:
			return made, errors.Join(full, fmt.Errorf("renew grants: %w", err))
		}
	}
	return made, full
}

// renewals returns the grants that Renew makes.
func (s *Store) renewals(rd kv.Reader, r *Replica) (made []Grant, err error) {
	if !r.Encrypted || r.Capability >= Write {
		return nil, nil
	}
	ours, err := s.delegates(rd, r.ID)
	if err != nil || len(ours) == 0 {
		return nil, err
	}
	now, keys, err := readKeys(rd, r)
	if errors.Is(err, ErrNoReadKey) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := statementsOf(rd, r.ID, nil)
	if err != nil {
		return nil, err
	}
	type place struct {
		issuer [32]byte
		to     AuthorID
		prefix string
	}
	there := map[place]bool{}
	for i := range all.grants {
		g := &all.grants[i]
		there[place{g.Issuer(), g.Author, string(g.Prefix)}] = true
	}
	x, at := newStated(rd, r.ID), uint64(s.cfg.Now().UnixMicro())
	for i := range all.grants {
		g := &all.grants[i]
		if g.Parent == nil || !ours[g.Parent.Author] || len(g.Prefix) == 0 {
			continue
		}
		if epoch, err := seal.EpochOf(g.Prefix); err != nil || epoch >= now.Epoch {
			continue
		}
		valid, err := x.decides(g)
		if err != nil {
			return nil, err
		}
		prefix, ok := openPrefix(keys, g.Prefix)
		if !ok || len(valid) == 0 || valid[0].to < at {
			continue
		}
		may := Permission{Prefix: prefix, NotBefore: g.NotBefore, NotAfter: valid[0].to,
			Delegable: g.Delegable}
		if g.NotAfter == g.Parent.NotAfter {
			may.NotAfter = 0 // as long as the delegate's own
		}
		anew, err := s.makeGrant(rd, r, g.Author, may)
		if errors.Is(err, ErrCannotGrant) || errors.Is(err, seal.ErrName) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if p := (place{anew.Issuer(), anew.Author, string(anew.Prefix)}); !there[p] {
			there[p] = true
			made = append(made, anew)
		}
	}
	return made, nil
}

// delegates returns the authors of this node who have been let grant.
func (s *Store) delegates(rd kv.Reader, id ID) (map[AuthorID]bool, error) {
	keys, err := authorKeys(rd)
	if err != nil {
		return nil, err
	}
	out := map[AuthorID]bool{}
	x := newStated(rd, id)
	for _, key := range keys {
		for _, class := range []byte{classDirect, classDelegated} {
			st, err := x.about(class, key.Author())
			if err != nil {
				return nil, err
			}
			for i := range st.grants {
				out[key.Author()] = out[key.Author()] || st.grants[i].Delegable
			}
		}
		if !out[key.Author()] {
			delete(out, key.Author())
		}
	}
	return out, nil
}

package downloads

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

// SetPolicy changes the download policy of a replica, and then catches up: content that is wanted
// now and missing is fetched, and what is no longer wanted is not. Content that is here stays.
func (d *Workers) SetPolicy(
	ctx context.Context, id replica.ID, p wanted.Policy,
) error {
	if _, err := d.cfg.Replicas.Get(ctx, id); err != nil {
		return err
	}
	if len(p.Prefixes) > wanted.MaxPrefixes {
		return fmt.Errorf("a download policy of %d prefixes: at most %d",
			len(p.Prefixes), wanted.MaxPrefixes)
	}
	if err := d.sealPrefixes(ctx, id, &p); err != nil {
		return err
	}
	if err := d.cfg.Wanted.SetPolicy(ctx, id, p); err != nil {
		return err
	}
	return d.CatchUp(ctx, id)
}

// sealPrefixes fills in what the prefixes are in the keys of an encrypted replica.
func (d *Workers) sealPrefixes(
	ctx context.Context, id replica.ID, p *wanted.Policy,
) error {
	p.Sealed = nil
	if len(p.Prefixes) == 0 {
		return nil
	}
	view, err := d.cfg.Replicas.Plain(ctx, id)
	if err != nil || !view.Encrypted() {
		return err
	}
	for _, prefix := range p.Prefixes {
		sealed, err := view.SealPrefix(prefix)
		if err != nil {
			return fmt.Errorf("download policy: %w", err)
		}
		p.Sealed = append(p.Sealed, sealed...)
	}
	return nil
}

// SealPolicy fills in, after read keys have come, what the prefixes of a policy are in the keys of
// an encrypted replica, and catches up: entries of the new epoch may have come before the keys.
func (d *Workers) SealPolicy(ctx context.Context, id replica.ID) error {
	p := d.cfg.Wanted.Policy(id)
	before := p.Sealed
	err := d.sealPrefixes(ctx, id, &p)
	if errors.Is(err, replica.ErrNoReadKey) || errors.Is(err, seal.ErrName) {
		return nil // such prefixes are no prefixes of any key
	}
	if err != nil || slices.EqualFunc(p.Sealed, before, bytes.Equal) {
		return err
	}
	if err := d.cfg.Wanted.SetPolicy(ctx, id, p); err != nil {
		return err
	}
	return d.CatchUp(ctx, id)
}

// CatchUp compares the entries of a replica with the content that is here, and notes what is wanted
// and missing. It is for after a change of policy, and after a loss of content.
func (d *Workers) CatchUp(ctx context.Context, id replica.ID) error {
	entries := d.cfg.Replicas.Entries(ctx, id, replica.Query{})
	if err := d.cfg.Wanted.CatchUp(ctx, id, entries); err != nil {
		return err
	}
	d.LookEverywhere()
	return nil
}

package session

import (
	"context"
	"errors"

	"github.com/skerry-sync/skerry/replica"
)

// InsertStatements stores statements that came from a peer. Revocations and epochs soon go on to
// the others: entries take the grants along that they need, but who is revoked has none to take
// them.
func (n *Syncer) InsertStatements(
	ctx context.Context, id replica.ID, items [][]byte,
) (out replica.Stated, err error) {
	statements, later := make([]replica.Statement, 0, len(items)), 0
	for _, b := range items {
		st, err := replica.ParseStatement(b)
		if errors.Is(err, replica.ErrUnknownStatement) {
			later++ // of a later version; the others count all the same
			continue
		}
		if err != nil {
			return out, err
		}
		statements = append(statements, st)
	}
	if later > 0 && n.laterTold.Again(n.cfg.Now()) {
		n.log.Warn("statements of a later version are passed over: use a newer skerry",
			"replica", id.Short(), "count", later)
	}
	out, err = n.replicas.InsertStatements(ctx, id, statements)
	// A peer that sends nothing else is a nuisance.
	out.Refused, out.Void = out.Refused+later, out.Void+later
	if out.Added == 0 {
		return out, err
	}
	var revokes, keys bool
	for _, st := range statements {
		switch st.(type) {
		case *replica.Revocation:
			revokes = true
		case *replica.Epoch, *replica.WrappedKey:
			keys = true
		}
	}
	if revokes {
		begun, rotateErr := n.replicas.RotateIfDue(ctx, id)
		keys = keys || begun
		err = errors.Join(err, rotateErr)
	}
	if keys {
		err = errors.Join(err, n.cfg.KeysChanged(ctx, id))
	}
	if revokes || keys {
		n.contacts.CompareSoon()
	}
	return out, err
}

// renewGrants makes grants anew that this node has made as a delegate, when a new read key has
// come. Each session that brings statements tries, so what keeps failing is told now and then.
func (n *Syncer) renewGrants(ctx context.Context, id replica.ID) {
	made, err := n.replicas.Renew(ctx, id)
	if err != nil && ctx.Err() == nil && n.renewTold.Again(n.cfg.Now()) {
		n.log.Warn("grants for prefixes are not all renewed for a new read key",
			"replica", id.Short(), "error", err)
	}
	if made > 0 {
		n.contacts.CompareSoon()
	}
}

func (n *Syncer) insertEntries(
	ctx context.Context, id replica.ID, items [][]byte, from replica.Origin,
) (replica.Inserted, error) {
	entries := make([]replica.Entry, 0, len(items))
	var bad error
	for _, b := range items {
		e, err := replica.ParseEntry(b)
		if err != nil {
			bad = err
			continue // the good ones among its neighbours are kept
		}
		entries = append(entries, e)
	}
	in, err := n.replicas.Insert(ctx, id, entries, from)
	return in, errors.Join(err, bad)
}

// workOf is what it costs to look at what a peer has brought of its own accord, in units of work.
// Nearly all of it is for checking signatures.
func workOf(statements, entries [][]byte) int {
	const unitsOfItem = 4
	return 1 + unitsOfItem*(len(statements)+len(entries))
}

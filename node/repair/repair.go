// Package repair makes a data directory whole again, as far as what can be read of it allows.
//
// What belongs here: what is done to a store after its records were salvaged: indexes and counts
// are derived anew, and content that does not verify is dropped, so that peers bring it again. What
// never belongs here: how records are salvaged (datadir.Salvage), and what a running node mends
// by itself.
//
// Start at [Store].
package repair

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/datadir"
	"github.com/skerry-sync/skerry/replica"
)

// Report is what Store has done.
type Report struct {
	Records uint64                 `json:"records"`           // that were kept
	Damaged []datadir.DamagedStore `json:"damaged,omitempty"` // files of the store
	// where the damaged store is kept; empty if nothing was damaged
	Old      string            `json:"old,omitempty"`
	Replicas []RepairedReplica `json:"replicas,omitempty"`
	Blobs    int               `json:"blobs"` // that were checked
	// of which something is missing now, to be fetched again
	Lost []blobs.Hash `json:"damaged_blobs,omitempty"`
	// that could not be looked at; they stay as they are
	Unread []UnreadPart `json:"unread,omitempty"`
	// that name damaged blobs, at most maxLostEntries
	Entries []LostEntry `json:"lost_entries,omitempty"`
}

// UnreadPart is a blob or replica that could not be looked at, so that nothing is known of its
// state.
type UnreadPart struct {
	What  string `json:"what"`
	Cause string `json:"cause"`
}

// LostEntry is an entry of whose content something is missing.
type LostEntry struct {
	Replica string     `json:"replica"` // its name here
	Key     string     `json:"key"`     // as it is stored
	Hash    blobs.Hash `json:"hash"`
}

// maxLostEntries bounds how many entries are named; the blobs are all named.
const maxLostEntries = 10_000

// RepairedReplica is a replica whose indexes, counts or tree did not agree with its entries.
type RepairedReplica struct {
	ID     replica.ID `json:"replica_id"`
	Name   string     `json:"name"`
	Faults []string   `json:"faults"`
}

// Store makes the store of a data directory anew from all that can be read of it, keeps the
// damaged one beside it, derives from the entries what can be derived, and drops content that does
// not verify. What is missing then comes from peers at the next sync. No process may have the
// directory open. progress, if not nil, is told what is going on. A store in which nothing is
// damaged stays as it is.
func Store(
	ctx context.Context, cfg node.Config, progress func(doing string),
) (out Report, err error) {
	if progress == nil {
		progress = func(string) {}
	}
	progress("reading the store")
	got, err := datadir.Salvage(ctx, cfg.Dir, cfg.Command, cfg.Store)
	out.Records, out.Damaged, out.Old = got.Records, got.Damaged, got.Old
	if err != nil {
		return out, fmt.Errorf("repair store: %w", err)
	}
	n, err := node.Open(ctx, cfg)
	if err != nil {
		return out, fmt.Errorf("repair store: %w", err)
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := repairContent(ctx, n, &out, progress); err != nil {
		return out, fmt.Errorf("repair store: %w", err)
	}
	if err := repairReplicas(ctx, n, &out, progress); err != nil {
		return out, fmt.Errorf("repair store: %w", err)
	}
	return out, nil
}

// repairContent drops content that does not verify; but not what lies in files of others, of which
// every read verifies each part, and which may only be out of reach now, nor what tells which other
// content to keep.
func repairContent(
	ctx context.Context, n *node.Node, out *Report, progress func(string),
) error {
	var all []blobs.Hash
	away := map[blobs.Hash]bool{}
	for info, err := range n.Blobs().List(ctx) {
		if err != nil {
			return err
		}
		all = append(all, info.Hash)
		if info.Reference != "" {
			away[info.Hash] = true
		}
	}
	damaged := map[blobs.Hash][]blobs.Damage{}
	for i, h := range all {
		if i%1024 == 0 {
			progress(fmt.Sprintf("verifying content: %d of %d blobs", i, len(all)))
		}
		damage, err := n.Blobs().Verify(ctx, h, nil)
		if err == nil && len(damage) > 0 {
			if out.Lost = append(out.Lost, h); !away[h] {
				damaged[h] = damage
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the others are looked at all the same
			out.Unread = append(out.Unread, UnreadPart{"blob " + h.String(), err.Error()})
			continue
		}
		out.Blobs++
	}
	if err := leaveLists(ctx, n, damaged); err != nil {
		return err
	}
	for h, damage := range damaged {
		if err := n.Blobs().Drop(ctx, h, damage); err != nil {
			return err
		}
	}
	return nil
}

// leaveLists takes off damaged blobs what tells which other blobs to keep: sequences, and the lists
// of the lengths of their chunks. They stay until a peer has what takes their place.
func leaveLists(
	ctx context.Context, n *node.Node, damaged map[blobs.Hash][]blobs.Damage,
) error {
	if len(damaged) == 0 {
		return nil
	}
	leave := func(h blobs.Hash) error {
		delete(damaged, h)
		var child blobs.Hash
		r, err := n.Blobs().Reader(ctx, h)
		if err == nil {
			_, err = r.ReadAt(child[:], 0)
		}
		if err == nil {
			delete(damaged, child)
		}
		return ctx.Err() // Verify has reported that it cannot be read
	}
	for p, err := range n.Blobs().Pins(ctx) {
		if err == nil && p.Sequence {
			err = leave(p.Hash)
		}
		if err != nil {
			return err
		}
	}
	for r, err := range n.Replicas().All(ctx) {
		if err != nil {
			return err
		}
		for e, err := range n.Replicas().Entries(ctx, r.ID, replica.Query{}) {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				// Any damaged blob may be a list of an entry that cannot be read, so all of them
				// stay. The repair of the replicas names this one.
				clear(damaged)
				return nil
			case e.Size < chunked.Threshold:
				continue
			}
			info, err := n.Blobs().Stat(ctx, e.Hash)
			if errors.Is(err, blobs.ErrNotFound) || err == nil && info.Size == e.Size {
				continue
			}
			if err == nil {
				err = leave(e.Hash)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// repairReplicas derives indexes, counts and trees from the entries, and notes content that is
// missing.
func repairReplicas(
	ctx context.Context, n *node.Node, out *Report, progress func(string),
) error {
	var all []replica.Replica
	for r, err := range n.Replicas().All(ctx) {
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	for _, r := range all {
		progress("checking replica " + r.Name)
		rep, err := n.ReplicaOf(r.ID).Check(ctx, true, nil)
		if err == nil {
			if len(rep.Faults) > 0 {
				out.Replicas = append(out.Replicas, RepairedReplica{r.ID, r.Name, rep.Faults})
			}
			err = errors.Join(n.CatchUp(ctx, r.ID), nameLost(ctx, n, &r, out))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the others are looked at all the same
			out.Unread = append(out.Unread, UnreadPart{"replica " + r.Name, err.Error()})
		}
	}
	return errors.Join(n.Store().Sync(ctx), n.Blobs().Sync(ctx))
}

// nameLost adds the entries of a replica whose content is damaged.
func nameLost(ctx context.Context, n *node.Node, r *replica.Replica, out *Report) error {
	lost := map[blobs.Hash]bool{}
	for _, h := range out.Lost {
		lost[h] = true
	}
	if len(lost) == 0 {
		return nil
	}
	for e, err := range n.Replicas().Entries(ctx, r.ID, replica.Query{}) {
		if err != nil {
			return err
		}
		if lost[e.Hash] && len(out.Entries) < maxLostEntries {
			out.Entries = append(out.Entries, LostEntry{r.Name, string(e.Key), e.Hash})
		}
	}
	return nil
}

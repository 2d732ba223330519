package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/replica"
)

// salvagedDir is where the store that RepairStore makes waits for its place. It is whole once
// storeDir is out of the way.
const salvagedDir = "kv.salvaged"

// StoreRepair is what RepairStore has done.
type StoreRepair struct {
	Records  uint64            `json:"records"`           // that were kept
	Damaged  []DamagedStore    `json:"damaged,omitempty"` // files of the store
	Old      string            `json:"old,omitempty"`     // where the damaged store is kept; empty if nothing was damaged
	Replicas []RepairedReplica `json:"replicas,omitempty"`
	Blobs    int               `json:"blobs"`                   // that were checked
	Lost     []blobs.Hash      `json:"damaged_blobs,omitempty"` // of which something is missing now, to be fetched again
	Unread   []UnreadPart      `json:"unread,omitempty"`        // that could not be looked at; they stay as they are
	Entries  []LostEntry       `json:"lost_entries,omitempty"`  // that name damaged blobs, at most maxLostEntries
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

// DamagedStore is a file of the store that could not be read whole.
type DamagedStore struct {
	File  string   `json:"file"`
	Cause string   `json:"cause"`
	Kinds []string `json:"kinds,omitempty"` // what may have been in the damaged part; all kinds if empty
}

// RepairedReplica is a replica whose indexes, counts or tree did not agree with its entries.
type RepairedReplica struct {
	ID     replica.ID `json:"replica_id"`
	Name   string     `json:"name"`
	Faults []string   `json:"faults"`
}

// RepairStore makes the store of a data directory anew from all that can be read of it, keeps the
// damaged one beside it, derives from the entries what can be derived, and drops content that does
// not verify. What is missing then comes from peers at the next sync. No process may have the
// directory open. progress, if not nil, is told what is going on. A store in which nothing is
// damaged stays as it is.
func RepairStore(ctx context.Context, cfg Config, progress func(doing string)) (out StoreRepair, err error) {
	if progress == nil {
		progress = func(string) {}
	}
	progress("reading the store")
	if err := salvageStore(ctx, cfg, &out); err != nil {
		return out, fmt.Errorf("repair store: %w", err)
	}
	n, err := Open(ctx, cfg)
	if err != nil {
		return out, fmt.Errorf("repair store: %w", err)
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := n.repairContent(ctx, &out, progress); err != nil {
		return out, fmt.Errorf("repair store: %w", err)
	}
	if err := n.repairReplicas(ctx, &out, progress); err != nil {
		return out, fmt.Errorf("repair store: %w", err)
	}
	return out, nil
}

// salvageStore puts a new store in the place of a damaged one.
func salvageStore(ctx context.Context, cfg Config, out *StoreRepair) (err error) {
	at := func(name string) string { return filepath.Join(cfg.Dir, name) }
	if _, err := os.Stat(at(lockName)); err != nil {
		return fmt.Errorf("%s is no data directory: %w", cfg.Dir, err)
	}
	lock, err := acquire(cfg.Dir, cfg.Command)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	if err := finishSalvage(cfg.Dir); err != nil {
		return err
	}
	if err := os.RemoveAll(at(salvagedDir)); err != nil { // of a run that was cut short
		return err
	}
	got, err := pebble.Salvage(ctx, at(storeDir), at(salvagedDir), cfg.Store)
	if err != nil {
		return err
	}
	out.Records = got.Records
	if len(got.Damaged) == 0 {
		return os.RemoveAll(at(salvagedDir))
	}
	for _, d := range got.Damaged {
		out.Damaged = append(out.Damaged, DamagedStore{d.File, d.Cause, kindsOf(d.Lost)})
	}
	if err := pebble.DropBallast(at(storeDir)); err != nil {
		return err
	}
	out.Old = at(storeDir + ".damaged-" + time.Now().UTC().Format("20060102-150405"))
	if err := os.Rename(at(storeDir), out.Old); err != nil {
		return err
	}
	return finishSalvage(cfg.Dir)
}

// finishSalvage gives the new store its place, if the old one has left it.
func finishSalvage(dir string) error {
	_, err := os.Stat(filepath.Join(dir, storeDir))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = os.Rename(filepath.Join(dir, salvagedDir), filepath.Join(dir, storeDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, disk.SyncDir(dir))
}

// kindsOf names what the keys of some ranges are of.
func kindsOf(lost []kv.Range) (out []string) {
	for _, kind := range []struct {
		first byte
		name  string
	}{{'b', "content"}, {'n', "peers and settings of the node"}, {'r', "replicas, entries and keys"}, {'s', "registrations of a seed"}} {
		for _, r := range lost {
			before := r.To != nil && (len(r.To) == 0 || r.To[0] < kind.first)
			after := len(r.From) > 0 && r.From[0] > kind.first
			if !before && !after {
				out = append(out, kind.name)
				break
			}
		}
	}
	return out
}

// repairContent drops content that does not verify; but not what lies in files of others, of which
// every read verifies each part, and which may only be out of reach now, nor what tells which other
// content to keep.
func (n *Node) repairContent(ctx context.Context, out *StoreRepair, progress func(string)) error {
	var all []blobs.Hash
	away := map[blobs.Hash]bool{}
	for info, err := range n.Blobs.List(ctx) {
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
		damage, err := n.Blobs.Verify(ctx, h, nil)
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
	if err := n.leaveLists(ctx, damaged); err != nil {
		return err
	}
	for h, damage := range damaged {
		if err := n.Blobs.Drop(ctx, h, damage); err != nil {
			return err
		}
	}
	return nil
}

// leaveLists takes off damaged blobs what tells which other blobs to keep: sequences, and the lists
// of the lengths of their chunks. They stay until a peer has what takes their place.
func (n *Node) leaveLists(ctx context.Context, damaged map[blobs.Hash][]blobs.Damage) error {
	if len(damaged) == 0 {
		return nil
	}
	leave := func(h blobs.Hash) error {
		delete(damaged, h)
		var child blobs.Hash
		r, err := n.Blobs.Reader(ctx, h)
		if err == nil {
			_, err = r.ReadAt(child[:], 0)
		}
		if err == nil {
			delete(damaged, child)
		}
		return ctx.Err() // Verify has reported that it cannot be read
	}
	for p, err := range n.Blobs.Pins(ctx) {
		if err == nil && p.Sequence {
			err = leave(p.Hash)
		}
		if err != nil {
			return err
		}
	}
	for r, err := range n.Replicas.All(ctx) {
		if err != nil {
			return err
		}
		for e, err := range n.Replicas.Entries(ctx, r.ID, replica.Query{}) {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				// Any damaged blob may be a list of an entry that cannot be read, so all of them stay.
				// The repair of the replicas names this one.
				clear(damaged)
				return nil
			case e.Size < chunked.Threshold:
				continue
			}
			info, err := n.Blobs.Stat(ctx, e.Hash)
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
func (n *Node) repairReplicas(ctx context.Context, out *StoreRepair, progress func(string)) error {
	var all []replica.Replica
	for r, err := range n.Replicas.All(ctx) {
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	for _, r := range all {
		progress("checking replica " + r.Name)
		rep, err := n.Replicas.Check(ctx, r.ID, true, nil)
		if err == nil {
			if len(rep.Faults) > 0 {
				out.Replicas = append(out.Replicas, RepairedReplica{r.ID, r.Name, rep.Faults})
			}
			err = errors.Join(n.CatchUp(ctx, r.ID), n.nameLost(ctx, &r, out))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the others are looked at all the same
			out.Unread = append(out.Unread, UnreadPart{"replica " + r.Name, err.Error()})
		}
	}
	return errors.Join(n.Replicas.Sync(ctx), n.Blobs.Sync(ctx))
}

// nameLost adds the entries of a replica whose content is damaged.
func (n *Node) nameLost(ctx context.Context, r *replica.Replica, out *StoreRepair) error {
	lost := map[blobs.Hash]bool{}
	for _, h := range out.Lost {
		lost[h] = true
	}
	if len(lost) == 0 {
		return nil
	}
	for e, err := range n.Replicas.Entries(ctx, r.ID, replica.Query{}) {
		if err != nil {
			return err
		}
		if lost[e.Hash] && len(out.Entries) < maxLostEntries {
			out.Entries = append(out.Entries, LostEntry{r.Name, string(e.Key), e.Hash})
		}
	}
	return nil
}

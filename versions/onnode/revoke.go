package onnode

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/plan"
)

// ErrOwnRights reports a revocation that would also end what this device itself may write, since
// its own right stems from the author's grant. So it could keep nothing of what becomes void.
var ErrOwnRights = kind.New(kind.NotAllowed,
	"what this device writes would become void, too: have the replica's owner revoke the author")

// RevokeOptions are for Revoke; the zero value makes void what the author ever wrote, once that is
// adopted.
type RevokeOptions struct {
	// From is the time from which on entries are void, in µs since 1970; 0 is everything.
	From uint64
	// Drop has versions go with their author. Otherwise those that stand are adopted.
	Drop bool
	// DropMissing has those versions go of which something is not here. Otherwise nothing is revoked
	// while there are any.
	DropMissing bool
	// KeepAs, if set, is the author as whom entries that become void and are no versions are signed
	// anew. It needs the replica key.
	KeepAs replica.SecretKey
	// Opened returns the versions of the replica, if they may be open already. The default is Open.
	Opened func(ctx context.Context, id replica.ID) (s *Set, release func(), err error)
}

// Revoked is what Revoke has done.
type Revoked struct {
	replica.Revocation
	// Versions says that the author had versions here, or that this device has; Adopted is how many
	// were adopted.
	Versions bool
	Adopted  int
	Kept     int    // entries that were signed anew
	Dropped  uint64 // entries that became void, on this node
}

// Revoke ends what an author may write, and what others may by grants that stem from the author's,
// as node.Revoke does. The heads that become void are adopted first, if there are any: this device
// publishes their content as its own. What comes from the author between that and the revocation is
// void all the same. In a replica without versions it only revokes. It returns a
// *versions.MissingError if a version is not all here, versions.ErrNoAuthor if this device cannot
// write any, and ErrOwnRights; then nothing is revoked.
func Revoke(
	ctx context.Context, n *node.Node, id replica.ID, author replica.AuthorID, o RevokeOptions,
) (out Revoked, err error) {
	voids, err := n.Replicas().Voids(ctx, id, author, o.From)
	if err != nil {
		return out, err
	}
	if out.Versions, err = holdsVersions(ctx, n, id, voids); err != nil {
		return out, fmt.Errorf("revoke: %w", err)
	}
	if out.Versions && !o.Drop {
		open := o.Opened
		if open == nil {
			open = func(ctx context.Context, id replica.ID) (*Set, func(), error) {
				s, err := Open(ctx, n, id, Options{})
				if err != nil {
					return nil, nil, err
				}
				return s, s.Close, nil
			}
		}
		set, release, err := open(ctx, id)
		if err != nil {
			return out, fmt.Errorf("revoke: %w", err)
		}
		defer release()
		if out.Adopted, err = set.adoptAll(ctx, author, o); err != nil {
			return out, fmt.Errorf("revoke: %w", err)
		}
	}
	if !o.KeepAs.IsZero() {
		if out.Kept, err = keep(ctx, n, id, author, o.KeepAs, out.Versions); err != nil {
			return out, err
		}
	}
	before, err := n.Replicas().Counts(ctx, id)
	if err != nil {
		return out, err
	}
	if out.Revocation, err = n.Revoke(ctx, id, author, o.From); err != nil {
		return out, err
	}
	after, err := n.Replicas().Counts(ctx, id)
	gone := int64(before.Entries+before.Tombstones) - int64(after.Entries+after.Tombstones)
	out.Dropped = uint64(max(gone, 0)) // something may have come
	return out, err
}

// keep signs the author's entries anew that are no versions. Of a replica with versions, what is
// not here stays out: it may be one.
func keep(
	ctx context.Context, n *node.Node, id replica.ID, author replica.AuthorID, as replica.SecretKey,
	beside bool,
) (int, error) {
	if !beside {
		return n.ReplicaOf(id).Adopt(ctx, author, as, nil)
	}
	of := &slots{n: n, r: n.ReplicaOf(id)}
	view, err := of.look(ctx)
	if err != nil {
		return 0, err
	}
	return n.ReplicaOf(id).Adopt(ctx, author, as, func(e *replica.Entry) (bool, error) {
		it, ok := view.Open(*e)
		if !ok || len(it.Key) > 0 && it.Key[0] == 0 {
			return false, nil
		}
		if e.IsTombstone() {
			return true, nil
		}
		is, err := versions.IsVersion(ctx, of, e)
		if errors.Is(err, plan.ErrMissing) {
			return false, nil
		}
		return !is, err
	})
}

// holdsVersions reports whether this device has written versions in a replica, or there are some
// among what becomes void.
func holdsVersions(
	ctx context.Context, n *node.Node, id replica.ID, voids func(*replica.Entry) (bool, error),
) (bool, error) {
	_, err := (&device{n: n, id: id}).Load(ctx)
	if !errors.Is(err, versions.ErrNoDevice) {
		return err == nil, err
	}
	of := &slots{n: n, r: n.ReplicaOf(id)}
	for it, err := range of.Entries(ctx, replica.Query{}) {
		if errors.Is(err, replica.ErrNoReadKey) {
			return false, nil // nothing can be read, nor kept
		}
		if err != nil {
			return false, err
		}
		is, err := voids(&it.Entry)
		if is && err == nil {
			if is, err = versions.IsVersion(ctx, of, &it.Entry); errors.Is(err, plan.ErrMissing) {
				continue
			}
		}
		if is || err != nil {
			return is, err
		}
	}
	return false, nil
}

// adoptRounds is how often what becomes void is looked at: what is adopted must not be among it.
const adoptRounds = 4

// adoptAll adopts what the revocation of an author will make void.
func (s *Set) adoptAll(
	ctx context.Context, author replica.AuthorID, o RevokeOptions,
) (adopted int, err error) {
	n, id := s.watcher.n, s.watcher.slots.ID()
	for range adoptRounds {
		voids, err := n.Replicas().Voids(ctx, id, author, o.From)
		if err != nil {
			return adopted, err
		}
		if own, ok := s.Author(); ok {
			void, err := voids(&replica.Entry{
				Replica: id, Author: own, Timestamp: uint64(n.Replicas().Now().UnixMicro()),
			})
			if err != nil {
				return adopted, err
			}
			if void {
				if err := s.renew(ctx, id); err != nil {
					return adopted, err
				}
				continue
			}
		}
		more, err := s.Adopt(ctx, voids, o.DropMissing)
		if adopted += more; err != nil || more == 0 {
			return adopted, err
		}
	}
	return adopted, ErrOwnRights
}

// renew gives this device another author, if that does not depend on anybody else.
func (s *Set) renew(ctx context.Context, id replica.ID) error {
	r, err := s.watcher.n.Replicas().Get(ctx, id)
	if err != nil {
		return err
	}
	if r.Capability < replica.Write {
		return ErrOwnRights
	}
	return s.Renew(ctx)
}

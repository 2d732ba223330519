package node

import (
	"context"

	"github.com/skerry-sync/skerry/replica"
)

// Check verifies all entries and statements of the replica, and its indexes, and with repair mends
// these; see [replica.Store.Check].
func (r *Replica) Check(
	ctx context.Context, repair bool, progress func(entries uint64),
) (replica.CheckReport, error) {
	return r.n.replicas.Check(ctx, r.id, repair, progress)
}

// MendAhead signs entries anew, with the present time, that are ahead of the clock and by authors
// of this node; left counts the others. See [replica.Store.MendAhead].
func (r *Replica) MendAhead(ctx context.Context) (mended, left int, err error) {
	return r.n.replicas.MendAhead(ctx, r.id)
}

// Adopt signs the entries of an author anew, as another one, before the first is revoked. It
// returns how many there were. See [replica.Store.Adopt].
func (r *Replica) Adopt(
	ctx context.Context, from replica.AuthorID, as replica.SecretKey,
	which func(e *replica.Entry) (bool, error),
) (adopted int, err error) {
	return r.n.replicas.Adopt(ctx, r.id, from, as, which)
}

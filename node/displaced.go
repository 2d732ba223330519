package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

// ErrDisplacedInUse reports that somebody else has the displaced entries of a replica.
var ErrDisplacedInUse = kind.New(kind.Conflict, "its displaced entries are in use already")

// Displaced are the entries of a replica whose place was taken by others of the same author that
// came from elsewhere, as [Node.KeepDisplaced] has them kept. Their content is kept from Collect.
// Only one at a time has them, until Close. Its methods may be called at the same time.
type Displaced struct {
	n      *Node
	id     replica.ID
	closed sync.Once
}

// watchedDisplaced are the replicas of which somebody has the displaced entries.
type watchedDisplaced struct {
	mu sync.Mutex
	of map[replica.ID]bool
}

// KeepDisplaced has the node keep the entries of a replica that are displaced from now on, also
// when it is opened again, until the replica is left. How many are kept is bounded: see package
// displaced. It returns replica.ErrNotFound and ErrDisplacedInUse.
func (n *Node) KeepDisplaced(ctx context.Context, id replica.ID) (*Displaced, error) {
	n.watched.mu.Lock()
	defer n.watched.mu.Unlock()
	if n.watched.of[id] {
		return nil, fmt.Errorf("replica %s: %w", id.Short(), ErrDisplacedInUse)
	}
	if err := n.displaced.Keep(ctx, id); err != nil {
		return nil, n.ended(err)
	}
	if n.watched.of == nil {
		n.watched.of = map[replica.ID]bool{}
	}
	n.watched.of[id] = true
	return &Displaced{n: n, id: id}, nil
}

// LookAtDisplaced returns the displaced entries of a replica for whoever only reads them, beside
// the one who has them, and whether or not any are kept. Forget is not for it.
func (n *Node) LookAtDisplaced(id replica.ID) *Displaced {
	d := &Displaced{n: n, id: id}
	d.closed.Do(func() {}) // Close has nothing to let go
	return d
}

// KeepsDisplaced reports whether displaced entries of a replica are kept.
func (n *Node) KeepsDisplaced(id replica.ID) bool { return n.displaced.Keeps(id) }

// Close lets somebody else have the entries. They are kept all the same.
func (d *Displaced) Close() {
	d.closed.Do(func() {
		d.n.watched.mu.Lock()
		defer d.n.watched.mu.Unlock()
		delete(d.n.watched.of, d.id)
	})
}

// All yields the entries of a key in plain, or of all keys for nil, in the order in which they were
// displaced. While there are none, it reads nothing. Entries that no read key opens are left out;
// those that no grant allows any more are not among them, and forgotten unless Void yields them.
func (d *Displaced) All(ctx context.Context, key []byte) iter.Seq2[replica.Item, error] {
	return d.some(ctx, key, true)
}

// Void yields the entries that no grant allows any more by authors whose keys are here, of all
// keys: what was displaced, and what a revocation has made void since KeepDisplaced was first
// called. Nobody else may have them.
func (d *Displaced) Void(ctx context.Context) iter.Seq2[replica.Item, error] {
	return d.some(ctx, nil, false)
}

// some yields the entries that a grant allows, or those that none does.
func (d *Displaced) some(
	ctx context.Context, key []byte, allowed bool,
) iter.Seq2[replica.Item, error] {
	return func(yield func(replica.Item, error) bool) {
		if !d.n.displaced.Any(d.id) {
			return
		}
		void, stopped, err := d.each(ctx, key, func(it replica.Item, is bool) bool {
			return is != allowed || yield(it, nil)
		})
		if err == nil && len(void) > 0 {
			err = d.n.displaced.Forget(ctx, d.id, void)
		}
		if err != nil && !stopped {
			yield(replica.Item{}, d.n.ended(err))
		}
	}
}

// each calls yield with the entries, and whether a grant allows them. It returns those that none
// does of authors whose keys are not here.
func (d *Displaced) each(
	ctx context.Context, key []byte, yield func(it replica.Item, allowed bool) bool,
) (void []replica.Entry, stopped bool, err error) {
	view, err := d.n.replicas.Plain(ctx, d.id)
	if errors.Is(err, replica.ErrNotFound) { // left
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	var sealed [][]byte
	if key != nil {
		sealed, err = view.SealKey(key)
		if errors.Is(err, seal.ErrName) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
	for e, err := range d.n.displaced.All(ctx, d.id, sealed) {
		if err != nil {
			return void, false, err
		}
		it, ok := view.Open(e)
		if !ok || key != nil && !bytes.Equal(it.Key, key) {
			continue
		}
		allowed, err := d.n.replicas.IsAllowed(ctx, &e)
		if err != nil {
			return void, false, err
		}
		if !allowed {
			own := false
			if err := d.n.kv.View(ctx, func(rd kv.Reader) (err error) {
				own, err = replica.HasAuthorIn(rd, e.Author)
				return err
			}); err != nil {
				return void, false, err
			}
			if !own {
				void = append(void, e)
				continue
			}
		}
		if !yield(it, allowed) {
			return void, true, nil
		}
	}
	return void, false, nil
}

// Forget has the node keep some of the entries no longer, and what they name, unless something else
// does.
func (d *Displaced) Forget(ctx context.Context, displaced ...replica.Item) error {
	all := make([]replica.Entry, len(displaced))
	for i := range displaced {
		all[i] = displaced[i].Entry
	}
	return d.n.ended(d.n.displaced.Forget(ctx, d.id, all))
}

// onLeave is the replica store's OnLeave.
func (n *Node) onLeave(tx kv.Txn, id replica.ID) error {
	return errors.Join(n.lookups.Leave(tx, id), n.displaced.Leave(tx, id))
}

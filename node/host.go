package node

import (
	"context"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// Host decides, on a node that holds replicas of others, what is kept and whose content is fetched.
// Its methods run in transactions that may run again, and must have no effect but on the
// transaction.
type Host interface {
	// Take is asked before an entry is stored: whether there is room for its record. old is the
	// version that it replaces, or nil. full says that the node has no room for more at all.
	Take(tx kv.Txn, e, old *replica.Entry, full bool) (bool, error)
	// State is asked likewise before a statement of some bytes is stored; of one that is dropped,
	// bytes is negative, and the answer does not matter.
	State(tx kv.Txn, id replica.ID, bytes int, full bool) (bool, error)
	// Put is told of an entry that is stored, after Take, or that was stored before. It takes the
	// place of what the same author has put under the same key. It reports whether the content is
	// to be fetched.
	Put(tx kv.Txn, e *replica.Entry) (fetch bool, err error)
	// Drop is told of an entry that is gone.
	Drop(tx kv.Txn, e *replica.Entry) error
	// Refute is told that the size that a stored entry claims is not that of its content, which is
	// therefore not kept for it.
	Refute(tx kv.Txn, e *replica.Entry) error
	// Keeps reports whether the content of a stored entry is to be kept.
	Keeps(rd kv.Reader, e *replica.Entry) (bool, error)
}

// dropContent is the replica store's OnDrop.
func (n *Node) dropContent(tx kv.Txn, e *replica.Entry) error {
	if err := n.displaced.PutVoid(tx, e); err != nil || n.cfg.Host == nil {
		return err
	}
	return n.cfg.Host.Drop(tx, e)
}

// hostKeeps reports whether a host keeps the content of an entry. An entry whose claim of a size is
// wrong keeps nothing: the host charges what is claimed.
func (n *Node) hostKeeps(
	ctx context.Context, states *wanted.States, e *replica.Entry,
) (keeps bool, err error) {
	state, err := states.Of(ctx, e)
	if err != nil || state == wanted.Refuted {
		return false, err
	}
	err = n.kv.View(ctx, func(rd kv.Reader) error {
		keeps, err = n.cfg.Host.Keeps(rd, e)
		return err
	})
	return keeps, err
}

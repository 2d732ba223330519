package node

import (
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Host decides, on a node that holds replicas of others, whose content is fetched. Its methods run in transactions that may run again, and must have no effect but on the transaction.
type Host interface {
	// Put is told of an entry that is stored, or was stored before and whose content is missing. It takes the place of what the same author has put under the same key. It reports whether the content is to be fetched.
	Put(tx kv.Txn, e *replica.Entry) (fetch bool, err error)
	// Drop is told of an entry that is gone, or was deleted by its author.
	Drop(tx kv.Txn, e *replica.Entry) error
}

// dropContent is the replica store's OnDrop.
func (n *Node) dropContent(tx kv.Txn, e *replica.Entry) error {
	if n.cfg.Host == nil {
		return nil
	}
	return n.cfg.Host.Drop(tx, e)
}

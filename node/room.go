package node

import (
	"time"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Room for entries. Limits.Storage bounds all that the node keeps: content, and the records of
// entries, statements and everything else in the store. When it is reached, entries that would take
// more room are kept out; what replaces an entry, a deletion above all, is still taken.

// recordBytes is how many bytes the store of records takes.
func (n *Node) recordBytes() uint64 {
	if s, ok := n.kv.(kv.Sized); ok {
		return s.Used()
	}
	return 0
}

// takeEntry is the replica store's OnTake.
func (n *Node) takeEntry(tx kv.Txn, e, old *replica.Entry) (bool, error) {
	full := n.isFull(old == nil)
	if n.cfg.Host != nil {
		return n.cfg.Host.Take(tx, e, old, full)
	}
	return !full, nil
}

// takeStatement is the replica store's OnState.
func (n *Node) takeStatement(tx kv.Txn, id replica.ID, bytes int) (bool, error) {
	full := n.isFull(bytes > 0)
	if n.cfg.Host != nil {
		return n.cfg.Host.State(tx, id, bytes, full)
	}
	return !full, nil
}

// isFull reports whether there is no room for something that grows the store.
func (n *Node) isFull(grows bool) bool {
	if !grows {
		return false
	}
	err := n.files.CheckLimit()
	if err != nil && n.fullTold.Again(time.Now()) {
		n.log.Warn("entries are not stored", "error", err)
	}
	return err != nil
}

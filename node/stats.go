package node

import (
	"context"
	"sync/atomic"

	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/session"
)

// counters count since the node was opened.
type counters struct {
	wrongContent, misses, refused atomic.Uint64
}

// Stats are what a node counts, since it was opened, and what waits now. They cost next to nothing.
type Stats struct {
	Peers        map[string]int   // connected, by transport: "tcp", "quic-v1", "relay"
	Began, Asked session.Outcomes // sessions that this node began, and its peers
	SyncSent     uint64           // bytes of reconciliation
	SyncReceived uint64
	EntriesSent  uint64 // in sessions
	EntriesGot   uint64
	EntriesLost  uint64 // that peers had had before, and lacked
	ContentSent  uint64 // bytes of the blob protocol
	ContentGot   uint64
	// peers that sent content which did not verify, or a request that made no sense
	WrongContent uint64
	// peers that sent entries or statements which did not verify, or broke the sync protocol
	WrongEntries  uint64
	Misses        uint64 // lookups of replicas that are not held here
	Refused       uint64 // streams that were refused because a limit was reached
	Announced     uint64 // replicas, in the hash table
	Searches      uint64 // for holders, there
	FalseClaims   uint64 // of such, to hold a replica
	Queues        map[string]int
	TableSize     int
	Reachable     bool
	StorageUsed   uint64 // bytes of content on the disk
	ActiveTopics  int
	RelayedPlaces int // at relays, through which this node is reached
}

// Stats returns what the node counts.
func (n *Node) Stats() Stats {
	c, synced := &n.counters, n.syncer.Counts()
	s := Stats{
		Peers: map[string]int{"tcp": 0, "quic-v1": 0, "relay": 0},
		Began: synced.Began, Asked: synced.Asked,
		SyncSent: synced.Sent, SyncReceived: synced.Got, EntriesSent: synced.EntriesSent,
		EntriesGot: synced.EntriesGot, EntriesLost: synced.EntriesLost,
		WrongContent: c.wrongContent.Load(), WrongEntries: synced.WrongEntries,
		ActiveTopics: synced.Topics,
		Misses:       c.misses.Load(), Refused: c.refused.Load(),
		Queues: map[string]int{}, StorageUsed: n.StorageUsed(),
	}
	s.ContentSent, s.ContentGot = n.content.Traffic()
	for _, p := range n.Peers() {
		s.Peers[p.Transport]++
	}
	s.Queues["sessions_running"], s.Queues["sessions_due"] = n.contacts.Waiting()
	if synced.Outboxes > 0 {
		s.Queues["outbox"] = synced.Outbox
	}
	s.Queues["downloads"] = n.downloads.Stats().Fetching
	s.Queues["serving"], s.Queues["serving_waiting"] = n.limits.Serving()
	found := n.discovery.Stats()
	s.Announced, s.Searches, s.FalseClaims = found.Announced, found.Searches, found.FalseClaims
	if found.Alone > 0 {
		s.Queues["searches"] = found.Alone
	}
	if n.net != nil {
		at := n.net.Situation()
		s.TableSize, s.Reachable = at.TableSize, len(at.Reachable) > 0
		s.RelayedPlaces = len(at.Relayed)
	}
	return s
}

// StorageUsed returns how many bytes of content the node has on the disk.
func (n *Node) StorageUsed() uint64 { return n.files.Used() }

// StorageLeft returns about how many bytes of content may still come: by what is free on the disk,
// and by Limits.Storage.
func (n *Node) StorageLeft() (uint64, error) { return n.files.Left() }

// Totals are what a node holds.
type Totals struct {
	Replicas     int
	Entries      uint64
	Blobs        int // complete
	PartialBlobs int
	BlobBytes    uint64
	Wanted       int // pieces of content that entries point at and that are not here yet
}

// Totals counts what the node holds. Its cost grows with the number of all that.
func (n *Node) Totals(ctx context.Context) (t Totals, err error) {
	for r, err := range n.replicas.All(ctx) {
		if err != nil {
			return t, err
		}
		c, err := n.replicas.Counts(ctx, r.ID)
		if err != nil {
			continue // it has been left meanwhile
		}
		t.Replicas++
		t.Entries += c.Entries
	}
	b, err := n.blobs.Totals(ctx)
	if err != nil {
		return t, err
	}
	t.Blobs, t.PartialBlobs, t.BlobBytes = b.Count-b.Partial, b.Partial, b.Bytes
	t.Wanted, err = n.wanted.Count(ctx)
	return t, err
}

// missed counts a lookup of what is not here.
func (n *Node) missed(s link.Stream) {
	n.counters.misses.Add(1)
	n.limits.Missed(s)
}

// PassUpload returns when size bytes of content may go to somebody who is no peer, such as a
// browser.
func (n *Node) PassUpload(ctx context.Context, size int) error {
	return n.limits.PassUpload(ctx, size)
}

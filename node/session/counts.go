package session

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/skerry-sync/skerry/node/contacts"
)

// How a session ended.
const (
	Done      = "done"
	NotShared = "not_shared" // one of the two does not hold the replica
	Busy      = "busy"       // another was under way
	Failed    = "failed"
)

// outcomes are those of sessions that one side began.
type outcomes struct {
	done, notShared, busy, failed atomic.Uint64
	nanos                         atomic.Int64 // of those that are done
}

func (o *outcomes) count(took time.Duration, err error) {
	switch {
	case err == nil:
		o.done.Add(1)
		o.nanos.Add(int64(took))
	case errors.Is(err, contacts.ErrNotShared):
		o.notShared.Add(1)
	case errors.Is(err, contacts.ErrBusy):
		o.busy.Add(1)
	default:
		o.failed.Add(1)
	}
}

func (o *outcomes) stats() Outcomes {
	return Outcomes{
		Ended: map[string]uint64{Done: o.done.Load(), NotShared: o.notShared.Load(),
			Busy: o.busy.Load(), Failed: o.failed.Load()},
		Time: time.Duration(o.nanos.Load()),
	}
}

func (c *counters) session(side *outcomes, st *Stats, took time.Duration, err error) {
	side.count(took, err)
	c.syncSent.Add(st.BytesSent)
	c.syncReceived.Add(st.BytesReceived)
	c.entriesSent.Add(st.EntriesSent)
	c.entriesReceived.Add(st.EntriesReceived)
	c.lost.Add(uint64(max(st.Lost, 0)))
}

// Outcomes are about the sessions that one side began.
type Outcomes struct {
	Ended map[string]uint64 // by how: Done, ...
	Time  time.Duration     // that those took which were done, together
}

// counters count since the node was opened.
type counters struct {
	began, asked                 outcomes
	syncSent, syncReceived       atomic.Uint64 // bytes of reconciliation
	entriesSent, entriesReceived atomic.Uint64 // in sessions
	wrongEntries                 atomic.Uint64
	lost                         atomic.Uint64 // entries that peers had had before
}

// Counts are what a Syncer has counted, and what waits.
type Counts struct {
	Began, Asked Outcomes
	Sent, Got    uint64 // bytes of reconciliation
	EntriesSent  uint64 // in sessions
	EntriesGot   uint64
	EntriesLost  uint64
	WrongEntries uint64
	Outboxes     int // peers to which entries are, or were, pushed
	Outbox       int // entries that wait to be pushed
	Topics       int // that are listened to
}

// Counts returns what has been counted.
func (n *Syncer) Counts() Counts {
	c := &n.counters
	st := Counts{
		Began: c.began.stats(), Asked: c.asked.stats(),
		Sent: c.syncSent.Load(), Got: c.syncReceived.Load(),
		EntriesSent: c.entriesSent.Load(), EntriesGot: c.entriesReceived.Load(),
		EntriesLost: c.lost.Load(), WrongEntries: c.wrongEntries.Load(),
	}
	n.outboxMu.Lock()
	st.Outboxes = len(n.outboxes)
	for _, o := range n.outboxes {
		o.mu.Lock()
		st.Outbox += len(o.entries)
		o.mu.Unlock()
	}
	n.outboxMu.Unlock()
	n.active.mu.Lock()
	st.Topics = len(n.active.until)
	n.active.mu.Unlock()
	return st
}

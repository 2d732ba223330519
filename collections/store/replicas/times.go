package replicas

import (
	"time"

	"github.com/skerry-sync/skerry/replica"
)

// step is by how much a write is later than what it is over, if that is not earlier anyway. A
// document's own time is in ms, and is 1 ms later each time; its entry, from whose time nodes tell
// how late the document's may be, must not fall behind.
const step = 1000 // µs

// timeAfter is the time of a write over what was under its key. It is after what others have
// written there, whose clocks may be ahead, but for what nodes would not take yet.
func (s *Store) timeAfter(before *state) uint64 {
	now := s.n.Now()
	at := max(uint64(now.UnixMicro()), before.last+1)
	if limit := uint64(now.Add(replica.MaxAhead).UnixMicro()); before.known < limit {
		at = max(at, min(before.known+step, limit))
	}
	return at
}

// isOrdered reports a write of a file where there are rules: of several files that count, the one
// that was signed last stands.
func (s *Store) isOrdered(p *put) bool {
	return s.ruled() && p.object != nil && p.object.Type != jsonType
}

// signedAfter returns when a file that is written at a time was signed. One that nobody has signed
// is written as late as it must be to stand, but for what nodes would not take yet.
func (s *Store) signedAfter(p *put, at uint64) (later uint64, signed int64) {
	_, proof := cutProof(p.changes[1].content)
	if proof == nil {
		limit := uint64(s.n.Now().Add(replica.MaxAhead).UnixMicro())
		at = max(at, min(uint64(max(0, p.before.signed))*1000, limit))
	}
	return at, s.guard.SignedAt(&Version{Key: p.key, Proof: proof, Time: int64(at / 1000)})
}

// soon is how far ahead of what nodes take a time may be that is acknowledged: of many writes of a
// key at once each is a little later than the one before.
const soon = 1_000_000 // µs

// isAhead reports whether an entry of a time, in µs, is one that nodes do not take yet.
func (s *Store) isAhead(at uint64) bool {
	return at > uint64(s.n.Now().Add(replica.MaxAhead).UnixMicro())
}

func microseconds(at uint64) string {
	return time.UnixMicro(int64(at)).UTC().Format(time.RFC3339)
}

package pebble

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// How old, and how many written bytes ago, a look at the files may be.
const (
	measureEvery = time.Second
	measureBytes = 1 << 20
)

// size is how many bytes the store takes: those of its tables and of what is in its logs alone, at
// the last look, and all that was written since. Logs and tables that have served, and are removed
// or used again soon, do not count: some 64 MiB.
type size struct {
	written atomic.Uint64 // bytes of all batches

	mu    sync.Mutex
	files uint64    // bytes of the files at the last look
	at    uint64    // written at that time
	when  time.Time // zero before the first look
}

// Used implements kv.Sized.
func (s *Store) Used() uint64 {
	z := &s.size
	z.mu.Lock()
	defer z.mu.Unlock()
	written := z.written.Load()
	old := z.when.IsZero() || written-z.at > measureBytes || time.Since(z.when) > measureEvery
	if old && s.use.Enter(context.Background()) == nil {
		m := s.db.Metrics()
		z.files, z.at, z.when = m.Table.Local.LiveSize+m.WAL.Size, written, time.Now()
		s.use.Leave()
	}
	return z.files + written - z.at
}

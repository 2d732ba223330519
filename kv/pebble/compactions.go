package pebble

import (
	"sync"
	"time"

	pbl "github.com/cockroachdb/pebble/v2"
)

// lookAgain is how often it is looked whether a compaction that waits may begin, besides when one
// has ended.
const lookAgain = 100 * time.Millisecond

// compactions says when the database may begin a compaction: as many at a time as it allows by
// itself. Pebble's own scheduler looks every 100 ms whether one waits, for as long as the database
// is open; a node that does nothing must not wake its processor for that. This one looks only while
// one waits. It serves one database.
type compactions struct {
	db    pbl.DBForCompaction
	bell  chan struct{} // something has changed: look
	stop  chan struct{}
	ended chan struct{}

	mu      sync.Mutex
	running int
	waiting bool // the database was refused a compaction, and may still want it
	over    bool
}

func newCompactions() *compactions {
	return &compactions{
		bell: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Register implements pebble.CompactionScheduler.
func (c *compactions) Register(_ int, db pbl.DBForCompaction) {
	c.db = db
	go c.run()
}

// Unregister implements pebble.CompactionScheduler. No method of the database is called when it has
// returned.
func (c *compactions) Unregister() {
	c.mu.Lock()
	before := c.over
	c.over = true
	c.mu.Unlock()
	if !before {
		close(c.stop)
	}
	<-c.ended
}

// TrySchedule implements pebble.CompactionScheduler.
func (c *compactions) TrySchedule() (bool, pbl.CompactionGrantHandle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false, nil
	}
	if c.running < c.db.GetAllowedWithoutPermission() {
		c.running++
		return true, c
	}
	c.waiting = true
	c.ring()
	return false, nil
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (c *compactions) UpdateGetAllowedWithoutPermission() { c.ring() }

// Started implements pebble.CompactionGrantHandle.
func (c *compactions) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (c *compactions) MeasureCPU(pbl.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (c *compactions) CumulativeStats(pbl.CompactionGrantHandleStats) {}

// Done implements pebble.CompactionGrantHandle.
func (c *compactions) Done() {
	c.mu.Lock()
	c.running--
	c.mu.Unlock()
	c.ring()
}

func (c *compactions) ring() {
	select {
	case c.bell <- struct{}{}:
	default:
	}
}

func (c *compactions) run() {
	defer close(c.ended)
	for {
		var again <-chan time.Time
		c.mu.Lock()
		if c.waiting {
			again = time.After(lookAgain)
		}
		c.mu.Unlock()
		select {
		case <-c.bell:
		case <-again:
		case <-c.stop:
			return
		}
		for c.begin() {
		}
	}
}

// begin lets the database begin a compaction that waits, and reports whether it has. The lock is
// not held while the database is called: it has locks of its own, which come first.
func (c *compactions) begin() bool {
	c.mu.Lock()
	if c.over || !c.waiting || c.running >= c.db.GetAllowedWithoutPermission() {
		c.mu.Unlock()
		return false
	}
	c.waiting = false // unless the database is refused once more from here on
	c.running++
	c.mu.Unlock()
	began := false
	if wants, _ := c.db.GetWaitingCompaction(); wants {
		began = c.db.Schedule(c)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if began {
		c.waiting = true // there may be another
	} else {
		c.running--
	}
	return began
}

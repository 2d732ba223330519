package collections

import "time"

// SetMatchClock sets the clock by which it is told how long patterns take.
func SetMatchClock(o *Options, now func() time.Time) { o.matchClock = now }

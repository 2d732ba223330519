package link

import (
	"math/rand/v2"
	"time"
)

// Jitter spreads d over three quarters to five quarters of it, so that what many nodes would do at
// the same time, they do at different times.
func Jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }

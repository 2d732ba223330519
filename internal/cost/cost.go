// Package cost tells tests what a function costs, in a measure that does not depend on how fast the
// machine is or what else it does.
//
// What belongs here: such measures. What never belongs here: what may cost how much, which tests
// say. Programs do not use it.
package cost

import (
	"math"
	"runtime"
)

// Bytes returns the least number of bytes that do allocates once it has been run, in three runs:
// what other goroutines of the process allocate counts, and with the race detector pools drop at
// random what they are given.
func Bytes(do func()) uint64 {
	do()
	least := uint64(math.MaxUint64)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

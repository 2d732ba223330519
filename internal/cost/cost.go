// Package cost tells tests what a function costs, in a measure that does not depend on how fast the
// machine is or what else it does.
//
// What belongs here: such measures. What never belongs here: what may cost how much, which tests
// say. Programs do not use it.
package cost

import "runtime"

// Bytes returns how many bytes do allocates the second time. All goroutines of the process count.
func Bytes(do func()) uint64 {
	do()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

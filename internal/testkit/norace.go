//go:build !race

package testkit

// Race tells that the race detector watches. It makes a program five to twenty times slower and
// sees what goroutines do to each other: a test that draws many cases for one goroutine takes few
// of them then.
const Race = false

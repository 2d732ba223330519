//go:build race

package testkit

import (
	"flag"

	_ "pgregory.net/rapid" // whose flags are to be there
)

// Race tells that the race detector watches. It makes a program five to twenty times slower and
// sees what goroutines do to each other: a test that draws many cases for one goroutine takes few
// of them then.
const Race = true

// Properties are tried for few drawn cases, too.
func init() {
	if Full() {
		return
	}
	if err := flag.Set("rapid.checks", "10"); err != nil {
		panic(err)
	}
}

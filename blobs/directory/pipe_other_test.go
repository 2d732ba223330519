//go:build !unix

package directory

import "testing"

// pipe is for systems whose directories have no pipes.
func pipe(t *testing.T, _ string) {
	t.Helper()
	t.Skip("no named pipes on this system")
}

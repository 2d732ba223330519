//go:build unix

package directory

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// pipe makes a named pipe.
func pipe(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, syscall.Mkfifo(name, 0o600))
}

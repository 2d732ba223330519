package skerry_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// Files and packages that docs/internals.md names are there.
func TestInternalsNamesWhatIsThere(t *testing.T) {
	text, err := os.ReadFile("docs/internals.md")
	require.NoError(t, err)
	named := regexp.MustCompile(
		"`((?:api|blobs|cmd|collections|docs|internal|kv|node|reconcile|replica)/[a-z0-9_/.]+)`",
	)
	all := named.FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(all), 30)
	for _, m := range all {
		_, err := os.Stat(m[1])
		require.NoError(t, err)
	}
}

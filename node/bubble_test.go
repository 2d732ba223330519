package node

import (
	"testing"

	"github.com/skerry-sync/skerry/internal/testkit"
)

// raceDetector tells that a test runs under it.
const raceDetector = testkit.Race

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	testkit.Bubble(t, f)
}

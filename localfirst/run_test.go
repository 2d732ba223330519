package localfirst

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Passes follow on each other with jitter, seldom after failures and while the app is idle, and
// soon while items wait.
func TestPause(t *testing.T) {
	e := &Engine{cfg: Config{PollInterval: 30 * time.Second, MaxPollInterval: 10 * time.Minute}}
	about := func(want time.Duration, failures int, waiting bool) {
		t.Helper()
		seen := map[time.Duration]bool{}
		for range 50 {
			got := e.pause(failures, waiting)
			require.InDelta(t, want.Seconds(), got.Seconds(), want.Seconds()/10)
			seen[got] = true
		}
		require.Greater(t, len(seen), 10, "there is no jitter")
	}
	about(30*time.Second, 0, false)
	about(2*time.Minute, 2, false)
	about(10*time.Minute, 100, false)
	about(patience, 0, true)
	about(time.Minute, 1, true)
	e.idle = true
	about(10*time.Minute, 0, false)
}

// Calls of ScheduleSync that come before a pass are one.
func TestScheduleSyncCoalesces(t *testing.T) {
	e := &Engine{wake: make(chan struct{}, 1), reset: make(chan struct{}, 1)}
	for range 5 {
		e.ScheduleSync()
	}
	require.Len(t, e.wake, 1)
	require.NoError(t, e.Login(t.Context()))
	require.Len(t, e.reset, 1)
	e.SetIdlePolling(true)
	<-e.wake
	e.SetIdlePolling(false)
	require.Len(t, e.wake, 1, "the app is back")
}

package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPanicBecomesAnErrorThatIsReportedOnce(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	err := Call(func() error { panic("something impossible") })
	var f *Error
	require.ErrorAs(t, err, &f)
	require.NotContains(t, err.Error(), "impossible", "what a person reads has nothing of the code")
	for range 2 {
		wrapped := Report(log, fmt.Errorf("session: %w", err), "a session", "peer", "p")
		require.ErrorAs(t, wrapped, &f)
	}
	require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("ended a session")))
	require.Contains(t, out.String(), "peer=p")
	require.Contains(t, out.String(), "impossible")
	require.Contains(t, out.String(), "fault_test.go", "the stack")

	require.ErrorIs(t, Call(func() error { panic(io.ErrClosedPipe) }), io.ErrClosedPipe)
	require.NoError(t, Guard(log, "nothing", func() error { return nil }))
	mine := errors.New("mine")
	require.Equal(t, mine, Guard(log, "an error", func() error { return mine }))
	require.NotContains(t, out.String(), "an error")
}

func TestKeepGoesOnAfterAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		log := slog.New(slog.DiscardHandler)
		calls := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			Keep(ctx, log, "a loop", func(ctx context.Context) {
				if calls++; calls < 3 {
					panic(calls)
				}
				<-ctx.Done()
			})
		}()
		time.Sleep(10 * Pause)
		synctest.Wait()
		require.Equal(t, 3, calls)
		cancel()
		<-done
	})
}

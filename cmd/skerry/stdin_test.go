package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Reading standard input ends with an interrupt, though nothing comes.
func TestInterruptEndsReading(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	r, w := io.Pipe()
	in := &interruptible{ctx: ctx, r: r}
	go func() { _, _ = io.WriteString(w, "some") }()
	b := make([]byte, 2)
	for _, want := range []string{"so", "me"} {
		n, err := io.ReadFull(in, b)
		require.NoError(t, err)
		require.Equal(t, want, string(b[:n]))
	}
	ended := make(chan error, 1)
	go func() {
		_, err := in.Read(b)
		ended <- err
	}()
	interrupt()
	require.ErrorIs(t, <-ended, context.Canceled)
	_, err := in.Read(b)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, w.Close()) // ends the read that the interrupt overtook
}

// A password is read key by key: the end of input and an interrupt are no password.
func TestSecretLine(t *testing.T) {
	for keys, want := range map[string]string{
		"secret\r":           "secret",
		"secret\nmore":       "secret",
		"secret":             "secret",
		"secret\x04":         "secret",
		"\r":                 "",
		"sx\x7fecr\x08ret\r": "secret",
		"sé\x7fecret\r":      "secret",
		"\x7f\x7fa\r":        "a",
		"wrong\x15right\r":   "right",
	} {
		got, err := secretLine(strings.NewReader(keys), nil)
		require.NoError(t, err, "%q", keys)
		require.Equal(t, want, string(got), "%q", keys)
	}
	for _, keys := range []string{"", "\x04"} {
		_, err := secretLine(strings.NewReader(keys), nil)
		require.ErrorIs(t, err, io.EOF)
	}
	interrupted := false
	_, err := secretLine(strings.NewReader("sec\x03ret\r"), func() { interrupted = true })
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, interrupted)
	got, err := secretLine(strings.NewReader(strings.Repeat("x", 2*maxSecret)+"\r"), nil)
	require.NoError(t, err)
	require.Len(t, got, maxSecret)
}

// A first interrupt ends what reads standard input, and is told.
func TestInterruptIsTold(t *testing.T) {
	if dir := os.Getenv("SKERRY_TEST_READS"); dir != "" {
		started = func() { _, _ = os.Stdout.WriteString("ready\n") }
		os.Exit(run([]string{"--dir", dir, "author", "import", "-"}))
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestInterruptIsTold$")
	cmd.Env = append(os.Environ(), "SKERRY_TEST_READS="+t.TempDir())
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var errs strings.Builder
	cmd.Stderr = &errs
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	require.Equal(t, "skerry: interrupted\n", errs.String())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
}

// A second interrupt ends a process that ignores the first one.
func TestSecondInterruptEndsTheProcess(t *testing.T) {
	if os.Getenv("SKERRY_TEST_STUCK") != "" {
		ctx, _ := interrupts()
		_, _ = os.Stdout.WriteString("ready\n")
		<-ctx.Done()
		select {} // stuck
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSecondInterruptEndsTheProcess$")
	cmd.Env = append(os.Environ(), "SKERRY_TEST_STUCK=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	interruptUntil(t, cmd, ended)
	require.Equal(t, syscall.SIGINT, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
}

// interruptUntil interrupts a process until it ends. It may have been starting still, where nothing
// told it from an interrupt before its time.
func interruptUntil(t *testing.T, cmd *exec.Cmd, ended <-chan error) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		select {
		case <-ended:
			return
		case <-time.After(300 * time.Millisecond):
			_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		}
	}
	_ = cmd.Process.Kill()
	<-ended
	t.Fatal("interrupts do not end the process")
}

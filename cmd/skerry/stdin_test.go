package main

import (
	"context"
	"io"
	"strings"
	"testing"

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

package nats

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedacted(t *testing.T) {
	require.Equal(
		t, "nats://one:4222,tls://xxxxx@two,nats://xxxxx@three",
		redacted("nats://one:4222, tls://bob:secret@two,nats://token@three"),
	)
	require.Equal(t, "?", redacted("nats://bob:sec%ret@two"))
}

package session

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/blame"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

// ask sends a greeting and returns what a node answers, and whether it waits for the next message.
func ask(t *testing.T, n *world, from peer.ID, hello []byte) (answer []byte, waits bool) {
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	go func() {
		err := n.answerSync(t.Context(), pipeStream{theirs, from}, &Stats{})
		_ = theirs.Close()
		done <- err
	}()
	_, err := ours.Write(hello)
	require.NoError(t, err)
	answer = make([]byte, 64)
	_, err = io.ReadFull(ours, answer)
	require.NoError(t, err)
	_, err = ours.Write(make([]byte, 32)) // no proof
	waits = err == nil
	rest, _ := io.ReadAll(ours)
	require.Empty(t, rest)
	require.Error(t, <-done)
	return answer, waits
}

// To a peer that knows a replica's id, a node that does not hold it and one that refuses the peer
// look the same.
func TestUnknownAndRefusedLookTheSame(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(t, &now)
	r, err := n.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	n.blamed.Rubbish("refused", context.Canceled)
	hello := func(id replica.ID) ([]byte, [32]byte) {
		var nonce [32]byte
		_, _ = rand.Read(nonce[:])
		lookup := names.Lookup(id, n.id, names.Day(now))
		return append(append(append([]byte{Version}, nonce[:]...), lookup[:]...), make([]byte,
			statementsDigest)...), nonce
	}
	proven := func(answer []byte, nonce [32]byte, id replica.ID, from peer.ID) bool {
		key := sessionKey(id, nonce, [32]byte(answer), from, n.id)
		same, differ := proofOf(key, "responder", true), proofOf(key, "responder", false)
		return bytes.Equal(same[:], answer[32:]) || bytes.Equal(differ[:], answer[32:])
	}
	for name, c := range map[string]struct {
		id   replica.ID
		from peer.ID
		want bool
	}{
		"held":    {r.ID, "friend", true},
		"unknown": {replica.ID{5}, "friend", false},
		"refused": {r.ID, "refused", false},
	} {
		h, nonce := hello(c.id)
		answer, waits := ask(t, n, c.from, h)
		require.Equal(t, c.want, proven(answer, nonce, c.id, c.from), name)
		require.True(t, waits, name)
		// a replay is answered with a new nonce, and gives nothing to compare
		again, _ := ask(t, n, c.from, h)
		require.NotEqual(t, answer[:32], again[:32], name)
		require.NotEqual(t, answer[32:], again[32:], name)
	}
	now = now.Add(blame.RefusedFor)
	h, nonce := hello(r.ID)
	answer, _ := ask(t, n, "refused", h)
	require.True(t, proven(answer, nonce, r.ID, "refused"), "after a while it may try again")
}

func FuzzGreeting(f *testing.F) {
	f.Add(append([]byte{Version}, make([]byte, helloBytes+40)...))
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(f, &now)
	r, err := n.replicas.Create(f.Context(), "r")
	require.NoError(f, err)
	lookup := names.Lookup(r.ID, n.id, names.Day(now))
	f.Add(append(append(append([]byte{Version}, make([]byte, 32)...), lookup[:]...), make([]byte,
		80)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := n.welcome(t.Context(), reading{bytes.NewReader(b)}, bufio.NewReader(bytes.NewReader(b)))
		require.Error(t, err, "nobody can guess a proof")
	})
}

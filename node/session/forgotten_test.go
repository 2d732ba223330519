package session

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

// lobby is room enough for one peer, whoever it is.
func lobby() *admission.Room {
	all := admission.Share{Peer: 1 << 30, Net: 1 << 30, All: 1 << 30}
	shares := admission.Shares{Strangers: all, Proved: all, Known: all}
	return admission.New(admission.Config{
		Bytes: shares, Streams: map[string]admission.Shares{
			OverviewProtocol: shares, Protocol: shares, PushProtocol: shares,
		},
	})
}

// A device that a node has forgotten, and that shares more replicas with it than a stranger may
// show, is not blamed: it is met, and may show all of them next time.
func TestForgottenDeviceIsMet(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(t, &now)
	shared, err := n.replicas.Create(t.Context(), "shared")
	require.NoError(t, err)
	n.contacts.Changed("device", true)
	v, err := lobby().Enter(OverviewProtocol, admission.Party{Peer: "device"})
	require.NoError(t, err)
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	go func() {
		defer v.Leave()
		done <- n.answerOverview(t.Context(), link.NewGuest(pipeStream{theirs, "device"}, v))
		theirs.Close()
	}()
	s := pipeStream{ours, n.id}
	var nonce, answer [32]byte
	_, _ = rand.Read(nonce[:])
	_, err = s.Write(append([]byte{OverviewVersion}, nonce[:]...))
	require.NoError(t, err)
	r := bufio.NewReader(s)
	_, err = io.ReadFull(r, answer[:])
	require.NoError(t, err)
	o := &overview{key: overviewKey(nonce, answer, "device", n.id)}
	o.tokens = append(o.tokens, names.Token(shared.ID, o.key))
	for range strangeTokens + 1000 {
		x := [32]byte{0: 0xff, 1: 0xff}
		_, _ = rand.Read(x[2:])
		o.tokens = append(o.tokens, x)
	}
	slices.SortFunc(o.tokens, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	o.prints, o.ids = make([][32]byte, len(o.tokens)), make([]replica.ID, len(o.tokens))
	digest := o.digest()
	_, err = s.Write(digest[:])
	require.NoError(t, err)
	_, err = r.ReadByte()
	require.NoError(t, err)
	_, err = o.compare(t.Context(), s, r, true)
	require.Error(t, err, "the node has heard enough")
	require.NoError(t, <-done)
	require.False(t, n.blamed.Refused("device"))
	known, err := n.holders.Of(t.Context(), shared.ID)
	require.NoError(t, err)
	require.Len(t, known, 1)
	require.EqualValues(t, "device", known[0].ID)
}

package node

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

// A device that this node has forgotten, and that shares more replicas with it than a stranger may
// show, is not blamed: it is met, and may show all of them next time.
func TestForgottenDeviceIsMet(t *testing.T) {
	besiege(t, func(t *testing.T, b *besieged) {
		shared, err := b.n.Replicas.Create(t.Context(), "shared")
		require.NoError(t, err)
		device := b.stranger("device", "home")
		s := b.open(device, overviewProtocol)
		var nonce, theirs [32]byte
		_, _ = rand.Read(nonce[:])
		_, err = s.Write(append([]byte{overviewVersion}, nonce[:]...))
		require.NoError(t, err)
		r := bufio.NewReader(s)
		_, err = io.ReadFull(r, theirs[:])
		require.NoError(t, err)
		o := &overview{key: overviewKey(nonce, theirs, device.ID(), b.n.ID())}
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
		time.Sleep(time.Second)
		require.False(t, b.n.blamed.Refused(device.ID()))
		known, err := b.n.KnownPeers(t.Context(), shared.ID)
		require.NoError(t, err)
		require.Len(t, known, 1)
		require.Equal(t, device.ID(), known[0].ID)
	})
}

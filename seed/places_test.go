package seed

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Peers that begin a request and do not end it take no place from those that do; and all places are
// free again at the end.
func TestUnfinishedRequestsTakeNoPlace(t *testing.T) {
	s := host(t, t.TempDir(), DefaultLimits, &clock{})
	slots := make(chan struct{}, 2)
	var all sync.WaitGroup
	var open []net.Conn
	for range 100 {
		theirs, ours := net.Pipe()
		open = append(open, theirs)
		all.Go(func() {
			if err := s.serve(t.Context(), source{counted: "slow"}, ours, slots); err == nil {
				t.Error("there was no request")
			}
		})
		_, err := theirs.Write([]byte{0, 0, 0xff, 0xf0, '{'})
		require.NoError(t, err)
	}
	var out bytes.Buffer
	var in bytes.Buffer
	require.NoError(t, writeFrame(&in, []byte(`{"op":"nothing"}`)))
	require.NoError(t, s.serve(t.Context(), source{counted: "owner"}, struct {
		io.Reader
		io.Writer
	}{&in, &out}, slots))
	b, err := readFrame(&out, maxAnswer)
	require.NoError(t, err)
	var r reply
	require.NoError(t, json.Unmarshal(b, &r))
	require.Equal(t, InvalidRequest, r.Error.Code)
	require.Empty(t, slots)
	for _, c := range open {
		require.NoError(t, c.Close())
	}
	all.Wait()
	// Whoever waits for a place does not wait when the seed ends.
	slots <- struct{}{}
	slots <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.inPlace(ctx, slots, func() (any, error) { return nil, nil })
	require.ErrorIs(t, err, context.Canceled)
}

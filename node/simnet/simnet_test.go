package simnet

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const protocol = "/test/1"

// pair returns two ends that have started, of which the second answers the protocol with a word.
func pair(t *testing.T, word string) (s *Net, a, b *End) {
	s = New(1)
	a, b = s.End("a"), s.End("b")
	b.Handle(protocol, func(st link.Stream) {
		_, _ = io.WriteString(st, word)
		_ = st.Close()
	})
	for _, e := range []*End{a, b} {
		require.NoError(t, e.Start(func(peer.ID, bool) {}))
		t.Cleanup(func() { require.NoError(t, e.Close()) })
	}
	return s, a, b
}

func ask(t *testing.T, from, to *End) string {
	st, err := from.Open(t.Context(), to.ID(), protocol)
	require.NoError(t, err)
	got, err := io.ReadAll(st)
	require.NoError(t, err)
	require.NoError(t, st.Close())
	return string(got)
}

// Nodes that are kept apart cannot connect, those whose connection breaks lose their streams, and
// both find together again.
func TestTrouble(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s, a, b := pair(t, "hello")
		to := peer.AddrInfo{ID: b.ID()}
		s.Cut(a.ID(), b.ID(), true)
		var away *link.UnreachableError
		require.ErrorAs(t, a.Connect(t.Context(), to), &away)
		s.Heal()
		require.NoError(t, a.Connect(t.Context(), to))
		require.True(t, b.Connected(a.ID()))
		require.Equal(t, "hello", ask(t, a, b))
		require.Equal(t, map[string]int{protocol: 1}, s.Opened())

		s.Intercept(b.ID(), protocol, func(serve func(link.Stream)) func(link.Stream) {
			return func(st link.Stream) {
				_, _ = io.WriteString(st, "I say ")
				serve(st)
			}
		})
		require.Equal(t, "I say hello", ask(t, a, b))

		s.Unlink(a, b)
		require.False(t, b.Connected(a.ID()))
		_, err := a.Open(t.Context(), b.ID(), protocol)
		require.ErrorAs(t, err, &away)
		require.NoError(t, a.Connect(t.Context(), to))
		s.ForgetOpened()
		require.Equal(t, "I say hello", ask(t, a, b))
		require.Equal(t, map[string]int{protocol: 1}, s.Opened())
	})
}

// A message of gossip comes once, after a while, unless it is lost.
func TestGossip(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s, a, b := pair(t, "")
		require.NoError(t, a.Connect(t.Context(), peer.AddrInfo{ID: b.ID()}))
		var got []string
		require.NoError(t, b.Join("topic", func(_ context.Context, _ peer.ID, msg []byte) link.Verdict {
			got = append(got, string(msg))
			return link.Accept
		}))
		publish := func(msg string) {
			require.NoError(t, a.Publish(t.Context(), "topic", []byte(msg)))
			time.Sleep(s.Delay)
			synctest.Wait()
		}
		publish("one")
		publish("one")
		require.Equal(t, []string{"one"}, got)
		s.Lose(1)
		publish("two")
		require.Equal(t, []string{"one"}, got)
		s.Lose(0)
		publish("three")
		require.Equal(t, []string{"one", "three"}, got)
	})
}

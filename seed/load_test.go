package seed

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// A seed that is run for some does not keep anything for others.
func TestOnlyForSome(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), DefaultLimits, c)
	friend, stranger := newPerson(t, c), newPerson(t, c)
	s.Only = []identity.ID{friend.id}
	a := online(t, node.Config{}, nil)
	client := Client{Node: a, At: infoOf(s.n)}
	ctx := t.Context()
	r, err := a.CreateReplica(ctx, "r", true)
	require.NoError(t, err)
	text := ticketFor(t, a, r, replica.Sync)
	_, err = client.Register(ctx, stranger.request(t, s, r.ID, text))
	requireCode(t, NotAllowed, err)
	_, err = client.Register(ctx, friend.request(t, s, r.ID, text))
	require.NoError(t, err)
	l, err := s.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, Load{Registrations: 1, Identities: 1}, l)
	_, err = client.Unregister(ctx, friend.request(t, s, r.ID, ""))
	require.NoError(t, err)
	l, err = s.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, l.Ended)
	require.Equal(
		t, map[Asked]uint64{{"register", NotAllowed}: 1, {"register", ""}: 1, {"unregister", ""}: 1},
		s.Requests(),
	)
}

// Whoever floods the seed with requests is told to wait, and nobody else is; and what is remembered
// of askers is bounded.
func TestFloodOfRequests(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), DefaultLimits, c)
	h := s.Handler()
	person := newPerson(t, c).id.String()
	ask := func(remote, forwarded string) int {
		r := httptest.NewRequest(http.MethodGet, "/v1/identities/"+person+"/quota", nil)
		r.RemoteAddr = remote
		r.Header.Set("X-Forwarded-For", forwarded)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	// counted is whether a request counts as one of an asker, who has none left. Time goes on, which
	// gives some back: if this waits for the processor, it looks again.
	counted := func(remote, forwarded, as string) bool {
		for range 50 {
			for s.askers.may(as, c.now()) == nil {
			}
			if ask(remote, forwarded) == http.StatusTooManyRequests {
				return true
			}
		}
		return false
	}
	const who, local = "192.0.2.1/32", "127.0.0.1/32"
	require.True(t, counted("192.0.2.1:1", "", who))
	require.Equal(
		t, 400, ask("192.0.2.2:1", "192.0.2.1"),
		"what is said of others by somebody who is no proxy here does not count",
	)
	require.True(t, counted("192.0.2.1:1", "192.0.2.9", who))
	require.True(
		t, counted("127.0.0.1:1", "198.51.100.7", local), "any process of this machine can say so",
	)
	s.ProxyHops = 1
	require.True(
		t, counted("127.0.0.1:1", "198.51.100.7, 192.0.2.1", who), "a proxy names who asks it last",
	)
	require.Equal(t, 400, ask("127.0.0.1:1", "192.0.2.1, 198.51.100.7"))
	s.ProxyHops = 2
	require.True(t, counted("203.0.113.1:1", "192.0.2.1, 198.51.100.7", who))
	require.Equal(t, 400, ask("203.0.113.1:1", "198.51.100.7"), "which went by no proxy")
	s.ProxyHops = 0
	require.True(
		t, counted("[2001:db8:0:1ff::9]:1", "", "2001:db8:0:100::/56"),
		"who has one address of IPv6 has many",
	)
	require.Equal(t, 400, ask("[2001:db8:0:200::9]:1", ""))
	c.forward(time.Second)
	require.Equal(t, 400, ask("192.0.2.1:1", ""))
	for i := range 3 * maxAskers {
		require.NoError(t, s.askers.may(fmt.Sprint(i), c.now()))
	}
	require.LessOrEqual(t, len(s.askers.of), maxAskers)
}

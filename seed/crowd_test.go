package seed

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// Whoever knows the id of a replica registers it with one free identity after the other. Its owner
// still gets a place, by HTTP and over a stream: those from one network get few.
func TestCrowdKeepsNoOwnerOut(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), Limits{Bytes: 1 << 20, Replicas: 10, Grace: time.Hour}, c)
	id := replica.NewSecretKey().Replica()
	text, err := (&ticket.Doc{Capability: replica.Sync, Replica: id, Addrs: s.n.Addrs()}).Text()
	require.NoError(t, err)
	over := map[string]func(p *person, from string) error{
		"http": func(p *person, from string) error {
			b, err := json.Marshal(p.request(t, s, id, text))
			require.NoError(t, err)
			r := httptest.NewRequest(http.MethodPost, "/v1/replicas", strings.NewReader(string(b)))
			r.RemoteAddr = from + ":1"
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			if w.Code != http.StatusCreated {
				return fmt.Errorf("%d: %s", w.Code, w.Body)
			}
			return nil
		},
		"stream": func(p *person, from string) error {
			b, err := json.Marshal(p.request(t, s, id, text))
			require.NoError(t, err)
			b, err = json.Marshal(&call{Op: "register", Request: b})
			require.NoError(t, err)
			_, err = s.asked(t.Context(), source{device: p.id.String(), counted: from + "/32"}, b)
			return err
		},
	}
	let := 0
	for i := range maxIdentities + 1 {
		err := over[[]string{"http", "stream"}[i%2]](newPerson(t, c), "1.1.1.1")
		if err == nil {
			let++
			continue
		}
		require.ErrorContains(t, err, "from your network")
	}
	require.Equal(t, maxFromNetwork, let, "over both together")
	for how, register := range over {
		owner := newPerson(t, c)
		require.NoError(t, register(owner, "1.1.1.2"), how)
		require.ErrorContains(t, register(owner, "1.1.1.1"), "already", how)
	}
}

// Many people may be behind a proxy on the seed's machine or beside it, or behind a relay: they are
// not told that there are too many of their network. All relays together still get half of the
// places only.
func TestPeopleOfOneReplicaBehindProxiesAndRelays(t *testing.T) {
	testkit.SeenElsewhere(t)
	c := &clock{}
	for _, tt := range []struct {
		behind string
		from   func(i int) source
		let    int
	}{
		{"a proxy on this machine", func(int) source {
			return source{counted: "127.0.0.1/32"}
		}, maxIdentities},
		{"a container's proxy", func(int) source {
			return source{counted: "172.17.0.1/32"}
		}, maxIdentities},
		{"relays", func(i int) source {
			return source{counted: fmt.Sprintf("1.1.1.%d/32", i), relayed: true}
		}, maxFromRelays},
		{"nothing", func(int) source { return source{counted: "1.1.1.1/32"} }, maxFromNetwork},
	} {
		s := host(t, t.TempDir(), Limits{Bytes: 1 << 20, Replicas: 10, Grace: time.Hour}, c)
		id := replica.NewSecretKey().Replica()
		doc := &ticket.Doc{Capability: replica.Sync, Replica: id, Addrs: s.n.Addrs()}
		text, err := doc.Text()
		require.NoError(t, err)
		let := 0
		for i := range maxIdentities + 1 {
			_, err := s.register(t.Context(), newPerson(t, c).request(t, s, id, text), tt.from(i))
			if err == nil {
				let++
			}
		}
		require.Equal(t, tt.let, let, tt.behind)
	}
}

// Identities cost nothing, and their registrations some place on the seed's disk, which nobody is
// charged. One network begins few; others, and those that whoever runs the seed knows, go on.
func TestOneNetworkBeginsFewRegistrations(t *testing.T) {
	testkit.SeenElsewhere(t)
	c := &clock{}
	s := host(t, t.TempDir(), Limits{Bytes: 1 << 20, Replicas: 2 * beginsAtOnce, Grace: time.Hour}, c)
	p := newPerson(t, c)
	register := func(from string) (*Request, error) {
		id := replica.NewSecretKey().Replica()
		text, err := (&ticket.Doc{Capability: replica.Sync, Replica: id, Addrs: s.n.Addrs()}).Text()
		require.NoError(t, err)
		req := p.request(t, s, id, text)
		_, err = s.register(t.Context(), req, source{counted: from})
		return req, err
	}
	let, last := 0, (*Request)(nil)
	for range beginsAtOnce + 20 {
		req, err := register("1.1.1.1/32")
		if err != nil {
			require.ErrorContains(t, err, "from your network")
			continue
		}
		last = req
		_, err = s.register(t.Context(), req, source{counted: "1.1.1.1/32"}) // it begins nothing
		require.ErrorContains(t, err, "already")
		let++
	}
	// The requests themselves took some minutes by the clock of the test.
	require.LessOrEqual(t, let, beginsAtOnce+(beginsAtOnce+20)/60+1)
	for _, from := range []string{"1.1.1.2/32", "2a00::/56", "127.0.0.1/32", "10.0.0.7/32", ""} {
		_, err := register(from)
		require.NoError(t, err, from)
	}
	_, err := s.register(t.Context(), last, source{counted: "1.1.1.1/32"})
	require.ErrorContains(t, err, "already", "not that there are too many")
}

// Requests that come at the same time do not begin more than those one after the other.
func TestRegistrationsBeginOneByOne(t *testing.T) {
	var a askers
	now := time.Unix(1_700_000_000, 0)
	var ends []func(bool)
	for range beginsAtOnce {
		end, err := a.begin("1.1.1.1/32", now)
		require.NoError(t, err)
		ends = append(ends, end)
	}
	_, err := a.begin("1.1.1.1/32", now)
	require.Error(t, err)
	ends[0](false)
	last, err := a.begin("1.1.1.1/32", now)
	require.NoError(t, err, "one came to nothing")
	for _, end := range append(ends[1:], last) {
		end(true)
	}
	_, err = a.begin("1.1.1.1/32", now)
	require.Error(t, err)
	_, err = a.begin("1.1.1.1/32", now.Add(beginsEvery))
	require.NoError(t, err)
}

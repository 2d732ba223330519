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
		err := over[[]string{"http", "stream"}[i%2]](newPerson(t, c), "192.0.2.1")
		if err == nil {
			let++
			continue
		}
		require.ErrorContains(t, err, "from your network")
	}
	require.Equal(t, maxFromNetwork, let, "over both together")
	for how, register := range over {
		owner := newPerson(t, c)
		require.NoError(t, register(owner, "192.0.2.2"), how)
		require.ErrorContains(t, register(owner, "192.0.2.1"), "already", how)
	}
}

// Identities cost nothing, and their registrations some place on the seed's disk, which nobody is
// charged. One network begins few; others, and those that whoever runs the seed knows, go on.
func TestOneNetworkBeginsFewRegistrations(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), Limits{Bytes: 1 << 20, Replicas: 2 * beginsAtOnce, Grace: time.Hour}, c)
	p := newPerson(t, c)
	register := func(from string) (*Request, error) {
		id := replica.NewSecretKey().Replica()
		text, err := (&ticket.Doc{Capability: replica.Sync, Replica: id, Addrs: s.n.Addrs()}).Text()
		require.NoError(t, err)
		req := p.request(t, s, id, text)
		_, err = s.RegisterFrom(t.Context(), req, from)
		return req, err
	}
	let := 0
	for range beginsAtOnce + 20 {
		req, err := register([]string{"1.1.1.1", "1.1.1.1/32"}[let%2])
		if err != nil {
			require.ErrorContains(t, err, "from your network")
			continue
		}
		_, err = s.RegisterFrom(t.Context(), req, "1.1.1.1") // again: it begins nothing
		require.Error(t, err)
		let++
	}
	// The requests themselves took some minutes by the clock of the test.
	require.LessOrEqual(t, let, beginsAtOnce+(beginsAtOnce+20)/60+1)
	for _, from := range []string{"1.1.1.2", "2a00::/56", "127.0.0.1", "10.0.0.7/32", ""} {
		_, err := register(from)
		require.NoError(t, err, from)
	}
}

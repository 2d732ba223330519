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

package collections_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// scenario is what the published server answered to some requests, as
// collections/interop/transcript.mjs has recorded it.
type scenario struct {
	Name, Prefix, Describe, Admin string
	Config                        json.RawMessage
	Enrich                        bool
	MaxBatch                      int
	Steps                         []step
}

type step struct {
	Name, Method, Path, Body, Body64, Text, Text64 string
	Now                                            int64
	Headers, Answer                                map[string]string
	Status                                         int
}

func scenarios(t testing.TB) (all []scenario) {
	b, err := os.ReadFile(filepath.Join("..", "testdata", "starfish", "transcript.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &all))
	require.NotEmpty(t, all)
	return all
}

func (s *step) request(t *testing.T) *http.Request {
	body := []byte(s.Body)
	if s.Body64 != "" {
		body = decode(t, s.Body64)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", s.Method, s.Path)
	for k, v := range s.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", k, v)
	}
	b.WriteString("\r\n")
	b.Write(body)
	r, err := http.ReadRequest(bufio.NewReader(&b))
	if err != nil {
		return nil // as the server would not hear of it, either
	}
	r.RemoteAddr = "127.0.0.1:1"
	return r
}

func decode(t *testing.T, s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	require.NoError(t, err)
	return b
}

// world is a server with a clock that is set.
type world struct {
	*collections.Server
	now         time.Time
	revocations *access.Revocations
	store       store.Store
}

func (w *world) clock() time.Time { return w.now }

func newWorld(t *testing.T, text []byte, change func(o *collections.Options)) *world {
	c, err := config.Parse(text)
	require.NoError(t, err)
	w := &world{now: time.UnixMilli(1_700_000_000_000), store: store.NewMemory()}
	nonces, err := access.NewNonces(access.NonceOptions{Clock: w.clock})
	require.NoError(t, err)
	w.revocations, err = access.NewRevocations(t.Context(), nil, nil)
	require.NoError(t, err)
	o := collections.Options{
		Documents: document.In(w.store, w.clock), KnownHost: collections.Known("sync.example"),
		Resolver: &access.Caps{Nonces: nonces, Revocations: w.revocations, Clock: w.clock},
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&o)
	}
	w.Server, err = collections.New(c, o)
	require.NoError(t, err)
	return w
}

// difference is an answer of ours that is not the published server's.
type difference struct {
	status int
	text   string // "" is any
	why    string
}

// differences are those that are meant, by scenario and step.
var differences = map[string]difference{
	"documents: a parameter with a malformed escape": {400, "", "net/http refuses the request line " +
		"itself, also with 400"},
	"documents: type json of a kind": {415, `{"error":"Content-Type must be application/json"}`,
		"of another media type, the body is not among what is signed"},
	"logs: short: pull of what has expired": {200, "", "what is shown as nothing has no ETag"},
	"logs: hidden: pull": {
		200,
		`{"data":{"items":[{"ts":1700000004910,"data":{"open":2}}]},"hash":"c84f4411580d7737bf0aed8daf39d18e2a14d1e14a1b50db10260791abd0c193","timestamp":1700000004920}`,
		"the hash is that of what the caller is shown",
	},
	"together: bundle of a stranger": {
		200, `{"collections":{"badge":{"data":{},"hash":""}},"timestamp":1700000005990}`,
		"what anybody may read does not depend on who asks",
	},
	"together: open bundle with a bad parameter": {
		400, `{"error":"Invalid path parameter"}`,
		"a path is taken as it comes; the other server resolves its dots first and finds no route",
	},
	"logs: log: append after the furthest": {
		200, "", "an element whose time lies ahead does not draw the times of others with it",
	},
	"logs: log: the whole log": {
		200, "", "an element whose time lies ahead is shown when that has come",
	},
	"logs: chunks: append after the furthest": {
		200, "", "an element whose time lies ahead does not draw the times of others with it",
	},
	"logs: chunks: the whole log": {
		200, "", "an element whose time lies ahead is shown when that has come",
	},
	"mounted: signed as published clients do": {
		200, "", "published clients sign the path without the prefix of their base URL",
	},
}

func (s *scenario) open(t *testing.T) *world {
	var w *world
	w = newWorld(t, s.Config, func(o *collections.Options) {
		o.Prefix, o.Describe, o.MaxBatch = s.Prefix, collections.Describe(s.Describe), s.MaxBatch
		if s.Enrich {
			o.Enricher = access.Compose(
				access.IdentityRole(s.Admin, "admin"),
				access.Entitlements{Keep: -1}.Enricher(o.Documents, func() time.Time {
					return w.now
				}),
			)
		}
	})
	return w
}

// All that the published server answers we answer, but for what is meant to differ.
func TestTranscript(t *testing.T) {
	used := map[string]bool{}
	for _, s := range scenarios(t) {
		t.Run(s.Name, func(t *testing.T) {
			w := s.open(t)
			for _, x := range s.Steps {
				w.now = time.UnixMilli(x.Now)
				if list := x.Headers["X-Revocations"]; list != "" {
					v, err := value.Parse([]byte(list), value.MaxDepth)
					require.NoError(t, err)
					l, err := capcert.ParseRevocations(v)
					require.NoError(t, err)
					require.NoError(t, w.revocations.Accept(t.Context(), l))
				}
				rec := httptest.NewRecorder()
				if r := x.request(t); r != nil {
					w.ServeHTTP(rec, r)
				} else {
					rec.Code = http.StatusBadRequest
				}
				name := s.Name + ": " + x.Name
				if d, ok := differences[name]; ok {
					used[name] = true
					require.NotEmpty(t, d.why)
					require.Equal(t, d.status, rec.Code, name)
					if d.text != "" {
						require.Equal(t, d.text, rec.Body.String(), name)
					}
					continue
				}
				if problem := x.compare(t, rec); problem != "" {
					t.Errorf("%s\n  %s %s %s\n  %s", x.Name, x.Method, x.Path, x.Body, problem)
				}
			}
		})
	}
	for name := range differences {
		require.True(t, used[name], "no step %q", name)
	}
}

func (s *step) compare(t *testing.T, rec *httptest.ResponseRecorder) string {
	want := []byte(s.Text)
	if s.Text64 != "" {
		want = decode(t, s.Text64)
	}
	got := rec.Body.Bytes()
	if s.Method == http.MethodHead {
		got = nil // net/http leaves it out
	}
	var problems []string
	if rec.Code != s.Status {
		problems = append(problems, fmt.Sprintf("status %d, want %d", rec.Code, s.Status))
	}
	if !bytes.Equal(got, want) {
		problems = append(problems, fmt.Sprintf("body %q\n    want %q", got, want))
	}
	for _, k := range []string{"content-type", "etag", "cache-control"} {
		have := rec.Header().Get(k)
		// RFC 9110, 15.4.5: what a 200 would have had is sent with it
		if s.Status == http.StatusNotModified && s.Answer[k] == "" {
			continue
		}
		if s.Status == http.StatusNotFound && s.Answer[k] == "" {
			continue
		}
		if k == "cache-control" && s.Answer[k] == "" && have == "private, no-cache" {
			continue // the other server leaves it to caches whether they keep what is for one caller
		}
		if hash := strings.TrimSuffix(s.Answer[k], `"`); k == "etag" && hash != "" &&
			len(have) > len(s.Answer[k]) && strings.HasPrefix(have, hash) &&
			have[len(hash)] == '+' && strings.Contains(s.Path, "withKeyring=") {
			continue // the other server has one ETag for answers that differ
		}
		if !strings.EqualFold(have, s.Answer[k]) {
			problems = append(problems, fmt.Sprintf("%s %q, want %q", k, have, s.Answer[k]))
		}
	}
	slices.Sort(problems)
	return strings.Join(problems, "\n  ")
}

package collections_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
)

func sharing(t *testing.T, h http.Handler, s collections.Sharing) http.Handler {
	return wrap(t, h, collections.Wrapping{Shared: s})
}

// mayAsk tells whether a browser sends the request of a page (Fetch standard, "CORS-preflight
// fetch").
func mayAsk(h http.Handler, origin, method string, credentials bool, headers ...string) bool {
	r := httptest.NewRequest("OPTIONS", "/push/notes/a", nil)
	r.Header.Set("Origin", origin)
	r.Header.Set("Access-Control-Request-Method", method)
	asked := strings.ToLower(strings.Join(headers, ","))
	r.Header.Set("Access-Control-Request-Headers", asked)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	list := func(name string) []string {
		return strings.Split(strings.ToLower(rec.Header().Get(name)), ", ")
	}
	allowed := rec.Header().Get("Access-Control-Allow-Origin")
	star := !credentials && slices.Contains(list("Access-Control-Allow-Headers"), "*")
	if rec.Code/100 != 2 || allowed != origin && (allowed != "*" || credentials) ||
		credentials && rec.Header().Get("Access-Control-Allow-Credentials") != "true" ||
		!slices.Contains([]string{"GET", "HEAD", "POST"}, method) &&
			!slices.Contains(list("Access-Control-Allow-Methods"), strings.ToLower(method)) {
		return false
	}
	return !slices.ContainsFunc(strings.Split(asked, ","), func(name string) bool {
		return name != "" && !slices.Contains(list("Access-Control-Allow-Headers"), name) &&
			!(star && name != "authorization")
	})
}

// Pages of other origins may use the server if they are named, and sign in both ways.
func TestPreflights(t *testing.T) {
	w := newWorld(t, []byte(open), nil)
	const app, other = "https://app.example", "https://other.example:8443"
	const evil = "https://evil.example"
	h := sharing(t, w, collections.Sharing{Origins: []string{app, other}, Credentials: true})
	// Those of docs/protocol/evm.md and starfish-v3.md, section 4.
	certificate := []string{
		"Content-Type", "Authorization", "X-Starfish-Sig", "X-Starfish-Ts", "X-Starfish-Nonce",
		"X-Starfish-Pub",
	}
	wallet := func(family string) (all []string) {
		for _, name := range []string{"pubkey", "signature", "timestamp", "nonce", "chain"} {
			all = append(all, family+name)
		}
		return append(all, "content-type")
	}
	for _, headers := range [][]string{
		nil, certificate, wallet("x-octobot-"), wallet("x-starfish-"),
		{"if-none-match"}, {"range", "if-range"},
	} {
		for _, origin := range []string{app, other} {
			require.True(t, mayAsk(h, origin, "POST", true, headers...), "%s: %v", origin, headers)
		}
		require.False(t, mayAsk(h, evil, "POST", true, headers...), "%v", headers)
		require.False(t, mayAsk(w, app, "POST", false, headers...), "nothing is shared")
	}
	require.False(t, mayAsk(h, app, "POST", true, "x-trace"))
	require.False(t, mayAsk(h, app, "DELETE", true))

	h = sharing(t, w, collections.Sharing{
		Origins: []string{app}, Methods: []string{"GET", "DELETE"}, Headers: []string{"X-Trace"},
		Expose: []string{"X-Served-By"}, MaxAge: time.Hour,
	})
	require.True(t, mayAsk(h, app, "DELETE", false, append(certificate, "x-trace")...))
	require.False(t, mayAsk(h, app, "PUT", false))
	require.False(t, mayAsk(h, app, "GET", true), "cookies were not asked for")
	rec := ask(h, "OPTIONS", "/pull/notes/a", "", "Origin", app)
	require.Equal(t, "3600", rec.Header().Get("Access-Control-Max-Age"))
	rec = ask(h, "GET", "/pull/notes/a", "", "Origin", app)
	exposed := rec.Header().Get("Access-Control-Expose-Headers")
	require.Equal(t, "ETag, Retry-After, Accept-Ranges, Content-Range, X-Served-By", exposed)

	h = sharing(t, w, collections.Sharing{Origins: []string{"*"}, Headers: []string{"*"}})
	require.True(t, mayAsk(h, evil, "POST", false, append(certificate, "x-anything")...))
	require.False(t, mayAsk(h, evil, "POST", true))
}

// Answers say which pages may read them.
func TestSharedAnswers(t *testing.T) {
	w := newWorld(t, []byte(open), nil)
	h := sharing(t, w, collections.Sharing{
		Origins: []string{"https://app.example", "https://other.example"}, Credentials: true,
	})
	for origin, want := range map[string]string{
		"https://other.example": "https://other.example", "https://evil.example": "https://app.example",
		"": "https://app.example",
	} {
		for _, path := range []string{"/pull/notes/a", "/nowhere"} {
			rec := ask(h, "GET", path, "", "Origin", origin)
			require.Equal(t, want, rec.Header().Get("Access-Control-Allow-Origin"))
			require.Equal(t, "true", rec.Header().Get("Access-Control-Allow-Credentials"))
			require.Contains(t, rec.Header().Values("Vary"), "Origin")
		}
	}
	h = sharing(t, w, collections.Sharing{Origins: []string{"*"}})
	rec := ask(h, "GET", "/pull/notes/a", "")
	require.Equal(t, "*", rec.Header().Get("Access-Control-Allow-Origin"))
	rec = ask(w, "GET", "/pull/notes/a", "")
	require.Empty(t, rec.Header().Get("Access-Control-Allow-Origin"))
}

// Browsers keep what pages may do for a day unless told otherwise, and not at all if so told.
func TestHowLongBrowsersKeepSharing(t *testing.T) {
	for age, header := range map[time.Duration]string{0: "86400", -1: "0", time.Minute: "60"} {
		h := sharing(t, http.NotFoundHandler(), collections.Sharing{
			Origins: []string{"https://app.example"}, MaxAge: age})
		r := httptest.NewRequest(http.MethodOptions, "/", nil)
		r.Header.Set("Origin", "https://app.example")
		r.Header.Set("Access-Control-Request-Method", http.MethodGet)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, header, w.Header().Get("Access-Control-Max-Age"), "%s", age)
	}
}

// What no browser would follow is refused.
func TestSharingThatIsRefused(t *testing.T) {
	one := []string{"https://app.example"}
	for _, s := range []collections.Sharing{
		{Origins: []string{"*"}, Credentials: true}, {Origins: []string{"app.example"}},
		{Origins: []string{"null", "https://app.example"}, Credentials: true},
		{Origins: []string{"https://app.example/"}}, {Origins: []string{"https://App.example"}},
		{Origins: []string{"https://app.example:443"}}, {Origins: []string{""}},
		{Origins: []string{"https://"}},
		{Origins: []string{"https://app.example/path?q#f"}}, {Origins: []string{"https://u@app.example"}},
		{Origins: one, Methods: []string{"GET, POST"}}, {Origins: one, Headers: []string{"X Y"}},
		{Origins: one, Headers: []string{"*"}, Credentials: true}, {Origins: one, Expose: []string{""}},
	} {
		_, err := collections.Wrap(http.NotFoundHandler(), collections.Wrapping{Shared: s})
		require.Error(t, err, "%+v", s)
	}
	for _, o := range []string{
		"http://127.0.0.1:3000", "http://[::1]:3000", "tauri://localhost", "null", "*",
	} {
		sharing(t, http.NotFoundHandler(), collections.Sharing{Origins: []string{o}})
	}
}

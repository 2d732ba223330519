package nginx_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/nginx"
)

func parse(t testing.TB, text string) *config.Config {
	c, err := config.Parse([]byte(text))
	require.NoError(t, err)
	return c
}

const full = `{"version": 1, "rateLimit": {"windowMs": 60000, "maxRequests": 100}, "collections": [
	{"name": "news", "storagePath": "public/news/{lang}/{month}", "readRoles": ["public"], "writeRoles": [], "pullOnly": true, "encryption": "none", "maxBodyBytes": 65536},
	{"name": "profile", "storagePath": "products/{productId}/profile", "readRoles": ["public"], "writeRoles": ["owner"], "encryption": "none", "maxBodyBytes": 65536, "rateLimit": true},
	{"name": "logo", "storagePath": "products/{productId}/logo", "readRoles": ["public"], "writeRoles": ["owner"], "encryption": "none", "maxBodyBytes": 20971520, "allowedMimeTypes": ["image/*"]},
	{"name": "signals", "storagePath": "products/{productId}/signals/{version}", "readRoles": ["member"], "writeRoles": ["owner"], "encryption": "none", "maxBodyBytes": 65536, "rateLimit": true},
	{"name": "a", "storagePath": "users/{identity}", "bundle": "user", "readRoles": ["public"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 65536, "rateLimit": true},
	{"name": "b", "storagePath": "users/{identity}", "bundle": "user", "readRoles": ["self"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 65536},
	{"name": "odd", "storagePath": "od; a.b/\"q\"/(x)$/{id}", "readRoles": ["public"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 10},
	{"name": "all", "storagePath": "all", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 65536}],
	"namespaces": {"shop": {"collections": [{"name": "hours", "storagePath": "hours", "readRoles": ["public"], "writeRoles": ["admin"], "encryption": "none", "maxBodyBytes": 100}]}}}`

// The configurations that were generated stay what they are; SKERRY_GOLDEN=1 writes them anew.
func TestGolden(t *testing.T) {
	for name, x := range map[string]struct {
		config string
		o      nginx.Options
	}{
		"full": {full, nginx.Options{}},
		"plain": {`{"version": 1, "collections": [{"name": "all", "storagePath": "all", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 65536}]}`,
			nginx.Options{Upstream: "sync:3000", Listen: "8080", Prefix: "/"}},
	} {
		got, err := nginx.Generate(parse(t, x.config), x.o)
		require.NoError(t, err)
		file := filepath.Join("testdata", name+".conf")
		if os.Getenv("SKERRY_GOLDEN") != "" {
			require.NoError(t, os.WriteFile(file, got, 0o644))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	}
}

func TestRates(t *testing.T) {
	for _, x := range []struct {
		requests, window         int
		global, strict           string
		globalBurst, strictBurst int
	}{
		{100, 60000, "2r/s", "50r/m", 50, 25}, {61, 60000, "2r/s", "30r/m", 30, 15},
		{60, 60000, "1r/s", "30r/m", 30, 15},
		{59, 60000, "59r/m", "29r/m", 29, 14}, {1, 60000, "1r/m", "1r/m", 1, 1}, {1, 500, "2r/s", "2r/s", 1, 1},
	} {
		got, err := nginx.Generate(
			parse(
				t,
				fmt.Sprintf(`{"version": 1, "rateLimit": {"windowMs": %d, "maxRequests": %d}, "collections": [
			{"name": "a", "storagePath": "a", "readRoles": ["self2"], "writeRoles": ["x"], "encryption": "none", "maxBodyBytes": 10, "rateLimit": true}]}`,
					x.window, x.requests),
			),
			nginx.Options{},
		)
		require.NoError(t, err)
		for _, want := range []string{
			"zone=sync_global:10m rate=" + x.global + ";", "zone=sync_strict:10m rate=" + x.strict + ";",
			fmt.Sprintf("zone=sync_global burst=%d nodelay;", x.globalBurst),
			fmt.Sprintf("zone=sync_strict burst=%d nodelay;", x.strictBurst),
		} {
			require.Contains(t, string(got), want, "%d in %d ms", x.requests, x.window)
		}
	}
}

func TestRefused(t *testing.T) {
	c := parse(t, full)
	for _, o := range []nginx.Options{
		{Upstream: "x"}, {Upstream: "x:1; evil"}, {Listen: "80; root /"}, {Listen: "x"}, {Prefix: "v1"},
		{Prefix: "/a{"}, {Cache: "relative"}, {Socket: "/a b"},
	} {
		_, err := nginx.Generate(c, o)
		require.Error(t, err, "%+v", o)
	}
	c.Collections[0].Name = "a b"
	_, err := nginx.Generate(c, nginx.Options{})
	require.ErrorContains(t, err, `collection "a b": its name`)
	c = parse(t, full)
	c.Collections[0].StoragePath = "a\nb"
	_, err = nginx.Generate(c, nginx.Options{})
	require.ErrorContains(t, err, "control character")
	// What not everybody may read is in no cache.
	c = parse(t, full)
	c.Restrictions = []config.Restriction{{Deny: true, Identities: []string{"bob"}}}
	got, err := nginx.Generate(c, nginx.Options{})
	require.NoError(t, err)
	require.NotContains(t, string(got), "proxy_cache sync_cache")
}

// What is over after a time is in no cache, which would show it for longer.
func TestNothingThatEndsIsKept(t *testing.T) {
	const of = `{"version": 1, "collections": [
		{"name": "a", "storagePath": "a", "readRoles": ["public"], "writeRoles": ["x"],
			"encryption": "none", "maxBodyBytes": 10%s},
		{"name": "b", "storagePath": "a", "readRoles": ["public"], "writeRoles": ["x"],
			"encryption": "none", "maxBodyBytes": 10%s}]}`
	for more, locations := range map[[2]string]int{
		{`, "bundle": "x"`, `, "bundle": "x"`}:                1,
		{`, "bundle": "x"`, `, "bundle": "x", "ttlMs": 2000`}: 0,
		{`, "bundle": "x"`, `, "bundle": "x", "ttlMs": 0`}:    1,
	} {
		got, err := nginx.Generate(parse(t, fmt.Sprintf(of, more[0], more[1])), nginx.Options{})
		require.NoError(t, err)
		require.Equal(t, locations, strings.Count(string(got), "proxy_cache sync_cache"), more)
	}
}

// backend counts what reaches it.
type backend struct {
	mu   sync.Mutex
	seen map[string]int
	last http.Header
	host string
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen[r.Method+" "+r.URL.Path]++
	b.last, b.host = r.Header, r.Host
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if o := r.Header.Get("Origin"); o != "" {
		h.Set("Access-Control-Allow-Origin", o)
		h["Vary"] = []string{"Origin", "Accept-Encoding"}
	}
	_, _ = fmt.Fprintf(w, `{"bytes":%d}`, n)
}

func (b *backend) count(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[what]
}

// A real nginx, whose program SKERRY_TEST_NGINX names, answers public documents from its cache
// without counting that, lets no more requests through than it should, and takes paths as they are
// spelt.
func TestRealNginx(t *testing.T) {
	program := os.Getenv("SKERRY_TEST_NGINX")
	if program == "" {
		t.Skip("SKERRY_TEST_NGINX is not set; .ci/nginx installs nginx and sets it")
	}
	b := &backend{seen: map[string]int{}}
	srv := httptest.NewServer(b)
	defer srv.Close()
	dir, err := os.MkdirTemp("", "nginx") // short, as the socket's name must be
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	at := l.Addr().String()
	require.NoError(t, l.Close())
	text, err := nginx.Generate(
		parse(t, full),
		nginx.Options{
			Upstream: srv.Listener.Addr().String(), Listen: at, Cache: dir + "/cache",
			Socket: dir + "/limits.sock",
		},
	)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dir+"/sync.conf", text, 0o600))
	main := fmt.Sprintf(
		"daemon off; pid %[1]s/pid; error_log stderr warn; worker_processes 1; user root;\n"+
			"events {}\nhttp { access_log off; client_body_temp_path %[1]s/body; proxy_temp_path "+
			"%[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; "+
			"include %[1]s/sync.conf; }\n",
		dir,
	)
	require.NoError(t, os.WriteFile(dir+"/nginx.conf", []byte(main), 0o600))
	out, err := exec.Command(program, "-t", "-p", dir, "-c", dir+"/nginx.conf").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(program, "-p", dir, "-c", dir+"/nginx.conf")
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", at)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)

	ask := func(method, path string, body io.Reader) (status int, cache string) {
		r, err := http.NewRequest(method, "http://"+at+path, body)
		require.NoError(t, err)
		r.Host = "sync.example:8443"
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, res.Body)
		require.NoError(t, res.Body.Close())
		return res.StatusCode, res.Header.Get("X-Cache-Status")
	}
	many := func(n int, method, path string) (ok, limited int) {
		for range n {
			switch status, _ := ask(method, path, nil); status {
			case http.StatusOK:
				ok++
			case http.StatusTooManyRequests:
				limited++
			}
		}
		return ok, limited
	}

	// The first is asked for, with all that tells of the caller; the others are in the cache, and do
	// not count.
	status, cache := ask("GET", "/v1/pull/public/news/en/2026-11", nil)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "MISS", cache)
	require.Equal(t, "127.0.0.1", b.last.Get("X-Real-Ip"))
	require.Equal(t, "127.0.0.1", b.last.Get("X-Forwarded-For"))
	require.Equal(t, "http", b.last.Get("X-Forwarded-Proto"))
	require.Equal(t, "sync.example:8443", b.host)
	ok, limited := many(300, "GET", "/v1/pull/public/news/en/2026-11")
	require.Equal(t, 300, ok)
	require.Zero(t, limited)
	require.Equal(t, 1, b.count("GET /v1/pull/public/news/en/2026-11"))
	_, cache = ask("GET", "/v1/pull/shop/hours", nil)
	require.NotEqual(t, "MISS", cache, "the namespace stands before the action")
	_, cache = ask("GET", "/v1/shop/pull/hours", nil)
	require.Equal(t, "MISS", cache)

	// Pages of each origin are told that they may read what is in the cache.
	for _, kept := range []string{"MISS", "HIT"} {
		for _, origin := range []string{"https://a.example", "https://b.example"} {
			r, err := http.NewRequest("GET", "http://"+at+"/v1/pull/all", nil)
			require.NoError(t, err)
			r.Header.Set("Origin", origin)
			res, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, kept, res.Header.Get("X-Cache-Status"))
			require.Equal(t, origin, res.Header.Get("Access-Control-Allow-Origin"))
		}
	}

	// Paths are what they are, in their case; and odd ones are found.
	_, cache = ask("GET", "/v1/pull/ALL", nil)
	require.Empty(t, cache)
	_, cache = ask("GET", "/v1/pull/public/news/en/2026-11/more", nil)
	require.Empty(t, cache)
	_, cache = ask("GET", "/v1/pull/od;%20a.b/%22q%22/(x)$/7", nil)
	require.Equal(t, "MISS", cache)
	for range 2 {
		_, cache = ask("GET", "/v1/pull/users/alice", nil)
		require.Empty(t, cache, "a bundle that not everybody may read in whole")
	}
	status, _ = ask("GET", "/other", nil)
	require.Equal(t, http.StatusNotFound, status)
	for range 200 { // health does not count
		status, _ = ask("GET", "/health", nil)
		require.Equal(t, http.StatusOK, status)
	}

	// Bodies may be as large as the largest collection takes, and no larger.
	status, _ = ask("POST", "/v1/push/products/1/logo", io.LimitReader(zeros{}, 20<<20))
	require.Equal(t, http.StatusOK, status)
	status, _ = ask(
		"POST", "/v1/push/products/1/logo", strings.NewReader(strings.Repeat("x", 20<<20+1)),
	)
	require.Equal(t, http.StatusRequestEntityTooLarge, status)

	// Pushes to collections with a limit of their own pass their burst, 25, and one more, and what
	// time allows; all else of an address is counted together, what the cache lacks as well: 50 and
	// one more.
	began := time.Now()
	ok, limited = many(100, "POST", "/v1/push/products/1/profile")
	require.GreaterOrEqual(t, ok, 26)
	require.LessOrEqual(t, float64(ok), 27+time.Since(began).Seconds()*50/60)
	require.Equal(t, 100, ok+limited)
	began, ok, limited = time.Now(), 0, 0
	for i := range 100 {
		a, b := many(1, "GET", fmt.Sprintf("/v1/pull/products/%d/profile", i))
		c, d := many(1, "GET", fmt.Sprintf("/v1/pull/products/%d/signals/1", i))
		ok, limited = ok+a+c, limited+b+d
	}
	require.GreaterOrEqual(t, ok, 30, "some were used up before")
	require.LessOrEqual(t, float64(ok), 52+time.Since(began).Seconds()*2)
	require.Equal(t, 200, ok+limited)
	ok, _ = many(50, "GET", "/v1/pull/public/news/en/2026-11")
	require.Equal(t, 50, ok, "who is limited is still answered from the cache")

	// All addresses of a network are one caller; others are others.
	behind := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", dir+"/limits.sock")
		},
	}}
	defer behind.CloseIdleConnections()
	from := func(format string) (ok int) {
		for i := range 200 {
			r, err := http.NewRequest("GET", "http://x/v1/pull/public/news/en/2026-11", nil)
			require.NoError(t, err)
			r.Header.Set("X-Real-IP", fmt.Sprintf(format, i))
			res, err := behind.Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			if res.StatusCode == http.StatusOK {
				ok++
			}
		}
		return ok
	}
	for _, one := range []string{
		"2001:db8:1:2:3:4:5:%x", "2001:db8:1:12%02x::1", "2001:db8:2:%x::1", "2001:db8:3::%x",
		"2001:db8::%x", "2a00:1:2:fff0:%x::",
	} {
		require.Less(t, from(one), 100, one)
	}
	for _, several := range []string{
		"192.0.2.%d", "2001:db8:f%x::1", "2001:db8:4:%02x00::1", "2001:db8:5:%02x34:1:2:3:4",
		"::ffff:192.0.2.%d",
	} {
		require.Equal(t, 200, from(several), several)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/queue"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/encrypted"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func collection(name, extra string) string {
	return fmt.Sprintf(`{"name": %q, "storagePath": "%s/{id}", "readRoles": ["public"],
		"writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000%s}`, name, name, extra)
}

// configOf is a configuration with collections of these names.
func configOf(t *testing.T, extensions string, names ...string) *config.Config {
	t.Helper()
	var all []string
	for _, name := range names {
		all = append(all, collection(name, ""))
	}
	return parsed(t, fmt.Sprintf(`{"version": 1, "collections": [%s]%s}`,
		strings.Join(all, ","), extensions))
}

func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(text))
	require.NoError(t, err)
	return c
}

// closing counts how often a store is closed.
type closing struct {
	store.Store
	n *int
}

func (c closing) Close() error {
	*c.n++
	return c.Store.Close()
}

// fixture is a server with what it was made of.
type fixture struct {
	cfg    *config.Config
	err    error // of Load
	place  Place
	closed int
	o      Options
}

func setUp(t *testing.T, cfg *config.Config) *fixture {
	t.Helper()
	f := &fixture{cfg: cfg}
	f.place = in{closing{store.NewMemory(), &f.closed}}
	f.o = Options{
		Load:  func() (*config.Config, error) { return f.cfg, f.err },
		Place: func(context.Context, Site) (Place, error) { return f.place, nil },
		Codec: func(c *config.Config) (*encrypted.Codec, error) {
			return encrypted.New(c, encrypted.Secrets{Identity: []string{"one"},
				Server: []string{"two"}, Salts: []string{"salt"}, Spell: config.IdentityOf})
		},
		Anonymous: true, Log: slog.New(slog.DiscardHandler),
	}
	return f
}

func (f *fixture) start(t *testing.T) *Server {
	t.Helper()
	s, err := Start(t.Context(), f.o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// get returns what a server that listens answers.
func get(t *testing.T, url string) (status int, text string) {
	t.Helper()
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := hc.Get(url)
	require.NoError(t, err)
	b, err := io.ReadAll(res.Body)
	require.NoError(t, errors.Join(err, res.Body.Close()))
	return res.StatusCode, string(b)
}

func TestServer(t *testing.T) {
	f := setUp(t, configOf(t, "", "notes"))
	f.o.Prefix, f.o.Dir = "/v1", t.TempDir()
	s := f.start(t)
	base, err := s.Listen(ListenOptions{At: "127.0.0.1:0", Local: true})
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(base, "/v1"))
	for _, at := range []string{base, strings.TrimSuffix(base, "/v1")} {
		status, text := get(t, at+"/health")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, text, `"ok":true`)
	}
	status, _ := get(t, base+"/pull/notes/a")
	require.Equal(t, http.StatusOK, status)
	status, _ = get(t, base+"/pull/news/a")
	require.Equal(t, http.StatusNotFound, status)

	// Another configuration counts at once, and one that is wrong does not.
	f.cfg = configOf(t, "", "notes", "news")
	require.NoError(t, s.Reload())
	status, _ = get(t, base+"/pull/news/a")
	require.Equal(t, http.StatusOK, status)
	f.err = errors.New("it is no JSON")
	require.ErrorIs(t, s.Reload(), f.err)
	f.err = nil
	for extensions, want := range map[string]string{
		`, "extensions": {"rules": {}}`:                      "extensions.rules",
		`, "extensions": {"evm": {"chains": {"evm:1": {}}}}`: "extensions.evm",
	} {
		f.cfg = configOf(t, extensions, "notes")
		require.ErrorContains(t, s.Reload(), want)
	}
	c, err := config.Parse([]byte(`{"version": 1, "collections": [{"name": "kept", "maxBodyBytes": 9,
		"storagePath": "kept", "readRoles": ["admin"], "writeRoles": ["admin"],
		"encryption": "server"}]}`))
	require.NoError(t, err)
	f.cfg = c
	require.ErrorContains(t, s.Reload(), "encrypted at rest")
	status, _ = get(t, base+"/pull/news/a")
	require.Equal(t, http.StatusOK, status)

	require.NoError(t, s.Close())
	require.Equal(t, 1, f.closed)
	require.NoError(t, s.Close(), "again")
	require.Equal(t, 1, f.closed)
}

// A server keeps the queue with which it was started: one with another server, or none, counts only
// after a restart, and other topics of the same one at once.
func TestQueueChangesOnlyAfterARestart(t *testing.T) {
	queued := func(nats, topics string) *config.Config {
		return configOf(t, fmt.Sprintf(
			`, "extensions": {"queue": {"nats": {%s}, "collections": {%s}}}`, nats, topics), "notes")
	}
	const here = `"url": "nats://127.0.0.1", "stream": "a", "credentials": "file"`
	brokers := 0
	broker := func(*config.NATS, func() []string, *slog.Logger) (queue.Queue, error) {
		brokers++
		return &queue.Memory{}, nil
	}
	none := configOf(t, "", "notes")
	was := queued(here, `"notes": true`)
	for name, tt := range map[string]struct {
		was, now *config.Config
		refused  bool
	}{
		"the same":          {was, queued(here, `"notes": true`), false},
		"other topics":      {was, queued(here, `"notes": {"topic": "b"}`), false},
		"another server":    {was, queued(`"url": "nats://127.0.0.2", "stream": "a"`, ""), true},
		"another stream":    {was, queued(strings.Replace(here, `"a"`, `"b"`, 1), ""), true},
		"other credentials": {was, queued(strings.Replace(here, "file", "other", 1), ""), true},
		"none any more":     {was, none, true},
		"no server named":   {was, configOf(t, `, "extensions": {"queue": {}}`, "notes"), true},
		"none before":       {none, was, true},
		"still none":        {none, configOf(t, "", "notes"), false},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t, tt.was)
			f.o.Broker = broker
			s := f.start(t)
			f.cfg = tt.now
			err := s.Reload()
			if tt.refused {
				require.ErrorContains(t, err, "extensions.queue")
				require.Same(t, tt.was.Queue, s.Config().Queue)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.now.Queue, s.Config().Queue)
		})
	}
	require.Equal(t, 7, brokers, "one for each server that has a queue")

	f := setUp(t, was)
	s := f.start(t)
	f.cfg = none
	require.NoError(t, s.Reload(), "a server that has no broker does not care")
}

// An answer may take as long as is said, and without end if that is 0; headers never.
func TestBoundsOfAServer(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler)}
	srv := s.bounded(http.NotFoundHandler(), 0)
	require.Zero(t, srv.ReadTimeout)
	require.Zero(t, srv.WriteTimeout)
	require.Equal(t, headerTime, srv.ReadHeaderTimeout)
	srv = s.bounded(http.NotFoundHandler(), time.Second)
	require.Greater(t, srv.ReadTimeout, time.Second)
	require.Greater(t, srv.WriteTimeout, srv.ReadTimeout)
	require.Equal(t, time.Second, srv.ReadHeaderTimeout)
}

// What was opened is closed if something else cannot be, and nothing is left that runs.
func TestStartThatFails(t *testing.T) {
	away := errors.New("away")
	for name, change := range map[string]func(f *fixture){
		"configuration": func(f *fixture) { f.err = away },
		"complete": func(f *fixture) {
			f.o.Complete = func(*config.Config) (*config.Config, error) { return nil, away }
		},
		"place": func(f *fixture) {
			f.o.Place = func(context.Context, Site) (Place, error) { return nil, away }
		},
		"codec": func(f *fixture) {
			f.o.Codec = func(*config.Config) (*encrypted.Codec, error) { return nil, away }
		},
		"rules":  func(f *fixture) { f.cfg = configOf(t, `, "extensions": {"rules": {}}`, "c") },
		"audit":  func(f *fixture) { f.o.Audit = "/nowhere/at/all" },
		"nonces": func(f *fixture) { f.o.Dir = "/dev/null/x" },
	} {
		f := setUp(t, configOf(t, "", "notes"))
		opened := 0
		was := f.place
		f.place = placeFunc(func(ctx context.Context, k Keep) (store.Store, error) {
			opened++
			return was.Open(ctx, k)
		})
		change(f)
		_, err := Start(t.Context(), f.o)
		require.Error(t, err, name)
		require.Equal(t, opened, f.closed, name)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	f := setUp(t, configOf(t, "", "notes"))
	s := f.start(t)
	_, err = s.Listen(ListenOptions{At: l.Addr().String()})
	require.Error(t, err)
	_, err = s.Listen(ListenOptions{At: "127.0.0.1:0", Cert: "/nowhere", Key: "/nowhere"})
	require.Error(t, err)
}

type placeFunc func(ctx context.Context, k Keep) (store.Store, error)

func (p placeFunc) Open(ctx context.Context, k Keep) (store.Store, error) { return p(ctx, k) }

// court is a place with rules.
type court struct {
	Place
	now, newer *verdict
	asked      atomic.Int64
}

type verdict struct {
	serial uint64
	prefix string
	cfg    *config.Config
}

func (v *verdict) SerialNumber() uint64   { return v.serial }
func (v *verdict) PathPrefix() string     { return v.prefix }
func (v *verdict) Shared() *config.Config { return v.cfg }

func (c *court) asRules(v *verdict) Rules {
	if v == nil {
		return nil
	}
	return v
}

func (c *court) Current(context.Context, *config.Config) (Rules, error) {
	if c.newer != nil {
		return c.newer, nil
	}
	return c.asRules(c.now), nil
}

func (c *court) Newer(context.Context) (Rules, error) {
	c.asked.Add(1)
	return c.asRules(c.newer), nil
}

func (c *court) Apply(r Rules) error {
	c.now, c.newer = r.(*verdict), nil
	return nil
}

func (c *court) InForce() Rules                         { return c.asRules(c.now) }
func (c *court) Judge(store.Store, *access.Revocations) {}

func paths(c *config.Config) (all []string) {
	for _, col := range c.All() {
		all = append(all, col.Name)
	}
	return all
}

// Without a configuration, that of the rules is served, and after a change the new one; a
// configuration that is another one than the rules' is refused.
func TestRulesOfAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		f := setUp(t, nil)
		f.o.Unconfigured = func() { told++ }
		c := &court{Place: f.place}
		f.place = c
		s := f.start(t)
		require.Equal(t, 1, told)
		require.False(t, s.Ruled())
		require.Equal(t, paths(config.Default()), paths(s.Config()))
		require.NoError(t, s.Close())

		f = setUp(t, nil)
		f.o.Unconfigured = func() { told++ }
		c = &court{Place: f.place, newer: &verdict{1, "", configOf(t, "", "notes")}}
		f.place = c
		s = f.start(t)
		require.Equal(t, 1, told)
		require.True(t, s.Ruled())
		require.Equal(t, []string{"notes"}, paths(s.Config()))
		s.reloading.Lock()
		c.newer = &verdict{2, "", configOf(t, "", "notes", "news")}
		s.reloading.Unlock()
		time.Sleep(2 * rulesEvery)
		synctest.Wait()
		require.NotZero(t, c.asked.Load())
		require.Equal(t, []string{"notes", "news"}, paths(s.Config()))
		require.NoError(t, s.Reload())
		require.Equal(t, []string{"notes", "news"}, paths(s.Config()))

		f.cfg = configOf(t, "", "notes")
		require.ErrorIs(t, s.Reload(), ErrRulesDiffer)
		require.Equal(t, []string{"notes", "news"}, paths(s.Config()))
		f.cfg = nil
		require.NoError(t, s.Close())

		for want, now := range map[string]*verdict{
			"begin with":  {1, "/v2", configOf(t, "", "notes")},
			"another one": {1, "", configOf(t, "", "news")},
		} {
			f := setUp(t, configOf(t, "", "notes"))
			f.place = &court{Place: f.place, newer: now}
			_, err := Start(t.Context(), f.o)
			require.ErrorContains(t, err, want)
		}
	})
}

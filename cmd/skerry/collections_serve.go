package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/meter"
	"github.com/skerry-sync/skerry/collections/projection"
	"github.com/skerry-sync/skerry/collections/queue"
	"github.com/skerry-sync/skerry/collections/queue/nats"
	"github.com/skerry-sync/skerry/collections/remote"
	"github.com/skerry-sync/skerry/collections/rules"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/encrypted"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/node"
)

// descriptions are the values of --describe.
var descriptions = map[string]collections.Describe{
	"none": collections.DescribeNone, "public": collections.DescribePublic,
	"role-filtered": collections.DescribeByRole,
}

// collectionsService serves collections at a node.
type collectionsService struct {
	config, listen, prefix, origin, describe, audit, cert, key string

	kept      storeFlags
	primary   *config.Primary // that collections are kept in step with; nil if there is none
	acme      acmeFlags
	wrap      collections.Wrapping
	hops      int
	hosts     []string // names of this server that a proxy passes on
	timeout   time.Duration
	anonymous bool
	originURL *url.URL // of --origin, nil without
	pair      *keyPair // for HTTPS; nil without one of --tls-cert

	ctx    context.Context
	log    *slog.Logger
	node   *node.Node
	named  bool // there is a configuration, in a file
	codec  *encrypted.Codec
	chains chain.Registry
	guard  *rules.Guard // nil if the documents are in no replica that has rules

	reloading sync.Mutex // held while another configuration, or other rules, are made to count

	in      *openReplica // that documents are kept in; nil if in none
	inStore *replicas.Store

	served *collections.Server
	// reads is served, for the store, which is opened before it.
	reads  atomic.Pointer[collections.Server]
	meter  *meter.Meter
	remote *remote.Manager
	flush  []func()       // what was asked elsewhere and is remembered
	closes []func() error // in the order in which they were opened
}

// configure checks flags before anything is made, such as the replica of the documents.
func (s *collectionsService) configure(*node.Config) error {
	if err := errors.Join(checkHostPort("listen", s.listen), checkHops(s.hops)); err != nil {
		return err
	}
	if s.prefix != "" && (!strings.HasPrefix(s.prefix, "/") || strings.HasSuffix(s.prefix, "/")) {
		return api.UsageErrorf("--prefix must begin with a slash and not end with one, "+
			"such as /v1, not %q", s.prefix)
	}
	_, described := descriptions[s.describe]
	switch u, err := url.Parse(s.origin); {
	case (s.cert == "") != (s.key == ""):
		return api.UsageErrorf("HTTPS needs both --tls-cert and --tls-key")
	case len(s.acme.hosts) > 0 && s.cert != "":
		return api.UsageErrorf("either --acme or --tls-cert and --tls-key")
	case !described:
		return api.UsageErrorf("--describe must be none, public or role-filtered, not %q", s.describe)
	case s.origin == "":
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return api.UsageErrorf("--origin must be a URL such as https://sync.example, not %q", s.origin)
	default:
		s.originURL = u
	}
	if s.wrap.Shared.MaxAge == 0 {
		s.wrap.Shared.MaxAge = -1 // 0 is a day in package collections
	}
	if s.wrap.Shared.MaxAge == 0 {
		s.wrap.Shared.MaxAge = -1 // 0 is a day in package collections
	}
	if err := s.wrap.Shared.Check(); err != nil {
		return api.UsageErrorf("%v", err)
	}
	return nil
}

func (s *collectionsService) measured(r prometheus.Registerer) { r.MustRegister(s.meter) }

func (s *collectionsService) opened(ctx context.Context, n *node.Node, log *slog.Logger) (err error) {
	s.ctx, s.node, s.log = ctx, n, log
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	cfg, err := s.load()
	if err != nil {
		return err
	}
	in, err := s.kept.replica(ctx, n, log)
	if err != nil {
		return err
	}
	if in != nil {
		if cfg, err = s.openRules(ctx, in, cfg); err != nil {
			return err
		}
	} else if cfg.Rules != nil {
		return api.UsageErrorf("extensions.rules: only a replica has rules; --store names none")
	}
	if !s.named && !s.ruled() {
		log.Warn("there is no configuration, and so the default set of collections is served; name a file with --config FILE, or write one there (skerry collections default prints the default)", "missing", filepath.Join(n.Dir(), defaultConfig))
	}
	if s.codec, err = codecOf(cfg); err != nil {
		return err
	}
	if err := s.openChains(cfg.EVM); err != nil {
		return err
	}
	keep := replicas.Options{Codec: s.codec, Log: log, Longest: s.longest}
	if s.guard != nil {
		keep.Guard = s.guard
	}
	s.kept.nonces = cfg.EVM != nil && cfg.EVM.SharedNonces
	kept, err := s.kept.open(ctx, n, in, keep)
	if err != nil {
		return err
	}
	s.closes = append(s.closes, kept.Close)
	nonces, err := access.NewNonces(access.NonceOptions{Dir: filepath.Join(n.Dir(), "collections")})
	if err != nil {
		return err
	}
	s.closes = append(s.closes, nonces.Close)
	notes := kept
	if in != nil { // other holders of the replica do not learn who has sent what from where
		if notes, err = store.OpenDirectory(filepath.Join(n.Dir(), "collections", "standing")); err != nil {
			return err
		}
		s.closes = append(s.closes, notes.Close)
	}
	revocations, err := access.NewRevocations(ctx, kept, notes)
	if err != nil {
		return err
	}
	if s.guard != nil {
		s.guard.Read(kept, revocations)
	}
	if in != nil {
		s.in, s.inStore = in, kept.(*replicas.Store)
		s.every(rulesEvery, func(ctx context.Context) {
			if err := s.followRules(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("the rules of the replica", "error", err)
			}
		})
	}
	docs := document.In(kept, nil)
	s.meter = meter.New()
	opts := collections.Options{
		Observe:   s.meter.Observe,
		Documents: docs, Whole: s.ruled, Prefix: s.prefix, Describe: descriptions[s.describe],
		Origin: s.originURL, ProxyHops: s.hops, Log: log, Revocations: revocations,
		Resolver:  &access.Caps{Nonces: nonces, Revocations: revocations, MustIdentify: !s.anonymous},
		Enricher:  access.Configured(func() *config.Config { return s.served.Config() }, docs, nil),
		KnownHost: s.knownHost(),
	}
	if err := s.wallets(cfg.EVM, &opts, kept); err != nil {
		return fmt.Errorf("extensions.evm: %w", err)
	}
	if s.audit != "" {
		f, err := collections.OpenAuditFile(s.audit)
		if err != nil {
			return fmt.Errorf("--audit: %w", err)
		}
		s.closes = append(s.closes, f.Close)
		opts.Audit = f
	}
	if opts.Hooks, err = s.hooks(cfg, docs); err != nil {
		return err
	}
	if s.served, err = collections.New(cfg, opts); err != nil {
		return err
	}
	s.reads.Store(s.served)
	if err := s.remote.Set(cfg); err != nil {
		return err
	}
	s.every(revocationsEvery, func(ctx context.Context) {
		if err := revocations.Load(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("lists of revocations could not be read", "error", err)
		}
	})
	s.heed()
	return nil
}

// longestAtStart is how many bytes are read under a key before there is a server.
const longestAtStart = 8 << 20

// longest returns how many bytes may be stored under a key.
func (s *collectionsService) longest(key string) int64 {
	if served := s.reads.Load(); served != nil {
		return served.Longest(key)
	}
	return longestAtStart
}

// hooks returns what is to happen beside answering requests.
func (s *collectionsService) hooks(cfg *config.Config, docs *document.Documents) ([]collections.Hook, error) {
	s.remote = remote.New(docs, nil, s.log)
	s.meter.Remotes = s.remote.Statuses
	s.closes = append(s.closes, func() error {
		s.remote.Close()
		return nil
	})
	lists := func() []*projection.Projection { return projection.Configured(s.served.Config()) }
	all := []collections.Hook{s.remote.Hook(), projection.In(docs).Hook(lists, s.log)}
	q := cfg.Queue
	switch {
	case q == nil:
		return all, nil
	case q.NATS == nil:
		return nil, fmt.Errorf("extensions.queue: there is nothing to announce writes on; name a server in nats.url")
	}
	server, err := nats.Open(q.NATS, func() []string { return s.served.Config().Queue.Subjects() }, s.log)
	if err != nil {
		return nil, fmt.Errorf("extensions.queue: %w", err)
	}
	announcer := queue.NewAnnouncer(server, func() *config.Config { return s.served.Config() }, s.log)
	s.meter.Queue = announcer.Stats
	s.closes = append(s.closes, announcer.Close)
	return append(all, announcer.Hook()), nil
}

// reload reads the configuration again.
func (s *collectionsService) reload() error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	c, err := s.load()
	switch {
	case err != nil || s.named || s.in == nil:
	case s.ruled():
		c, err = s.underRules(s.guard.Rules(), c)
	default:
		c, err = s.completed(c)
	}
	if err != nil {
		return err
	}
	was := s.served.Config()
	if (c.Queue == nil) != (was.Queue == nil) || c.Queue != nil && (c.Queue.NATS == nil || *c.Queue.NATS != *was.Queue.NATS) {
		return errors.New("extensions.queue: another server for the queue counts only after a restart")
	}
	if !reflect.DeepEqual(c.EVM, was.EVM) {
		return errors.New("extensions.evm: other chains, or other ways to ask them, count only after a restart")
	}
	codec, err := codecOf(c)
	if err != nil {
		return err
	}
	if !codec.Same(s.codec) {
		return errors.New("encryption: which documents are encrypted at rest changes only after a restart; skerry collections migrate is for those that are there")
	}
	if c, err = s.reloadRules(c); err != nil {
		return err
	}
	if err := s.remote.Set(c); err != nil {
		return err
	}
	if err := s.served.Reload(c); err != nil {
		return errors.Join(err, s.remote.Set(was))
	}
	for _, forget := range s.flush {
		forget()
	}
	return nil
}

// revocationsEvery is how often the server looks for lists of revocations that other nodes have
// taken.
const revocationsEvery = 10 * time.Second

// heed reads the configuration again on SIGHUP.
func (s *collectionsService) heed() {
	ctx, stop := context.WithCancel(s.ctx)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				if err := s.reload(); err != nil {
					s.log.Error("the configuration stays as it was", "error", err)
				} else {
					s.log.Info("the configuration was read again", "config", s.config)
				}
			}
		}
	})
	s.closes = append(s.closes, func() error {
		signal.Stop(hangup)
		stop()
		wg.Wait()
		return nil
	})
}

// every does something again and again until the service is closed.
func (s *collectionsService) every(d time.Duration, do func(ctx context.Context)) {
	ctx, stop := context.WithCancel(s.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				do(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	s.closes = append(s.closes, func() error {
		stop()
		<-done
		return nil
	})
}

func (s *collectionsService) close() (err error) {
	for len(s.closes) > 0 {
		last := len(s.closes) - 1
		err = errors.Join(err, s.closes[last]())
		s.closes = s.closes[:last]
	}
	return err
}

// Bounds of connections: how long a request's headers may take and be, and how long a connection
// may be idle.
const (
	headerTime     = 10 * time.Second // or --timeout, if that is less
	maxHeaderBytes = 64 << 10
	idleTime       = 2 * time.Minute
	maxStreams     = 32 // requests at once on a connection of HTTP/2; browsers have other ones wait
)

// withHealth answers /health also where all else has a prefix, of which whoever looks after the
// process need not know.
func (s *collectionsService) withHealth(h http.Handler) http.Handler {
	if s.prefix == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			w.Header().Set("Content-Type", config.JSON)
			_, _ = io.WriteString(w, `{"ok":true}`) // whoever has gone misses nothing
			return
		}
		h.ServeHTTP(w, r)
	})
}

// knownHost returns what tells whether a request names this server: by the address that it came in
// at, by a name that was given, or by one of the certificate's.
func (s *collectionsService) knownHost() func(r *http.Request) bool {
	named := collections.Known(s.names()...)
	return func(r *http.Request) bool {
		return named(r) || s.pair != nil && s.pair.certifies(r.Host)
	}
}

// tellHosts says for which names callers may sign requests.
func (s *collectionsService) tellHosts(at net.Addr) {
	names := append([]string{at.String()}, s.names()...)
	if s.pair != nil {
		names = append(names, s.pair.names()...)
	}
	slices.Sort(names)
	s.log.Info("requests with certificates count if they are signed for one of these hosts; further names are given with --host or --origin", "hosts", slices.Compact(names))
}

// names returns the names by which clients reach this server.
func (s *collectionsService) names() []string {
	all := slices.Concat(s.hosts, s.acme.hosts)
	if u, err := url.Parse(s.origin); s.origin != "" && err == nil {
		all = append(all, u.Hostname())
	}
	return all
}

func (s *collectionsService) online() (stop func() error, facts map[string]string, err error) {
	s.wrap.Timeout = s.timeout
	handler, err := collections.Wrap(s.withHealth(s.served), s.wrap)
	if err != nil {
		return nil, nil, errors.Join(api.UsageErrorf("%v", err), s.close())
	}
	l, err := net.Listen("tcp", s.listen)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("collections: %w", err), s.close())
	}
	headers := headerTime
	if s.timeout > 0 {
		headers = min(headers, s.timeout)
	}
	srv := &http.Server{
		Handler: netaddr.Local(l.Addr(), handler, s.names()...), ReadHeaderTimeout: headers, ReadTimeout: s.timeout + headerTime,
		WriteTimeout: 2 * (s.timeout + headerTime), IdleTimeout: idleTime, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
	}
	// The server must see what HeaderTimeouts has made of connections.
	l = collections.HeaderTimeouts(srv, netaddr.LimitBehind(l, netaddr.MaxPublicConns, s.hops))
	serve, scheme := srv.Serve, "http"
	switch {
	case len(s.acme.hosts) > 0:
		if srv.TLSConfig, err = s.acme.config(filepath.Join(s.node.Dir(), "collections")); err != nil {
			return nil, nil, errors.Join(err, l.Close(), s.close())
		}
	case s.cert != "" || s.key != "":
		s.pair = &keyPair{cert: s.cert, key: s.key}
		if _, err := s.pair.get(nil); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("--tls-cert, --tls-key: %w", err), l.Close(), s.close())
		}
		srv.TLSConfig = &tls.Config{GetCertificate: s.pair.get, MinVersion: tls.VersionTLS12}
	}
	if srv.TLSConfig != nil {
		serve, scheme = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }, "https"
	}
	s.tellHosts(l.Addr())
	done := make(chan error, 1)
	go func() { done <- serve(l) }()
	facts = map[string]string{"collections": scheme + "://" + l.Addr().String() + s.prefix}
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		err := srv.Shutdown(ctx) // what has been accepted is answered
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return errors.Join(err, s.close())
	}, facts, nil
}

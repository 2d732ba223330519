package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/openapi"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

func (a *app) collectionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "collections",
		Short: "Serve document collections over HTTP",
		Long: "Collections are sets of JSON or binary documents with roles, conflict detection and logs, which published Starfish v3 clients use unchanged. Their documents lie in a replica, so that\n" +
			"every node which holds it can serve them.",
	}
	cmd.AddCommand(a.collectionsServe(), a.collectionsCheck(), a.collectionsOpenAPI())
	return cmd
}

// collectionsService serves collections at a node.
type collectionsService struct {
	config, listen, prefix, store, origin, describe, audit, cert, key string
	wrap                                                              collections.Wrapping
	hops                                                              int
	timeout                                                           time.Duration
	anonymous                                                         bool

	ctx    context.Context
	log    *slog.Logger
	node   *node.Node
	served *collections.Server
	closes []func() error // in the order in which they were opened
}

func (s *collectionsService) configure(*node.Config) {}

func (s *collectionsService) measured(prometheus.Registerer) {}

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
	kept, err := s.openStore(ctx)
	if err != nil {
		return err
	}
	s.closes = append(s.closes, kept.Close)
	nonces, err := access.NewNonces(filepath.Join(n.Dir(), "collections"), nil)
	if err != nil {
		return err
	}
	s.closes = append(s.closes, nonces.Close)
	revocations, err := access.NewRevocations(ctx, kept)
	if err != nil {
		return err
	}
	docs := document.In(kept, nil)
	opts := collections.Options{
		Documents: docs, Prefix: s.prefix, Describe: collections.Describe(s.describe), ProxyHops: s.hops, Log: log, Revocations: revocations,
		Resolver: &access.Caps{Nonces: nonces, Revocations: revocations, MustIdentify: !s.anonymous},
		Enricher: access.Configured(func() *config.Config { return s.served.Config() }, docs, nil),
	}
	switch opts.Describe {
	case "none":
		opts.Describe = collections.DescribeNone
	case collections.DescribePublic, collections.DescribeByRole:
	default:
		return api.UsageErrorf("--describe %s: it is none, public or role-filtered", s.describe)
	}
	if s.origin != "" {
		if opts.Origin, err = url.Parse(s.origin); err != nil || opts.Origin.Host == "" || opts.Origin.Scheme != "https" && opts.Origin.Scheme != "http" {
			return api.UsageErrorf("--origin %s: it is a URL such as https://sync.example", s.origin)
		}
	}
	if s.audit != "" {
		f, err := collections.OpenAuditFile(s.audit)
		if err != nil {
			return fmt.Errorf("--audit: %w", err)
		}
		s.closes = append(s.closes, f.Close)
		opts.Audit = f
	}
	s.served, err = collections.New(cfg, opts)
	s.goOn(revocations)
	return err
}

// load reads the configuration.
func (s *collectionsService) load() (*config.Config, error) {
	c, err := config.Load(s.config)
	if err != nil {
		return nil, err
	}
	for _, w := range c.Warnings {
		s.log.Warn(w, "config", s.config)
	}
	return c, nil
}

// openStore opens what --store names.
func (s *collectionsService) openStore(ctx context.Context) (store.Store, error) {
	kind, name, _ := strings.Cut(s.store, ":")
	switch {
	case kind == "memory" && name == "":
		s.log.Warn("documents are kept in memory and will be gone when the server ends")
		return store.NewMemory(), nil
	case kind == "directory" && name != "":
		return store.OpenDirectory(name)
	case kind == "replica" && name != "":
	default:
		return nil, api.UsageErrorf("--store %s: it is replica:NAME, directory:PATH or memory", s.store)
	}
	r, err := s.node.Replicas.Resolve(ctx, name)
	if errors.Is(err, replica.ErrNotFound) {
		if r, err = s.node.CreateReplica(ctx, name, false); err == nil {
			s.log.Info("made a replica for the documents", "name", name, "replica", r.ID)
		}
	}
	if err != nil {
		return nil, err
	}
	id, err := s.node.Replicas.DefaultAuthor(ctx)
	if err != nil {
		return nil, err
	}
	author, err := s.node.Replicas.AuthorKey(ctx, id)
	if err != nil {
		return nil, err
	}
	kept, err := replicas.Open(ctx, s.node, r, author)
	if err != nil {
		return nil, fmt.Errorf("replica %s: %w", name, err)
	}
	return kept, nil
}

// revocationsEvery is how often it is looked for lists of revocations that other nodes have taken.
const revocationsEvery = 10 * time.Second

// goOn follows what changes while the server runs: the configuration, on SIGHUP, and revocations.
func (s *collectionsService) goOn(revocations *access.Revocations) {
	ctx, stop := context.WithCancel(s.ctx)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(revocationsEvery)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				if err := revocations.Load(ctx); err != nil && ctx.Err() == nil {
					s.log.Error("lists of revocations could not be read", "error", err)
				}
			case <-hangup:
				c, err := s.load()
				if err == nil {
					err = s.served.Reload(c)
				}
				if err != nil {
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

func (s *collectionsService) close() (err error) {
	for len(s.closes) > 0 {
		last := len(s.closes) - 1
		err = errors.Join(err, s.closes[last]())
		s.closes = s.closes[:last]
	}
	return err
}

// Bounds of connections: how long a request's headers may take and be, and how long a connection may be idle.
const (
	headerTime     = 10 * time.Second
	maxHeaderBytes = 64 << 10
	idleTime       = 2 * time.Minute
)

func (s *collectionsService) online() (stop func() error, facts map[string]string, err error) {
	s.wrap.Timeout = s.timeout
	handler, err := collections.Wrap(s.served, s.wrap)
	if err != nil {
		return nil, nil, errors.Join(api.UsageErrorf("%v", err), s.close())
	}
	l, err := net.Listen("tcp", s.listen)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("collections: %w", err), s.close())
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: headerTime, ReadTimeout: s.timeout + headerTime, WriteTimeout: 2 * (s.timeout + headerTime), IdleTimeout: idleTime, MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	serve, scheme := srv.Serve, "http"
	if s.cert != "" || s.key != "" {
		pair := &keyPair{cert: s.cert, key: s.key}
		if _, err := pair.get(nil); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("--tls-cert, --tls-key: %w", err), l.Close(), s.close())
		}
		srv.TLSConfig = &tls.Config{GetCertificate: pair.get, MinVersion: tls.VersionTLS12}
		serve, scheme = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }, "https"
	}
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

// keyPair is a certificate in files, which is read again when they have changed.
type keyPair struct {
	cert, key string

	mu     sync.Mutex
	of     [2]time.Time
	loaded *tls.Certificate
}

func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var now [2]time.Time
	for i, name := range []string{p.cert, p.key} {
		st, err := os.Stat(name)
		if err != nil {
			if p.loaded != nil { // it is being replaced
				return p.loaded, nil
			}
			return nil, err
		}
		now[i] = st.ModTime()
	}
	if p.loaded != nil && now == p.of {
		return p.loaded, nil
	}
	c, err := tls.LoadX509KeyPair(p.cert, p.key)
	switch {
	case err == nil:
		p.loaded, p.of = &c, now
	case p.loaded == nil:
		return nil, err
	}
	return p.loaded, nil
}

func (a *app) collectionsServe() *cobra.Command {
	flags := upFlags{collectEvery: 24 * time.Hour, net: netFlags{listenFlag: p2pListen}}
	s := &collectionsService{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node that serves document collections over HTTP",
		Long: "Run a node that serves the collections of a configuration over HTTP. What skerry up does it does, too: other nodes that hold the replica of the documents get them without\n" +
			"being asked, and may serve them as well. The configuration is read again on SIGHUP; requests that are being answered are not cut off.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.config == "" {
				return api.UsageErrorf("name the configuration with --config FILE; skerry collections check FILE tells what is wrong with one")
			}
			return a.up(cmd, &flags, s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.config, "config", "", "file with the configuration, collections.json")
	f.StringVar(&s.listen, "listen", "127.0.0.1:8500", "address to serve HTTP at")
	f.StringVar(&s.prefix, "prefix", "", "what all paths begin with, such as /v1")
	f.StringVar(&s.store, "store", "replica:collections", "where documents are kept: replica:NAME, which is made if there is none; directory:PATH; or memory")
	f.StringVar(&s.describe, "describe", "none", "to whom GET /config tells which collections there are: none, public, or role-filtered, which is to each caller those that it may use")
	f.BoolVar(&s.anonymous, "anonymous", true, "let whoever presents no certificate use what is public")
	f.StringVar(&s.origin, "origin", "", "URL under which callers know the server, such as https://sync.example, if a proxy changes the Host of requests")
	f.IntVar(&s.hops, "proxy-hops", 0, "proxies before the server that add to X-Forwarded-For; without them what callers say of their address counts for nothing")
	f.DurationVar(&s.timeout, "timeout", 30*time.Second, "how long answering a request may take")
	f.StringArrayVar(&s.wrap.Origins, "cors", nil, "origin of web pages that may use the server, such as https://app.example, or * for all (repeatable)")
	f.BoolVar(&s.wrap.Credentials, "cors-credentials", false, "let such pages send cookies")
	f.BoolVar(&s.wrap.Headers, "security-headers", true, "add headers that tell browsers to be careful")
	f.BoolVar(&s.wrap.Compress, "compress", true, "compress answers of 1 KiB and more for those who take it")
	f.StringVar(&s.audit, "audit", "", "file to add a record of each request to, a JSON object a line")
	f.StringVar(&s.cert, "tls-cert", "", "file with a certificate, to serve HTTPS; it is read again when it changes")
	f.StringVar(&s.key, "tls-key", "", "file with the certificate's private key")
	flags.add(cmd)
	return cmd
}

// checkedConfig is what is said of a configuration.
type checkedConfig struct {
	Valid    bool     `json:"valid"`
	Problems []string `json:"problems"`
	Warnings []string `json:"warnings"`
}

func (a *app) collectionsCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Tell all that is wrong with a configuration of collections",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			out := checkedConfig{Problems: []string{}, Warnings: []string{}}
			c, err := config.Load(args[0])
			if err == nil {
				out.Warnings = append(out.Warnings, c.Warnings...)
				_, err = collections.New(c, collections.Options{})
			}
			var invalid *config.InvalidError
			if errors.As(err, &invalid) {
				out.Problems = invalid.Problems
			} else if err != nil {
				return err
			}
			out.Valid = err == nil
			if a.json {
				if err := a.printJSON(out); err != nil {
					return err
				}
			} else {
				for _, p := range out.Problems {
					fmt.Fprintln(a.stdout, p)
				}
				if !a.quiet {
					for _, w := range out.Warnings {
						fmt.Fprintln(a.stdout, "warning:", w)
					}
				}
			}
			if !out.Valid {
				return fmt.Errorf("%s: %d problems", args[0], len(out.Problems))
			}
			a.note("%s: %d collections, nothing is wrong", args[0], len(c.All()))
			return nil
		},
	}
}

func (a *app) collectionsOpenAPI() *cobra.Command {
	var o openapi.Options
	cmd := &cobra.Command{
		Use:   "openapi FILE",
		Short: "Describe the routes of a configuration as OpenAPI 3.1",
		Long:  "Print an OpenAPI 3.1 description of all routes that serve would answer by a configuration, for people and for generators of clients. With --describe public the server answers GET /openapi.json with it.",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := config.Load(args[0])
			if err == nil {
				_, err = collections.New(c, collections.Options{})
			}
			if err != nil {
				return err
			}
			return a.printJSON(json.RawMessage(value.Append(nil, openapi.Describe(c, o))))
		},
	}
	cmd.Flags().StringVar(&o.Title, "title", "", "title of the API (Collections)")
	cmd.Flags().StringVar(&o.Version, "api-version", "", "version of the API (1.0.0)")
	cmd.Flags().StringVar(&o.URL, "url", "", "URL of the server, with its prefix")
	return cmd
}

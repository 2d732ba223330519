package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/meter"
	"github.com/skerry-sync/skerry/collections/place"
	"github.com/skerry-sync/skerry/collections/queue/nats"
	"github.com/skerry-sync/skerry/collections/service"
	"github.com/skerry-sync/skerry/node"
)

// descriptions are the values of --describe.
var descriptions = map[string]collections.Describe{
	"none": collections.DescribeNone, "public": collections.DescribePublic,
	"role-filtered": collections.DescribeByRole,
}

// collectionsService serves collections at a node, as flags and the environment say.
type collectionsService struct {
	config, listen, prefix, origin, describe, audit, cert, key string

	kept      storeFlags
	primary   *config.Primary // that collections are kept in step with; nil if there is none
	acme      service.ACME
	wrap      collections.Wrapping
	hops      int
	hosts     []string // names of this server that a proxy passes on
	timeout   time.Duration
	anonymous bool
	originURL *url.URL // of --origin, nil without

	log    *slog.Logger
	dir    string // of the node
	meter  *meter.Meter
	server *service.Server
	heeded func() // ends that SIGHUP is heeded
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
	case len(s.acme.Hosts) > 0 && s.cert != "":
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
	if err := s.wrap.Shared.Check(); err != nil {
		return api.UsageErrorf("%v", err)
	}
	return nil
}

func (s *collectionsService) measured(r prometheus.Registerer) { r.MustRegister(s.meter) }

func (s *collectionsService) opened(
	ctx context.Context, n *node.Node, log *slog.Logger,
) (err error) {
	s.log, s.dir, s.meter = log, n.Dir(), meter.New()
	s.server, err = service.Start(ctx, service.Options{
		Load: s.load, Complete: s.completed, Codec: codecOf,
		Unconfigured: func() {
			log.Warn("there is no configuration, and so the default set of collections is served; "+
				"name a file with --config FILE, or write one there (skerry collections default "+
				"prints the default)", "missing", filepath.Join(s.dir, defaultConfig))
		},
		Place: func(ctx context.Context, at service.Site) (service.Place, error) {
			if !s.kept.InReplica() {
				return s.kept.Place(), nil
			}
			return s.kept.Replica(ctx, n, at)
		},
		Dir: filepath.Join(n.Dir(), "collections"), Broker: nats.Broker,
		Prefix: s.prefix, Describe: descriptions[s.describe], Origin: s.originURL,
		Hosts: slices.Concat(s.hosts, s.acme.Hosts), ProxyHops: s.hops, Anonymous: s.anonymous,
		Audit: s.audit, Observe: s.meter.Observe, Log: log,
	})
	if err != nil {
		return advised(err)
	}
	s.meter.Remotes = s.server.Remotes
	s.meter.Queue = s.server.Announced()
	s.heed(ctx)
	return nil
}

// advised adds to an error which flags to change.
func advised(err error) error {
	var name *place.NameError
	var prefix *service.PrefixError
	switch {
	case errors.As(err, &name):
		return fmt.Errorf("--store %w", err)
	case errors.As(err, &prefix):
		return fmt.Errorf("%w: start the server with --prefix %q", err, prefix.Prefix)
	case errors.Is(err, service.ErrNoRules):
		return fmt.Errorf("%w: --store names none", err)
	case errors.Is(err, service.ErrRulesDiffer):
		return fmt.Errorf("%w: start the node that holds the replica's key with it, "+
			"or this one without --config", err)
	}
	return err
}

// heed reads the configuration again on SIGHUP.
func (s *collectionsService) heed(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				if err := s.server.Reload(); err != nil {
					s.log.Error("the configuration stays as it was", "error", advised(err))
				} else {
					s.log.Info("the configuration was read again", "config", s.config)
				}
			}
		}
	})
	s.heeded = func() {
		signal.Stop(hangup)
		stop()
		wg.Wait()
	}
}

func (s *collectionsService) close() error {
	s.heeded()
	return s.server.Close()
}

func (s *collectionsService) online() (stop func() error, facts map[string]string, err error) {
	s.wrap.Timeout = s.timeout
	o := service.ListenOptions{
		At: s.listen, Wrap: s.wrap, Drain: drainTime, Cert: s.cert, Key: s.key,
	}
	if len(s.acme.Hosts) > 0 {
		s.acme.Cache = filepath.Join(s.dir, "collections", "acme")
		o.ACME = &s.acme
	}
	at, err := s.server.Listen(o)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("collections: %w", err), s.close())
	}
	return s.close, map[string]string{"collections": at}, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/metrics"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/seed"
	"github.com/skerry-sync/skerry/seed/report"
)

func (a *app) seedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "seed",
		Short: "Keep replicas for others, or have yours kept",
		Long: "A seed is a node that keeps other people's replicas while their devices sleep. It needs " +
			"no more than a sync ticket, so it cannot read an encrypted replica. Whoever has an " +
			"identity\n" +
			"registers replicas at it, within a quota.",
	}
	cmd.AddCommand(a.seedServe(), a.seedRegister(), a.seedUnregister(), a.seedStatus(), a.seedReady())
	return cmd
}

// seedService is a seed at a node, with its HTTP side.
type seedService struct {
	limits    seed.Limits
	quota     byteSize
	only      []string // identities that may register; none: all
	openReads bool
	hops      int // proxies before the server of HTTP
	http      string
	hosts     []string // names of http that a proxy passes on

	reg *seed.Registry
	s   *seed.Seed
	ctx context.Context
	log *slog.Logger
}

func (s *seedService) configure(cfg *node.Config) error {
	if s.http != "" {
		if err := checkHostPort("http", s.http); err != nil {
			return err
		}
	}
	if err := checkHops(s.hops); err != nil {
		return err
	}
	s.limits.Bytes = uint64(s.quota)
	s.reg = seed.NewRegistry(s.limits, nil)
	cfg.Host = s.reg
	return nil
}

// checkHops says what is wrong with --proxy-hops.
func checkHops(n int) error {
	if n < 0 {
		return api.UsageErrorf("--proxy-hops must be 0 or the number of proxies, not %d", n)
	}
	return nil
}

func (s *seedService) opened(ctx context.Context, n *node.Node, log *slog.Logger) error {
	s.s = seed.New(n, s.reg, log, nil)
	s.s.OpenReads, s.s.ProxyHops = s.openReads, s.hops
	for _, text := range s.only {
		id, err := identity.ParseID(text)
		if err != nil {
			return api.UsageErrorf("--for %s: %v", text, err)
		}
		s.s.Only = append(s.s.Only, id)
	}
	s.s.Serve(ctx)
	s.ctx, s.log = ctx, log
	return nil
}

func (s *seedService) measured(r prometheus.Registerer) { r.MustRegister(metrics.NewSeed(s.s)) }

// seedPeers is how many connections a seed keeps, unless told otherwise.
const seedPeers = 4096

// drainTime is how long requests that are under way may take to end.
const drainTime = 10 * time.Second

func (s *seedService) online() (stop func() error, facts map[string]string, err error) {
	s.s.Start(s.ctx)
	facts = map[string]string{}
	stop = func() error { s.s.Close(); return nil }
	if s.http == "" {
		return stop, facts, nil
	}
	l, err := net.Listen("tcp", s.http)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("seed: %w", err), stop())
	}
	srv := &http.Server{
		Handler: netaddr.Local(l.Addr(), s.s.Handler(), s.hosts...), ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(netaddr.LimitBehind(l, netaddr.MaxPublicConns, s.s.ProxyHops)) }()
	facts["seed"] = "http://" + l.Addr().String()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		err := srv.Shutdown(ctx)
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		s.s.Close()
		return err
	}, facts, nil
}

func (a *app) seedServe() *cobra.Command {
	flags := upFlags{collectEvery: 24 * time.Hour, net: netFlags{maxPeers: seedPeers, dial: dialAuto}}
	s := &seedService{limits: seed.DefaultLimits, quota: byteSize(seed.DefaultLimits.Bytes)}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node that keeps replicas for others",
		Long: "Run a node that keeps the replicas which identities register at it, by the seed " +
			"protocol and, with --http, by REST. What skerry up does it does, too. HTTP is without TLS: " +
			"put a\n" +
			"proxy before it that adds it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.up(cmd, &flags, s) },
	}
	cmd.Flags().StringVar(
		&s.http, "http", "", "serve REST at this address, such as 127.0.0.1:8490 (default: not)",
	)
	cmd.Flags().StringArrayVar(&s.hosts, "host", nil, hostUsage("--http"))
	cmd.Flags().IntVar(&s.hops, "proxy-hops", 0, "proxies before --http that add to X-Forwarded-For; "+
		"without them what callers say of their address counts for nothing")
	cmd.Flags().Var(&s.quota, "quota", "bytes of content and entries of each identity")
	cmd.Flags().Uint32Var(
		&s.limits.Replicas, "replicas", seed.DefaultLimits.Replicas, "replicas of each identity",
	)
	durationVar(
		cmd.Flags(), &s.limits.Grace, "grace", seed.DefaultLimits.Grace,
		"how long a replica is kept after its registration has ended",
	)
	durationVar(
		cmd.Flags(), &s.limits.Retention, "retention", seed.DefaultLimits.Retention,
		"how long a replica is kept that no device has synced, before its registration ends by itself "+
			"(0 is for ever)",
	)
	cmd.Flags().StringArrayVar(
		&s.only, "for", nil, "identity that may have replicas kept (repeatable; default: anybody)",
	)
	cmd.Flags().BoolVar(
		&s.openReads, "open-reads", false,
		"tell anybody about any identity's replicas and quota, without a signature",
	)
	flags.add(cmd)
	return cmd
}

// hostUsage describes --host, of a command that serves HTTP at the address of another flag.
func hostUsage(flag string) string {
	return "name by which clients reach " + flag + " through a proxy, such as sync.example " +
		"(repeatable); at a loopback address, requests for any other name than localhost are refused"
}

// seedRequest is what commands that ask a seed have in common.
type seedRequest struct {
	req      api.SeedRequest
	password passwordFlag
}

func (r *seedRequest) add(cmd *cobra.Command) {
	r.password = newPassword()
	cmd.Flags().StringVar(
		&r.req.At, "at", "", "address of the seed, such as /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…",
	)
	cmd.Flags().StringVar(
		&r.req.Identity, "identity", "",
		"as whom (default: your vault's identity, or the only one of the keyring)",
	)
	r.password.add(cmd)
}

func (r *seedRequest) request(a *app, replica string) (req api.SeedRequest, err error) {
	if r.req.At == "" {
		return req, api.UsageErrorf("name the seed with --at ADDRESS")
	}
	req = r.req
	req.Replica = replica
	req.Password, err = r.password.read(a, false)
	return req, err
}

func seedLine(x report.Answer) (string, display) {
	text := displayf(
		"%-8s  %8d entries  %10s  %s", x.State, x.EntryCount, bytesText(x.BytesStored), x.ReplicaID,
	)
	if x.DeletionAt > 0 {
		text += displayf("  until %s", time.Unix(x.DeletionAt, 0).Local().Format(time.DateTime))
	}
	if x.Note != "" {
		text += displayf("\n%s", x.Note)
	}
	return x.ReplicaID, text
}

func (a *app) seedRegister() *cobra.Command {
	var r seedRequest
	cmd := &cobra.Command{
		Use:   "register REPLICA",
		Short: "Have a seed keep a replica while your devices sleep",
		Long: "Have a seed keep a replica. The seed is given a sync ticket; tickets that this node " +
			"makes of the replica name the seed, too.",
		Args: cobra.ExactArgs(1),
	}
	r.add(cmd)
	return one(a, cmd, true, (*api.Client).SeedRegister, func(args []string) (api.SeedRequest, error) {
		return r.request(a, args[0])
	}, seedLine)
}

func (a *app) seedUnregister() *cobra.Command {
	var r seedRequest
	cmd := &cobra.Command{
		Use:   "unregister REPLICA",
		Short: "Stop a seed from keeping a replica",
		Long: "Stop a seed from keeping a replica. The seed still serves it for a grace period, and " +
			"then deletes it.",
		Args: cobra.ExactArgs(1),
	}
	r.add(cmd)
	return one(
		a, cmd, true, (*api.Client).SeedUnregister, func(args []string) (api.SeedRequest, error) {
			return r.request(a, args[0])
		}, seedLine,
	)
}

func (a *app) seedStatus() *cobra.Command {
	var r seedRequest
	cmd := &cobra.Command{
		Use: "status", Short: "Show what a seed keeps for you, and your quota", Args: cobra.NoArgs,
	}
	r.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req, err := r.request(a, "")
		if err != nil {
			return err
		}
		return a.with(cmd.Context(), true, func(x *session) error {
			st, err := x.Client.SeedStatus(cmd.Context(), req)
			if err != nil {
				return err
			}
			essential, text := seedStatusText(st)
			return a.printLines(st, essential, text)
		})
	}
	return cmd
}

// seedStatusText gives the ids of the replicas that are kept, one a line, and a description.
func seedStatusText(s api.SeedStatus) (essential, text display) {
	q := s.Quota
	text = displayf("%s of %s, %d of %d replicas", bytesText(q.BytesUsed), bytesText(q.BytesLimit),
		q.ReplicaCount, q.ReplicaLimit)
	var ids []display
	for _, x := range s.Backups {
		id, line := seedLine(x)
		text += "\n" + line
		ids = append(ids, displayf("%s", id))
	}
	for _, id := range s.Missing {
		text += displayf(
			"\nMISSING   %s: registered from here, and not kept there any more; register it again", id,
		)
	}
	return joinDisplays(ids, "\n"), text
}

// readyTime is how long a seed has to say that it is ready.
const readyTime = 4 * time.Second

func (a *app) seedReady() *cobra.Command {
	at := ""
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Check that a seed on this machine is ready",
		Long: "Check that a seed on this machine is ready, as a supervisor does. The seed must serve " +
			"REST:\n" +
			"skerry seed serve --http 127.0.0.1:8490. Exits with 0 if it is ready, else with 1.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := checkHostPort("http", at); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), readyTime)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/v1/ready", nil)
			if err != nil {
				return api.UsageErrorf("--http %s: %v", at, err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				if e, ok := errors.AsType[*url.Error](err); ok {
					err = e.Err // without the request in words of the library
				}
				return fmt.Errorf(
					"the seed does not answer at %s: %w; is it run with skerry seed serve --http %s?", at, err, at,
				)
			}
			defer func() { err = errors.Join(err, resp.Body.Close()) }()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("the seed at %s is not ready: %s", at, resp.Status)
			}
			return a.print(map[string]bool{"ready": true}, "", "ready")
		},
	}
	cmd.Flags().StringVar(&at, "http", "127.0.0.1:8490", "where the seed serves REST")
	return cmd
}

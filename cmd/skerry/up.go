package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/api/server"
	"github.com/skerry-sync/skerry/gateway"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/metrics"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/datadir"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/seed"
)

// upFlags are those of commands that run a node.
type upFlags struct {
	net                netFlags
	noConsole, verbose bool
	logFormat          string
	gateway, metrics   string
	limits             limitFlags
	collectEvery       time.Duration
	trustClock         bool
}

func (f *upFlags) add(cmd *cobra.Command) {
	f.net.add(cmd.Flags())
	cmd.Flags().BoolVar(
		&f.noConsole, "no-console", false, "do not serve a web console (this version has none)",
	)
	cmd.Flags().StringVar(
		&f.gateway, "gateway", "",
		"let browsers read content over HTTP at this address, such as 127.0.0.1:8480; a port alone is "+
			"on the loopback interface",
	)
	durationVar(
		cmd.Flags(), &f.collectEvery, "gc-every", f.collectEvery,
		"remove what nothing keeps this often, such as 24h or 7d (0 is only when asked to)",
	)
	cmd.Flags().StringVar(
		&f.metrics, "metrics", "",
		"serve metrics for Prometheus at this address, such as 127.0.0.1:8488; a port alone is on the "+
			"loopback interface",
	)
	f.limits.add(cmd)
	cmd.Flags().BoolVar(
		&f.trustClock, "trust-clock", false,
		"write versions of items although most known peers say that this machine's clock is wrong",
	)
	cmd.Flags().StringVar(
		&f.logFormat, "log", "text", "form of the log on standard error: text, or json, a value a line",
	)
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "log what goes on between peers")
}

func (a *app) upCommand() *cobra.Command {
	var flags upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the node",
		Long: "Run the node until interrupted. Other commands on the same data directory " +
			"then talk to it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.up(cmd, &flags, nil) },
	}
	flags.add(cmd)
	return cmd
}

// extension is something that is built upon a node and runs as long as it.
type extension interface {
	// configure is called before the node is opened.
	configure(cfg *node.Config) error
	// opened is called before it goes online.
	opened(ctx context.Context, n *node.Node, log *slog.Logger) error
	// online is called when peers can reach it; what it returns ends the extension, and tells people
	// what to know of it.
	online() (stop func() error, facts map[string]string, err error)
	// measured is called if metrics are wanted.
	measured(r prometheus.Registerer)
}

// up runs a node until the command's context ends.
func (a *app) up(cmd *cobra.Command, f *upFlags, with extension) (err error) {
	ctx := cmd.Context()
	if err := errors.Join(a.absDir(), a.readConfig(cmd.Flags())); err != nil {
		return err
	}
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	} else if a.quiet || a.json {
		level = slog.LevelWarn
	}
	options := &slog.HandlerOptions{Level: level}
	log := slog.New(slog.NewTextHandler(a.stderr, options))
	switch f.logFormat {
	case "text":
	case "json":
		log = slog.New(slog.NewJSONHandler(a.stderr, options))
	default:
		return api.UsageErrorf("--log must be text or json, not %q", f.logFormat)
	}
	if err := errors.Join(
		checkAddress("gateway", f.gateway), checkAddress("metrics", f.metrics),
	); err != nil {
		return err
	}
	cfg := node.Config{
		Dir: a.dir, Command: a.command, Log: log, Limits: f.limits.limits(),
		TrustClock: f.trustClock,
	}
	if with != nil {
		if err := with.configure(&cfg); err != nil {
			return err
		}
	}
	n, err := a.openNode(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if with != nil {
		if err := with.opened(ctx, n.Node, log); err != nil {
			return err
		}
	}
	if f.metrics != "" {
		f.net.registry = metrics.NewRegistry()
	}
	if err := goOnline(n.Node, &f.net, log); err != nil {
		return err
	}
	facts := map[string]string{}
	if with != nil {
		stop, more, err := with.online()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		facts = more
	}
	l, err := server.Listen(server.New(n, versionText()), a.dir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := n.SetAPI(l.Path); err != nil {
		return err
	}
	if f.metrics != "" {
		if with != nil {
			with.measured(f.net.registry)
		}
		m, err := metrics.Listen(ctx, f.net.registry, n.Node, f.metrics, log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.Close()) }()
		facts["metrics"] = m.URL
	}
	if f.gateway != "" {
		g, err := gateway.Listen(gateway.New(n.Node, log), f.gateway)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, g.Close()) }()
		facts["gateway"] = g.URL
	}
	if err := a.ready(n.Node, l.Path, facts); err != nil {
		return err
	}
	var watching sync.WaitGroup
	watch := &seed.Watch{Node: n.Node, Log: log, Now: time.Now}
	watching.Go(func() { fault.Keep(ctx, log, "watching seeds", watch.Run) })
	defer watching.Wait()
	collectRegularly(ctx, n.Node, f.collectEvery, log)
	if a.json {
		return a.printJSON(map[string]string{"event": "stopping"})
	}
	return nil
}

// openNode opens the data directory. A command that has it open for a moment is waited for; another
// node is not.
func (a *app) openNode(ctx context.Context, cfg node.Config) (*skerry.Node, error) {
	for deadline := time.Now().Add(startupWait); ; {
		n, err := skerry.Open(ctx, cfg, a.keyringAt())
		var inUse *datadir.InUseError
		if err == nil || !errors.As(err, &inUse) {
			return n, err
		}
		s, silent, dialErr := a.dial()
		switch {
		case s != nil:
			return nil, errors.Join(err, s.close())
		case dialErr != nil:
			return nil, dialErr
		case time.Now().After(deadline):
			return nil, stillInUse(err, silent)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// collectRegularly collects garbage until ctx ends; every 0 only waits.
func collectRegularly(ctx context.Context, n *node.Node, every time.Duration, log *slog.Logger) {
	if every <= 0 {
		<-ctx.Done()
		return
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		got, err := n.Collect(ctx, false, nil)
		if err != nil && ctx.Err() == nil {
			log.Error("collecting garbage", "error", err)
			continue
		}
		log.Info(
			"collected garbage", "removed", got.Removed, "bytes", got.RemovedBytes, "freed", got.Freed,
		)
	}
}

// limitFlags bound what a node gives and takes.
type limitFlags struct {
	upload, download, peerUpload, peerDownload, relay, storage, peerStorage byteSize
}

// relayDefault bounds what a relay carries for others unless --relay-limit says otherwise.
const relayDefault = 8 << 20

func (f *limitFlags) add(cmd *cobra.Command) {
	f.relay = relayDefault
	for _, x := range []struct {
		to          *byteSize
		name, usage string
	}{
		{
			&f.upload, "max-upload",
			"bytes a second of content to all peers together, such as 5MiB (default: no limit)",
		},
		{&f.download, "max-download", "bytes a second of content from all peers together"},
		{&f.peerUpload, "max-peer-upload", "bytes a second of content to any one peer"},
		{&f.peerDownload, "max-peer-download", "bytes a second of content from any one peer"},
		{
			&f.relay, "relay-limit",
			"bytes a second to relay for other nodes, which count for --max-upload and --max-download, " +
				"too (0 is no limit of its own)",
		},
		{
			&f.storage, "max-storage",
			"bytes of content and records to hold; imports, downloads and new entries beyond it are refused",
		},
		{
			&f.peerStorage, "max-peer-storage",
			"bytes of replicas' content to fetch from any one peer without being asked",
		},
	} {
		cmd.Flags().Var(x.to, x.name, x.usage)
	}
}

func (f *limitFlags) limits() limits.Config {
	return limits.Config{
		Upload: uint64(f.upload), Download: uint64(f.download), PeerUpload: uint64(f.peerUpload),
		PeerDownload: uint64(f.peerDownload), Relay: uint64(f.relay), Storage: uint64(f.storage),
		PeerStorage: uint64(f.peerStorage),
	}
}

// ready tells that the node is up, with facts about what is built upon it.
func (a *app) ready(n *node.Node, apiPath string, facts map[string]string) error {
	addrs := []string{}
	for _, m := range n.Addrs() {
		addrs = append(addrs, m.String())
	}
	if a.json {
		event := map[string]any{
			"event": "ready", "node_id": n.ID().String(), "addrs": addrs, "api": apiPath,
		}
		for name, value := range facts {
			event[name] = value
		}
		return a.printJSON(event)
	}
	a.note("node %s is up", n.ID())
	for _, m := range addrs {
		a.note("  reachable at %s", m)
	}
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		a.note("  %s at %s", name, facts[name])
	}
	a.note("  data in %s; stop with Ctrl-C", a.dir)
	return nil
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the running node, its peers, replicas and storage",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := a.absDir(); err != nil {
				return err
			}
			s, silent, err := a.dial()
			if err != nil {
				return err
			}
			if s == nil {
				return errNotRunning{a.dir, silent}
			}
			defer func() { err = errors.Join(err, s.close()) }()
			st, err := s.Client.Status(cmd.Context())
			if err != nil {
				return err
			}
			text := displayf("node      %s\n", st.NodeID)
			for _, m := range st.Addrs {
				text += displayf("address   %s\n", m)
			}
			for _, p := range st.Peers {
				text += displayf("peer      %s  %s  %s\n", p.ID, p.Transport, p.Addr)
			}
			for _, r := range st.Replicas {
				text += displayf(
					"replica   %s  %s  %d entries  %s\n", r.Name, r.Capability, r.Entries, r.ReplicaID,
				)
			}
			text += displayf(
				"blobs     %d, of these %d partial, %s", st.Blobs.Count, st.Blobs.Partial,
				bytesText(st.Blobs.Bytes),
			)
			for _, w := range st.Warnings {
				text += displayf("\nwarning   %s", w)
			}
			return a.print(st, st.NodeID, text)
		},
	}
}

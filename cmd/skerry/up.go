package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/gateway"
	"github.com/skerry-sync/skerry/node"
)

func (a *app) upCommand() *cobra.Command {
	var listen []string
	var noDiscovery, noConsole, verbose bool
	var gatewayAddr string
	var limits limitFlags
	var collectEvery time.Duration
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the node",
		Long:  "Run the node until interrupted. Other commands on the same data directory then talk to it.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := a.absDir(); err != nil {
				return err
			}
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			} else if a.quiet || a.json {
				level = slog.LevelWarn
			}
			log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
			n, err := node.Open(cmd.Context(), node.Config{Dir: a.dir, Log: log, Limits: limits.limits(), Keyring: a.keyringAt()})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, n.Close()) }()
			if err := goOnline(n, listen, !noDiscovery, log); err != nil {
				return err
			}
			l, err := api.Listen(api.NewServer(n, versionText()), a.dir, log)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, l.Close()) }()
			if err := n.SetAPI(l.Path); err != nil {
				return err
			}
			url := ""
			if gatewayAddr != "" {
				g, err := gateway.Listen(gateway.New(n, log), gatewayAddr)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, g.Close()) }()
				url = g.URL
			}
			if err := a.ready(n, l.Path, url); err != nil {
				return err
			}
			collectRegularly(cmd.Context(), n, collectEvery, log)
			if a.json {
				return a.printJSON(map[string]string{"event": "stopping"})
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&listen, "listen", nil, "multiaddr to listen at, such as /ip4/0.0.0.0/tcp/4001 (repeatable; default: all interfaces, a port kept in the data directory)")
	cmd.Flags().BoolVar(&noDiscovery, "no-discovery", false, "neither look for peers on the local network nor be found there")
	cmd.Flags().BoolVar(&noConsole, "no-console", false, "do not serve a web console (this version has none)")
	cmd.Flags().StringVar(&gatewayAddr, "gateway", "", "let browsers read content over HTTP at this address, such as 127.0.0.1:8480; a port alone is on the loopback interface")
	cmd.Flags().DurationVar(&collectEvery, "gc-every", 0, "remove what nothing keeps this often, such as 24h (default: only when asked to)")
	limits.add(cmd)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what goes on between peers")
	return cmd
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
		log.Info("collected garbage", "removed", got.Removed, "bytes", got.RemovedBytes, "freed", got.Freed)
	}
}

// limitFlags bound what a node gives and takes.
type limitFlags struct {
	upload, download, peerUpload, peerDownload, storage, peerStorage byteSize
}

func (f *limitFlags) add(cmd *cobra.Command) {
	for _, x := range []struct {
		to          *byteSize
		name, usage string
	}{
		{&f.upload, "max-upload", "bytes a second of content to all peers together, such as 5MiB (default: no limit)"},
		{&f.download, "max-download", "bytes a second of content from all peers together"},
		{&f.peerUpload, "max-peer-upload", "bytes a second of content to any one peer"},
		{&f.peerDownload, "max-peer-download", "bytes a second of content from any one peer"},
		{&f.storage, "max-storage", "bytes of content to hold; imports and downloads beyond it are refused"},
		{&f.peerStorage, "max-peer-storage", "bytes of replicas' content to fetch from any one peer without being asked"},
	} {
		cmd.Flags().Var(x.to, x.name, x.usage)
	}
}

func (f *limitFlags) limits() node.Limits {
	return node.Limits{Upload: uint64(f.upload), Download: uint64(f.download), PeerUpload: uint64(f.peerUpload), PeerDownload: uint64(f.peerDownload),
		Storage: uint64(f.storage), PeerStorage: uint64(f.peerStorage)}
}

func (a *app) ready(n *node.Node, apiPath, gatewayURL string) error {
	addrs := []string{}
	for _, m := range n.Addrs() {
		addrs = append(addrs, m.String())
	}
	if a.json {
		event := map[string]any{"event": "ready", "node_id": n.ID().String(), "addrs": addrs, "api": apiPath}
		if gatewayURL != "" {
			event["gateway"] = gatewayURL
		}
		return a.printJSON(event)
	}
	a.note("node %s is up", n.ID())
	for _, m := range addrs {
		a.note("  reachable at %s", m)
	}
	if gatewayURL != "" {
		a.note("  gateway at %s", gatewayURL)
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
			s := a.dial()
			if s == nil {
				return errNotRunning{a.dir}
			}
			defer func() { err = errors.Join(err, s.close()) }()
			st, err := api.Call[api.Status](cmd.Context(), s.Client, "status", nil)
			if err != nil {
				return err
			}
			text := fmt.Sprintf("node      %s\n", st.NodeID)
			for _, m := range st.Addrs {
				text += fmt.Sprintf("address   %s\n", m)
			}
			for _, p := range st.Peers {
				text += fmt.Sprintf("peer      %s  %s  %s\n", p.ID, p.Transport, p.Addr)
			}
			for _, r := range st.Replicas {
				text += fmt.Sprintf("replica   %s  %s  %d entries  %s\n", r.Name, r.Capability, r.Entries, r.ReplicaID)
			}
			text += fmt.Sprintf("blobs     %d, of these %d partial, %s", st.Blobs.Count, st.Blobs.Partial, bytesText(st.Blobs.Bytes))
			return a.print(st, st.NodeID, text)
		},
	}
}

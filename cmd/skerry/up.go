package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/node"
)

func (a *app) upCommand() *cobra.Command {
	var listen []string
	var noDiscovery, noConsole, verbose bool
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
			n, err := node.Open(cmd.Context(), node.Config{Dir: a.dir, Log: log})
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
			if err := a.ready(n, l.Path); err != nil {
				return err
			}
			<-cmd.Context().Done()
			if a.json {
				return a.printJSON(map[string]string{"event": "stopping"})
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&listen, "listen", nil, "multiaddr to listen at, such as /ip4/0.0.0.0/tcp/4001 (repeatable; default: all interfaces, a port kept in the data directory)")
	cmd.Flags().BoolVar(&noDiscovery, "no-discovery", false, "neither look for peers on the local network nor be found there")
	cmd.Flags().BoolVar(&noConsole, "no-console", false, "do not serve a web console (this version has none)")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what goes on between peers")
	return cmd
}

func (a *app) ready(n *node.Node, apiPath string) error {
	addrs := []string{}
	for _, m := range n.Addrs() {
		addrs = append(addrs, m.String())
	}
	if a.json {
		return a.printJSON(map[string]any{"event": "ready", "node_id": n.ID().String(), "addrs": addrs, "api": apiPath})
	}
	a.note("node %s is up", n.ID())
	for _, m := range addrs {
		a.note("  reachable at %s", m)
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

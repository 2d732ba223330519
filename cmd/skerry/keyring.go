package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/api/server"
	"github.com/skerry-sync/skerry/vault"
)

// keyringAt returns the keyring of --keyring, or nil for the node's own.
func (a *app) keyringAt() vault.Keyring {
	if a.ring == "" {
		return nil
	}
	return vault.Remote{Call: api.DialKeyring(a.ring)}
}

func (a *app) keyringCommand() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "keyring",
		Short: "Hold identity keys in a process of its own",
		Long: "Hold identity keys in a process of its own, which talks to no network, instead of " +
			"within the node. Start the node with --keyring and the socket that this prints; all " +
			"commands on the\n" +
			"node then use it. The keys lie in the directory keyring below --dir.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := a.absDir(); err != nil {
				return err
			}
			dir := filepath.Join(a.dir, "keyring")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			if socket == "" {
				socket = filepath.Join(dir, "keyring.sock")
			}
			log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			l, err := server.ListenKeyring(vault.NewLocal(dir, nil), socket, log)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, l.Close()) }()
			if err := a.print(
				map[string]string{"event": "ready", "socket": l.Path}, l.Path,
				displayf("the keyring answers at %s", l.Path),
			); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return nil
		},
	}
	cmd.Flags().StringVar(
		&socket, "socket", "", "path of the socket (default: keyring.sock beside the keys)",
	)
	return cmd
}

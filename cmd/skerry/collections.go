package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/nginx"
	"github.com/skerry-sync/skerry/collections/openapi"
	"github.com/skerry-sync/skerry/collections/service"
	"github.com/skerry-sync/skerry/collections/value"
)

func (a *app) collectionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "collections",
		Short: "Serve document collections over HTTP",
		Long: "Collections are sets of JSON or binary documents with roles, conflict detection and " +
			"logs, which published Starfish v3 clients use unchanged. Their documents lie in a replica, " +
			"so that\n" +
			"every node which holds it can serve them.",
	}
	cmd.AddCommand(
		a.collectionsServe(), a.collectionsPrimary(), a.collectionsReplica(), a.collectionsCheck(),
		a.collectionsOpenAPI(), a.collectionsNginx(), a.collectionsDefault(), a.collectionsMigrate(),
	)
	return cmd
}

func (a *app) collectionsServe() *cobra.Command {
	cmd := a.serving(
		&collectionsService{listen: "127.0.0.1:8500"}, "serve",
		"Run a node that serves document collections over HTTP",
	)
	cmd.Long = "Run a node that serves the collections of a configuration over HTTP. What skerry " +
		"up does it does, too: other nodes that hold the replica of the documents get them without\n" +
		"being asked, and may serve them as well. The configuration is read again on SIGHUP; requests " +
		"that are being answered are not cut off."
	return cmd
}

// serving is a command that serves collections. What s has are the defaults of its flags.
func (a *app) serving(s *collectionsService, use, short string) *cobra.Command {
	flags := upFlags{collectEvery: 24 * time.Hour, net: netFlags{listenFlag: p2pListen}}
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.up(cmd, &flags, s) },
	}
	f := cmd.Flags()
	f.StringVar(
		&s.config, "config", "",
		"file with the configuration (default: collections.json in the data directory, and the "+
			"default set of collections if there is none)",
	)
	f.StringVar(&s.listen, "listen", s.listen, "address to serve HTTP at")
	f.StringVar(&s.prefix, "prefix", s.prefix, "what all paths begin with, such as /v1")
	s.kept.add(cmd)
	f.StringVar(
		&s.describe, "describe", "none",
		"to whom GET /config tells which collections there are: none, public, or role-filtered, which "+
			"is to each caller those that it may use",
	)
	f.BoolVar(
		&s.anonymous, "anonymous", true, "let whoever presents no certificate use what is public",
	)
	f.StringArrayVar(&s.hosts, "host", nil, hostUsage("--listen"))
	f.StringVar(
		&s.origin, "origin", "",
		"URL under which callers know the server, such as https://sync.example, if a proxy changes "+
			"the Host of requests",
	)
	f.IntVar(
		&s.hops, "proxy-hops", 0,
		"proxies before the server that add to X-Forwarded-For; without them what callers say of "+
			"their address counts for nothing",
	)
	durationVar(f, &s.timeout, "timeout", 30*time.Second, "how long answering a request may take")
	f.StringArrayVar(
		&s.wrap.Shared.Origins, "cors", nil,
		"origin of web pages that may use the server, such as https://app.example, or * for "+
			"all (repeatable)",
	)
	f.BoolVar(&s.wrap.Shared.Credentials, "cors-credentials", false, "let such pages send cookies")
	f.StringArrayVar(&s.wrap.Shared.Headers, "cors-header", nil,
		"header that such pages may send besides those of clients, or * (repeatable)")
	f.StringArrayVar(&s.wrap.Shared.Expose, "cors-expose", nil,
		"header of answers that such pages may read besides those of clients, or * (repeatable)")
	f.StringArrayVar(&s.wrap.Shared.Methods, "cors-method", nil,
		"method that such pages may use (repeatable; default GET, HEAD and POST)")
	durationVar(f, &s.wrap.Shared.MaxAge, "cors-max-age", 24*time.Hour,
		"for how long browsers keep what such pages may do; 0 is not at all")
	f.BoolVar(
		&s.wrap.Headers, "security-headers", true, "add headers that tell browsers to be careful",
	)
	f.BoolVar(
		&s.wrap.Compress, "compress", true,
		"compress answers of 1 KiB and more, but for files, for those who take it",
	)
	f.StringVar(&s.audit, "audit", "", "file to add a record of each request to, a JSON object a line")
	f.StringVar(
		&s.cert, "tls-cert", "",
		"file with a certificate, to serve HTTPS; it is read again when it changes",
	)
	f.StringVar(&s.key, "tls-key", "", "file with the certificate's private key")
	f.StringArrayVar(
		&s.acme.Hosts, "acme", nil,
		"name of the server, such as sync.example, for which to get certificates by ACME; it must be "+
			"reached at port 443 (repeatable)",
	)
	f.StringVar(&s.acme.Email, "acme-email", "", "address that the authority may write to")
	f.StringVar(&s.acme.Directory, "acme-directory", service.DefaultACME, "URL of the authority")
	flags.add(cmd)
	return cmd
}

func (a *app) collectionsNginx() *cobra.Command {
	var from string
	var o nginx.Options
	cmd := &cobra.Command{
		Use:   "nginx",
		Short: "Write the configuration of an nginx for collections",
		Long: "Write the configuration of an nginx before a server of collections, to be included " +
			"within its http block: it answers public documents from a cache and lets no more requests " +
			"through than\n" +
			"rateLimit allows. Start the server with the same --prefix, and with --proxy-hops 1.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if from == "" {
				return api.UsageErrorf("name the configuration with --config FILE")
			}
			c, err := config.Load(from)
			if err != nil {
				return err
			}
			text, err := nginx.Generate(c, o)
			if errors.Is(err, nginx.ErrOption) {
				return api.UsageErrorf("%v", err)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", from, err)
			}
			_, err = a.stdout.Write(text)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "config", "", "file with the configuration, collections.json")
	f.StringVar(&o.Upstream, "upstream", "127.0.0.1:8500", "host:port of the server of collections")
	f.StringVar(&o.Listen, "listen", "80", "port, or address:port, for nginx to listen at")
	f.StringVar(&o.Prefix, "prefix", "/v1", "what all paths of the server begin with; / is nothing")
	f.StringVar(&o.Cache, "cache", "/var/cache/nginx/sync", "directory for what is kept")
	f.StringVar(
		&o.Socket, "socket", "/run/skerry-limits.sock",
		"Unix socket by which the cache asks what limits requests, so that what it answers "+
			"does not count",
	)
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
				if err = c.CheckRoles(); err == nil {
					err = collections.Check(c)
				}
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
					if err := a.stdout.text(displayf("%s", p)); err != nil {
						return err
					}
				}
				if !a.quiet {
					for _, w := range out.Warnings {
						if err := a.stdout.text(displayf("warning: %s", w)); err != nil {
							return err
						}
					}
				}
			}
			if !out.Valid {
				return fmt.Errorf("%s: %d problems", args[0], len(out.Problems))
			}
			a.note("%s: %d collections, nothing is wrong", args[0], len(c.All()))
			a.note(
				"requests with certificates count if they are signed for the address that serve listens at, " +
					"or for a host of --origin, --host, --acme or --tls-cert",
			)
			return nil
		},
	}
}

func (a *app) collectionsOpenAPI() *cobra.Command {
	var o openapi.Options
	cmd := &cobra.Command{
		Use:   "openapi FILE",
		Short: "Describe the routes of a configuration as OpenAPI 3.1",
		Long: "Print an OpenAPI 3.1 description of all routes that serve would answer by a " +
			"configuration, for people and for generators of clients. With --describe public the server " +
			"answers GET /openapi.json with it.",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := config.Load(args[0])
			if err == nil {
				err = collections.Check(c)
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

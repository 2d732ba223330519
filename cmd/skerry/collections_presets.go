package main

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/collections/config"
)

// presetPrefix and presetPort are those of the scheme's deployments.
const (
	presetPrefix = "/v1"
	presetPort   = "3000"
)

// collectionsPrimary is serve as deployments of the scheme run it: documents in a bucket that the
// environment names.
func (a *app) collectionsPrimary() *cobra.Command {
	s := &collectionsService{
		listen: net.JoinHostPort("0.0.0.0", cmp.Or(os.Getenv("PORT"), presetPort)), prefix: presetPrefix,
	}
	s.kept.PlainNames = true
	cmd := a.serving(s, "primary", "Serve collections from a bucket, as the environment says")
	cmd.Long = "Run what serve runs, with documents in the bucket that S3_ENDPOINT, S3_BUCKET, " +
		"S3_REGION, S3_ACCESS_KEY and S3_SECRET_KEY name (or --store), at all addresses and port PORT " +
		"(3000),\n" +
		"under /v1. Objects have plain names in it: what OctoBot's server has stored there is served " +
		"on. Who is administrator, secrets and chains come from the environment, too: " +
		"PLATFORM_PUBKEY_EVM, ENCRYPTION_SECRET, PLATFORM_ENCRYPTION_SECRET, EVM_BASE_RPC and " +
		"EVM_CONTRACT_BASE."
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("store") {
			return nil
		}
		return s.kept.fromEnvironment(os.Getenv)
	}
	return cmd
}

// fromEnvironment makes the store the bucket that the environment names.
func (f *storeFlags) fromEnvironment(get func(string) string) error {
	var v [5]string
	for i, name := range []string{
		"S3_ENDPOINT", "S3_BUCKET", "S3_REGION", "S3_ACCESS_KEY", "S3_SECRET_KEY",
	} {
		if v[i] = get(name); v[i] == "" {
			return api.UsageErrorf(
				"required environment variable missing: %s (or name another store with --store)", name,
			)
		}
	}
	if !strings.Contains(v[0], "://") {
		v[0] = "https://" + v[0]
	}
	f.Name, f.Region = "s3:"+strings.TrimRight(v[0], "/")+"/"+v[1], v[2]
	f.AccessKey, f.SecretAccessKey = v[3], v[4]
	return nil
}

// collectionsReplica is serve beside apps of one machine: it keeps collections in step with a
// primary.
func (a *app) collectionsReplica() *cobra.Command {
	p := &config.Primary{}
	s := &collectionsService{
		listen: net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("REPLICA_SERVER_PORT"), presetPort)),
		prefix: presetPrefix, primary: p,
	}
	cmd := a.serving(s, "replica", "Serve a primary's collections here, also when it is away")
	cmd.Long = "Run what serve runs, for apps on this machine: those collections whose storage path " +
		"has no parameters, and that are neither encrypted, logs, files nor parts of a bundle, are " +
		"kept in step\n" +
		"with those of a primary, before each pull and regularly; the others are served from here " +
		"alone. Requests to the primary are signed by the wallet of --wallet, which is the " +
		"administrator\n" +
		"here unless PLATFORM_PUBKEY_EVM is set. Documents are kept in the data directory, or where " +
		"--store says, such as replica:NAME."
	f := cmd.Flags()
	f.Lookup("store").DefValue = "directory:collections/documents in the data directory"
	f.StringVar(
		&p.URL, "primary", os.Getenv("SYNC_SERVER_URL"),
		"URL of the primary, such as https://sync.example (SYNC_SERVER_URL)",
	)
	f.StringVar(
		(*string)(&p.Mode), "write-mode",
		cmp.Or(os.Getenv("REPLICA_WRITE_MODE"), string(config.Bidirectional)),
		"what becomes of writes: bidirectional, push_through, pull_only or push_only "+
			"(REPLICA_WRITE_MODE)",
	)
	durationVar(
		f, &p.Every, "sync-every", time.Minute,
		"how often collections are brought in step (REPLICA_SYNC_INTERVAL_MS)",
	)
	f.StringVar(
		&p.Wallet, "wallet", "",
		"file with the secret key of the wallet that signs requests to the primary, 64 hex digits",
	)
	f.StringVar(
		&p.Chain, "chain", cmp.Or(os.Getenv("SYNC_CHAIN_ID"), config.DefaultChain),
		"chain that these requests name (SYNC_CHAIN_ID)",
	)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if p.URL == "" {
			return api.UsageErrorf("name the primary with --primary URL")
		}
		if ms := os.Getenv("REPLICA_SYNC_INTERVAL_MS"); ms != "" && !cmd.Flags().Changed("sync-every") {
			n, err := strconv.ParseUint(ms, 10, 40)
			if err != nil || n == 0 {
				return api.UsageErrorf(
					"REPLICA_SYNC_INTERVAL_MS=%s: it must be a positive number of milliseconds", ms,
				)
			}
			p.Every = time.Duration(n) * time.Millisecond
		}
		if !cmd.Flags().Changed("store") {
			s.kept.Name = "directory:" + filepath.Join(a.dir, "collections", "documents")
		}
		if _, _, err := (&config.Config{}).Replica(*p); err != nil {
			return api.UsageErrorf("%v", err)
		}
		return nil
	}
	return cmd
}

// load reads the configuration, nil if there is none.
func (s *collectionsService) load() (*config.Config, error) {
	return loadCollections(s.config, s.dir, s.log)
}

// completed adds to a configuration what the environment says, and the primary's collections.
func (s *collectionsService) completed(c *config.Config) (_ *config.Config, err error) {
	own := *c
	if own.EVM, err = s.walletsOf(c.EVM); err != nil {
		return nil, fmt.Errorf("extensions.evm: %w", err)
	}
	if s.primary == nil {
		return &own, nil
	}
	replica, local, err := own.Replica(*s.primary)
	if err != nil {
		return nil, fmt.Errorf("--primary: %w", err)
	}
	for _, reason := range local {
		s.log.Info(reason.Error())
	}
	if len(replica.Remotes) == 0 {
		s.log.Warn(
			"no collection of this configuration can be kept in step with the primary", "primary",
			s.primary.URL,
		)
	}
	return replica, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/migrate"
	"github.com/skerry-sync/skerry/collections/place"
	"github.com/skerry-sync/skerry/collections/service"
	"github.com/skerry-sync/skerry/collections/store/encrypted"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/node"
)

// storeFlags say where documents are kept.
type storeFlags struct{ place.Spec }

func (f *storeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(
		&f.Name, "store", "replica:collections",
		"where documents are kept: replica:NAME, which is made if there is none; directory:PATH; "+
			"s3:URL, such as s3:https://s3.example/bucket/prefix; or memory",
	)
	cmd.Flags().StringVar(
		&f.Region, "s3-region", "",
		"region of the S3 service, if it does not tell (keys are taken from AWS_ACCESS_KEY_ID and "+
			"AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials)",
	)
	cmd.Flags().BoolVar(
		&f.PlainNames, "s3-plain-names", f.PlainNames,
		"objects in the bucket have the names of their documents' paths, as those of "+
			"OctoBot's servers have",
	)
}

// The variables with the secrets of encryption at rest. Each may be given in a file, which the
// variable with fileSuffix names; former ones, by which is read but not written, a line each, with
// formerSuffix.
const (
	envIdentitySecret = "ENCRYPTION_SECRET"
	envServerSecret   = "PLATFORM_ENCRYPTION_SECRET"
	formerSuffix      = "_FORMER"
	fileSuffix        = "_FILE"
)

// secretsFrom reads the secrets of encryption at rest from the environment.
func secretsFrom(get func(string) string) (s encrypted.Secrets, err error) {
	s.Spell = config.IdentityOf
	if s.Identity, err = secretOf(get, envIdentitySecret); err != nil {
		return s, err
	}
	if s.Server, err = secretOf(get, envServerSecret); err != nil {
		return s, err
	}
	if text := get(envAdmin); text != "" {
		a, err := eth.ParseAddress(text)
		if err != nil {
			return s, fmt.Errorf("%s: %w", envAdmin, err)
		}
		s.Salts = []string{a.String(), text, a.Lower()}
	}
	return s, nil
}

// secretOf returns the secret of a variable, and former ones.
func secretOf(get func(string) string, name string) (all []string, err error) {
	read := func(name string) (string, error) {
		text, file := get(name), get(name+fileSuffix)
		if file == "" {
			return text, nil
		}
		if text != "" {
			return "", fmt.Errorf("either %s or %s%s is to be set", name, name, fileSuffix)
		}
		b, err := disk.ReadFile(file, maxSmall)
		if err != nil {
			return "", fmt.Errorf("%s%s: %w", name, fileSuffix, err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
	now, err := read(name)
	if err != nil || now == "" {
		return nil, err
	}
	former, err := read(name + formerSuffix)
	if err != nil {
		return nil, err
	}
	all = []string{now}
	for line := range strings.Lines(former) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			all = append(all, line)
		}
	}
	return all, nil
}

// codecOf returns what encrypts the documents of a configuration, by the secrets of the
// environment. It is empty if nothing is encrypted, and nil only with an error.
func codecOf(c *config.Config) (*encrypted.Codec, error) {
	s, err := secretsFrom(os.Getenv)
	if err != nil {
		return nil, err
	}
	x, err := encrypted.New(c, s)
	var missing *encrypted.MissingError
	if errors.As(err, &missing) {
		name, like := envIdentitySecret, "a secret that is kept as long as the documents, such as "+
			"what openssl rand -hex 32 prints"
		switch {
		case missing.Salt:
			name, like = envAdmin, "the address of the platform's administrator"
		case missing.Encryption == config.Server:
			name = envServerSecret
		}
		return nil, fmt.Errorf(
			"collection %q is encrypted at rest (encryption %q): set %s in the environment to %s",
			missing.Collection, missing.Encryption, name, like,
		)
	}
	return x, err
}

// defaultConfig is the name in the data directory of a configuration that is not named.
const defaultConfig = "collections.json"

// loadCollections reads a configuration: the file that is named, otherwise the one in the data
// directory. It returns nil if there is none.
func loadCollections(name, dir string, log *slog.Logger) (*config.Config, error) {
	if name == "" {
		name = filepath.Join(dir, defaultConfig)
		if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
	}
	c, err := config.Load(name)
	if err != nil {
		return nil, err
	}
	if err := c.CheckRoles(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, w := range c.Warnings {
		log.Warn(w, "config", name)
	}
	return c, nil
}

func (a *app) collectionsDefault() *cobra.Command {
	return &cobra.Command{
		Use:   "default",
		Short: "Print the configuration that serves when there is none",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.stdout.Write(config.DefaultText)
			return err
		},
	}
}

func (a *app) collectionsMigrate() *cobra.Command {
	var f storeFlags
	var to, from string
	var dry bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring stored documents into the form of a configuration",
		Long: "Encrypt what a configuration says is encrypted at rest and is not, or was by another " +
			"server or a former secret; and decrypt what is not to be encrypted any more, if --from " +
			"names the\n" +
			"configuration of before. In a directory or bucket, also rename what no request reaches any " +
			"more: user ids in capitals, addresses of wallets without the capitals of their checksum, " +
			"and ids that\n" +
			"end in __seg or __remote, which then end in _seg or _remote. No server may use the store " +
			"meanwhile. Of a replica, each node migrates what it has written itself: run it at each that " +
			"serves. It may be interrupted and run again.\n" +
			"For a new secret, set ENCRYPTION_SECRET (or PLATFORM_ENCRYPTION_SECRET) to it and " +
			"ENCRYPTION_SECRET_FORMER to the old one, also for the server, until this is done.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return api.UsageErrorf("name the configuration with --config FILE")
			}
			return a.migrateCollections(cmd.Context(), &f, to, from, dry)
		},
	}
	cmd.Flags().StringVar(&to, "config", "", "file with the configuration, collections.json")
	cmd.Flags().StringVar(
		&from, "from", "", "file with the configuration of before, if it encrypted otherwise",
	)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only count what would be written")
	f.add(cmd)
	return cmd
}

func (a *app) migrateCollections(
	ctx context.Context, f *storeFlags, to, from string, dry bool,
) (err error) {
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m := &migrate.Migration{Place: f.Place(), DryRun: dry, Log: log}
	if m.Config, err = config.Load(to); err != nil {
		return err
	}
	if m.To, err = codecOf(m.Config); err != nil {
		return err
	}
	if from != "" {
		before, err := config.Load(from)
		if err != nil {
			return err
		}
		if m.From, err = codecOf(before); err != nil {
			return err
		}
	}
	if err := a.absDir(); err != nil {
		return err
	}
	if f.InReplica() {
		var n *skerry.Node
		if n, err = a.openNode(ctx, node.Config{Dir: a.dir, Command: a.command, Log: log}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.Close()) }()
		if m.Place, err = f.Replica(ctx, n.Node, service.Site{Log: log}); err != nil {
			return err
		}
	}
	b := a.newBar()
	m.Progress = func(done encrypted.Migrated) {
		b.show(api.Progress{Doing: "migrating", Files: done.Documents})
	}
	m.Failed = func(_ string, err error) {
		b.clear()
		_ = a.stderr.text(displayf("%s", err)) // the run goes on, and counts it
	}
	m.Left = func(key string, err error) {
		b.clear()
		_ = a.stderr.line(displayf("%s: not renamed: %s", key, err)) // likewise
	}
	done, err := m.Run(ctx)
	b.clear()
	if err != nil {
		return advised(err)
	}
	return errors.Join(a.tellMigrated(done, dry), done.Err())
}

func (a *app) tellMigrated(done migrate.Done, dry bool) error {
	if a.json {
		return a.printJSON(struct {
			DryRun bool `json:"dry_run"`
			migrate.Done
		}{dry, done})
	}
	would := ""
	if dry {
		would = " would be"
	}
	renamed := ""
	if done.Renamed > 0 {
		renamed = fmt.Sprintf(", %d%s renamed", done.Renamed, would)
	}
	if done.Left > 0 {
		renamed += fmt.Sprintf(", %d%s left where no request reaches them", done.Left, would)
	}
	return a.stdout.text(
		displayf("%d documents looked at; %d%s encrypted, %d%s encrypted anew, %d%s decrypted%s",
			done.Documents, done.Encrypted, would, done.Rewritten, would, done.Decrypted, would, renamed),
	)
}

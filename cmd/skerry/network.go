package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/api/server"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/libp2pnet"
)

// netFlags say how a node is on the network.
type netFlags struct {
	listen, relays, bootstrap, allow, deny []string

	relay, noDiscovery   bool
	table, dial, keyFile string
	maxPeers             int
	oneShot              bool                 // the node lives as long as one command
	listenFlag           string               // the name of --listen, if that is another
	registry             *prometheus.Registry // takes the network's own measurements, if set
}

func (f *netFlags) add(flags *pflag.FlagSet) {
	if f.listenFlag == "" {
		f.listenFlag = "listen"
	}
	flags.StringArrayVar(
		&f.listen, f.listenFlag, nil,
		"multiaddr to listen at, such as /ip4/0.0.0.0/tcp/4001 (repeatable; default: all interfaces, "+
			"a port kept in the data directory)",
	)
	flags.BoolVar(
		&f.noDiscovery, "no-discovery", false,
		"neither look for peers on the local network and in the hash table nor be found there",
	)
	flags.StringArrayVar(
		&f.bootstrap, "bootstrap", nil,
		"address of a node to know from the start, through which the others of the hash table are "+
			"found (repeatable)",
	)
	flags.StringVar(
		&f.table, "dht", string(libp2pnet.Auto),
		"part in the hash table by which nodes find each other: auto (serve if others can reach this "+
			"node), server, client or off",
	)
	flags.StringArrayVar(
		&f.relays, "use-relay", nil,
		"address of a node that relays, through which others reach this one behind a router (repeatable)",
	)
	flags.BoolVar(&f.relay, "relay", false, "relay for other nodes; this one must be reachable by all")
	flags.StringVar(
		&f.keyFile, "network-key", "",
		"file with the key of a private network, as other libp2p programs have it; only nodes with "+
			"the same key can connect",
	)
	flags.IntVar(
		&f.maxPeers, "max-peers", max(f.maxPeers, libp2pnet.DefaultMaxPeers),
		"connections to keep; of more, those of least use are closed",
	)
	flags.StringArrayVar(
		&f.allow, "allow", nil,
		"let in and dial only these: a node id, an address or a network such as "+
			"192.0.2.0/24 (repeatable)",
	)
	flags.StringArrayVar(
		&f.deny, "deny", nil, "neither let in nor dial this node, address or network (repeatable)",
	)
	if f.dial == "" {
		f.dial = dialAll
	}
	flags.StringVar(&f.dial, "dial", f.dial, "addresses to dial: all; public, so that strangers "+
		"cannot use this node to probe its own network; or auto, which is public unless all addresses "+
		"of --listen are private")
}

// p2pListen is the name of --listen where that is an address of HTTP.
const p2pListen = "p2p-listen"

const (
	dialAll    = "all"
	dialPublic = "public"
	dialAuto   = "auto"
)

// config reads the flags.
func (f *netFlags) config(n *node.Node, log *slog.Logger) (cfg libp2pnet.Config, err error) {
	cfg = libp2pnet.Config{
		Key: n.Key(), Log: log, MaxPeers: f.maxPeers,
		MDNS: !f.noDiscovery && !f.oneShot, Relay: f.relay && !f.oneShot,
	}
	for _, text := range f.listen {
		m, err := ma.NewMultiaddr(text)
		if err != nil {
			return cfg, api.UsageErrorf("--%s must be such as /ip4/0.0.0.0/tcp/4001, not %q: %v",
				f.listenFlag, text, err)
		}
		cfg.Listen = append(cfg.Listen, m)
	}
	switch f.dial {
	case dialAll:
	case dialPublic:
		cfg.PublicOnly = true
	case dialAuto:
		cfg.PublicOnly = len(cfg.Listen) == 0 ||
			slices.ContainsFunc(cfg.Listen, func(m ma.Multiaddr) bool {
				return !manet.IsPrivateAddr(m) && !manet.IsIPLoopback(m)
			})
	default:
		return cfg, api.UsageErrorf("--dial must be all, public or auto, not %q", f.dial)
	}
	if len(cfg.Listen) == 0 {
		if cfg.Listen, err = libp2pnet.DefaultListen(n.Dir()); err != nil {
			return cfg, err
		}
	}
	if cfg.Relays, err = parsePeers("use-relay", f.relays); err != nil {
		return cfg, err
	}
	if cfg.Bootstrap, err = parsePeers("bootstrap", f.bootstrap); err != nil {
		return cfg, err
	}
	if cfg.DHT, err = libp2pnet.ParseMode(f.table); err != nil {
		return cfg, api.UsageErrorf("--dht %v", err)
	}
	if f.noDiscovery {
		cfg.DHT, cfg.Bootstrap = libp2pnet.Off, nil
	} else if f.oneShot && cfg.DHT != libp2pnet.Off { // it ends before anybody could ask it
		cfg.DHT = libp2pnet.Client
	}
	if cfg.Allow, err = parseWho("allow", f.allow); err != nil {
		return cfg, err
	}
	if cfg.Deny, err = parseWho("deny", f.deny); err != nil {
		return cfg, err
	}
	if f.maxPeers < 1 {
		return cfg, api.UsageErrorf("--max-peers %d: a node needs at least one", f.maxPeers)
	}
	if f.keyFile != "" {
		cfg.NetworkKey, err = readNetworkKey(n.Dir(), f.keyFile)
	}
	return cfg, err
}

func parsePeers(flag string, texts []string) (all []peer.AddrInfo, err error) {
	for _, text := range texts {
		p, err := server.ParsePeer(text)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		all = append(all, p)
	}
	return all, nil
}

func parseWho(flag string, texts []string) (all []libp2pnet.Who, err error) {
	for _, text := range texts {
		w, err := libp2pnet.ParseWho(text)
		if err != nil {
			return nil, api.UsageErrorf("--%s: %v", flag, err)
		}
		all = append(all, w)
	}
	return all, nil
}

// checkAddress says what is wrong with a flag that is an address to listen at: a port, or a host
// and a port. Empty is none.
func checkAddress(flag, text string) error {
	if text == "" || !strings.Contains(text, ":") && isPort(text) || isHostPort(text) {
		return nil
	}
	return api.UsageErrorf("--%s must be a port, or a host and a port such as 127.0.0.1:8480, not %q",
		flag, text)
}

// checkHostPort says what is wrong with a flag that is a host and a port.
func checkHostPort(flag, text string) error {
	if isHostPort(text) {
		return nil
	}
	return api.UsageErrorf(
		"--%s must be a host and a port, such as 127.0.0.1:8490, not %q", flag, text,
	)
}

func isHostPort(text string) bool {
	_, port, err := net.SplitHostPort(text)
	return err == nil && isPort(port)
}

func isPort(text string) bool {
	_, err := net.LookupPort("tcp", text)
	return err == nil && text != ""
}

// readNetworkKey reads a file in the form of go-libp2p, by a path that is relative to the data
// directory if it is not there as it stands.
func readNetworkKey(dir, path string) (key pnet.PSK, err error) {
	text, err := disk.ReadFile(path, maxSmall)
	if errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(path) {
		text, err = disk.ReadFile(filepath.Join(dir, path), maxSmall)
	}
	if err != nil {
		return nil, fmt.Errorf("--network-key: %w", err)
	}
	key, err = pnet.DecodeV1PSK(bytes.NewReader(text))
	if err != nil {
		return nil, api.UsageErrorf(
			"--network-key %s: %v; it is three lines, /key/swarm/psk/1.0.0/ and /base16/ and 64 "+
				"random hex digits",
			path, err,
		)
	}
	return key, nil
}

// goOnline gives n a network.
func goOnline(n *node.Node, f *netFlags, log *slog.Logger) error {
	cfg, err := f.config(n, log)
	if err != nil {
		return err
	}
	if f.registry != nil {
		cfg.Metrics = f.registry
	}
	network, err := libp2pnet.New(cfg)
	if err != nil {
		return err
	}
	return n.GoOnline(network)
}

// configFile is the name of a file in the data directory with flags for the commands that go
// online.
const configFile = "config"

// readConfig sets the flags that the data directory's config file names and the command line does
// not: each line is the name of a flag of up or seed serve, an equals sign and a value. What
// another command has is passed over.
func (a *app) readConfig(flags *pflag.FlagSet) (err error) {
	path := filepath.Join(a.dir, configFile)
	text, err := disk.ReadFile(path, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, fs.ErrPermission) {
		if _, errStat := os.Lstat(path); errors.Is(errStat, fs.ErrPermission) {
			return notYours(a.dir, err) // even the directory may not be read
		}
		return &api.Error{Kind: api.NotAllowed, Message: fmt.Sprintf("this user may not read the "+
			"configuration file %s: chmod u+r it, or name a directory of your own with --dir", path)}
	}
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	given := map[string]bool{}
	flags.Visit(func(x *pflag.Flag) { given[x.Name] = true })
	lines := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok {
			return api.UsageErrorf("%s:%d: expected FLAG = VALUE, such as dht = server, not %q",
				path, number, line)
		}
		if !slices.ContainsFunc(
			[]*cobra.Command{a.upCommand(), a.seedServe(), a.collectionsServe()},
			func(c *cobra.Command) bool { return c.Flags().Lookup(name) != nil },
		) {
			return api.UsageErrorf("%s:%d: skerry up, seed serve and collections serve have no flag --%s",
				path, number, brief(name))
		}
		if name == "listen" && flags.Lookup(p2pListen) != nil { // the file is about the node
			name = p2pListen
		}
		if given[name] || flags.Lookup(name) == nil {
			continue
		}
		if err := flags.Set(name, value); err != nil {
			return api.UsageErrorf("%s:%d: %s", path, number, flagProblem(err))
		}
	}
	return lines.Err()
}

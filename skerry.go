// Package skerry is for programs that have a node of their own: [Start] opens a data directory and
// goes online, and the [node.Replica] handles of the node that it returns read and write.
//
// What belongs here: how a node is put together from its parts, by options with sensible defaults:
// the node itself, and the rooms above it ([Open]).
// What never belongs here: what a node does, which is in package node and below, and the command
// line, which has flags for more than there are options here.
//
// docs/embedding.md has a whole program.
package skerry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/invites"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/vaults"
	"github.com/skerry-sync/skerry/vault"
	"github.com/skerry-sync/skerry/versions/onnode"
)

// Node is a node with all that stands above it.
type Node struct {
	*node.Node
	Invites *invites.Service
	Vaults  *vaults.Service
	// Versions opens the versions of replicas. Layers that keep something in them add themselves.
	Versions *onnode.Sets
}

// Open opens a data directory, without a network, with all that stands above a node: whoever opens
// one by node.Open has a node that answers no invites and tends no vault. keyring holds the
// identity keys; nil is one in the data directory. The errors are those of node.Open.
func Open(ctx context.Context, cfg node.Config, keyring vault.Keyring) (_ *Node, err error) {
	n := &Node{}
	if n.Node, err = node.Open(ctx, cfg); err != nil {
		return nil, err
	}
	if n.Invites, err = invites.New(n.Node); err == nil {
		n.Vaults, err = vaults.New(n.Node, keyring)
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.Versions = onnode.NewSets(n.Node)
	return n, nil
}

// Option changes what Start does.
type Option func(*settings) error

type settings struct {
	node    node.Config
	network libp2pnet.Config
	own     func(*node.Node) (link.Network, error)
	offline bool
	listen  bool // addresses were named
}

// Listen names the addresses to listen at, such as /ip4/0.0.0.0/tcp/4001. Without it a node listens
// at all interfaces, at a port that it keeps in the data directory; with no address, nowhere.
func Listen(addrs ...string) Option {
	return func(s *settings) error {
		s.listen = true
		for _, text := range addrs {
			m, err := ma.NewMultiaddr(text)
			if err != nil {
				return fmt.Errorf("listen at %q: %w", text, err)
			}
			s.network.Listen = append(s.network.Listen, m)
		}
		return nil
	}
}

// Discover says whether the node finds others, and is found, on the local network by multicast DNS
// and everywhere by the hash table, which bootstrap nodes lead to. Without it, a node knows the
// peers of its tickets alone.
func Discover(bootstrap ...peer.AddrInfo) Option {
	return func(s *settings) error {
		s.network.MDNS, s.network.DHT, s.network.Bootstrap = true, libp2pnet.Auto, bootstrap
		return nil
	}
}

// Offline has the node without a network: GoOnline may give it one later.
func Offline() Option {
	return func(s *settings) error { s.offline = true; return nil }
}

// Network has the node use a network of one's own, such as one over a host that is there already,
// instead of one over go-libp2p. make is called with the opened node, whose key proves its id.
func Network(make func(*node.Node) (link.Network, error)) Option {
	return func(s *settings) error {
		if make == nil {
			return errors.New("there is no network")
		}
		s.own = make
		return nil
	}
}

// Log takes what the node has to tell. Without it, nothing is logged.
func Log(log *slog.Logger) Option {
	return func(s *settings) error {
		if log == nil {
			return errors.New("there is no log")
		}
		s.node.Log = log
		return nil
	}
}

// Store tunes the store: how much room is left on the disk, and how much memory caches what was
// read.
func Store(o pebble.Options) Option {
	return func(s *settings) error { s.node.Store = o; return nil }
}

// Start opens the data directory dir, which it makes if it is not there, and goes online. The node
// is to be closed. An empty dir is a temporary one, which Close removes.
//
// It returns a *datadir.InUseError if another process has the directory open.
func Start(ctx context.Context, dir string, options ...Option) (*Node, error) {
	s := &settings{
		node:    node.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)},
		network: libp2pnet.Config{DHT: libp2pnet.Off},
	}
	for _, o := range options {
		if err := o(s); err != nil {
			return nil, fmt.Errorf("start a node: %w", err)
		}
	}
	if dir == "" {
		var err error
		if s.node.Dir, err = os.MkdirTemp("", "skerry-"); err != nil {
			return nil, fmt.Errorf("start a node: %w", err)
		}
		s.node.Temporary = true
	}
	n, err := Open(ctx, s.node, nil)
	if err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	if s.offline {
		return n, nil
	}
	network, err := s.makeNetwork(n.Node)
	if err == nil {
		err = n.GoOnline(network)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a node: %w", err), n.Close())
	}
	return n, nil
}

func (s *settings) makeNetwork(n *node.Node) (link.Network, error) {
	if s.own != nil {
		return s.own(n)
	}
	cfg := s.network
	cfg.Key, cfg.Log = n.Key(), s.node.Log
	if !s.listen {
		var err error
		if cfg.Listen, err = libp2pnet.DefaultListen(n.Dir()); err != nil {
			return nil, err
		}
	}
	return libp2pnet.New(cfg)
}

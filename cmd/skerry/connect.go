package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/libp2pnet"
)

// startupWait is how long a command waits for a node that has the data directory but does not answer yet.
const startupWait = 5 * time.Second

// errNotRunning reports a command that is about a running node, without one.
type errNotRunning struct{ dir string }

func (e errNotRunning) Error() string {
	return fmt.Sprintf("no node is running on %s: start one with skerry up", e.dir)
}

// session is a client of a node, and what must be ended with it.
type session struct {
	*api.Client
	own *node.Node // if the command opened the data directory itself
	end []func() error
}

func (s *session) close() error {
	var err error
	for i := len(s.end) - 1; i >= 0; i-- {
		err = errors.Join(err, s.end[i]())
	}
	return err
}

// with runs fn with a client of the node that runs on the data directory or, if none does, of one that lives as long as fn. online says
// whether that one needs a network.
func (a *app) with(ctx context.Context, online bool, fn func(*session) error) (err error) {
	s, err := a.connect(ctx, online)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	bar := a.newBar()
	defer bar.clear()
	s.Progress = bar.show
	return fn(s)
}

// dial returns a client of the running node, or nil.
func (a *app) dial() *session {
	owner, err := node.ReadOwner(a.dir)
	if err != nil || owner.API == "" {
		return nil
	}
	conn, err := net.DialTimeout("unix", owner.API, time.Second)
	if err != nil {
		return nil // left by a process that died
	}
	_ = conn.Close() // it only showed that somebody answers
	c := api.Dial(owner.API)
	return &session{Client: c, end: []func() error{func() error { c.Close(); return nil }}}
}

func (a *app) connect(ctx context.Context, online bool) (*session, error) {
	if err := a.absDir(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(startupWait); ; {
		if s := a.dial(); s != nil {
			return s, nil
		}
		s, err := a.openOwn(ctx, online)
		var inUse *node.InUseError
		if err == nil || !errors.As(err, &inUse) || time.Now().After(deadline) {
			return s, err
		}
		select { // it is starting, or another command is at work
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (a *app) absDir() (err error) {
	a.dir, err = filepath.Abs(a.dir)
	return err
}

func (a *app) openOwn(ctx context.Context, online bool) (*session, error) {
	n, err := node.Open(ctx, node.Config{Dir: a.dir, Keyring: a.keyringAt()})
	if err != nil {
		return nil, err
	}
	s := &session{own: n, end: []func() error{n.Close}}
	if online {
		if err := goOnline(n, &netFlags{}, false, slog.New(slog.DiscardHandler)); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	c, stop := api.Local(api.NewServer(n, versionText()))
	s.Client, s.end = c, append(s.end, stop)
	return s, nil
}

// netFlags say how a node is on the network.
type netFlags struct {
	listen, relays []string
	relay          bool
}

func (f *netFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.listen, "listen", nil, "multiaddr to listen at, such as /ip4/0.0.0.0/tcp/4001 (repeatable; default: all interfaces, a port kept in the data directory)")
	cmd.Flags().StringArrayVar(&f.relays, "use-relay", nil, "address of a node that relays, through which others reach this one behind a router (repeatable)")
	cmd.Flags().BoolVar(&f.relay, "relay", false, "relay for other nodes; this one must be reachable by all")
}

// goOnline gives n a network that listens at these addresses, or at the default ones.
func goOnline(n *node.Node, f *netFlags, discovery bool, log *slog.Logger) error {
	var addrs []ma.Multiaddr
	for _, text := range f.listen {
		m, err := ma.NewMultiaddr(text)
		if err != nil {
			return api.UsageErrorf("--listen %s: %v", text, err)
		}
		addrs = append(addrs, m)
	}
	if len(addrs) == 0 {
		var err error
		if addrs, err = libp2pnet.DefaultListen(n.Dir()); err != nil {
			return err
		}
	}
	var relays []peer.AddrInfo
	for _, text := range f.relays {
		p, err := api.ParsePeer(text)
		if err != nil {
			return err
		}
		relays = append(relays, p)
	}
	network, err := libp2pnet.New(libp2pnet.Config{Key: n.Key(), Listen: addrs, MDNS: discovery, Log: log, Relays: relays, Relay: f.relay})
	if err != nil {
		return err
	}
	return n.GoOnline(network)
}

// Package node is the running peer: one data directory, its blobs and replicas, and the protocols
// that keep them in step with other nodes'.
//
// What belongs here: what ties the rooms below a node together (peers.go, content.go, wanted.go),
// the handles by which replicas are used (replica.go), and what others read (reading.go). Each
// protocol is a package of its own, such as session, which keeps replicas in step, and so is what
// needs no node, such as downloads, sealed and datadir. What never belongs here: the formats and
// rules of blobs and entries; how people or programs talk to a node (package api); and what stands
// above a node, such as invites, vaults and its doctor, which are packages of their own and use
// what is exported here ([Node.Add], [Node.Open], [Node.Store]). How streams are made is behind
// [link.Network]; libp2pnet implements it.
//
// Start at [Open]. The protocols are described beside their code and in docs/protocol.
package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/internal/seldom"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/blame"
	"github.com/skerry-sync/skerry/node/clock"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/datadir"
	"github.com/skerry-sync/skerry/node/discovery"
	"github.com/skerry-sync/skerry/node/displaced"
	"github.com/skerry-sync/skerry/node/downloads"
	"github.com/skerry-sync/skerry/node/handover"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// Config sets up a Node.
type Config struct {
	// Dir is the data directory; it is created if it is not there.
	Dir string
	// SyncInterval is the time between sessions with a connected peer that holds the same replica. 0
	// means one minute.
	SyncInterval time.Duration
	// Log takes events; nil discards them.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// TrustClock has versions written although most known peers say that the clock is wrong.
	TrustClock bool
	// Store tunes the key-value store, and the files of content alike.
	Store pebble.Options
	// Host, if set, decides about the content of replicas that are held for others.
	Host Host
	// Limits bound what is given and taken.
	Limits limits.Config
	// Command is how the process was started, such as "skerry share": others that find the directory
	// in use are told.
	Command string
	// HandsOver makes the node remember which content it owes to peers. Set it if the process ends
	// after one command and calls HandOver before.
	HandsOver bool
	// Temporary has Close remove the data directory.
	Temporary bool
}

// Node is a peer. Its methods may be called at the same time from many goroutines.
type Node struct {
	blobs    *blobs.Store
	replicas *replica.Store

	cfg   Config
	log   *slog.Logger
	dir   *datadir.Dir
	kv    kv.Store
	files *files.Store
	key   ed25519.PrivateKey
	id    peer.ID

	ctx    context.Context // ends when the node closes
	cancel context.CancelFunc
	work   sync.WaitGroup // background goroutines

	net       link.Network // nil while offline
	search    *limits.Gate // for replicas by their tokens
	limits    *limits.Limiter
	counters  counters
	handing   *handover.Ledger
	blamed    *blame.List
	holders   *holders.Book
	contacts  *contacts.Agenda
	sessions  *contacts.Sessions
	syncer    *session.Syncer
	wanted    *wanted.List
	displaced *displaced.List
	watched   watchedDisplaced
	downloads *downloads.Workers
	lookups   *discovery.Lookups
	discovery *discovery.Finder
	content   *content.Exchange
	room      *admission.Room              // counts what peers hold
	serves    map[string]func(link.Stream) // of what is built upon the node
	rooms     []Room                       // above the node
	rotate    chan struct{}                // a read key may be due
	fullTold  seldom.Told                  // that entries are not stored
	clocks    *clock.Clocks
	importers sync.Pool // *blobs.Importer between batches
	closing   sync.Once
	closeErr  error
}

// Open opens the data directory, without a network. It returns a *datadir.InUseError if another
// process has it open.
func Open(ctx context.Context, cfg Config) (_ *Node, err error) {
	if cfg.SyncInterval == 0 {
		cfg.SyncInterval = time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, search: limits.NewGate(1),
		limits: limits.New(cfg.Limits, limits.DefaultFigures()), sessions: contacts.NewSessions(),
		rotate: make(chan struct{}, 1),
		serves: map[string]func(link.Stream){},
	}
	n.ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	// on a full disk, a node must still open: to be read, and to remove things
	ctx = kv.ToMakeRoom(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.dir, err = datadir.Open(cfg.Dir, cfg.Command); err != nil {
		return nil, err
	}
	if n.key, err = n.dir.Key(); err != nil {
		return nil, err
	}
	if n.id, err = nodeID(n.key.Public().(ed25519.PublicKey)); err != nil {
		return nil, err
	}
	if err := n.dir.SetNode(n.id.String()); err != nil {
		return nil, err
	}
	if n.kv, err = n.dir.OpenStore(cfg.Store); err != nil {
		return nil, err
	}
	if n.files, err = files.Open(
		filepath.Join(cfg.Dir, "content"),
		files.Options{
			Reserve: cfg.Store.Reserve, FreeBytes: cfg.Store.FreeBytes, Limit: cfg.Limits.Storage,
			Beside: n.recordBytes,
		},
	); err != nil {
		return nil, err
	}
	if n.blobs, err = blobs.Open(ctx, n.kv, n.files); err != nil {
		return nil, err
	}
	if err := n.openPeers(ctx); err != nil {
		return nil, err
	}
	n.openContent()
	n.displaced = displaced.New(displaced.Config{
		Store: n.kv, Own: replica.HasAuthorIn, Held: replica.HeldIn,
	})
	// Before the replicas: these may go on to drop entries, of which some are kept.
	if err = n.displaced.Load(ctx); err != nil {
		return nil, err
	}
	n.replicas, err = replica.Open(ctx, n.kv, replica.Config{
		Now: cfg.Now, OnTake: n.takeEntry, OnState: n.takeStatement, OnPut: n.wanted.Put,
		OnDrop: n.dropContent, OnHold: n.onHold, OnLeave: n.onLeave,
		OnDisplace: n.displaced.Put,
	})
	if err != nil {
		return nil, err
	}
	n.downloads = n.newDownloads()
	n.syncer = n.newSyncer()
	return n, n.wanted.Load(ctx)
}

// ID returns the node's id.
func (n *Node) ID() peer.ID { return n.id }

// Key returns the node's key, for the network to prove the id with.
func (n *Node) Key() ed25519.PrivateKey { return n.key }

// Dir returns the data directory.
func (n *Node) Dir() string { return n.cfg.Dir }

// SetAPI makes known where the node's local API answers.
func (n *Node) SetAPI(path string) error {
	return n.dir.SetAPI(path)
}

// Online reports whether the node has a network.
func (n *Node) Online() bool { return n.net != nil }

// GoOnline gives the node a network, which it then owns, and starts to serve, sync and download. It
// may be called once, before the node is used from several goroutines.
func (n *Node) GoOnline(network link.Network) error {
	if network == nil {
		return errors.New("go online: there is no network")
	}
	if n.net != nil {
		return errors.Join(errors.New("the node is online already"), network.Close())
	}
	if err := n.lookups.Refresh(kv.ToMakeRoom(n.ctx)); err != nil {
		return errors.Join(fmt.Errorf("go online: %w", err), network.Close())
	}
	n.joinNetwork(network)
	n.content.GoOnline(network)
	n.room = newRoom(n.serves, n.rooms)
	for protocol, fn := range map[string]func(link.Stream){
		wire.Protocol: n.serveBlobs, session.Protocol: n.syncer.ServeSync,
		session.OverviewProtocol: n.syncer.ServeOverview, session.PushProtocol: n.syncer.ServePush,
		session.HeldProtocol: n.syncer.ServeHeld,
		clock.Protocol:       n.clocks.Serve,
	} {
		network.Handle(protocol, n.admitted(protocol, fn))
	}
	for protocol, fn := range n.serves {
		network.Handle(protocol, n.admitted(protocol, serveOther(fn)))
	}
	for _, r := range n.rooms {
		if r.Protocol != "" {
			network.Handle(r.Protocol, n.admitted(r.Protocol, func(s link.Stream) { r.Handler(n.ctx, s) }))
		}
	}
	if r, ok := network.(link.Relay); ok {
		r.MeterRelay(n.limits.PassRelayed)
	}
	if err := network.Start(n.contacts.Changed); err != nil {
		return fmt.Errorf("go online: %w", err)
	}
	for what, fn := range map[string]func(context.Context){
		"spreading entries": n.syncer.Spread, "looking up replicas": n.lookups.Keep,
		"looking after peers": n.contacts.Run, "downloading": n.downloads.Run,
		"announcing replicas": n.discovery.Announce, "searching for replicas": n.discovery.Search,
		"changing read keys": n.keepRotating, "asking about the clock": n.clocks.Keep,
	} {
		n.work.Go(func() { fault.Keep(n.ctx, n.log, what, fn) })
	}
	for _, r := range n.rooms {
		if r.Run != nil {
			n.work.Go(func() { fault.Keep(n.ctx, n.log, r.Name, r.Run) })
		}
	}
	return nil
}

// joinNetwork gives the network to what needs one.
func (n *Node) joinNetwork(network link.Network) {
	n.net = network
	n.contacts.Online(network)
	n.discovery.Online(network)
	n.syncer.Online(network)
	n.clocks.Online(network)
}

// ErrClosed reports what was under way when the node, or a subscription, was closed.
var ErrClosed = replica.ErrClosed

// within returns a context that ends with ctx, and with the node. done must be called with the
// error of what it was for, and returns it: with ErrClosed if the node has ended.
func (n *Node) within(ctx context.Context) (_ context.Context, done func(error) error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(n.ctx, cancel)
	return ctx, func(err error) error {
		stop()
		cancel()
		return n.ended(err)
	}
}

// ended returns err with ErrClosed if the node has ended.
func (n *Node) ended(err error) error {
	if err != nil && n.ctx.Err() != nil && !errors.Is(err, ErrClosed) {
		return fmt.Errorf("node %w: %w", ErrClosed, err)
	}
	return err
}

// Close ends everything and returns when it has ended. Calls that wait return ErrClosed.
func (n *Node) Close() error {
	n.closing.Do(func() {
		n.cancel()
		var errs []error
		if n.net != nil {
			errs = append(errs, n.net.Close())
		}
		if n.replicas != nil {
			n.replicas.Close()
		}
		n.work.Wait()
		if n.files != nil {
			errs = append(errs, n.files.Close())
		}
		if n.kv != nil {
			errs = append(errs, n.kv.Close())
		}
		if n.dir != nil {
			errs = append(errs, n.dir.Close())
			if n.cfg.Temporary {
				errs = append(errs, os.RemoveAll(n.cfg.Dir))
			}
		}
		n.closeErr = errors.Join(errs...)
	})
	return n.closeErr
}

// Addrs returns where others may reach the node, as many as a ticket takes; nothing while offline.
func (n *Node) Addrs() []ma.Multiaddr {
	addrs := n.AllAddrs()
	return addrs[:min(len(addrs), ticket.MaxAddrs)]
}

// AllAddrs returns where others may reach the node; nothing while offline.
func (n *Node) AllAddrs() []ma.Multiaddr {
	if n.net == nil {
		return nil
	}
	return n.net.Addrs()
}

// Peers returns the connected peers.
func (n *Node) Peers() []link.Peer {
	if n.net == nil {
		return nil
	}
	return n.net.Peers()
}

// KnownPeers returns the peers that are remembered for a replica: those that are known before
// newcomers, and of each kind the connected ones first.
func (n *Node) KnownPeers(ctx context.Context, id replica.ID) (out []peer.AddrInfo, err error) {
	all, err := n.holders.Of(ctx, id)
	for _, h := range all {
		out = append(out, h.AddrInfo)
	}
	return out, err
}

// Holders returns the peers that are remembered for a replica: those that are known, and the
// newcomers, who were met lately, or of whom somebody has said that they hold it.
func (n *Node) Holders(
	ctx context.Context, id replica.ID,
) (firm, newcomers []peer.AddrInfo, err error) {
	all, err := n.holders.Of(ctx, id)
	for _, h := range all {
		if h.Is == holders.Known {
			firm = append(firm, h.AddrInfo)
		} else {
			newcomers = append(newcomers, h.AddrInfo)
		}
	}
	return firm, newcomers, err
}

// JoinResult tells what became of a join.
type JoinResult struct {
	Replica replica.Replica
	Synced  []session.Result
}

// Join adds the replica of a ticket, remembers the ticket's peers, and runs a first session with
// each that can be reached. If none could be, the replica is joined all the same, and the error,
// which says why, is that of the first peer.
func (n *Node) Join(ctx context.Context, t *ticket.Doc, name string) (JoinResult, error) {
	return n.JoinWith(ctx, t, name, JoinOptions{})
}

// JoinOptions are for JoinWith.
type JoinOptions struct {
	// Policy is the download policy that holds from the start; nil is the one that the replica has,
	// or everything.
	Policy *wanted.Policy
	// Least is the newest epoch of the replica that is known to be one; nil is the newest that the
	// ticket names.
	Least *replica.EpochID
	// Hints are peers that may hold the replica besides those of the ticket, as somebody says whom
	// the person did not choose.
	Hints []peer.AddrInfo
}

// newestOf returns the newest epoch of its replica that a ticket names.
func newestOf(t *ticket.Doc) replica.EpochID {
	if t.ReadKey.Epoch > 0 {
		return t.ReadKey.ID()
	}
	return t.Least
}

// add adds the replica of a ticket, with all that the ticket gives.
func (n *Node) add(
	ctx context.Context, t *ticket.Doc, name string, least replica.EpochID,
) (replica.Replica, error) {
	var keys []replica.EpochKey
	if t.ReadKey.Epoch > 0 {
		keys = append(keys, t.ReadKey)
	}
	r, err := n.replicas.Join(ctx, replica.Replica{
		ID: t.Replica, Name: name, Capability: t.Capability, Secret: t.Secret, Least: least,
	}, keys...)
	if err == nil && r.Capability == replica.Write {
		n.changed(r.ID)
	}
	return r, err
}

// JoinWith is Join with options.
func (n *Node) JoinWith(
	ctx context.Context, t *ticket.Doc, name string, o JoinOptions,
) (JoinResult, error) {
	var out JoinResult
	least := newestOf(t)
	if o.Least != nil {
		least = *o.Least
	}
	r, err := n.add(ctx, t, name, least)
	if err != nil {
		return out, err
	}
	out.Replica = r
	if o.Policy != nil {
		if err := n.SetPolicy(ctx, r.ID, *o.Policy); err != nil {
			return out, err
		}
	}
	if err := n.Remember(ctx, []replica.ID{r.ID}, t.Peers()); err != nil {
		return out, err
	}
	if err := n.hint(ctx, r.ID, o.Hints); err != nil {
		return out, err
	}
	if n.net == nil {
		return out, nil
	}
	if out.Synced, err = n.syncer.SyncNow(ctx, r.ID, "", nil, true); err != nil {
		return out, err
	}
	for _, s := range out.Synced {
		if s.Err == nil {
			return out, nil
		}
	}
	if len(out.Synced) > 0 {
		return out, out.Synced[0].Err
	}
	return out, contacts.ErrNotShared
}

// Keep adds the replica of a ticket that somebody else brings, as to a seed, without waiting for a
// session: the node soon runs one. It remembers the ticket's peers as newcomers.
func (n *Node) Keep(ctx context.Context, t *ticket.Doc, name string) (replica.Replica, error) {
	r, err := n.add(ctx, t, name, newestOf(t))
	if err != nil {
		return r, err
	}
	return r, n.hint(ctx, r.ID, t.Peers())
}

// Store returns the node's key-value store, for what is built upon a node; each package owns the
// keys that begin with a byte of its own. Of n, which the rooms of a node share,
// docs/protocol/storage.md says who has which.
func (n *Node) Store() kv.Store { return n.kv }

// Log returns the node's log.
func (n *Node) Log() *slog.Logger { return n.log }

// Serve has fn called for each stream that a peer opens for a protocol, in a goroutine of its own.
// It must be called before GoOnline. A stream is for one request of at most 64 KiB and its answer:
// all reads and writes on it fail a minute after it was opened, unless the handler sets another
// time with link.Within. docs/protocol/limits.md tells how
// many streams there are.
func (n *Node) Serve(protocol string, fn func(link.Stream)) { n.serves[protocol] = fn }

// exchangeTime is how long a question to one peer, and its answer, may take: a registration at a
// seed, a call to a keyring, or what an invite gives.
const exchangeTime = 2 * time.Minute

// Open opens a stream for a question and its answer to a peer that a person or the configuration
// names, connecting first if need be. Every read and write on it must make progress within 30
// seconds, and all is over after two minutes, unless link.Within gives it another patience.
func (n *Node) Open(ctx context.Context, p peer.AddrInfo, protocol string) (link.Stream, error) {
	if n.net == nil {
		return nil, link.ErrOffline
	}
	if err := n.net.Connect(link.Named(ctx), p); err != nil {
		return nil, err
	}
	s, err := n.net.Open(ctx, p.ID, protocol)
	if err != nil {
		return nil, err
	}
	return link.Within(s, idleTimeout).Paced().EndingIn(exchangeTime), nil
}

// Leave forgets a replica. Content stays until somebody removes it.
func (n *Node) Leave(ctx context.Context, id replica.ID) error {
	ctx = kv.ToMakeRoom(ctx)
	if err := n.replicas.Leave(ctx, id); err != nil {
		return err
	}
	if n.net != nil {
		n.syncer.RestNow(id)
	}
	n.contacts.Forget(id)
	return errors.Join(
		n.holders.Forget(ctx, id), n.wanted.Forget(ctx, id), n.displaced.Left(ctx, id),
		n.left(ctx, id),
	)
}

// Ticket makes a doc ticket for a replica, at this node, with the present read key if the replica
// is encrypted and the ticket is for more than sync. It returns a *replica.NotAllowedError or
// replica.ErrNoReadKey if this node has less to give.
func (n *Node) Ticket(
	ctx context.Context, r replica.Replica, c replica.Capability,
) (*ticket.Doc, error) {
	if c > r.Capability {
		return nil, &replica.NotAllowedError{Op: "share", Name: r.Name, Have: r.Capability, Need: c}
	}
	t := &ticket.Doc{Capability: c, Replica: r.ID, Addrs: n.Addrs()}
	seeds, err := n.seedAddrs(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	// Room for the seeds: they answer when this node sleeps.
	most := max(ticket.MaxAddrs-len(seeds), ticket.MaxAddrs/2)
	t.Addrs = append(
		t.Addrs[:min(len(t.Addrs), most)],
		seeds[:min(len(seeds), ticket.MaxAddrs-min(len(t.Addrs), most))]...,
	)
	if c == replica.Write {
		t.Secret = r.Secret
	}
	switch {
	case !r.Encrypted:
	case c >= replica.Read:
		t.ReadKey, err = n.replicas.ReadKey(ctx, r.ID)
	default:
		t.Least, err = n.replicas.NewestEpoch(ctx, r.ID)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

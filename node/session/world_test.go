package session

import (
	"context"
	"crypto/rand"
	"io"
	"iter"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/blame"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/discovery"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// interval is the time between two sessions with a peer.
const interval = time.Minute

// world is a Syncer with all that it needs, of which nothing runs by itself.
type world struct {
	*Syncer
	full  bool // there is no room for entries
	whole bool // all content is here
}

// newWorld makes a Syncer that knows nobody, with an id of its own.
func newWorld(t testing.TB, now func() time.Time) *world {
	store, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	var b [8]byte
	_, _ = rand.Read(b[:])
	w, self := &world{}, peer.ID(b[:])
	var work sync.WaitGroup
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	cfg := Config{
		Ctx: ctx, Self: self, Now: now, Log: log, Go: work.Go, Sessions: contacts.NewSessions(),
		Limits: limits.New(limits.Config{}, limits.DefaultFigures()), Search: limits.NewGate(1),
		Within: func(ctx context.Context) (context.Context, func(error) error) {
			return ctx, func(err error) error { return err }
		},
		Missed: func(link.Stream) {},
		Sending: func(_ peer.ID, also func(*reconcile.Item)) func(*reconcile.Item) {
			return also
		},
		Complete:      func(context.Context, *replica.Entry) (bool, error) { return w.whole, nil },
		KeysChanged:   func(context.Context, replica.ID) error { return nil },
		Given:         func(...peer.ID) {},
		GivenAnywhere: func() {},
	}
	cfg.Blamed, err = blame.Load(ctx, store, now, log)
	require.NoError(t, err)
	cfg.Holders = holders.New(holders.Config{
		Store: store, Self: self, Now: now, Log: log,
		Connected: func(p peer.ID) bool { return w.contacts.IsConnected(p) },
	})
	cfg.Contacts = contacts.New(contacts.Config{
		Ctx: ctx, Self: self, Interval: interval, Now: now, Log: log, Holders: cfg.Holders,
		Refused: cfg.Blamed.Refused, Sessions: cfg.Sessions, Go: work.Go,
		Does: contacts.Work{News: func(peer.ID) {}, Gone: func(p peer.ID) { w.DropOutbox(p) }},
	})
	held := func(ctx context.Context) iter.Seq2[replica.Replica, error] {
		return w.replicas.All(ctx)
	}
	cfg.Lookups = discovery.NewLookups(discovery.LookupConfig{
		Store: store, Self: self, Now: now, Log: log, All: held,
		Get: func(ctx context.Context, id replica.ID) (replica.Replica, error) {
			return w.replicas.Get(ctx, id)
		},
	})
	cfg.Replicas, err = replica.Open(ctx, store, replica.Config{
		Now: now, OnHold: func(tx kv.Txn, id replica.ID) error { return cfg.Lookups.Hold(tx, id) },
		OnLeave: cfg.Lookups.Leave,
		OnTake:  func(kv.Txn, *replica.Entry, *replica.Entry) (bool, error) { return !w.full, nil },
	})
	require.NoError(t, err)
	w.Syncer = New(cfg)
	w.contacts.Online(nowhere{})
	w.Online(nowhere{})
	t.Cleanup(func() {
		cancel()
		w.replicas.Close()
		work.Wait()
		require.NoError(t, store.Close())
	})
	return w
}

// alone makes a Syncer on a clock.
func alone(t testing.TB, now *time.Time) *world {
	return newWorld(t, func() time.Time { return *now })
}

// nowhere is a network without peers.
type nowhere struct{ link.Network }

func (nowhere) ID() peer.ID                       { return "nobody" }
func (nowhere) Peers() []link.Peer                { return nil }
func (nowhere) Connected(peer.ID) bool            { return false }
func (nowhere) KnownAddrs(peer.ID) []ma.Multiaddr { return nil }
func (nowhere) Keep(peer.ID, link.Trust)          {}
func (nowhere) Origin(peer.ID) string             { return "" }
func (nowhere) Addrs() []ma.Multiaddr             { return nil }
func (nowhere) Part(string)                       {}
func (nowhere) Join(string, func(context.Context, peer.ID, []byte) link.Verdict) error {
	return nil
}

// pipeStream is one end of a stream in memory.
type pipeStream struct {
	net.Conn
	remote peer.ID
}

func (p pipeStream) CloseWrite() error { return p.Conn.Close() }
func (p pipeStream) Reset() error      { return p.Conn.Close() }
func (p pipeStream) Remote() peer.ID   { return p.remote }

// reading is a stream of which only the reading side matters.
type reading struct{ io.Reader }

func (reading) Write(b []byte) (int, error)      { return len(b), nil }
func (reading) Close() error                     { return nil }
func (reading) CloseWrite() error                { return nil }
func (reading) Reset() error                     { return nil }
func (reading) SetReadDeadline(time.Time) error  { return nil }
func (reading) SetWriteDeadline(time.Time) error { return nil }
func (reading) Remote() peer.ID                  { return "peer" }

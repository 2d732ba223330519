package contacts

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

// world is an agenda with all that it needs, of which a test says what happens.
type world struct {
	*Agenda
	holders *holders.Book
	store   *counting
	net     *network
	work    sync.WaitGroup
	does    Work // what a test wants done; nil functions do nothing
	refused atomic.Pointer[peer.ID]
}

func newWorld(t *testing.T, now func() time.Time) *world {
	s, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	w := &world{store: &counting{Store: s}}
	log := slog.New(slog.DiscardHandler)
	w.holders = holders.New(holders.Config{
		Store: w.store, Self: "self", Now: now, Log: log,
		Connected: func(p peer.ID) bool { return w.IsConnected(p) },
	})
	w.Agenda = New(Config{
		Ctx: t.Context(), Self: "self", Interval: time.Minute, Now: now, Log: log,
		Holders: w.holders, Sessions: NewSessions(), Go: w.work.Go,
		Refused: func(p peer.ID) bool {
			bad := w.refused.Load()
			return bad != nil && *bad == p
		},
		Does: Work{
			Introduce: func(ctx context.Context, p peer.ID) {
				if w.does.Introduce != nil {
					w.does.Introduce(ctx, p)
				}
			},
			Compare: func(ctx context.Context, p peer.ID) error {
				if w.does.Compare != nil {
					return w.does.Compare(ctx, p)
				}
				w.Compared(p, w.ToCompare(p), nil, nil, true)
				return nil
			},
			Sync: func(ctx context.Context, p peer.ID, id replica.ID, is holders.Standing) error {
				if w.does.Sync != nil {
					return w.does.Sync(ctx, p, id, is)
				}
				w.Shares(p, id)
				return nil
			},
			News: func(peer.ID) {},
			Gone: func(peer.ID) {},
		},
	})
	w.net = &network{w: w, trust: map[peer.ID]link.Trust{}, reachable: map[peer.ID]bool{}}
	w.Online(w.net)
	return w
}

// start runs the agenda until the test ends.
func (w *world) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w.work.Go(func() { w.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		w.work.Wait()
	})
}

// remember has a person name a peer that holds a replica.
func (w *world) remember(t *testing.T, id replica.ID, p peer.AddrInfo) {
	named, err := w.holders.Named(t.Context(), []replica.ID{id}, []peer.AddrInfo{p})
	require.NoError(t, err)
	for _, p := range named {
		w.NameAll(p.ID, []replica.ID{id})
	}
}

// network is one of which a test says who can be reached.
type network struct {
	w     *world
	addrs []ma.Multiaddr
	trust map[peer.ID]link.Trust

	mu        sync.Mutex
	reachable map[peer.ID]bool
	dials     []time.Time
}

func (n *network) Connect(_ context.Context, p peer.AddrInfo) error {
	n.mu.Lock()
	n.dials = append(n.dials, time.Now())
	ok := n.reachable[p.ID]
	n.mu.Unlock()
	if !ok {
		return &link.UnreachableError{Peer: p.ID}
	}
	n.w.Changed(p.ID, true)
	return nil
}

// reach says whether a peer can be reached.
func (n *network) reach(p peer.ID, yes bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reachable[p] = yes
}

func (n *network) dialled() []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dials)
}

func (n *network) Connected(peer.ID) bool            { return false }
func (n *network) KnownAddrs(peer.ID) []ma.Multiaddr { return n.addrs }
func (n *network) Origin(peer.ID) string             { return "" }
func (n *network) Keep(p peer.ID, trust link.Trust)  { n.trust[p] = trust }

func (n *network) Drop() {
	n.mu.Lock()
	var all []peer.ID
	for p := range n.reachable {
		all = append(all, p)
	}
	n.mu.Unlock()
	for _, p := range all {
		if n.w.IsConnected(p) {
			n.w.Changed(p, false)
		}
	}
}

// counting is a store that counts Updates and those of them that change something.
type counting struct {
	kv.Store
	updates, writes atomic.Int64
}

func (c *counting) Update(ctx context.Context, fn func(kv.Txn) error) error {
	c.updates.Add(1)
	wrote := false
	err := c.Store.Update(ctx, func(tx kv.Txn) error {
		w := &countingTxn{Txn: tx}
		err := fn(w)
		wrote = w.wrote
		return err
	})
	if wrote {
		c.writes.Add(1)
	}
	return err
}

type countingTxn struct {
	kv.Txn
	wrote bool
}

func (c *countingTxn) Set(key, value []byte) error {
	c.wrote = true
	return c.Txn.Set(key, value)
}

func (c *countingTxn) Delete(key []byte) error {
	c.wrote = true
	return c.Txn.Delete(key)
}

package node

import (
	"context"
	"crypto/rand"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/discovery"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

// nowhere is a network without peers.
type nowhere struct{ link.Network }

func (nowhere) ID() peer.ID                       { return "nobody" }
func (nowhere) KnownAddrs(peer.ID) []ma.Multiaddr { return nil }
func (nowhere) Keep(peer.ID, link.Trust)          {}
func (nowhere) Origin(peer.ID) string             { return "" }
func (nowhere) Addrs() []ma.Multiaddr             { return nil }
func (nowhere) Close() error                      { return nil }

// offline opens a node that knows nobody, on a clock.
func offline(t testing.TB, now *time.Time) *Node {
	var mu sync.Mutex
	n, err := Open(t.Context(), Config{Dir: t.TempDir(), Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return *now
	}})
	require.NoError(t, err)
	n.joinNetwork(nowhere{})
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

func countKeys(t *testing.T, s kv.Store, prefix string) (n int) {
	require.NoError(t, s.View(t.Context(), func(rd kv.Reader) error {
		for _, err := range rd.Scan(kv.Prefix([]byte(prefix)), kv.ScanOptions{KeysOnly: true}) {
			require.NoError(t, err)
			n++
		}
		return nil
	}))
	return n
}

// A replica is found on the days for which somebody with a wrong clock may ask, as long as it is
// held, and on no other.
func TestLookUp(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := offline(t, &now)
	ctx := t.Context()
	a, err := n.replicas.Create(ctx, "a") // before the first refresh
	require.NoError(t, err)
	require.NoError(t, n.lookups.Refresh(ctx))
	b, err := n.replicas.Create(ctx, "b")
	require.NoError(t, err)
	found := func(id replica.ID, at time.Time) bool {
		got, err := n.lookups.Find(ctx, names.Lookup(id, n.id, names.Day(at)))
		if err != nil {
			require.ErrorIs(t, err, contacts.ErrNotShared)
			return false
		}
		require.Equal(t, id, got)
		return true
	}
	day := 24 * time.Hour
	for range 5 { // days go by
		for _, id := range []replica.ID{a.ID, b.ID} {
			for offset := -3; offset <= 3; offset++ {
				require.Equal(t, offset >= -1 &&
					offset <= 1, found(id, now.Add(time.Duration(offset)*day)), offset)
			}
			_, err := n.lookups.Find(ctx, names.Lookup(id, "another responder", names.Day(now)))
			require.ErrorIs(t, err, contacts.ErrNotShared)
		}
		require.False(t, found(replica.ID{9}, now))
		require.Equal(t, 2*4, countKeys(t, n.kv, "nk"), "those of past days are dropped")
		now = now.Add(day)
		require.True(t, found(a.ID, now), "the next day is prepared before it comes")
		require.NoError(t, n.lookups.Refresh(ctx))
	}
	now = now.Add(100 * day) // switched off for long
	require.False(t, found(a.ID, now))
	require.NoError(t, n.lookups.Refresh(ctx))
	require.True(t, found(a.ID, now))
	require.NoError(t, n.Leave(ctx, a.ID))
	require.False(t, found(a.ID, now))
	require.True(t, found(b.ID, now))
	require.Equal(t, 4, countKeys(t, n.kv, "nk"))
}

// A clock that was wrong for a while, and is right again, leaves no replica that others do not
// find: neither one that came while it was wrong, nor one that came later.
func TestLookUpAfterAWrongClock(t *testing.T) {
	day := 24 * time.Hour
	for name, off := range map[string]time.Duration{
		"days ahead": 5 * day, "years ahead": 5000 * day, "days behind": -5 * day,
		"without a battery": -time.Duration(names.Day(time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC))) * day,
	} {
		t.Run(name, func(t *testing.T) {
			right := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
			now := right
			n := offline(t, &now)
			ctx := t.Context()
			var all []replica.ID
			create := func(name string) {
				r, err := n.replicas.Create(ctx, name)
				require.NoError(t, err)
				all = append(all, r.ID)
			}
			found := func() {
				t.Helper()
				for i, id := range all {
					_, err := n.lookups.Find(ctx, names.Lookup(id, n.id, names.Day(now)))
					require.NoError(t, err, "replica %d on %s", i, now)
				}
			}
			create("before")
			require.NoError(t, n.lookups.Refresh(ctx))
			now = right.Add(off)
			create("while it is wrong, before anything was prepared")
			now = right
			found()
			now = right.Add(off)
			require.NoError(t, n.lookups.Refresh(ctx))
			found()
			create("while it is wrong")
			now = right
			create("after, before anything was prepared")
			require.NoError(t, n.lookups.Refresh(ctx))
			found()
			create("after")
			for range 12 { // over the days that were prepared while the clock was ahead
				now = now.Add(day)
				require.NoError(t, n.lookups.Refresh(ctx))
				found()
			}
			require.Equal(t, 4*len(all), countKeys(t, n.kv, "nk"))
		})
	}
}

// A node whose clock has moved to another day, as after a sleep, is found again within minutes.
func TestLookUpAfterAJump(t *testing.T) {
	bubble(t, func(t *testing.T) {
		now := time.Now()
		n := offline(t, &now)
		r, err := n.replicas.Create(t.Context(), "r")
		require.NoError(t, err)
		var jump atomic.Int64
		l := discovery.NewLookups(discovery.LookupConfig{
			Store: n.kv, Self: n.id, Log: n.cfg.Log, All: n.replicas.All, Get: n.replicas.Get,
			Now: func() time.Time { return time.Now().Add(time.Duration(jump.Load())) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		kept := make(chan struct{})
		go func() { l.Keep(ctx); close(kept) }()
		synctest.Wait()
		jump.Store(int64(9 * 24 * time.Hour))
		time.Sleep(3 * time.Minute)
		_, err = l.Find(ctx, names.Lookup(r.ID, n.id, names.Day(time.Now())+9))
		require.NoError(t, err)
		cancel()
		<-kept
	})
}

// pipeStream is one end of a stream in memory.
type pipeStream struct {
	net.Conn
	remote peer.ID
}

func (p pipeStream) CloseWrite() error { return p.Conn.Close() }
func (p pipeStream) Reset() error      { return p.Conn.Close() }
func (p pipeStream) Remote() peer.ID   { return p.remote }

// A node with 10,000 fake replicas asked for answers as before, and keeps nothing of it.
func TestManyFakeReplicas(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := offline(t, &now)
	r, err := n.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	before := countKeys(t, n.kv, "")
	for range 10_000 {
		var id replica.ID
		_, _ = rand.Read(id[:])
		_, err := n.lookups.Find(t.Context(), names.Lookup(id, n.id, names.Day(now)))
		require.ErrorIs(t, err, contacts.ErrNotShared)
	}
	got, err := n.lookups.Find(t.Context(), names.Lookup(r.ID, n.id, names.Day(now)))
	require.NoError(t, err)
	require.Equal(t, r.ID, got)
	require.Equal(t, before, countKeys(t, n.kv, ""))
}

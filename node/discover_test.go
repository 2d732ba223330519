package node

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/replica"
)

// simTable is a hash table in which some lie.
type simTable struct {
	mu     sync.Mutex
	holds  map[[32]byte][]peer.AddrInfo
	liars  []peer.AddrInfo // claim everything
	finds  int
	absent bool
}

// tabled is a network with a table.
type tabled struct {
	*simnet.End
	t *simTable
}

func (e tabled) Situation() link.Situation {
	e.t.mu.Lock()
	defer e.t.mu.Unlock()
	if e.t.absent {
		return link.Situation{}
	}
	return link.Situation{TableSize: 1}
}

func (e tabled) Announce(_ context.Context, key [32]byte) error {
	e.t.mu.Lock()
	defer e.t.mu.Unlock()
	if e.t.absent {
		return link.ErrNoTable
	}
	for _, p := range e.t.holds[key] {
		if p.ID == e.ID() {
			return nil
		}
	}
	e.t.holds[key] = append(e.t.holds[key], peer.AddrInfo{ID: e.ID()})
	return nil
}

func (e tabled) Find(_ context.Context, key [32]byte) ([]peer.AddrInfo, error) {
	e.t.mu.Lock()
	defer e.t.mu.Unlock()
	e.t.finds++
	if e.t.absent {
		return nil, link.ErrNoTable
	}
	return append(append([]peer.AddrInfo{}, e.t.liars...), e.t.holds[key]...), nil
}

func tableNode(t *testing.T, s *simnet.Net, table *simTable, skew time.Duration, host Host) *Node {
	n, err := Open(
		context.Background(),
		Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewCrashableMem()}, Now: func() time.Time {
			return time.Now().Add(skew)
		}, Host: host},
	)
	require.NoError(t, err)
	require.NoError(t, n.GoOnline(tabled{s.End(n.ID()), table}))
	return n
}

func fingerprint(t *testing.T, n *Node, id replica.ID) [32]byte {
	f, err := n.replicas.Fingerprint(context.Background(), id)
	require.NoError(t, err)
	return f
}

// A node that knows a replica and nobody who holds it finds a holder among far more that falsely
// claim to be one; and so it does in whatever hour, with a clock an hour off, and when the table
// comes only later.
func TestFindsHolderAmongLiars(t *testing.T) {
	testkit.SeenElsewhere(t)
	for _, hour := range []time.Duration{0, 23*time.Hour + 30*time.Minute} {
		for _, skew := range []time.Duration{-time.Hour, 0, time.Hour} {
			bubble(t, func(t *testing.T) {
				ctx := context.Background()
				time.Sleep(hour) // from midnight UTC
				s, table := simnet.New(1), &simTable{holds: map[[32]byte][]peer.AddrInfo{}, absent: true}
				var others []*Node
				for i := range 3 * 32 {
					id := idOf(byte(i))
					if i%16 == 0 { // the others do not even exist
						liar := tableNode(t, s, table, 0, nil)
						others, id = append(others, liar), liar.ID()
					}
					table.liars = append(table.liars, peer.AddrInfo{ID: id})
				}
				holder, looking := tableNode(t, s, table, 0, nil), tableNode(t, s, table, skew, nil)
				r, err := holder.replicas.Create(ctx, "r")
				require.NoError(t, err)
				_, err = holder.replicas.Write(
					ctx, r.ID, replica.NewSecretKey(),
					[]replica.Change{{Key: []byte("k"), Hash: blobs.Hash{1}, Size: 5}},
				)
				require.NoError(t, err)
				_, err = looking.replicas.Join(ctx, r)
				require.NoError(t, err)
				time.Sleep(10 * time.Minute)
				table.mu.Lock()
				table.absent = false
				table.mu.Unlock()
				time.Sleep(15 * time.Minute)
				require.Equal(t, []peer.ID{holder.ID()}, looking.contacts.ConnectedSharing(r.ID), "found")
				if skew >= 0 { // else what is written now is of the future there
					require.Equal(t, fingerprint(t, holder, r.ID), fingerprint(t, looking, r.ID))
				}
				table.mu.Lock()
				before := table.finds
				table.mu.Unlock()
				time.Sleep(10 * time.Minute)
				table.mu.Lock()
				require.Equal(t, before, table.finds, "who is connected to a holder does not look for others")
				table.mu.Unlock()
				for _, n := range append(others, holder, looking) {
					require.NoError(t, n.Close())
				}
			})
		}
	}
}

// idOf is the id of a peer that there is not.
func idOf(b byte) peer.ID {
	key := ed25519.NewKeyFromSeed(append(make([]byte, 31), b))
	pub, err := crypto.UnmarshalEd25519PublicKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		panic(err)
	}
	return id
}

// The keys of one replica on different days have nothing in common, and no two replicas share one;
// golden, since nodes of different versions must agree.
func TestProvideKey(t *testing.T) {
	id := replica.ID{1, 2, 3}
	seen := map[[32]byte]bool{}
	for _, id := range []replica.ID{id, {4}} {
		for day := range uint32(100) {
			seen[names.Provide(id, 20574+day)] = true
		}
	}
	require.Len(t, seen, 200)
	golden := names.Provide(id, 20574)
	require.Equal(
		t, "3e7fed4048fcc7367e6c2ffb1860ebc5cf56496b4460a90eaf888d503ebc1879",
		hex.EncodeToString(golden[:]),
	)
}

// Replicas are announced again before their announcement lapses, in turns if there are more than
// fit in one round; what is new at once.
func TestAnnounceInTurns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s, table := simnet.New(1), &simTable{holds: map[[32]byte][]peer.AddrInfo{}}
		n := tableNode(t, s, table, 0, nil)
		var all []replica.ID
		for range 20 {
			r, err := n.replicas.Create(ctx, "")
			require.NoError(t, err)
			all = append(all, r.ID)
		}
		time.Sleep(time.Second)
		there := func(day uint32) (count int) {
			table.mu.Lock()
			defer table.mu.Unlock()
			for _, id := range all {
				if len(table.holds[names.Provide(id, day)]) > 0 {
					count++
				}
			}
			return count
		}
		today := names.Day(time.Now())
		require.Equal(t, 20, there(today))
		// What was announced is forgotten every day.
		for day := today; day < today+uint32(testkit.Few(5, 1)); day++ {
			time.Sleep(time.Until(time.Unix(int64(day+1)*86400, 0)))
			require.Equal(t, 20, there(day+1), "the next day's are there when it comes")
			table.mu.Lock()
			clear(table.holds)
			table.mu.Unlock()
			time.Sleep(7 * time.Hour)
			require.Equal(t, 20, there(day+1), "and come again")
		}
		require.NoError(t, n.Close())
	})
}

// Two devices that know the same seed, and nothing of each other, find each other in the table, so
// that they go on when the seed is gone.
func TestDevicesOfOneSeedMeet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s, table := simnet.New(1), &simTable{holds: map[[32]byte][]peer.AddrInfo{}, absent: true}
		seed := tableNode(t, s, table, 0, keepsAll{})
		a, b := tableNode(t, s, table, 0, nil), tableNode(t, s, table, 0, nil)
		r, err := a.replicas.Create(ctx, "r")
		require.NoError(t, err)
		for _, n := range []*Node{seed, b} {
			_, err = n.replicas.Join(ctx, r)
			require.NoError(t, err)
		}
		for _, n := range []*Node{a, b} {
			require.NoError(t, n.AddSeed(ctx, r.ID, peer.AddrInfo{ID: seed.ID()}))
		}
		time.Sleep(10 * time.Second)
		require.Equal(t, []peer.ID{seed.ID()}, a.contacts.ConnectedSharing(r.ID))
		table.mu.Lock()
		table.absent = false
		table.mu.Unlock()
		time.Sleep(5 * time.Minute)
		require.Len(t, a.contacts.ConnectedSharing(r.ID), 2)
		require.NoError(t, seed.Close())
		time.Sleep(time.Second)
		require.Equal(t, []peer.ID{b.ID()}, a.contacts.ConnectedSharing(r.ID))
		for _, n := range []*Node{a, b} {
			require.NoError(t, n.Close())
		}
	})
}

// keepsAll is a host that keeps whatever it is told to.
type keepsAll struct{}

func (keepsAll) Take(kv.Txn, *replica.Entry, *replica.Entry, bool) (bool, error) {
	return true, nil
}
func (keepsAll) State(kv.Txn, replica.ID, int, bool) (bool, error) {
	return true, nil
}
func (keepsAll) Keeps(kv.Reader, *replica.Entry) (bool, error) {
	return true, nil
}
func (keepsAll) Put(kv.Txn, *replica.Entry) (bool, error) {
	return true, nil
}

func (keepsAll) Refute(kv.Txn, *replica.Entry) error { return nil }
func (keepsAll) Drop(kv.Txn, *replica.Entry) error   { return nil }

// stalls accepts sessions and never says a word.
type stalls struct{ tabled }

func (e stalls) Handle(protocol string, fn func(link.Stream)) {
	if protocol == session.Protocol {
		fn = func(s link.Stream) {
			_, _ = s.Read(make([]byte, 1<<16)) // the greeting
			<-e.Context().Done()
		}
	}
	e.tabled.Handle(protocol, fn)
}

// False claimants that keep whoever asks them waiting do not keep it for long.
func TestFindsHolderAmongStallers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s, table := simnet.New(1), &simTable{holds: map[[32]byte][]peer.AddrInfo{}}
		var all []*Node
		for range 8 {
			n, err := Open(ctx, Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewCrashableMem()}})
			require.NoError(t, err)
			require.NoError(t, n.GoOnline(stalls{tabled{s.End(n.ID()), table}}))
			table.liars = append(table.liars, peer.AddrInfo{ID: n.ID()})
			all = append(all, n)
		}
		holder, looking := tableNode(t, s, table, 0, nil), tableNode(t, s, table, 0, nil)
		r, err := holder.replicas.Create(ctx, "r")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		_, err = looking.replicas.Join(ctx, r)
		require.NoError(t, err)
		start := time.Now()
		found, err := looking.syncer.FindHolders(ctx, r.ID)
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.Equal(t, holder.ID(), found[0].Peer)
		// By a clock that stands still while anything can go on. Those that stall have their time once,
		// side by side.
		require.Less(t, time.Since(start), (15+3)*time.Second)
		for _, n := range append(all, holder, looking) {
			require.NoError(t, n.Close())
		}
	})
}

package contacts

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

var crowdTime = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// crowded is a world with a clock that a test sets, and one replica.
func crowded(t *testing.T, now *time.Time) (*world, replica.ID) {
	return newWorld(t, func() time.Time { return *now }), replica.ID{7}
}

// visit has a peer come, prove that it holds the replica, and go.
func visit(n *world, p peer.ID, id replica.ID) {
	n.Changed(p, true)
	n.Shares(p, id)
	n.Changed(p, false)
}

func remembered(t *testing.T, n *world, id replica.ID) map[peer.ID][]ma.Multiaddr {
	all, err := n.holders.Of(t.Context(), id)
	require.NoError(t, err)
	out := map[peer.ID][]ma.Multiaddr{}
	for _, p := range all {
		out[p.ID] = p.Addrs
	}
	return out
}

func throwaway(i int) peer.ID { return peer.ID(fmt.Sprintf("crowd %05d", i)) }

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

// noEntries is a replica without entries.
type noEntries struct{}

func (noEntries) Counts(context.Context, replica.ID) (c replica.Counts, err error) { return c, nil }

func (noEntries) Entries(
	context.Context, replica.ID, replica.Query,
) iter.Seq2[replica.Entry, error] {
	return func(func(replica.Entry, error) bool) {}
}

// Even if the crowd stays for weeks, it takes a share of the records, and the named peer keeps its.
func TestCrowdWithPatience(t *testing.T) {
	testkit.OneGoroutine(t)
	now := crowdTime
	n, id := crowded(t, &now)
	n.remember(t, id, peer.AddrInfo{ID: "named"})
	for range 20 {
		for i := range 100 {
			visit(n, throwaway(i), id)
		}
		now = now.Add(24 * time.Hour)
	}
	all := remembered(t, n, id)
	require.Contains(t, all, peer.ID("named"))
	require.LessOrEqual(t, len(all), 1+holders.MaxHistory+holders.MaxNewcomers)
	kept, err := n.holders.Of(t.Context(), id)
	require.NoError(t, err)
	histories := 0
	for _, h := range kept {
		if h.ID != "named" && h.Is == holders.Known {
			histories++
		}
	}
	require.NotZero(t, histories)
	require.LessOrEqual(t, histories, holders.MaxHistory)
	visit(n, "late", id)
	require.Contains(t, remembered(t, n, id), peer.ID("late"))
}

// Any number of throwaway ids can hold sessions. Of those for which there is no room among the
// newcomers, nothing is kept, however often they come back in one connection.
func TestNothingIsKeptOfACrowd(t *testing.T) {
	now := crowdTime
	n, id := crowded(t, &now)
	for i := range holders.MaxNewcomers {
		n.Changed(throwaway(i), true)
		n.Shares(throwaway(i), id) // they stay
	}
	for i := range 20 {
		p := throwaway(1000 + i)
		n.Changed(p, true)
		for range 3 {
			n.Shares(p, id)
			w, err := n.holders.Watch(t.Context(), noEntries{}, id, p)
			require.NoError(t, err)
			_, err = w.End(t.Context())
			require.NoError(t, err)
			require.NoError(t, n.holders.NoteSame(t.Context(), p, []replica.ID{id}))
		}
		n.Changed(p, false)
	}
	require.Zero(t, countKeys(t, n.store, "ns"), "none of them was remembered")
	require.Equal(t, holders.MaxNewcomers, countKeys(t, n.store, "nh"))
	require.Equal(t, holders.MaxNewcomers, countKeys(t, n.store, "nj"))
	require.NoError(t, n.holders.NoteSame(t.Context(), throwaway(0), []replica.ID{id}))
	last, err := n.holders.LastSync(t.Context(), id)
	require.NoError(t, err)
	require.WithinDuration(t, now, last, 0, "of those that are remembered it is")
}

// A peer for which there is no room costs this node one look for it a minute, and no write, however
// often it pushes or runs a session.
func TestACrowdCostsNoWrites(t *testing.T) {
	now := crowdTime
	n, id := crowded(t, &now)
	for i := range holders.MaxNewcomers {
		n.Changed(throwaway(i), true)
		n.Shares(throwaway(i), id) // they stay
	}
	count := n.store
	count.updates.Store(0)
	count.writes.Store(0)
	p := throwaway(1000)
	n.Changed(p, true)
	for range 20 {
		n.Shares(p, id)
	}
	require.EqualValues(t, 1, count.updates.Load())
	require.Zero(t, count.writes.Load())
	now = now.Add(roomAgain)
	n.Shares(p, id)
	require.EqualValues(t, 2, count.updates.Load())
	require.Zero(t, count.writes.Load())
	require.NotContains(t, remembered(t, n, id), p)

	n.Changed(throwaway(holders.MaxNewcomers-1), false) // it makes room
	n.Shares(p, id)
	require.NotContains(t, remembered(t, n, id), p, "not in the same minute")
	now = now.Add(roomAgain)
	n.Shares(p, id)
	require.Contains(t, remembered(t, n, id), p)
	writes := count.writes.Load()
	n.Shares(p, id)
	require.Equal(t, writes, count.writes.Load())
}

// The network counts a peer that is known as the node does, from when it comes. A newcomer has to
// prove first that it still holds something.
func TestTrustFromTheFirst(t *testing.T) {
	now := crowdTime
	n, id := crowded(t, &now)
	n.remember(t, id, peer.AddrInfo{ID: "friend"})
	require.Empty(t, n.net.trust, "it is not connected")
	visit(n, "newcomer", id)
	for range 3 {
		visit(n, "patient", id)
		now = now.Add(24 * time.Hour)
	}
	clear(n.net.trust)
	for _, p := range []peer.ID{"friend", "patient", "newcomer"} {
		n.Changed(p, true)
	}
	want := map[peer.ID]link.Trust{"friend": link.TrustNamed, "patient": link.TrustHistory}
	require.Equal(t, want, n.net.trust)
}

// A history takes days, by this node's clock; sessions without number in one day are worth one.
func TestHistoryTakesDays(t *testing.T) {
	now := crowdTime
	n, id := crowded(t, &now)
	for day := range 3 {
		require.Equal(t, holders.Newcomer, n.holders.Standing(t.Context(), id, "p"), day)
		for range 20 {
			visit(n, "p", id)
		}
		now = now.Add(24 * time.Hour)
	}
	require.Equal(t, holders.Known, n.holders.Standing(t.Context(), id, "p"))
	other := n.holders.Standing(t.Context(), replica.ID{9}, "p")
	require.Equal(t, holders.Newcomer, other, "for that replica")
}

// Of too many peers, a node goes on dialling those that it knows, before a restart and after it.
func TestCrowdIsNotDialledInsteadOfOthers(t *testing.T) {
	now := crowdTime
	n, id := crowded(t, &now)
	honest := peer.ID("z honest")
	n.remember(t, id, peer.AddrInfo{ID: honest})
	n.mu.Lock()
	n.contacts[honest].retry = lastRetry // it has been away for long
	n.mu.Unlock()
	var ids []replica.ID
	for i := range maxContacts/holders.MaxNewcomers + 2 {
		ids = append(ids, replica.ID{byte(i), byte(i >> 8), 1})
	}
	for i := range maxContacts + 50 {
		visit(n, throwaway(i), ids[i/holders.MaxNewcomers])
	}
	n.mu.Lock()
	require.LessOrEqual(t, len(n.contacts), maxContacts)
	require.Contains(t, n.contacts, honest)
	n.mu.Unlock()

	again := New(n.cfg)
	require.NoError(t, again.Load(t.Context()))
	require.LessOrEqual(t, len(again.contacts), maxContacts)
	require.Contains(t, again.contacts, honest)
}

// What others say of a peer's addresses does not push out all that it was met at.
func TestAddressesAreNotPushedOut(t *testing.T) {
	now := crowdTime
	n, id := crowded(t, &now)
	good, err := ma.NewMultiaddr("/ip4/192.0.2.1/tcp/4001")
	require.NoError(t, err)
	n.net.addrs = []ma.Multiaddr{good}
	visit(n, "p", id)
	var wrong []ma.Multiaddr
	for i := range 3 * 16 {
		a, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/198.51.100.%d/tcp/1", i))
		require.NoError(t, err)
		wrong = append(wrong, a)
	}
	n.remember(t, id, peer.AddrInfo{ID: "p", Addrs: wrong})
	got := remembered(t, n, id)["p"]
	require.Contains(t, got, good)
	require.Len(t, got, 16)
	require.Contains(t, got, wrong[0], "they count for something")

	for i := range 4 { // other replicas' records come first or last
		n.remember(t, replica.ID{byte(20 * i)}, peer.AddrInfo{ID: "p", Addrs: wrong})
	}
	require.Contains(t, n.holders.AddrsOf(t.Context(), "p"), good)
}

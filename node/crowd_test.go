package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-sync/skerry/node/link"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// crowded is a network without streams, of which a test says who is connected and where.
type crowded struct {
	nowhere
	addrs []ma.Multiaddr
}

func (*crowded) Connected(peer.ID) bool              { return false }
func (*crowded) Peers() []link.Peer                  { return nil }
func (c *crowded) KnownAddrs(peer.ID) []ma.Multiaddr { return c.addrs }

func (*crowded) Connect(context.Context, peer.AddrInfo) error {
	return &link.UnreachableError{Peer: "nobody"}
}

// crowdedNode is a node with a clock that a test sets, and one replica.
func crowdedNode(t *testing.T, now *time.Time) (*Node, *crowded, replica.ID) {
	n, net := offline(t, now), &crowded{}
	n.joinNetwork(net)
	r, err := n.Replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	return n, net, r.ID
}

// visit has a peer come, prove that it holds the replica, and go.
func visit(n *Node, p peer.ID, id replica.ID) {
	n.contacts.changed(p, true)
	n.contacts.shares(p, id)
	n.contacts.changed(p, false)
}

func remembered(t *testing.T, n *Node, id replica.ID) map[peer.ID][]ma.Multiaddr {
	all, err := n.KnownPeers(context.Background(), id)
	require.NoError(t, err)
	out := map[peer.ID][]ma.Multiaddr{}
	for _, p := range all {
		out[p.ID] = p.Addrs
	}
	return out
}

func throwaway(i int) peer.ID { return peer.ID(fmt.Sprintf("crowd %05d", i)) }

var crowdTime = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// Throwaway identities, however many, make a node forget neither who was named to it, nor who has a
// history with it, nor who was there before them; and they have a bounded number of records.
func TestCrowdDisplacesNobody(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	// Their ids come before those of the crowd.
	named, old, before := peer.ID("a named"), peer.ID("b old"), peer.ID("c before")
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: named}}))
	for range 4 {
		visit(n, old, id)
		now = now.Add(24 * time.Hour)
	}
	visit(n, before, id)
	most := 0
	for i := range 1000 {
		now = now.Add(time.Minute)
		visit(n, throwaway(i), id)
		most = max(most, len(remembered(t, n, id)))
	}
	all := remembered(t, n, id)
	for _, p := range []peer.ID{named, old, before} {
		require.Contains(t, all, p)
	}
	require.LessOrEqual(t, most, 64+1)
	require.Contains(t, all, throwaway(999), "a newcomer is not shut out")
}

// Even if the crowd stays for weeks, it takes a share of the records, and the named peer keeps its.
func TestCrowdWithPatience(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: "named"}}))
	for range 20 {
		for i := range 100 {
			visit(n, throwaway(i), id)
		}
		now = now.Add(24 * time.Hour)
	}
	all := remembered(t, n, id)
	require.Contains(t, all, peer.ID("named"))
	require.LessOrEqual(t, len(all), 1+maxHistory+maxNewcomers)
	holders, err := n.holders.of(t.Context(), id)
	require.NoError(t, err)
	histories := 0
	for _, h := range holders {
		if h.ID != "named" && h.is == known {
			histories++
		}
	}
	require.NotZero(t, histories)
	require.LessOrEqual(t, histories, maxHistory)
	visit(n, "late", id)
	require.Contains(t, remembered(t, n, id), peer.ID("late"))
}

// Any number of throwaway ids can hold sessions. Of those for which there is no room among the
// newcomers, nothing is kept, however often they come back in one connection.
func TestNothingIsKeptOfACrowd(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	for i := range maxNewcomers {
		n.contacts.changed(throwaway(i), true)
		n.contacts.shares(throwaway(i), id) // they stay
	}
	for i := range 20 {
		p := throwaway(1000 + i)
		n.contacts.changed(p, true)
		for range 3 {
			n.contacts.shares(p, id)
			w, err := n.holders.watch(t.Context(), n.Replicas, id, p)
			require.NoError(t, err)
			_, err = w.end(t.Context())
			require.NoError(t, err)
			require.NoError(t, n.holders.noteSame(t.Context(), p, []replica.ID{id}))
		}
		n.contacts.changed(p, false)
	}
	require.Zero(t, countKeys(t, n.kv, keyCommon), "none of them was remembered")
	require.Equal(t, maxNewcomers, countKeys(t, n.kv, keySharing))
	require.Equal(t, maxNewcomers, countKeys(t, n.kv, keyByPeer))
	require.NoError(t, n.holders.noteSame(t.Context(), throwaway(0), []replica.ID{id}))
	last, err := n.LastSync(t.Context(), id)
	require.NoError(t, err)
	require.WithinDuration(t, now, last, 0, "of those that are remembered it is")
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

// A peer for which there is no room costs this node one look for it a minute, and no write, however
// often it pushes or runs a session.
func TestACrowdCostsNoWrites(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	for i := range maxNewcomers {
		n.contacts.changed(throwaway(i), true)
		n.contacts.shares(throwaway(i), id) // they stay
	}
	count := &counting{Store: n.kv}
	n.holders.kv = count
	p := throwaway(1000)
	n.contacts.changed(p, true)
	for range 20 {
		n.contacts.shares(p, id)
	}
	require.EqualValues(t, 1, count.updates.Load())
	require.Zero(t, count.writes.Load())
	now = now.Add(roomAgain)
	n.contacts.shares(p, id)
	require.EqualValues(t, 2, count.updates.Load())
	require.Zero(t, count.writes.Load())
	require.NotContains(t, remembered(t, n, id), p)

	n.contacts.changed(throwaway(maxNewcomers-1), false) // it makes room
	n.contacts.shares(p, id)
	require.NotContains(t, remembered(t, n, id), p, "not in the same minute")
	now = now.Add(roomAgain)
	n.contacts.shares(p, id)
	require.Contains(t, remembered(t, n, id), p)
	writes := count.writes.Load()
	n.contacts.shares(p, id)
	require.Equal(t, writes, count.writes.Load())
}

// trusting is a network that notes how much a node trusts its peers.
type trusting struct {
	crowded
	trust map[peer.ID]link.Trust
}

func (n *trusting) Keep(p peer.ID, trust link.Trust) { n.trust[p] = trust }

// A history makes a peer known, but not as one that a person has named: with patience anybody gets
// any number of histories.
func TestHistoriesCountLessThanNames(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	net := &trusting{trust: map[peer.ID]link.Trust{}}
	n.joinNetwork(net)
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: "friend"}}))
	for range historyDays {
		visit(n, "patient", id)
		visit(n, "friend", id)
		now = now.Add(24 * time.Hour)
	}
	check := func(p peer.ID, trust link.Trust) {
		t.Helper()
		n.contacts.changed(p, true)
		defer n.contacts.changed(p, false)
		n.contacts.shares(p, id)
		who := n.partyOf(pipeStream{remote: p})
		require.Equal(t, trust, net.trust[p])
		require.Equal(t, trust >= link.TrustHistory, who.Known)
		require.Equal(t, trust == link.TrustNamed, who.Named)
	}
	check("friend", link.TrustNamed)
	check("patient", link.TrustHistory)
	check("new", link.TrustProved)

	// One with a history may be named later, also while it is connected.
	n.contacts.changed("patient", true)
	n.contacts.shares("patient", id)
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: "patient"}}))
	require.Equal(t, link.TrustNamed, net.trust["patient"])
	require.True(t, n.partyOf(pipeStream{remote: "patient"}).Named)
	n.contacts.changed("patient", false)
	check("patient", link.TrustNamed)
}

// The network counts a peer that is known as the node does, from when it comes. A newcomer has to
// prove first that it still holds something.
func TestTrustFromTheFirst(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	net := &trusting{trust: map[peer.ID]link.Trust{}}
	n.joinNetwork(net)
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: "friend"}}))
	require.Empty(t, net.trust, "it is not connected")
	visit(n, "newcomer", id)
	for range historyDays {
		visit(n, "patient", id)
		now = now.Add(24 * time.Hour)
	}
	clear(net.trust)
	for _, p := range []peer.ID{"friend", "patient", "newcomer"} {
		n.contacts.changed(p, true)
	}
	require.Equal(t, map[peer.ID]link.Trust{"friend": link.TrustNamed, "patient": link.TrustHistory}, net.trust)
}

// A history takes days, by this node's clock; sessions without number in one day are worth one.
func TestHistoryTakesDays(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	for day := range historyDays {
		require.Equal(t, newcomer, n.holders.standing(t.Context(), id, "p"), day)
		for range 20 {
			visit(n, "p", id)
		}
		now = now.Add(24 * time.Hour)
	}
	require.Equal(t, known, n.holders.standing(t.Context(), id, "p"))
	require.Equal(t, newcomer, n.holders.standing(t.Context(), replica.ID{9}, "p"), "for that replica")
}

// Overviews are another way to prove that one holds a replica, with the same bounds.
func TestOverviewsOfACrowdAreBounded(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: "named"}}))
	for i := range 200 {
		p := throwaway(i)
		n.contacts.changed(p, true)
		o := &overview{key: [32]byte{byte(i)}}
		out := outcome{unknown: map[[32]byte]bool{tokenOf(id, o.key): true}}
		require.NoError(t, n.conclude(t.Context(), pipeStream{remote: p}, o, out, false))
		n.contacts.changed(p, false)
	}
	all := remembered(t, n, id)
	require.Contains(t, all, peer.ID("named"))
	require.LessOrEqual(t, len(all), 64+1)
}

// What somebody registers at a seed names peers of his choice: they displace nobody, and are
// bounded.
func TestHintsDisplaceNobody(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: "named"}}))
	for i := range 5 {
		visit(n, peer.ID(fmt.Sprintf("a device %d", i)), id)
	}
	for i := range 100 {
		at, err := ma.NewMultiaddr("/ip4/198.51.100.1/tcp/1/p2p/" + idOf(byte(i)).String())
		require.NoError(t, err)
		tk := &ticket.Doc{Capability: replica.Sync, Replica: id, Addrs: []ma.Multiaddr{at}}
		_, err = n.Keep(t.Context(), tk, "")
		require.NoError(t, err)
	}
	all := remembered(t, n, id)
	require.Contains(t, all, peer.ID("named"))
	require.Contains(t, all, idOf(99), "the last one is dialled")
	require.LessOrEqual(t, len(all), 1+maxNewcomers)
	for i := range maxNewcomers {
		visit(n, throwaway(i), id)
	}
	all = remembered(t, n, id)
	for i := range 5 {
		require.Contains(t, all, peer.ID(fmt.Sprintf("a device %d", i)))
	}
	require.NotContains(t, all, idOf(99), "who has proved itself goes first")
}

// Of too many peers, a node goes on dialling those that it knows, before a restart and after it.
func TestCrowdIsNotDialledInsteadOfOthers(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	honest := peer.ID("z honest")
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: honest}}))
	n.contacts.mu.Lock()
	n.contacts.contacts[honest].retry = lastRetry // it has been away for long
	n.contacts.mu.Unlock()
	var ids []replica.ID
	for range maxContacts/maxNewcomers + 2 {
		r, err := n.Replicas.Create(t.Context(), "")
		require.NoError(t, err)
		ids = append(ids, r.ID)
	}
	for i := range maxContacts + 50 {
		visit(n, throwaway(i), ids[i/maxNewcomers])
	}
	n.contacts.mu.Lock()
	require.LessOrEqual(t, len(n.contacts.contacts), maxContacts)
	require.Contains(t, n.contacts.contacts, honest)
	n.contacts.mu.Unlock()

	n.contacts = newAgenda(n.contacts.cfg)
	require.NoError(t, n.contacts.load(t.Context()))
	require.LessOrEqual(t, len(n.contacts.contacts), maxContacts)
	require.Contains(t, n.contacts.contacts, honest)
}

// What others say of a peer's addresses does not push out all that it was met at.
func TestAddressesAreNotPushedOut(t *testing.T) {
	now := crowdTime
	n, net, id := crowdedNode(t, &now)
	good, err := ma.NewMultiaddr("/ip4/192.0.2.1/tcp/4001")
	require.NoError(t, err)
	net.addrs = []ma.Multiaddr{good}
	visit(n, "p", id)
	var wrong []ma.Multiaddr
	for i := range 3 * maxAddrs {
		a, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/198.51.100.%d/tcp/1", i))
		require.NoError(t, err)
		wrong = append(wrong, a)
	}
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: "p", Addrs: wrong}}))
	got := remembered(t, n, id)["p"]
	require.Contains(t, got, good)
	require.Len(t, got, maxAddrs)
	require.Contains(t, got, wrong[0], "they count for something")

	r, err := n.Replicas.Create(t.Context(), "other")
	require.NoError(t, err)
	for range 4 { // other replicas' records come first or last
		require.NoError(t, n.Remember(t.Context(), []replica.ID{r.ID}, []peer.AddrInfo{{ID: "p", Addrs: wrong}}))
	}
	require.Contains(t, n.holders.addrsOf(t.Context(), "p"), good)
}

// Blame of throwaway identities is bounded, and that of the last ones stays.
func TestBlameIsBounded(t *testing.T) {
	now := crowdTime
	n, _, _ := crowdedNode(t, &now)
	for i := range maxBlamed + 100 {
		now = now.Add(time.Millisecond)
		n.blamed.noteRubbish(throwaway(i), context.Canceled)
	}
	require.LessOrEqual(t, len(n.blamed.rubbish), maxBlamed)
	require.True(t, n.blamed.isRefused(throwaway(maxBlamed+99)))
}

// Golden: the record of a peer.
func TestAcquaintanceGolden(t *testing.T) {
	addr, err := ma.NewMultiaddr("/ip4/192.0.2.1/tcp/4001")
	require.NoError(t, err)
	a := acquaintance{named: true, history: true, first: 1777636800, last: 1777723200, days: 2, addrs: []ma.Multiaddr{addr}}
	require.Equal(t, "0103"+"0000000069f495c0"+"0000000069f5e740"+"0002"+"01"+"08"+"04c0000201060fa1", hex.EncodeToString(a.marshal()))
	back, err := parseAcquaintance(a.marshal())
	require.NoError(t, err)
	require.Equal(t, a, back)
}

func FuzzAcquaintance(f *testing.F) {
	f.Add((&acquaintance{named: true, days: 1}).marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAcquaintance(b)
		if err != nil {
			return
		}
		again, err := parseAcquaintance(a.marshal())
		require.NoError(t, err)
		require.Equal(t, a, again)
	})
}

// A slow peer's outbox holds a bounded number of bytes, however long the keys are.
func TestOutboxIsBounded(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	o := &outbox{n: n, p: "p", busy: true} // its goroutine waits for the peer
	var once sync.Once
	for range maxOutbox {
		o.add(t.Context(), replica.Entry{Replica: id, Key: make([]byte, 60<<10)})
		held := 0
		for i := range o.entries {
			held += len(o.entries[i].Key)
		}
		if held > maxOutboxBytes {
			once.Do(func() { t.Errorf("%d bytes wait", held) })
			break
		}
	}
}

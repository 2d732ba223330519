package seed

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// Registrations whose tickets say that devices are at somebody else's address do not make the seed
// flood that address, and do not keep it from serving an honest device.
func TestSeedIsNoReflector(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var calls atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		<-done
	})
	victim, err := manet.FromNetAddr(l.Addr())
	require.NoError(t, err)

	c := &clock{}
	s := host(t, t.TempDir(), Limits{Bytes: 1 << 20, Replicas: 100, Grace: time.Hour}, c)
	mallory := newPerson(t, c)
	for range 60 {
		tk := &ticket.Doc{Capability: replica.Sync, Replica: replica.NewSecretKey().Replica()}
		for range 16 {
			key, _, err := crypto.GenerateEd25519Key(nil)
			require.NoError(t, err)
			id, err := peer.IDFromPrivateKey(key)
			require.NoError(t, err)
			addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{victim}})
			require.NoError(t, err)
			tk.Addrs = append(tk.Addrs, addrs...)
		}
		text, err := tk.Text()
		require.NoError(t, err)
		_, err = s.Register(t.Context(), mallory.request(t, s, tk.Replica, text))
		require.NoError(t, err)
		known, err := s.n.KnownPeers(t.Context(), tk.Replica)
		require.NoError(t, err)
		require.LessOrEqual(t, len(known), maxDialled)
	}
	eventually(t, "the seed has dialled", func() bool { return calls.Load() >= 40 })

	a := online(t, node.Config{}, nil)
	r, err := a.CreateReplica(t.Context(), "r", false)
	require.NoError(t, err)
	set(t, a, r.ID, "k", "v")
	client := Client{a, infoOf(s.n)}
	p := newPerson(t, c)
	_, err = client.Register(t.Context(), p.request(t, s, r.ID, ticketFor(t, a, r, replica.Sync)))
	require.NoError(t, err)
	eventually(t, "synced", func() bool {
		all, err := client.Backups(t.Context(), p.read(t, s))
		require.NoError(t, err)
		return len(all) == 1 && all[0].State == "SYNCED" && all[0].EntryCount == 1
	})
	require.Less(t, calls.Load(), int64(150))
}

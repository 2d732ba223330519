package invites

import (
	"bufio"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/link/linktest"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// drip reports whether a stream was given a place, and then sends a byte now and then.
func drip(conn net.Conn) (admitted bool) {
	if _, err := conn.Write([]byte{version}); err != nil {
		return false
	}
	go func() {
		var err error
		for err == nil {
			time.Sleep(time.Second)
			_, err = conn.Write([]byte{0})
		}
	}()
	return true
}

// bring redeems an invite as a peer.
func bring(
	s *Service, conn net.Conn, p peer.ID, secret ticket.InviteSecret,
) (Given, error) {
	author := replica.NewSecretKey()
	proof := author.Sign(redeemProof(secret, string(s.n.ID()), string(p)))
	if _, err := conn.Write(appendRedeem(secret, author.Author(), proof, nil)); err != nil {
		return Given{}, err
	}
	return readGiven(bufio.NewReader(conn))
}

// A stranger with any number of identities who sends requests a byte at a time holds few places
// from one network, and each for a few seconds. So others are served meanwhile; those of the same
// network when that is over; those of another network also when strangers of a few networks hold
// all places of strangers; and when each place is held from another network, whom the node knows.
func TestPlacesOfInvites(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		n, err := node.Open(ctx, node.Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewMem()}})
		require.NoError(t, err)
		defer func() {
			require.NoError(t, n.Close())
			time.Sleep(time.Minute) // until who drips has noticed
		}()
		s, err := New(n)
		require.NoError(t, err)
		hall := linktest.NewHall(n.ID())
		require.NoError(t, n.GoOnline(hall))
		r, err := n.CreateReplica(ctx, "r", false)
		require.NoError(t, err)
		_, tk, err := s.Make(ctx, r, Invite{Mode: replica.Read})
		require.NoError(t, err)
		require.NoError(t, n.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: "friend"}}))
		fill := func(from string) (held int) {
			for i := range 20 {
				for range 3 {
					if drip(hall.Visit(peer.ID(fmt.Sprint(from, " ", i)), from, protocol)) {
						held++
					}
				}
			}
			return held
		}
		join := func(p peer.ID, from string) error {
			given, err := bring(s, hall.Visit(p, from, protocol), p, tk.Secret)
			if err == nil {
				require.Equal(t, r.ID, given.Replica)
			}
			return err
		}
		require.Equal(t, 16, fill("crowd"), "from one network")
		require.Error(t, join("neighbour", "crowd"))
		require.NoError(t, join("joiner", "elsewhere"))
		for range 2 {
			require.True(t, drip(hall.Visit("alone", "a network", protocol)))
		}
		require.False(t, drip(hall.Visit("alone", "a network", protocol)), "of one peer")
		time.Sleep(requestTime + time.Second) // those who drip have gone
		require.NoError(t, join("neighbour", "crowd"))

		held := 0
		for i := range 20 {
			held += fill(fmt.Sprint("crowd ", i))
		}
		require.Greater(t, held, 256, "some have given their places to others")
		require.NoError(t, join("another joiner", "elsewhere"))
		for i := range 300 {
			drip(hall.Visit(peer.ID(fmt.Sprint("spread ", i)), fmt.Sprint("spread ", i), protocol))
		}
		require.Error(t, join("another joiner", "elsewhere"))
		require.NoError(t, join("friend", "elsewhere"))
		time.Sleep(requestTime + time.Second) // those who drip have gone
		require.NoError(t, join("another joiner", "elsewhere"))
	})
}

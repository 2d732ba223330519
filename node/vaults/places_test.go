package vaults

import (
	"context"
	"errors"
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
	"github.com/skerry-sync/skerry/vault"
)

// A stranger with any number of identities who sends calls a byte at a time holds few places of the
// keyring from one network, and each for a few seconds. So others are answered meanwhile; those of
// the same network when that is over; and when strangers of many networks hold all places of
// strangers, whom the node knows.
func TestPlacesOfTheKeyring(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		n, err := node.Open(ctx, node.Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewMem()}})
		require.NoError(t, err)
		defer func() {
			require.NoError(t, n.Close())
			time.Sleep(time.Minute) // until who drips has noticed
		}()
		_, err = New(n, nil)
		require.NoError(t, err)
		hall := linktest.NewHall(n.ID())
		require.NoError(t, n.GoOnline(hall))
		r, err := n.CreateReplica(ctx, "r", false)
		require.NoError(t, err)
		require.NoError(t, n.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: "friend"}}))
		drip := func(conn net.Conn) (admitted bool) {
			if _, err := conn.Write([]byte{0, 1, 0, 0}); err != nil {
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
		fill := func(from string) (held int) {
			for i := range 20 {
				for range 5 {
					p := peer.ID(fmt.Sprint(from, " ", i))
					if drip(hall.Visit(p, from, keyringProtocol)) {
						held++
					}
				}
			}
			return held
		}
		ask := func(p peer.ID, from string) error {
			call := func(_ context.Context, msg []byte) ([]byte, error) {
				conn := hall.Visit(p, from, keyringProtocol)
				if err := writeMessage(conn, msg); err != nil {
					return nil, err
				}
				return readMessage(conn, vault.MaxCall, nil)
			}
			_, err := vault.Remote{Call: call}.Ask(ctx, vault.App{}, vault.Ask{
				Application: "example.org", Reason: "to read", Challenge: make([]byte, 32),
			})
			if errors.Is(err, vault.ErrNoIdentity) { // it has none, and says so
				return nil
			}
			return err
		}
		require.Equal(t, 32, fill("crowd"), "from one network")
		require.Error(t, ask("neighbour", "crowd"))
		require.NoError(t, ask("app", "elsewhere"))
		time.Sleep(callTime + time.Second) // those who drip have gone
		require.NoError(t, ask("neighbour", "crowd"))

		held := 0
		for i := range 10 {
			held += fill(fmt.Sprint("crowd ", i))
		}
		require.Greater(t, held, 256, "some have given their places to others")
		require.NoError(t, ask("another app", "elsewhere"))
		for i := range 300 {
			from := fmt.Sprint("spread ", i)
			drip(hall.Visit(peer.ID(from), from, keyringProtocol))
		}
		require.Error(t, ask("another app", "elsewhere"))
		require.NoError(t, ask("friend", "elsewhere"))
		time.Sleep(callTime + time.Second) // those who drip have gone
		require.NoError(t, ask("another app", "elsewhere"))
	})
}

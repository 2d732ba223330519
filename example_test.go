package skerry_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/datadir"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Two nodes in one program share an encrypted replica.
func ExampleStart() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	a, err := skerry.Start(ctx, "", skerry.Listen("/ip4/127.0.0.1/tcp/0"))
	must(err)
	defer a.Close()
	b, err := skerry.Start(ctx, "", skerry.Listen("/ip4/127.0.0.1/tcp/0"))
	must(err)
	defer b.Close()

	made, err := a.CreateReplica(ctx, "diary", true)
	must(err)
	diary := a.ReplicaOf(made.ID)
	_, err = diary.Set(ctx, []byte("2026-11-28"), []byte("rain, and soup"))
	must(err)

	shared, err := a.Ticket(ctx, made, replica.Write)
	must(err)
	text, err := shared.Text()
	must(err)
	pasted, err := ticket.ParseDoc(text) // as a person does
	must(err)
	joined, err := b.Join(ctx, pasted, "diary")
	must(err)
	entry, err := b.ReplicaOf(joined.Replica.ID).Get(ctx, []byte("2026-11-28"), 1<<20)
	must(err)
	fmt.Println(string(entry))
	// Output: rain, and soup
}

func TestStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	n, err := skerry.Start(t.Context(), dir, skerry.Offline())
	require.NoError(t, err)
	require.False(t, n.Online())
	_, err = skerry.Start(t.Context(), dir, skerry.Offline())
	var inUse *datadir.InUseError
	require.ErrorAs(t, err, &inUse)
	require.NoError(t, n.Close())
	require.DirExists(t, dir)

	n, err = skerry.Start(t.Context(), "", skerry.Listen())
	require.NoError(t, err)
	require.True(t, n.Online())
	require.Len(t, n.Addrs(), 1, "its id alone")
	temporary := n.Dir()
	require.NoError(t, n.Close())
	_, err = os.Stat(temporary)
	require.ErrorIs(t, err, os.ErrNotExist)

	for name, o := range map[string]skerry.Option{
		"address": skerry.Listen("junk"), "network": skerry.Network(nil), "log": skerry.Log(nil),
	} {
		_, err = skerry.Start(t.Context(), dir, o)
		require.Error(t, err, name)
	}
	// A network that cannot be made leaves nothing open.
	broken := fmt.Errorf("no network here")
	_, err = skerry.Start(t.Context(), dir, skerry.Network(func(*node.Node) (link.Network, error) {
		return nil, broken
	}))
	require.ErrorIs(t, err, broken)
	n, err = skerry.Start(t.Context(), dir, skerry.Offline())
	require.NoError(t, err)
	require.NoError(t, n.Close())
}

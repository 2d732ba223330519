package vaults_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/vaults"
	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start opens a node in dir and brings it online on the loopback interface; stop is called at the
// end of the test at the latest.
func start(t testing.TB, dir string) (n *skerry.Node, stop func()) {
	t.Helper()
	return startAt(t, dir, "/ip4/127.0.0.1/tcp/0")
}

func startAt(t testing.TB, dir, listen string) (n *skerry.Node, stop func()) {
	t.Helper()
	addr, err := ma.NewMultiaddr(listen)
	require.NoError(t, err)
	n, err = skerry.Open(t.Context(), node.Config{Dir: dir, SyncInterval: 2 * time.Second}, nil)
	require.NoError(t, err)
	net, err := libp2pnet.New(libp2pnet.Config{
		Key: n.Key(), Listen: []ma.Multiaddr{addr}, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.NoError(t, n.GoOnline(net))
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n, func() { require.NoError(t, n.Close()) }
}

func infoOf(t testing.TB, n *skerry.Node) []peer.AddrInfo {
	return (&ticket.Blob{Addrs: n.Addrs()}).Peers()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, 5*time.Millisecond, what)
}

// person is somebody with an identity, whose keys the test holds as a keyring would.
func person(t testing.TB) (vault.Identity, vault.Keys) {
	t.Helper()
	key, err := identity.NewKey(identity.Wallet)
	require.NoError(t, err)
	keys, err := vault.Derive(key)
	require.NoError(t, err)
	who := vault.Identity{
		ID: identity.IDOf(key.Public(), key.Nonce()), Kind: key.Kind(), Public: key.Public(),
		Nonce: key.Nonce(),
	}
	return who, keys
}

func catalogue(t testing.TB, n *skerry.Node) vaults.Catalogue {
	t.Helper()
	v, err := n.Vaults.Of(t.Context(), "")
	require.NoError(t, err)
	c, err := n.Vaults.Catalogue(t.Context(), &v)
	require.NoError(t, err)
	return c
}

func names(c vaults.Catalogue) (out []string) {
	for _, p := range c.Projects {
		out = append(out, p.Name)
	}
	return out
}

// holding waits until a node has so many entries of a vault: two for each project, and a head for
// each device.
func holding(t testing.TB, n *skerry.Node, id replica.ID, entries uint64) {
	t.Helper()
	eventually(t, "the entries are here", func() bool {
		c, err := n.Replicas().Counts(t.Context(), id)
		return err == nil && c.Entries == entries
	})
}

// settled waits until a node has a catalogue without faults of so many projects.
func settled(t testing.TB, n *skerry.Node, projects int) vaults.Catalogue {
	t.Helper()
	var c vaults.Catalogue
	eventually(t, "the catalogue is here", func() bool {
		c = catalogue(t, n)
		return len(c.Projects) == projects && len(c.Faults) == 0 && len(c.Warnings) == 0
	})
	return c
}

// A vault begins with what the device has, and follows what is made, renamed and deleted.
// A new device has it from nothing but the identity's key and one peer. What was
// here last stays to be read without any peer.
func TestVaultFollowsAndStartsCold(t *testing.T) {
	dirB := t.TempDir()
	a, stopA := start(t, t.TempDir())
	b, stopB := start(t, dirB)
	ctx := t.Context()
	who, keys := person(t)

	before, err := a.CreateReplica(ctx, "before", true)
	require.NoError(t, err)
	_, err = a.Vaults.Of(ctx, "")
	require.ErrorIs(t, err, vaults.ErrNone)
	v, err := a.Vaults.OpenOwn(ctx, who, keys, nil)
	require.NoError(t, err)
	require.Equal(t, keys.Replica.Replica(), v.Replica.ID)
	require.Equal(t, "vault", v.Replica.Name)
	require.True(t, v.Replica.Encrypted)
	require.Equal(t, []string{"before"}, names(catalogue(t, a)))
	after, err := a.CreateReplica(ctx, "after", false)
	require.NoError(t, err)
	for i := range 100 {
		_, err := a.CreateReplica(ctx, fmt.Sprintf("project %03d", i), i%2 == 0)
		require.NoError(t, err)
	}
	_, err = a.RenameReplica(ctx, after.ID, "renamed")
	require.NoError(t, err)
	gone, err := a.Replicas().Resolve(ctx, "project 099")
	require.NoError(t, err)
	listed, err := a.Vaults.Leave(ctx, gone.ID, false)
	require.NoError(t, err)
	require.False(t, listed, "nobody else holds it")
	c := catalogue(t, a)
	require.Len(t, c.Projects, 101)
	require.Empty(t, c.Faults)
	require.Empty(t, c.Warnings)
	require.Contains(t, names(c), "renamed")
	require.NotContains(t, names(c), "after")

	_, err = b.Vaults.OpenOwn(ctx, who, keys, infoOf(t, a))
	require.NoError(t, err)
	c = settled(t, b, 101)
	require.Equal(t, names(catalogue(t, a)), names(c))
	require.Equal(t, "before", c.Projects[0].Name)
	require.Equal(t, replica.Write, c.Projects[0].Restore)
	require.Empty(t, c.Projects[0].Held)

	// The new device is as good as the first: it writes what it joins, and what it makes is listed.
	vb, err := b.Vaults.Of(ctx, "")
	require.NoError(t, err)
	joined, err := b.Vaults.Join(ctx, &vb, &c.Projects[0].Project, "")
	require.NoError(t, err)
	require.Equal(t, before.ID, joined.Replica.ID)
	require.Equal(t, replica.Write, joined.Replica.Capability)
	require.True(t, joined.Replica.Encrypted)
	_, err = b.CreateReplica(ctx, "on b", false)
	require.NoError(t, err)
	settled(t, a, 102)
	// A changed read key is noted.
	_, err = a.Rotate(ctx, before.ID)
	require.NoError(t, err)
	eventually(t, "the new read key is in the vault", func() bool {
		c := catalogue(t, b)
		return len(c.Projects) == 102 && c.Projects[0].ReadKey.Epoch == 2
	})
	// Deleting where others hold it is asked for.
	listed, err = b.Vaults.Leave(ctx, before.ID, false)
	require.NoError(t, err)
	require.True(t, listed, "the other device holds it")
	settled(t, b, 102)

	stopA()
	c = catalogue(t, b)
	require.Len(t, c.Projects, 102)
	stopB()
	alone, err := skerry.Open(ctx, node.Config{Dir: dirB}, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, alone.Close()) }()
	c = catalogue(t, alone)
	require.Len(t, c.Projects, 102)
	require.Empty(t, c.Faults)
}

// A vault that is to be found at a peer is not begun anew when the peer does not answer, and what
// this device holds is not added before the vault has come.
func TestVaultOfUnreachablePeer(t *testing.T) {
	dirA := t.TempDir()
	a, stopA := start(t, dirA)
	b, _ := start(t, t.TempDir())
	ctx := t.Context()
	who, keys := person(t)
	r, err := a.CreateReplica(ctx, "removed", false)
	require.NoError(t, err)
	va, err := a.Vaults.OpenOwn(ctx, who, keys, nil)
	require.NoError(t, err)
	require.NoError(t, a.Vaults.Remove(ctx, &va, r.ID))
	at := infoOf(t, a)
	tk, err := a.Ticket(ctx, r, replica.Write)
	require.NoError(t, err)
	_, err = b.Join(ctx, tk, "removed")
	require.NoError(t, err)
	stopA()
	_, err = b.Vaults.OpenOwn(ctx, who, keys, at)
	var unreachable *link.UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.Empty(t, catalogue(t, b).Projects)
	a, _ = startAt(t, dirA, at[0].Addrs[0].String())
	eventually(t, "the vault has come", func() bool {
		c, err := b.Replicas().Counts(ctx, va.Replica.ID)
		return err == nil && c.Tombstones > 0
	})
	_, err = b.CreateReplica(ctx, "new", false)
	require.NoError(t, err)
	settled(t, a, 1)
	require.Equal(t, []string{"new"}, names(catalogue(t, a)), "what was taken off stays off")
}

// Somebody else hosts the vault, by a sync ticket, and learns nothing of what it
// lists; the person's next device starts from that host alone.
func TestVaultAtAHost(t *testing.T) {
	a, stopA := start(t, t.TempDir())
	host, _ := start(t, t.TempDir())
	c, _ := start(t, t.TempDir())
	ctx := t.Context()
	who, keys := person(t)
	v, err := a.Vaults.OpenOwn(ctx, who, keys, nil)
	require.NoError(t, err)
	r, err := a.CreateReplica(ctx, "secret plans", true)
	require.NoError(t, err)
	holding(t, a, v.Replica.ID, 3)
	tk, err := a.Ticket(ctx, v.Replica, replica.Sync)
	require.NoError(t, err)
	_, err = host.Join(ctx, tk, "somebody's")
	require.NoError(t, err)
	eventually(t, "the host has all content", func() bool {
		k, err := host.PendingContent(ctx, v.Replica.ID)
		return err == nil && k == 0
	})
	entries := 0
	for e, err := range host.Replicas().Entries(ctx, v.Replica.ID, replica.Query{Tombstones: true}) {
		require.NoError(t, err)
		entries++
		for _, what := range []string{project.IDOf(r.ID), "catalog", "secret", who.ID.String()} {
			require.NotContains(t, string(e.Key), what)
		}
		if b, err := host.Blobs().ReadAll(ctx, e.Hash, 1<<20); err == nil {
			require.NotContains(t, string(b), "plans")
			require.False(t, bytes.Contains(b, r.ID[:8]))
		}
	}
	require.Equal(t, 3, entries, "an entry of the catalogue, one to restore from, and a head")
	_, err = host.Vaults.Of(ctx, "")
	require.ErrorIs(t, err, vaults.ErrNone)
	_, err = host.Replicas().Plain(ctx, v.Replica.ID)
	require.ErrorIs(t, err, replica.ErrNoReadKey)

	stopA()
	_, err = c.Vaults.OpenOwn(ctx, who, keys, infoOf(t, host))
	require.NoError(t, err)
	require.Equal(t, []string{"secret plans"}, names(settled(t, c, 1)))
}

// What cannot be read in a vault is told, and hides nothing else; so is what a host withholds or
// shows as it was.
func TestFaultsOfAVault(t *testing.T) {
	a, _ := start(t, t.TempDir())
	b, _ := start(t, t.TempDir())
	ctx := t.Context()
	who, keys := person(t)
	v, err := a.Vaults.OpenOwn(ctx, who, keys, nil)
	require.NoError(t, err)
	for _, name := range []string{"one", "two", "three"} {
		_, err = a.CreateReplica(ctx, name, false)
		require.NoError(t, err)
	}
	holding(t, a, v.Replica.ID, 7)
	// Somebody who may write the vault, but has not the catalogue key: a catalogue entry that does not
	// decrypt, and one that is no message.
	var changes []node.Change
	for name, content := range map[string]string{"garbage": strings.Repeat("x", 100), "short": "y"} {
		changes = append(changes,
			node.Change{Key: append(vault.Prefix(), name...), Value: []byte(content)})
	}
	_, err = a.ReplicaOf(v.Replica.ID).Apply(
		ctx, node.WriteOptions{As: replica.NewSecretKey()}, changes...)
	require.NoError(t, err)
	c := catalogue(t, a)
	require.Len(t, c.Projects, 3)
	require.Len(t, c.Faults, 2)
	require.Contains(t, c.Faults[0]+c.Faults[1], "cannot be opened with this key")
	require.Len(t, c.Warnings, 1, "that author has no head")

	// A host gives a new device all but one entry.
	all, err := a.Replicas().Grants(ctx, v.Replica.ID)
	require.NoError(t, err)
	var statements [][]byte
	for i := range all {
		statements = append(statements, all[i].Bytes())
	}
	_, err = b.Vaults.OpenOwn(ctx, who, keys, nil)
	require.NoError(t, err)
	_, err = b.TakeStatements(ctx, v.Replica.ID, statements)
	require.NoError(t, err)
	view, err := a.Replicas().Plain(ctx, v.Replica.ID)
	require.NoError(t, err)
	var entries []replica.Entry
	var withheld *replica.Entry
	for e, err := range a.Replicas().Entries(ctx, v.Replica.ID, replica.Query{}) {
		require.NoError(t, err)
		if it, ok := view.Open(e); ok && withheld == nil &&
			bytes.HasPrefix(it.Key, vault.Prefix()) &&
			!bytes.Contains(it.Key, []byte("r")) {
			withheld = &e
			continue
		}
		entries = append(entries, e)
		content, err := a.Blobs().ReadAll(ctx, e.Hash, 1<<20)
		require.NoError(t, err)
		_, err = b.Blobs().ImportBytes(ctx, content)
		require.NoError(t, err)
	}
	require.NotNil(t, withheld)
	_, err = b.TakeEntries(ctx, v.Replica.ID, entries, replica.Origin{Peer: "host"})
	require.NoError(t, err)
	c = catalogue(t, b)
	require.Len(t, c.Projects, 2)
	told := fmt.Sprint(c.Warnings)
	require.Contains(t, told, "somebody withholds some or shows old ones")
	_, err = b.TakeEntries(
		ctx,
		v.Replica.ID,
		[]replica.Entry{*withheld},
		replica.Origin{Peer: "host"},
	)
	require.NoError(t, err)
	require.NotContains(
		t,
		fmt.Sprint(catalogue(t, b).Warnings),
		"withholds some",
		"nothing of it is missing any more",
	)
}

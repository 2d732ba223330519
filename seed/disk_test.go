package seed

import (
	"crypto/rand"
	"encoding/binary"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// shop is a seed at a node without a network, with a registered replica that somebody writes to it.
type shop struct {
	*Seed
	who    identity.ID
	secret replica.SecretKey // of the replica
	author replica.SecretKey
	now    uint64
}

func newShop(t *testing.T, limits Limits, storage limits.Config) *shop {
	t.Helper()
	reg := NewRegistry(limits, nil)
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir(), Host: reg, Limits: storage})
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Close() }) // some tests close it themselves
	x := &shop{
		Seed: New(n, reg, slog.New(slog.DiscardHandler), nil), who: identity.ID{1},
		author: replica.NewSecretKey(),
	}
	x.now = uint64(time.Now().Add(-time.Hour).UnixMicro())
	x.secret = x.register(t, x.who)
	return x
}

// register has an identity register a new replica that x.author may write.
func (x *shop) register(t *testing.T, who identity.ID) replica.SecretKey {
	t.Helper()
	secret := replica.NewSecretKey()
	x.registerOld(t, who, secret.Replica())
	g := replica.Grant{
		Replica: secret.Replica(), Author: x.author.Author(), NotAfter: replica.Forever, Issued: x.now,
	}
	g.Sign(secret)
	added, err := x.n.TakeStatements(t.Context(), secret.Replica(), [][]byte{g.Bytes()})
	require.NoError(t, err)
	require.Equal(t, 1, added.Added)
	return secret
}

// registerOld has an identity register a replica, as the seed does it.
func (x *shop) registerOld(t *testing.T, who identity.ID, id replica.ID) {
	t.Helper()
	_, err := x.reg.Register(
		t.Context(), x.n.Store(), who, id, "", "", time.Unix(int64(x.now/1_000_000), 0),
	)
	require.NoError(t, err)
	_, err = x.n.Keep(
		t.Context(), &ticket.Doc{Capability: replica.Sync, Replica: id}, "seed-"+id.String()[:20],
	)
	require.NoError(t, err)
	require.NoError(t, x.chargeAll(t.Context()))
}

// write stores what a peer has written, and returns how many entries were taken.
func (x *shop) write(t *testing.T, secret replica.SecretKey, changes ...replica.Change) int {
	t.Helper()
	var all []replica.Entry
	for _, c := range changes {
		x.now++
		e := replica.Entry{
			Replica: secret.Replica(), Author: x.author.Author(), Timestamp: x.now, Key: c.Key, Hash: c.Hash,
			Size: c.Size,
		}
		if c.Hash == (blobs.Hash{}) {
			e.Hash = blobs.EmptyHash
		}
		e.Sign(x.author)
		all = append(all, e)
	}
	got, err := x.n.TakeEntries(t.Context(), secret.Replica(), all, replica.Origin{Peer: "somebody"})
	require.NoError(t, err)
	require.Equal(t, len(changes), len(got.Added)+got.Known+got.NoRoom)
	return len(got.Added)
}

// state returns the state of a registration, and what all of them are charged.
func (x *shop) state(t *testing.T, who identity.ID, id replica.ID) (State, Usage) {
	t.Helper()
	all, u, err := x.StatusOf(t.Context(), who)
	require.NoError(t, err)
	for _, s := range all {
		if s.Replica == id {
			return s.State, u
		}
	}
	return 0, u
}

// disk closes the node, and returns how many bytes its files take without what is dead in them.
func (x *shop) disk(t *testing.T) (total uint64) {
	t.Helper()
	require.NoError(t, x.n.Store().Compact(t.Context()))
	require.NoError(t, x.n.Close())
	require.NoError(t, filepath.WalkDir(x.n.Dir(), func(path string, e fs.DirEntry, err error) error {
		// not the log: what it has is in the tables, too
		if err != nil || e.IsDir() || filepath.Ext(path) == ".log" || e.Name() == "ballast" {
			return err
		}
		info, err := os.Stat(path)
		if err == nil {
			total += uint64(info.Size())
		}
		return err
	}))
	return total
}

func longKey(i int) []byte {
	b := make([]byte, 60_000)
	_, _ = rand.Read(b[8:])
	binary.BigEndian.PutUint64(b, uint64(i))
	return b
}

// What identities are charged covers what is on the disk, and not many times as much: for short
// keys and long ones, deletions, contents of all sizes, and statements.
func TestChargesCoverTheDisk(t *testing.T) {
	testkit.SeenElsewhere(t)
	for name, write := range map[string]func(x *shop, i int) []replica.Change{
		"deletions with short keys": func(_ *shop, i int) []replica.Change {
			var all []replica.Change
			for k := range 200 {
				all = append(
					all, replica.Change{Key: binary.BigEndian.AppendUint32([]byte("key"), uint32(200*i+k))},
				)
			}
			return all
		},
		"deletions with keys of 60 KB": func(_ *shop, i int) []replica.Change {
			return []replica.Change{{Key: longKey(i)}}
		},
		"wanted content with keys of 1 KB": func(_ *shop, i int) []replica.Change {
			var all []replica.Change
			for range 20 {
				k := longKey(i)[:1000]
				_, _ = rand.Read(k)
				all = append(all, replica.Change{Key: k, Hash: blobs.HashOf(k), Size: 1})
			}
			return all
		},
		"small content": func(x *shop, i int) []replica.Change {
			var all []replica.Change
			for k := range 20 {
				info, err := x.n.Blobs().ImportBytes(t.Context(), longKey(20*i + k)[:500])
				require.NoError(t, err)
				all = append(
					all,
					replica.Change{
						Key: binary.BigEndian.AppendUint32(nil, uint32(20*i+k)), Hash: info.Hash, Size: info.Size,
					},
				)
			}
			return all
		},
		"large content": func(x *shop, i int) []replica.Change {
			b := make([]byte, 700_000)
			_, _ = rand.Read(b)
			info, err := x.n.Blobs().ImportBytes(t.Context(), b)
			require.NoError(t, err)
			return []replica.Change{
				{Key: binary.BigEndian.AppendUint32(nil, uint32(i)), Hash: info.Hash, Size: info.Size},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newShop(t, Limits{Bytes: 1 << 30, Replicas: 2, Grace: time.Hour}, limits.Config{})
			for i := range 50 {
				some := write(x, i)
				require.Equal(t, len(some), x.write(t, x.secret, some...))
			}
			_, u := x.state(t, x.who, x.secret.Replica())
			onDisk, charges := x.disk(t), u.Bytes
			t.Logf(
				"%d bytes on the disk, %d charged: %.2f", onDisk, charges, float64(charges)/float64(onDisk),
			)
			require.LessOrEqual(t, onDisk, charges)
			require.LessOrEqual(t, charges, 4*onDisk)
		})
	}
}

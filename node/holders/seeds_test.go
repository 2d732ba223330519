package holders

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/replica"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newBook returns an empty book and its store.
func newBook(t *testing.T) (*Book, kv.Store) {
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	store := kvtest.Rerun(db)
	return New(Config{
		Store: store, Self: "self", Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Connected: func(peer.ID) bool { return false },
	}), store
}

// Golden: the records of a seed at which this node has registered a replica, and of one that
// another device names.
func TestSeedGolden(t *testing.T) {
	ctx := t.Context()
	b, store := newBook(t)
	id := replica.ID(bytes.Repeat([]byte{0xab}, 32))
	require.NoError(t, b.AddSeed(ctx, id, "own", true))
	require.NoError(t, b.AddSeed(ctx, id, "theirs", false))
	const prefix = "6e7a" + "abababababababababababababababababababababababababababababababab"
	golden := []string{prefix + "6f776e" + " 01", prefix + "746865697273" + " 00"}
	var got []string
	require.NoError(t, store.View(ctx, func(r kv.Reader) error {
		got = nil
		for p, err := range r.Scan(kv.Range{}, kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			got = append(got, hex.EncodeToString(p.Key)+" "+hex.EncodeToString(p.Value))
		}
		return nil
	}))
	require.Equal(t, golden, got)
}

func FuzzParseSeed(f *testing.F) {
	f.Add(seedKey(replica.ID{1}, "seed"), seedValue(true))
	f.Add(seedKey(replica.ID{1}, "seed"), seedValue(false))
	f.Add(seedKey(replica.ID{1}, ""), seedValue(true))
	f.Add([]byte(keySeed), []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		id, at, own, err := parseSeed(key, value)
		if err != nil {
			return
		}
		require.NotEmpty(t, at)
		require.Equal(t, key, seedKey(id, at))
		require.Equal(t, value, seedValue(own))
	})
}

// A record that is not as it should be is an error that says so, and no seed.
func TestMalformedSeeds(t *testing.T) {
	id := replica.ID{1}
	for name, record := range map[string]kv.Pair{
		"no peer":           {Key: seedKey(id, ""), Value: seedValue(true)},
		"a replica cut off": {Key: seedKey(id, "")[:20], Value: seedValue(true)},
		"no value":          {Key: seedKey(id, "seed")},
		"another value":     {Key: seedKey(id, "seed"), Value: []byte{2}},
		"a longer value":    {Key: seedKey(id, "seed"), Value: []byte{1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			b, store := newBook(t)
			require.NoError(t, store.Update(t.Context(), func(tx kv.Txn) error {
				return tx.Set(record.Key, record.Value)
			}))
			_, err := b.RegisteredAt(t.Context())
			require.ErrorContains(t, err, "malformed record of a seed")
		})
	}
}

// What another device says of seeds lasts as long as somebody says it; what this node has
// registered itself, until it ends that or leaves the replica.
func TestSeedsOfReplicas(t *testing.T) {
	ctx := t.Context()
	b, store := newBook(t)
	one, two := replica.ID{1}, replica.ID{2}
	at := peer.AddrInfo{
		ID: "own", Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/4001")},
	}
	for _, id := range []replica.ID{one, two} {
		_, err := b.Named(ctx, []replica.ID{id}, []peer.AddrInfo{at})
		require.NoError(t, err)
		require.NoError(t, b.AddSeed(ctx, id, "own", true))
		require.NoError(t, b.AddSeed(ctx, id, "theirs", false))
	}
	seeds := func(id replica.ID) []peer.ID {
		all, err := b.Seeds(ctx, id)
		require.NoError(t, err)
		return all
	}
	registered := func() []SeedOf {
		all, err := b.RegisteredAt(ctx)
		require.NoError(t, err)
		return all
	}
	require.Equal(t, []peer.ID{"own", "theirs"}, seeds(one))
	require.Equal(t, []SeedOf{{Seed: at, Replicas: []replica.ID{one, two}}}, registered())
	where, err := b.SeedPeers(ctx, one)
	require.NoError(t, err)
	require.Equal(t, []peer.AddrInfo{at}, where, "nobody knows where the other is")

	require.NoError(t, b.UnlearnSeeds(ctx, func(id replica.ID, _ peer.ID) bool { return id == two }))
	require.Equal(t, []peer.ID{"own"}, seeds(one))
	require.Equal(t, []peer.ID{"own", "theirs"}, seeds(two))

	require.NoError(t, b.RemoveSeed(ctx, one, "own"))
	require.Empty(t, seeds(one))
	require.Equal(t, []SeedOf{{Seed: at, Replicas: []replica.ID{two}}}, registered())

	require.NoError(t, b.Forget(ctx, two))
	require.NoError(t, store.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix(seedPrefix(two)), kv.ScanOptions{}) {
			require.NoError(t, err)
			require.Fail(t, "a seed of a replica that was left", p.Key)
		}
		return nil
	}))
	require.Empty(t, registered())
}

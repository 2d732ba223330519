package replica

import (
	"crypto/rand"
	"fmt"
	"testing"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs"
)

// Two versions of one key by one author that differ in any one signed field, or in the signature
// alone, leave two stores equal, whichever comes first, and a session has nothing to do.
func TestVersionsHaveOneOrder(t *testing.T) {
	c := newClock()
	owner, author := testKey(1), testKey(2)
	grant := NewGrant(owner, author.Author(), 1)
	now := uint64(c.t.UnixMicro())
	fields := map[string]func(*Entry){
		"timestamp": func(e *Entry) { e.Timestamp-- },
		"size":      func(e *Entry) { e.Size++ },
		"hash":      func(e *Entry) { e.Hash[31] ^= 1 },
		"tombstone": func(e *Entry) { e.Size, e.Hash = 0, blobs.EmptyHash },
		"nothing":   func(*Entry) {},
	}
	rapid.Check(t, func(rt *rapid.T) {
		what := rapid.SampledFrom(
			[]string{"timestamp", "size", "hash", "tombstone", "nothing"},
		).Draw(rt, "field")
		one := Entry{Replica: owner.Replica(), Timestamp: now, Key: []byte("k"),
			Size: rapid.Uint64Range(1, 1<<40).Draw(rt, "size"),
			Hash: blobs.Hash{rapid.Byte().Draw(rt, "hash")}}
		other := one
		fields[what](&other)
		one.Sign(author)
		other.Sign(author)
		if what == "nothing" { // an author may sign the same bytes in many ways
			other.Signature = signAnew(t, author, other.signedBytes(nil))
			require.NoError(rt, other.Verify())
			require.NotEqual(rt, one.Signature, other.Signature)
			require.Equal(rt, one.ID(), other.ID())
		}
		stores := []*Store{newStore(rt, c), newStore(rt, c)}
		id := owner.Replica()
		for i, s := range stores {
			hold(rt, s, owner, Read)
			_, err := s.InsertStatements(bg, id, []Statement{&grant})
			require.NoError(rt, err)
			order := []Entry{one, other}
			if i == 1 {
				order = []Entry{other, one}
			}
			if rapid.Bool().Draw(rt, "at once") {
				_, err = s.Insert(bg, id, order, Local)
				require.NoError(rt, err)
				continue
			}
			for _, e := range order {
				_, err = s.Insert(bg, id, []Entry{e}, Local)
				require.NoError(rt, err)
			}
		}
		sameEntries(rt, stores[0], stores[1], id)
		stats := exchange(rt, stores[0], stores[1], id)
		require.Zero(rt, stats.ItemsSent+stats.ItemsReceived)
		for _, s := range stores {
			require.NoError(rt, s.kv.Close())
		}
	})
}

// Nodes that met many such pairs in different orders agree after one session.
func TestTiedVersionsConverge(t *testing.T) {
	c := newClock()
	owner, author := testKey(1), testKey(2)
	grant := NewGrant(owner, author.Author(), 1)
	a, b := newStore(t, c), newStore(t, c)
	id := owner.Replica()
	for i, s := range []*Store{a, b} {
		hold(t, s, owner, Read)
		_, err := s.InsertStatements(bg, id, []Statement{&grant})
		require.NoError(t, err)
		var entries []Entry
		for k := range 300 {
			e := Entry{Replica: id, Timestamp: uint64(c.t.UnixMicro()), Size: uint64(1000 * (i + 1)),
				Hash: blobs.Hash{7, byte(k)}, Key: fmt.Appendf(nil, "%06d", k)}
			e.Sign(author)
			entries = append(entries, e)
		}
		_, err = s.Insert(bg, id, entries, Local)
		require.NoError(t, err)
	}
	exchange(t, a, b, id)
	sameEntries(t, a, b, id)
	stats := exchange(t, a, b, id)
	require.Zero(t, stats.ItemsSent+stats.ItemsReceived)
	require.Less(t, stats.BytesSent+stats.BytesReceived, uint64(1000))
}

func sameEntries(t require.TestingT, a, b *Store, id ID) {
	f, err := a.SharedFingerprint(bg, id)
	require.NoError(t, err)
	g, err := b.SharedFingerprint(bg, id)
	require.NoError(t, err)
	require.Equal(t, f, g)
	mine, theirs := collect(
		t, a.Entries(bg, id, Query{Tombstones: true}),
	), collect(t, b.Entries(bg, id, Query{Tombstones: true}))
	require.Len(t, theirs, len(mine))
	for i := range mine {
		require.Equal(t, mine[i].ID(), theirs[i].ID())
	}
}

// CompareVersions is an order, and tells any two apart whose signed bytes differ.
func TestCompareVersions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few := rapid.Uint64Range(0, 1)
		draw := func(name string) *Entry {
			return &Entry{
				Author: AuthorID{byte(few.Draw(t, name))}, Timestamp: few.Draw(t, name),
				Size: few.Draw(t, name), Hash: blobs.Hash{byte(few.Draw(t, name))},
				Key: []byte{byte(few.Draw(t, name))},
			}
		}
		a, b, c := draw("a"), draw("b"), draw("c")
		require.Equal(t, CompareVersions(a, b), -CompareVersions(b, a))
		require.Equal(t, a.ID() == b.ID(), CompareVersions(a, b) == 0)
		if CompareVersions(a, b) >= 0 && CompareVersions(b, c) >= 0 {
			require.GreaterOrEqual(t, CompareVersions(a, c), 0)
		}
	})
}

// signAnew makes another signature of the same bytes, as a signer who mixes in randomness does.
func signAnew(t require.TestingT, key SecretKey, msg []byte) [64]byte {
	sig, err := voi.PrivateKey(key.key).Sign(rand.Reader, msg, &voi.Options{AddedRandomness: true})
	require.NoError(t, err)
	return [64]byte(sig)
}

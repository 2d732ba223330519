package onnode

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/record"
)

// hostile is an author who may write.
func (m *machine) hostile() replica.SecretKey {
	key := replica.NewSecretKey()
	require.NoError(m.t, m.n.Authors().Import(m.t.Context(), key))
	_, err := m.n.Grant(m.t.Context(), m.id, key.Author(), replica.Permission{})
	require.NoError(m.t, err)
	return key
}

// manifestKey is the key of the manifest of a batch.
func manifestKey(d record.Device, first uint64) []byte {
	return fmt.Appendf(nil, "\x00batch.%x.%x.%016x", d.Author[:], d.Incarnation[:], first)
}

// Any number of manifests can share one content that names very many keys, and versions can claim
// to be parts of them. Keys are told when a batch has become whole, and each of them once.
func TestManifestsThatShareAContent(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(false).found(false)
	by := a.hostile()
	of := &slots{n: a.n, r: a.n.ReplicaOf(a.id)}
	keys := make([][]byte, record.MaxParts)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "%04x", i)
	}
	manifest := record.AppendManifest(nil, keys)
	dev := record.Device{Author: record.TagOf(by.Author())}
	var values []versions.Value
	for i := range uint64(200) {
		first := 1 + i*record.MaxParts
		values = append(values, versions.Value{
			Key: manifestKey(dev, first), Stream: bytes.NewReader(manifest),
		})
		r := record.Record{Kind: record.Deletion, Height: 1,
			Dot:   record.Dot{Device: dev, Counter: first},
			Batch: &record.Batch{First: first, Parts: record.MaxParts}}
		b, err := r.Append(nil)
		require.NoError(t, err)
		values = append(values, versions.Value{Key: keys[i], Stream: bytes.NewReader(b)})
	}
	items, err := of.Put(ctx, by, values)
	require.NoError(t, err)
	got, err := a.set.LookAgain(ctx, items)
	require.NoError(t, err)
	require.Len(t, got, 200, "of the versions that have come, and of nothing that has not")
}

// All parts of a batch are told with the last, whatever comes last, and once.
func TestBatchIsToldWhenItIsWhole(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(false).found(false)
	by := a.hostile()
	of := &slots{n: a.n, r: a.n.ReplicaOf(a.id)}
	dev := record.Device{Author: record.TagOf(by.Author())}
	keys := [][]byte{[]byte("a"), []byte("b")}
	for round, last := range []string{"part", "manifest"} {
		first := uint64(1 + 10*round)
		part := func(i int) versions.Value {
			r := record.Record{Kind: record.Deletion, Height: 1,
				Dot:   record.Dot{Device: dev, Counter: first + uint64(i)},
				Batch: &record.Batch{First: first, Parts: 2}}
			b, err := r.Append(nil)
			require.NoError(t, err)
			return versions.Value{Key: keys[i], Stream: bytes.NewReader(b)}
		}
		manifest := versions.Value{
			Key:    manifestKey(dev, first),
			Stream: bytes.NewReader(record.AppendManifest(nil, keys)),
		}
		comes := func(v versions.Value) (told []string) {
			items, err := of.Put(ctx, by, []versions.Value{v})
			require.NoError(t, err)
			got, err := a.set.LookAgain(ctx, items)
			require.NoError(t, err)
			for _, key := range got {
				told = append(told, string(key))
			}
			return told
		}
		require.Equal(t, []string{"a"}, comes(part(0)))
		if last == "part" {
			require.Empty(t, comes(manifest))
			require.ElementsMatch(t, []string{"a", "b"}, comes(part(1)))
			require.Equal(t, []string{"a"}, comes(part(0)), "once")
			continue
		}
		require.Equal(t, []string{"b"}, comes(part(1)))
		_, err := a.set.Read(ctx, keys[0], versions.Looked{})
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"a", "b"}, comes(manifest))
	}
}

// Each version of a key can take much memory, and many entries can share one content. So few are
// held at a time, whatever there is of each key, and what is the same is held once.
func TestManyVersionsOfManyKeys(t *testing.T) {
	const keys, authors = 128, 40
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(false).found(false)
	of := &slots{n: a.n, r: a.n.ReplicaOf(a.id)}
	content := func(last byte) []byte {
		r := record.Record{Kind: record.Deletion, Height: 1, Dot: record.Dot{Counter: 1}}
		for i := range record.MaxDevices {
			d := record.Device{Author: record.AuthorTag{byte(i >> 8), byte(i), last, 1}}
			r.Context = append(r.Context, record.Dot{Device: d, Counter: 1})
		}
		b, err := r.Append(nil)
		require.NoError(t, err)
		return b
	}
	shared := content(0)
	for i := range authors {
		by := a.hostile()
		own := content(byte(i + 1))
		var values []versions.Value
		for k := range keys {
			b := own
			if k == 0 {
				b = shared
			}
			values = append(values, versions.Value{
				Key: fmt.Appendf(nil, "%04x", k), Stream: bytes.NewReader(b),
			})
		}
		_, err := of.Put(ctx, by, values)
		require.NoError(t, err)
	}
	a.set.Close() // it looks at them, too
	defer func() { a.set = nil }()
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most, n := held(), uint64(0), 0
	for it, err := range a.set.All(ctx, nil, nil) {
		require.NoError(t, err)
		require.Len(t, it.Heads, authors)
		if n%16 == 0 {
			most = max(most, held()-before)
		}
		n++
	}
	require.Equal(t, keys, n)
	const each = record.MaxDevices * 56 // bytes that a version takes
	require.Less(t, most, uint64(keys*authors*each/2))

	before = held()
	it, err := a.set.Read(ctx, []byte("0000"), versions.Looked{})
	require.NoError(t, err)
	after := held()
	require.Less(t, after-min(before, after), uint64(authors*each/4))
	require.Len(t, it.Heads, authors)
}

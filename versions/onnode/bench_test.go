package onnode

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

// benchKeys is how many keys are written or read in one operation of the benchmarks.
const benchKeys = 100_000

// eachKind runs a benchmark with a replica that is not encrypted, and with one that is.
func eachKind(b *testing.B, run func(b *testing.B, encrypted bool)) {
	b.Run("plain", func(b *testing.B) { run(b, false) })
	b.Run("encrypted", func(b *testing.B) { run(b, true) })
}

// bench is a node with the versions of a replica.
func bench(b *testing.B, encrypted bool) (n *node.Node, set *Set, id replica.ID) {
	n, err := node.Open(b.Context(), node.Config{Dir: b.TempDir()})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, n.Close()) })
	r, err := n.CreateReplica(b.Context(), "r", encrypted)
	require.NoError(b, err)
	set, err = Open(b.Context(), n, r.ID, Options{})
	require.NoError(b, err)
	b.Cleanup(set.Close)
	return n, set, r.ID
}

func benchKey(round, i int) []byte { return fmt.Appendf(nil, "key/%d/%06d", round, i) }

func benchValue(i int) []byte { return fmt.Appendf(nil, "value %d of a benchmark", i) }

func perSecond(b *testing.B) {
	b.ReportMetric(float64(b.N)*benchKeys/b.Elapsed().Seconds(), "keys/s")
}

// BenchmarkBareEntries writes entries without versions: what versions are compared with.
func BenchmarkBareEntries(b *testing.B) { eachKind(b, benchBare) }

func benchBare(b *testing.B, encrypted bool) {
	n, _, id := bench(b, encrypted)
	b.ResetTimer()
	for round := range b.N {
		batch, err := n.ReplicaOf(id).Batch(b.Context(), node.WriteOptions{})
		require.NoError(b, err)
		for i := range benchKeys {
			require.NoError(b, batch.Add(node.Change{Key: benchKey(round, i), Value: benchValue(i)}))
			if batch.Len() == 1<<13 {
				_, err := batch.Write()
				require.NoError(b, err)
			}
		}
		_, err = batch.Commit()
		require.NoError(b, err)
		batch.Close()
	}
	perSecond(b)
}

// BenchmarkVersions writes first versions, each after its item was read, in batches of which all or
// none count.
func BenchmarkVersions(b *testing.B) { eachKind(b, benchVersions) }

func benchVersions(b *testing.B, encrypted bool) {
	_, set, _ := bench(b, encrypted)
	b.ResetTimer()
	for round := range b.N {
		benchWrite(b, set, round)
	}
	perSecond(b)
}

func benchWrite(b *testing.B, set *Set, round int) {
	ctx := b.Context()
	for from := 0; from < benchKeys; from += 1 << 13 {
		var keys [][]byte
		for i := from; i < min(from+1<<13, benchKeys); i++ {
			keys = append(keys, benchKey(round, i))
		}
		items, err := set.ReadAll(ctx, keys, nil)
		require.NoError(b, err)
		edits := make([]versions.Edit, len(items))
		for i, item := range items {
			src := set.SourceOf(benchValue(from + i))
			edits[i] = versions.Edit{Item: item, Content: &src}
		}
		require.NoError(b, set.Write(ctx, edits...))
	}
}

// BenchmarkHeads reads the heads of all keys, in order.
func BenchmarkHeads(b *testing.B) { eachKind(b, benchHeads) }

func benchHeads(b *testing.B, encrypted bool) {
	_, set, _ := bench(b, encrypted)
	benchWrite(b, set, 0)
	b.ResetTimer()
	for range b.N {
		n := 0
		for item, err := range set.All(b.Context(), nil, nil) {
			if err != nil || len(item.Heads) != 1 { // require would take as long as the rest
				b.Fatal("an item of one head was expected", err)
			}
			n++
		}
		require.Equal(b, benchKeys, n)
	}
	perSecond(b)
}

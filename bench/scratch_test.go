package bench

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node"
)

func BenchmarkStoreToStore(b *testing.B) {
	const size = 1 << 30
	b.SetBytes(size)
	for range b.N {
		b.StopTimer()
		dir := b.TempDir()
		p, err := newPair(b.Context(), dir)
		require.NoError(b, err)
		file := filepath.Join(dir, "file")
		require.NoError(b, writeRandom(b.Context(), file, size))
		info, err := p.a.Blobs.ImportFile(b.Context(), file, blobs.ImportOptions{})
		require.NoError(b, err)
		require.NoError(b, p.a.Blobs.Sync(b.Context()))
		b.StartTimer()
		_, err = p.b.Get(b.Context(), info.Hash, node.Raw, p.infoA, nil)
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, p.close())
	}
}

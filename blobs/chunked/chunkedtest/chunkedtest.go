// Package chunkedtest makes content in chunks for the tests of packages that use it.
package chunkedtest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// Store stores a file of 600 equal chunks. Neither its list nor its sequence fits in a
// record.
func Store(
	t testing.TB, s *blobs.Store,
) (h blobs.Hash, size uint64, list, sequence []byte) {
	t.Helper()
	add := func(b []byte) blobs.Hash {
		info, err := s.ImportBytes(context.Background(), b)
		require.NoError(t, err)
		return info.Hash
	}
	chunk := add(testkit.Random(3, chunked.MinChunk))
	var sizes []uint64
	seq := blobs.Sequence{{}}
	for range 600 {
		sizes, seq = append(sizes, chunked.MinChunk), append(seq, chunk)
	}
	list = chunked.List(sizes)
	seq[0] = add(list)
	return add(seq.Bytes()), 600 * chunked.MinChunk, list, seq.Bytes()
}

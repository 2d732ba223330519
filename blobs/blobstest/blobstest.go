// Package blobstest makes stores of blobs for the tests of packages that use them.
package blobstest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// New returns an empty store, with its records in memory, that is closed after the test.
func New(t testing.TB) *blobs.Store {
	t.Helper()
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	content, err := files.Open(t.TempDir(), files.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, content.Close()) })
	s, err := blobs.Open(context.Background(), db, content)
	require.NoError(t, err)
	return s
}

// Chunked stores a file of 600 equal chunks. Neither its list nor its sequence fits in a
// record.
func Chunked(
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

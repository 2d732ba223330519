// Package blobstest makes stores of blobs for the tests of packages that use them.
package blobstest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/files"
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

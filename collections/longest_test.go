package collections

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

// How long what is stored may be follows from what may be pushed there.
func TestLongest(t *testing.T) {
	c, err := config.Parse([]byte(`{"version": 1, "collections": [
		{"name": "notes", "storagePath": "notes/{id}", "readRoles": ["public"], "writeRoles": ["public"],
		 "encryption": "none", "maxBodyBytes": 4000000},
		{"name": "short", "storagePath": "short", "readRoles": ["public"], "writeRoles": ["public"],
		 "encryption": "none", "maxBodyBytes": 100},
		{"name": "films", "storagePath": "films/{id}", "readRoles": ["public"], "writeRoles": ["public"],
		 "encryption": "none", "maxBodyBytes": 3000000, "allowedMimeTypes": ["video/*"]}]}`))
	require.NoError(t, err)
	s, err := New(c, Options{Documents: document.In(store.NewMemory(), nil),
		Resolver: access.ResolverFunc(nil)})
	require.NoError(t, err)
	for key, want := range map[string]int64{
		"notes/a": 40_000_000 + 256<<10, "notes/a\x000000000000000005": 40_000_000 + 256<<10,
		"notes/a!remote": 40_000_000 + 256<<10, "short": 4 << 20, "films/a": 12_000_000,
		"elsewhere": 1 << 20, "": 1 << 20,
	} {
		require.Equal(t, want, s.Longest(key), "%q", key)
	}
}

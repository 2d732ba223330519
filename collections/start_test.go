package collections_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// A store with more lists than there is room for, and something that is no list, does not keep a
// server from starting.
func TestStartWithTooManyLists(t *testing.T) {
	testkit.SeenElsewhere(t)
	const under = "__sync__/revocations/"
	s := store.NewMemory()
	for i := range byte(65) { // of a MiB each, for which there are 64
		k, err := capcert.NewKey(append(make([]byte, 31), i))
		require.NoError(t, err)
		l, err := capcert.SignRevocations(k, 1, nil, []string{strings.Repeat("s", 1<<20-1<<10)})
		require.NoError(t, err)
		o := &store.Object{Body: value.Append(nil, l.Object())}
		require.NoError(t, s.Put(t.Context(), under+k.Public+"/0000000000000001", o, store.Whatever))
	}
	o := &store.Object{Body: []byte("{}")}
	require.NoError(t, s.Put(t.Context(), under+"none", o, store.Whatever))
	r, err := access.NewRevocations(t.Context(), s, s)
	require.NoError(t, err)

	var log bytes.Buffer
	newWorld(t, []byte(open), func(o *collections.Options) {
		o.Revocations, o.Log = r, slog.New(slog.NewTextHandler(&log, nil))
	})
	require.Contains(t, log.String(), under+"none")
}

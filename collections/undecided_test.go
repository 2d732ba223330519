package collections_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

// partly is a store whose logs have an element of which it cannot be told whether it counts.
type partly struct{ store.Store }

var one = []store.Element{{Time: 1, Body: []byte(`{"ts":1,"data":{}}`)}}

func (partly) Length(context.Context, string, int64) (store.Length, error) {
	return store.Length{All: 2, Shown: 2, Last: 2}, nil
}
func (partly) Has(context.Context, string, int64) (bool, error) { return false, nil }
func (partly) Append(context.Context, string, store.Element, *store.Object) error {
	return nil
}
func (partly) Count(context.Context, string, int64) (int64, error) { return 2, nil }
func (partly) Elements(
	context.Context, string, int64, int64, int, func(int) error,
) ([]store.Element, int, error) {
	return one, 1, nil
}
func (partly) Since(
	context.Context, string, string, int64, int, func(int) error,
) (store.News, error) {
	return store.News{Elements: one, Next: "next", Undecided: 1}, nil
}

// Whatever gives a log says of how many elements it cannot be told yet whether they count, and no
// cache keeps that.
func TestPullsSayWhatIsUndecided(t *testing.T) {
	w := newWorld(t, configOf(
		column("log", "log/{id}", `"public"`, `"public"`,
			`, "appendOnly": true, "cacheDurationMs": 1000`),
	), func(o *collections.Options) {
		o.Documents = document.In(partly{store.NewMemory()}, nil)
	})
	for _, path := range []string{"full=true", "last=1", "checkpoint=0", "cursor="} {
		rec := ask(w, "GET", "/pull/log/a?"+path, "", "If-None-Match", "*")
		require.Equal(t, 200, rec.Code, path)
		var got struct{ Undecided int }
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &got))
		require.Equal(t, 1, got.Undecided, path)
		require.Empty(t, rec.Header().Get("ETag"), path)
		require.Equal(t, "no-store", rec.Header().Get("Cache-Control"), path)
	}
	rec := ask(w, "GET", batchOf("log", `{"id":"a"}`), "")
	require.Contains(t, rec.Body.String(), `"undecided":1`)
}

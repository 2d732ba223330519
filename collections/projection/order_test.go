package projection_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/store"
)

// A list has what a document was last, also if the server comes to an earlier write of it later.
func TestLateWrite(t *testing.T) {
	late, go_ := make(chan struct{}), make(chan struct{})
	first := true
	h, docs := servingAfter(t, listed, store.NewMemory(), collections.Hook{
		AfterWrite: func(context.Context, *collections.Event) error {
			if first {
				first = false
				close(late)
				<-go_
			}
			return nil
		}})
	done := make(chan struct{})
	var status int
	go func() {
		defer close(done)
		status = pushed(t, h, "products/a/1", `{"data":{"name":"chair"}}`).Code
	}()
	<-late
	push(t, h, "products/a/1",
		`{"data":{"deleted":true},"baseHash":"`+hash(t, docs, "products/a/1")+`"}`)
	push(t, h, "products/a/2", `{"data":{"name":"table"}}`)
	close(go_)
	<-done
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, `{"items":[{"id":"2","value":{"name":"table"}}]}`, pull(t, h, "catalog/a"))
}

// A document that has been removed when the server comes to its list is not in the list.
func TestWriteOfWhatIsRemoved(t *testing.T) {
	kept := store.NewMemory()
	var gone atomic.Bool
	h, _ := servingAfter(t, listed, kept, collections.Hook{
		AfterWrite: func(ctx context.Context, e *collections.Event) error {
			if gone.Load() {
				return kept.Delete(ctx, e.Key)
			}
			return nil
		}})
	push(t, h, "products/a/1", `{"data":{"name":"chair"}}`)
	require.Equal(
		t, `{"items":[{"id":"1","value":{"name":"chair"}}]}`, pull(t, h, "catalog/a"),
	)
	require.NoError(t, kept.Delete(t.Context(), "products/a/1"))
	gone.Store(true)
	push(t, h, "products/a/1", `{"data":{"name":"armchair"}}`)
	push(t, h, "products/a/2", `{"data":{"name":"table"}}`)
	require.Equal(t, `{"items":[]}`, pull(t, h, "catalog/a"))
}

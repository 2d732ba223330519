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

const listedLogs = `{"version": 1, "collections": [
	{"name": "events", "storagePath": "events/{id}", "readRoles": ["public"],
	 "writeRoles": ["public"], "appendOnly": {"requireAuthorSignature": false},
	 "encryption": "none", "maxBodyBytes": 1000},
	{"name": "last", "storagePath": "last", "readRoles": ["public"], "writeRoles": ["admin"],
	 "encryption": "none", "maxBodyBytes": 1000, "pullOnly": true}],
	"extensions": {"projections": [{"source": "events", "target": "last", "removed": "over"}]}}`

// A list has the last element of a log, also if the server comes to an earlier one later.
func TestLateElement(t *testing.T) {
	late, go_ := make(chan struct{}), make(chan struct{})
	first := true
	h, _ := servingAfter(t, listedLogs, store.NewMemory(), collections.Hook{
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
		status = pushed(t, h, "events/a", `{"data":{"n":1}}`).Code
	}()
	<-late
	push(t, h, "events/a", `{"data":{"n":2}}`)
	push(t, h, "events/a", `{"data":{"n":3}}`)
	close(go_)
	<-done
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, `{"items":[{"id":"a","value":{"n":3}}]}`, pull(t, h, "last"))
	push(t, h, "events/a", `{"data":{"over":true}}`)
	require.Equal(t, `{"items":[]}`, pull(t, h, "last"))
}

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

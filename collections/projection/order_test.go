package projection_test

import (
	"context"
	"net/http"
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

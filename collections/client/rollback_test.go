package client_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/keyring"
	"github.com/skerry-sync/skerry/collections/value"
)

// A server that shows the owner the keyring of before a removal, or none, does not have whoever was
// removed given the next key.
func TestOldKeyringIsRefused(t *testing.T) {
	var docs []*value.Object // all that were pushed
	show := -1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			o, err := value.ParseObject(b, value.MaxDepth)
			if err != nil {
				t.Error(err)
			}
			d, _ := o.Get("data")
			docs = append(docs, d.(*value.Object))
			show = len(docs) - 1
			fmt.Fprintf(w, `{"hash":"h%d","timestamp":1}`, show)
			return
		}
		if show < 0 {
			fmt.Fprint(w, `{"data":{},"hash":"","timestamp":1}`)
			return
		}
		fmt.Fprintf(w, `{"data":%s,"hash":"h%d","timestamp":1}`, value.Append(nil, docs[show]), show)
	}))
	defer server.Close()
	ctx := t.Context()
	owner, bob, mallory := newPerson(t, "owner"), newPerson(t, "bob"), newPerson(t, "mallory")
	k := &client.Keyring{Client: &client.Client{Base: server.URL}, Path: "team/_keyring", Adder: owner.Key, Trusted: []string{owner.Key.Public}}
	require.NoError(t, k.Create(ctx, owner.KEMPublic(), bob.KEMPublic(), mallory.KEMPublic()))
	require.NoError(t, k.Remove(ctx, mallory.KEMPublic()))
	pushed := len(docs)
	for _, show = range []int{0, -1} {
		require.ErrorIs(t, k.Remove(ctx, bob.KEMPublic()), keyring.ErrRolledBack)
		require.ErrorIs(t, k.Create(ctx, owner.KEMPublic()), keyring.ErrRolledBack)
		_, _, err := k.Get(ctx)
		require.ErrorIs(t, err, keyring.ErrRolledBack)
	}
	require.Len(t, docs, pushed)
	// A number that nobody has signed for does not lock the owner out.
	docs[0].Set("currentEpoch", 9.0)
	epochs, _ := docs[0].Get("epochs")
	epochs.(*value.Object).Set("9", value.NewObject(value.Member{Key: "wrappedKeys", Value: value.Array{}}, value.Member{Key: "createdAt", Value: 1.0}))
	show = 0
	_, _, err := k.Get(ctx)
	require.NoError(t, err)
	show = pushed - 1
	require.NoError(t, k.Remove(ctx, bob.KEMPublic()))
	ring, _, err := k.Get(ctx)
	require.NoError(t, err)
	require.Equal(t, 3, ring.Current)
	for _, gone := range []*person{bob, mallory} {
		_, err = ring.Open(gone.KEM, k.Trusted, 0)
		require.ErrorIs(t, err, keyring.ErrNotARecipient)
	}
	_, err = ring.Open(owner.KEM, k.Trusted, 3)
	require.NoError(t, err)
}

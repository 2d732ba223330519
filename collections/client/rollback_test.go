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
	k := &client.Keyring{
		Client: &client.Client{Base: server.URL}, Path: "team/_keyring", Adder: owner.Key,
		Trusted: []string{owner.Key.Public},
	}
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
	// A number that nobody has signed for hides nothing, and does not lock the owner out.
	docs[0].Set("currentEpoch", 9.0)
	epochs, _ := docs[0].Get("epochs")
	epochs.(*value.Object).Set(
		"9",
		value.NewObject(
			value.Member{Key: "wrappedKeys", Value: value.Array{}},
			value.Member{Key: "createdAt", Value: 1.0},
		),
	)
	show = 0
	_, _, err := k.Get(ctx)
	require.ErrorIs(t, err, keyring.ErrRolledBack)
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

// A server that shows the owner a keyring of another collection, of a later epoch and with whoever
// was removed here among its recipients, or an earlier one of the same epoch, does not have it gone
// on with.
func TestForeignKeyringIsRefused(t *testing.T) {
	docs := map[string][]*value.Object{} // all that were pushed, by path
	var instead *value.Object
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[len("/push/"):]
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
			docs[name] = append(docs[name], d.(*value.Object))
			fmt.Fprint(w, `{"hash":"h","timestamp":1}`)
			return
		}
		shown := instead
		if shown == nil && len(docs[name]) > 0 {
			shown = docs[name][len(docs[name])-1]
		}
		if shown == nil {
			fmt.Fprint(w, `{"data":{},"hash":"","timestamp":1}`)
			return
		}
		fmt.Fprintf(w, `{"data":%s,"hash":"h","timestamp":1}`, value.Append(nil, shown))
	}))
	defer server.Close()
	ctx := t.Context()
	owner, bob, mallory := newPerson(t, "owner"), newPerson(t, "bob"), newPerson(t, "mallory")
	ring := func(path string, seen client.Seen) *client.Keyring {
		return &client.Keyring{
			Client: &client.Client{Base: server.URL}, Path: path, Adder: owner.Key,
			Trusted: []string{owner.Key.Public}, Seen: seen,
		}
	}
	team, other := ring("team/_keyring", client.Seen{}), ring("other/_keyring", client.Seen{})
	require.NoError(t, team.Create(ctx, owner.KEMPublic(), bob.KEMPublic(), mallory.KEMPublic()))
	require.NoError(t, team.Remove(ctx, mallory.KEMPublic()))
	require.NoError(t, other.Create(ctx, owner.KEMPublic(), mallory.KEMPublic()))
	for range 3 {
		require.NoError(t, other.Remove(ctx))
	}
	instead = docs["other/_keyring"][3]
	pushed := len(docs["team/_keyring"])
	for _, k := range []*client.Keyring{team, ring("team/_keyring", team.Seen)} {
		require.ErrorIs(t, k.Remove(ctx, bob.KEMPublic()), keyring.ErrRolledBack)
		_, _, err := k.Get(ctx)
		require.ErrorIs(t, err, keyring.ErrRolledBack)
	}
	require.Len(t, docs["team/_keyring"], pushed)

	// An earlier keyring of the same epoch lacks who was added since.
	instead = nil
	now, _, err := team.Get(ctx)
	require.NoError(t, err)
	sealer, err := now.Open(owner.KEM, team.Trusted, 2)
	require.NoError(t, err)
	carol := newPerson(t, "carol")
	require.NoError(t, team.Add(ctx, sealer, carol.KEMPublic()))
	instead = docs["team/_keyring"][1]
	require.ErrorIs(t, team.Remove(ctx, bob.KEMPublic()), keyring.ErrRolledBack)
	instead = nil
	require.NoError(t, team.Remove(ctx, bob.KEMPublic()))
	now, _, err = team.Get(ctx)
	require.NoError(t, err)
	_, err = now.Open(carol.KEM, team.Trusted, 3)
	require.NoError(t, err)
	_, err = now.Open(mallory.KEM, team.Trusted, 3)
	require.ErrorIs(t, err, keyring.ErrNotARecipient)
}

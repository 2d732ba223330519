package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// A room that could not work is refused when it is added, not when it is missed.
func TestRoomsThatAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := simOpen(t)
		handler := func(context.Context, link.Stream) {}
		require.ErrorContains(t, n.Add(Room{}), "no name")
		require.ErrorContains(t, n.Add(Room{Name: "x", Protocol: "/x/1"}), "go together")
		require.ErrorContains(t, n.Add(Room{Name: "x", Handler: handler}), "go together")
		unbounded := Room{Name: "x", Protocol: "/x/1", Handler: handler}
		require.ErrorContains(t, n.Add(unbounded), "does not bound")
		bounded := unbounded
		bounded.Name, bounded.Streams = "z", services
		require.NoError(t, n.Add(bounded))
		bounded.Name = "zz"
		require.ErrorContains(t, n.Add(bounded), "z serves /x/1 already")
		require.NoError(t, n.Add(Room{Name: "x"}))
		require.ErrorContains(t, n.Add(Room{Name: "x"}), "has x already")
		require.NoError(t, n.GoOnline(simnet.New(1).End(n.ID())))
		require.ErrorContains(t, n.Add(Room{Name: "y"}), "before it goes online")
	})
}

// What a room does by itself runs while the node is online, and has ended when the node has.
func TestRoomsRunWhileTheNodeIsOnline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := simOpen(t)
		var began, ended time.Time
		require.NoError(t, n.Add(Room{Name: "x", Run: func(ctx context.Context) {
			began = time.Now()
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = time.Now()
		}}))
		time.Sleep(time.Minute)
		require.Zero(t, began)
		require.NoError(t, n.GoOnline(simnet.New(1).End(n.ID())))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NotZero(t, began)
		require.NoError(t, n.Close())
		require.NotZero(t, ended)
	})
}

// Rooms are told what happens to replicas before the call that caused it returns, all of them and
// whatever the others say; and what has happened stays.
func TestRoomsAreTold(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := offline(t, &now)
	n.net = nil // so that rooms may be added
	ctx := t.Context()
	var told []string
	var changed []replica.ID
	failed := errors.New("failed")
	tell := func(what string) func(context.Context, replica.Replica) error {
		return func(_ context.Context, r replica.Replica) error {
			told = append(told, what+" "+r.Name)
			return failed
		}
	}
	for _, name := range []string{"one", "two"} {
		require.NoError(t, n.Add(Room{
			Name: name, Created: tell("created"), Renamed: tell("renamed"),
			Left: func(_ context.Context, id replica.ID) error {
				_, err := n.replicas.Get(ctx, id)
				require.ErrorIs(t, err, replica.ErrNotFound)
				told = append(told, "left")
				return failed
			},
			Changed: func(id replica.ID) { changed = append(changed, id) },
		}))
	}
	require.NoError(t, n.Add(Room{Name: "deaf"}))
	r, err := n.CreateReplica(ctx, "a", true)
	require.ErrorIs(t, err, failed)
	_, err = n.RenameReplica(ctx, r.ID, "b")
	require.ErrorIs(t, err, failed)
	held, err := n.replicas.Get(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, "b", held.Name)
	require.ErrorIs(t, n.Leave(ctx, r.ID), failed)
	_, err = n.replicas.Get(ctx, r.ID)
	require.ErrorIs(t, err, replica.ErrNotFound)
	require.Equal(t, []string{
		"created a", "created a", "renamed b", "renamed b", "left", "left",
	}, told)
	require.Empty(t, changed)

	_, err = n.RenameReplica(ctx, r.ID, "c")
	require.Error(t, err)
	_, err = n.CreateReplica(ctx, "\x00", false)
	require.Error(t, err)
	require.Len(t, told, 6, "nothing has happened")

	// What may have to be told to a person's other devices.
	key := replica.NewSecretKey()
	for what, change := range map[string]func() error{
		"joined to write": func() error {
			_, err := n.Join(ctx, &ticket.Doc{
				Capability: replica.Write, Replica: key.Replica(), Secret: key,
			}, "joined")
			return err
		},
		"kept by a seed": func() error {
			return n.AddSeed(ctx, key.Replica(), peer.AddrInfo{ID: "seed"})
		},
		"not kept any more": func() error { return n.RemoveSeed(ctx, key.Replica(), "seed") },
	} {
		changed = nil
		require.NoError(t, change(), what)
		require.Equal(t, []replica.ID{key.Replica(), key.Replica()}, changed, what)
	}
	sealed, err := n.replicas.CreateEncrypted(ctx, "sealed")
	require.NoError(t, err)
	changed = nil
	_, err = n.Rotate(ctx, sealed.ID)
	require.NoError(t, err)
	require.Equal(t, []replica.ID{sealed.ID, sealed.ID}, changed, "another read key")
}

package vaults

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/vault"
)

// A service that New has not made refuses, and a node has one only.
func TestWithoutANode(t *testing.T) {
	_, err := New(nil, nil)
	require.ErrorContains(t, err, "no node")
	ctx := t.Context()
	for _, s := range []*Service{nil, {}} {
		_, err := s.All(ctx)
		require.ErrorIs(t, err, errNone)
		_, err = s.Of(ctx, "")
		require.ErrorIs(t, err, errNone)
		_, err = s.OpenOwn(ctx, vault.Identity{}, vault.Keys{}, nil)
		require.ErrorIs(t, err, errNone)
		_, err = s.Catalogue(ctx, &Vault{})
		require.ErrorIs(t, err, errNone)
		_, err = s.Add(ctx, &Vault{}, replica.Replica{}, "")
		require.ErrorIs(t, err, errNone)
		require.ErrorIs(t, s.Remove(ctx, &Vault{}, replica.ID{}), errNone)
		_, err = s.Join(ctx, &Vault{}, &vault.Project{}, "")
		require.ErrorIs(t, err, errNone)
		_, err = s.Leave(ctx, replica.ID{}, false)
		require.ErrorIs(t, err, errNone)
		_, err = s.Ask(ctx, Request{})
		require.ErrorIs(t, err, errNone)
		for _, k := range []vault.Keyring{
			s.Keyring(), s.AppKeyring(), s.RemoteKeyring(peer.AddrInfo{}),
		} {
			_, err = k.Ask(ctx, vault.App{}, vault.Ask{})
			require.ErrorIs(t, err, errNone)
			_, err = k.Identities(ctx)
			require.Error(t, err)
		}
	}
	n, err := node.Open(ctx, node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	_, err = New(n, nil)
	require.NoError(t, err)
	_, err = New(n, nil)
	require.ErrorContains(t, err, "already")
}

// oneSide is a stream of which the test holds the other end.
type oneSide struct{ net.Conn }

func (s oneSide) CloseWrite() error { return nil }
func (s oneSide) Reset() error      { return s.Close() }
func (s oneSide) Remote() peer.ID   { return "app" }

// An app that sends a call a byte at a time is let go when the time for it is over.
func TestDrippingCallEnds(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	s, err := New(n, nil)
	require.NoError(t, err)
	testkit.Bubble(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		began, done := time.Now(), make(chan struct{})
		go func() {
			defer close(done)
			_, err := ours.Write([]byte{0, 1, 0, 0})
			for err == nil {
				time.Sleep(3 * time.Second)
				_, err = ours.Write([]byte{0})
			}
		}()
		s.serveKeyring(context.Background(), oneSide{theirs})
		require.Equal(t, callTime, time.Since(began))
		require.LessOrEqual(t, time.Since(began), 10*time.Second)
		require.NoError(t, ours.Close())
		<-done
	})
}

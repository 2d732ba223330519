package replica

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/reconcile"
)

// exchange reconciles statements, then entries, between two stores over a pipe.
func exchange(t require.TestingT, a, b *Store, id ID) (stats reconcile.Stats) {
	side := func(s *Store, c net.Conn, initiator bool) (st reconcile.Stats, err error) {
		r := bufio.NewReader(c)
		abort := func() { c.Close() }
		_, err = reconcile.Run(
			bg, r, c, abort, reconcile.Config{Set: s.StatementSet(id), Initiator: initiator,
				Insert: func(ctx context.Context, items [][]byte) error {
					for _, b := range items {
						st, err := ParseStatement(b)
						if err != nil {
							return err
						}
						if _, err := s.InsertStatements(ctx, id, []Statement{st}); err != nil {
							return err
						}
					}
					return nil
				}},
		)
		if err != nil {
			return st, err
		}
		return reconcile.Run(bg, r, c, abort, reconcile.Config{Set: s.EntrySet(id), Initiator: initiator,
			Insert: func(ctx context.Context, items [][]byte) error {
				var entries []Entry
				for _, b := range items {
					e, err := ParseEntry(b)
					if err != nil {
						return err
					}
					entries = append(entries, e)
				}
				_, err := s.Insert(ctx, id, entries, Origin{Peer: "peer"})
				return err
			}})
	}
	ca, cb := net.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := side(b, cb, false)
		done <- err
	}()
	stats, err := side(a, ca, true)
	require.NoError(t, errors.Join(err, <-done))
	return stats
}

// Whatever two nodes wrote, in whatever order, after sessions with each other they hold the
// same.
func TestNodesConverge(t *testing.T) {
	c := newClock()
	rapid.Check(t, func(rt *rapid.T) {
		key := testKey(1)
		var stores []*Store
		for range 3 {
			s := newStore(rt, c)
			hold(rt, s, key, Write)
			stores = append(stores, s)
		}
		id := key.Replica()
		for range rapid.IntRange(0, 40).Draw(rt, "writes") {
			s := rapid.SampledFrom(stores).Draw(rt, "store")
			author := testKey(rapid.ByteRange(2, 4).Draw(rt, "author"))
			k := rapid.SampledFrom([]string{"a", "b", "c", "d", strings.Repeat("long", 300)}).Draw(rt, "key")
			if rapid.IntRange(0, 4).Draw(rt, "delete") == 0 {
				_, err := s.Write(bg, id, author, []Change{{Key: []byte(k)}})
				require.NoError(rt, err)
			} else {
				write(rt, s, id, author, k, fmt.Sprint(rapid.IntRange(0, 5).Draw(rt, "value")))
			}
			c.t = c.t.Add(time.Duration(rapid.IntRange(0, 3).Draw(rt, "time")) * time.Microsecond)
		}
		exchange(rt, stores[0], stores[1], id)
		exchange(rt, stores[2], stores[1], id)
		exchange(rt, stores[1], stores[0], id)
		all := Query{Tombstones: true}
		want := collect(rt, stores[0].Entries(bg, id, all))
		wantCounts, err := stores[0].Counts(bg, id)
		require.NoError(rt, err)
		live := 0
		for _, e := range want {
			if !e.IsTombstone() {
				live++
			}
		}
		require.Equal(rt, Counts{uint64(live), uint64(len(want) - live)}, wantCounts)
		f, err := stores[0].Fingerprint(bg, id)
		require.NoError(rt, err)
		for _, s := range stores[1:] {
			require.Equal(rt, want, collect(rt, s.Entries(bg, id, all)))
			counts, err := s.Counts(bg, id)
			require.NoError(rt, err)
			require.Equal(rt, wantCounts, counts)
			g, err := s.Fingerprint(bg, id)
			require.NoError(rt, err)
			require.Equal(rt, f, g)
		}
		for _, s := range stores {
			require.NoError(rt, s.kv.Close())
		}
	})
}

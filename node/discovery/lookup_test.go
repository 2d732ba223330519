package discovery

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

func BenchmarkLookUp(b *testing.B) {
	for _, held := range []int{1, 1000, 1_000_000} {
		b.Run(fmt.Sprintf("replicas=%d", held), func(b *testing.B) {
			now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
			s, err := pebble.Open(b.TempDir(), pebble.Options{})
			require.NoError(b, err)
			defer func() { require.NoError(b, s.Close()) }()
			l := NewLookups(LookupConfig{
				Store: s, Self: "self", Now: func() time.Time { return now },
				Get: func(context.Context, replica.ID) (r replica.Replica, err error) {
					return r, replica.ErrNotFound // that is not what is measured
				},
			})
			var lookups [][32]byte
			require.NoError(b, s.Batch(b.Context(), func(w kv.Writer) error {
				for range held {
					var id replica.ID
					_, _ = rand.Read(id[:])
					lookup := names.Lookup(id, l.cfg.Self, names.Day(now))
					lookups = append(lookups, lookup)
					if err := w.Set(lookupKey(names.Day(now), &lookup), bytes.Clone(id[:])); err != nil {
						return err
					}
				}
				return nil
			}))
			b.ResetTimer()
			for i := range b.N {
				_, _ = l.Find(b.Context(), lookups[i%held])
			}
		})
	}
}

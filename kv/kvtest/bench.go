package kvtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/kv"
)

// BenchmarkLargeValues writes values of the sizes that content segments may have, three writers at
// once.
func BenchmarkLargeValues(b *testing.B, open func(b testing.TB) kv.Store) {
	ctx := context.Background()
	for _, size := range []int{16 << 10, 64 << 10, 256 << 10, 512 << 10, kv.MaxValueSize} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := open(b)
			value := make([]byte, size)
			for i := range value {
				value[i] = byte(rand.Uint32())
			}
			b.SetBytes(int64(size))
			b.ResetTimer()
			var g errgroup.Group
			g.SetLimit(3)
			for i := range b.N {
				g.Go(func() error { return setNumbered(ctx, s, i, value) })
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
			if err := s.Sync(ctx); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkSmallUpdates commits single small records, with and without waiting for the disk.
func BenchmarkSmallUpdates(b *testing.B, open func(b testing.TB) kv.Store) {
	ctx := context.Background()
	for _, synced := range []bool{false, true} {
		b.Run(fmt.Sprintf("synced=%v", synced), func(b *testing.B) {
			s := open(b)
			value := make([]byte, 112)
			for i := range b.N {
				if err := setNumbered(ctx, s, i, value); err != nil {
					b.Fatal(err)
				}
				if !synced {
					continue
				}
				if err := s.Sync(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func setNumbered(ctx context.Context, s kv.Store, i int, value []byte) error {
	key := binary.BigEndian.AppendUint64([]byte("k"), uint64(i))
	return s.Update(ctx, func(tx kv.Txn) error { return tx.Set(key, value) })
}

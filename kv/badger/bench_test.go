package badger

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/kv"
)

// BenchmarkLargeValues writes values of the sizes that content segments may have, two writers at once.
func BenchmarkLargeValues(b *testing.B) {
	for _, size := range []int{16 << 10, 64 << 10, 256 << 10, 512 << 10, kv.MaxValueSize} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := open(b, b.TempDir())
			value := make([]byte, size)
			for i := range value {
				value[i] = byte(rand.Uint32())
			}
			b.SetBytes(int64(size))
			b.ResetTimer()
			var g errgroup.Group
			g.SetLimit(3)
			for i := range b.N {
				g.Go(func() error {
					return s.Update(context.Background(), func(tx kv.Txn) error {
						return tx.Set(binary.BigEndian.AppendUint64([]byte("k"), uint64(i)), value)
					})
				})
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
			if err := s.Sync(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkSmallUpdates commits single small records, with and without waiting for the disk.
func BenchmarkSmallUpdates(b *testing.B) {
	for _, synced := range []bool{false, true} {
		b.Run(fmt.Sprintf("synced=%v", synced), func(b *testing.B) {
			s := open(b, b.TempDir())
			value := make([]byte, 112)
			for i := range b.N {
				key := binary.BigEndian.AppendUint64([]byte("k"), uint64(i))
				if err := s.Update(context.Background(), func(tx kv.Txn) error { return tx.Set(key, value) }); err != nil {
					b.Fatal(err)
				}
				if synced {
					if err := s.Sync(context.Background()); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

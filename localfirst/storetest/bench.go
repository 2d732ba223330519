package storetest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/localfirst"
)

// benchItems is how many records a benchmark's collection has, and benchValue their size in bytes:
// that of an item which one device has written.
const (
	benchItems = 10_000
	benchValue = 300
)

// Bench measures a store: a Scan of a collection of 10,000 items, a Get, and batches of 1, 100 and
// 1,000.
func Bench(b *testing.B, open Open) {
	s := opened(b, open, b.TempDir())
	var all []localfirst.Record
	for i := range benchItems {
		key := fmt.Sprintf("account:%06d/label", i)
		all = append(all, item("c", key, testkit.Random(i, benchValue)))
	}
	ctx := b.Context()
	for from := 0; from < len(all); from += 1000 {
		require.NoError(b, s.Apply(ctx, all[from:from+1000]))
	}
	b.Run("scan of 10000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			for _, err := range s.Scan(ctx, localfirst.ItemRecord, "ns", "c") {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != benchItems {
				b.Fatal(n)
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, err := s.Get(ctx, all[i%benchItems].Name); err != nil {
				b.Fatal(err)
			}
			i += 7919
		}
	})
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("apply %d", n), func(b *testing.B) {
			b.ReportAllocs()
			from := 0
			for b.Loop() {
				for i := range all[from : from+n] { // else there would be nothing to write
					all[from+i].Value[0]++
				}
				if err := s.Apply(ctx, all[from:from+n]); err != nil {
					b.Fatal(err)
				}
				from = (from + n) % benchItems
			}
		})
	}
}

package embedded

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// benchItems is how many items the benchmarks have.
const benchItems = 10_000

// BenchmarkIdlePass is a pass in which nothing has changed.
func BenchmarkIdlePass(b *testing.B) {
	d := filled(b)
	for b.Loop() {
		require.NoError(b, d.engine.Pass(b.Context()))
	}
}

// BenchmarkPassWithTenChanges is a pass that publishes ten changes.
func BenchmarkPassWithTenChanges(b *testing.B) {
	d := filled(b)
	for n := 0; b.Loop(); n++ {
		for i := range 10 {
			d.set(fmt.Sprintf("key %05d", i*997), fmt.Sprintf("changed %d", n))
		}
		require.NoError(b, d.engine.Pass(b.Context()))
	}
}

// BenchmarkFirstSync publishes items on one device, and applies them on another; the time is for
// both.
func BenchmarkFirstSync(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		one, two := newDevice(b, "alice").start(), newDevice(b, "alice").start()
		two.meet(one)
		for i := range benchItems {
			key := fmt.Sprintf("key %05d", i)
			one.set(key, fmt.Sprintf("value %d of an item", i))
			two.app.Want(key)
		}
		b.StartTimer()
		one.sync()
		two.sync()
		b.StopTimer()
		require.Equal(b, "value 5000 of an item", two.get("key 05000"))
		one.stop()
		two.stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(benchItems*b.N)/b.Elapsed().Seconds(), "items/s")
}

// filled is a device with items that are published.
func filled(b *testing.B) *device {
	d := newDevice(b, "alice").start()
	for i := range benchItems {
		d.set(fmt.Sprintf("key %05d", i), fmt.Sprintf("value %d of an item", i))
	}
	require.NoError(b, d.engine.Pass(b.Context()))
	require.NoError(b, d.engine.Pass(b.Context()))
	return d
}

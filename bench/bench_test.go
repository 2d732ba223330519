package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every measurement runs, on a small load, and fills in what it reports; how fast it was is not
// tested.
func TestMeasurementsRun(t *testing.T) {
	testkit.SeenElsewhere(t)
	cfg := Config{Dir: t.TempDir(), Size: 8 << 20, Files: 50, Note: t.Logf}
	add, err := Add(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, cfg.Size, add.Bytes)
	require.Positive(t, add.AddMBs)

	transfer, err := Transfer(t.Context(), cfg)
	require.NoError(t, err)
	require.Positive(t, transfer.DiscardMBs)
	require.Positive(t, transfer.StoreMBs)
	require.Positive(t, transfer.RawTLSMBs)
	require.Equal(t, cfg.Files, transfer.SmallFiles)

	far, err := Far(t.Context(), cfg, Path{RoundTrip: 4 * time.Millisecond, Rate: 500e6})
	require.NoError(t, err)
	require.Positive(t, far.LargeMBs)
	require.Positive(t, far.SmallSeconds)
	require.LessOrEqual(t, far.FirstReadBytes, uint64(100<<10))

	edit, err := Edit(t.Context(), cfg, []int{1000})
	require.NoError(t, err)
	require.Positive(t, edit.Edits[0].FetchedBytes)
	require.Less(t, edit.Edits[0].FetchedBytes, uint64(2<<20))

	sealed, err := Sealed(t.Context(), cfg, 1)
	require.NoError(t, err)
	require.Positive(t, sealed.Sealed.ReadMBs)
	require.Positive(t, sealed.Ratio)

	cold, err := Vault(t.Context(), cfg, 5, 2)
	require.NoError(t, err)
	require.Positive(t, cold.MedianMillis)
	require.GreaterOrEqual(t, cold.WorstMillis, cold.MedianMillis)

	entries, err := Entries(t.Context(), cfg, 3000)
	require.NoError(t, err)
	require.Positive(t, entries.LiveMedianMillis)
	require.GreaterOrEqual(t, entries.LiveP99Millis, entries.LiveMedianMillis)

	group, err := Live(t.Context(), cfg, 3)
	require.NoError(t, err)
	require.GreaterOrEqual(t, group.LastMillis, group.MedianMillis)

	idle, err := Idle(t.Context(), cfg, 3, 20, 100*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, 20, idle.Replicas)

	sessions, err := Reconcile(t.Context(), cfg, 5000, []int{0, 1, 100}, true)
	require.NoError(t, err)
	require.Len(t, sessions, 6)
	for i, d := range []int{0, 0, 1, 1, 100, 100} {
		require.EqualValues(t, d*itemSize, sessions[i].ItemBytes)
		require.Equal(t, i%2 == 1, sessions[i].Plain)
	}
}

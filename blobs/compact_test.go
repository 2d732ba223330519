package blobs

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// Gaps are closed as far as there is room to move what lies between them, with little room one pack
// after the other; neither the reserve nor the storage limit is in the way.
func TestCollectWithLittleRoom(t *testing.T) {
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	const reserve, limit = 1 << 30, 8 << 20
	free := uint64(2 * reserve)
	s := openStore(t, kvtest.Rerun(db), files.Options{Reserve: reserve, Limit: limit,
		FreeBytes: func(string) (uint64, error) { return free, nil }})
	var kept []Hash
	for pack := range 3 { // of 2 MB, of which one sixth, one third and one half are kept
		for i := range 60 {
			h := mustImport(t, s, testkit.Random(uint64(pack*60+i), 32<<10))
			if i < 10*(pack+1) {
				kept = append(kept, h)
				require.NoError(t, s.Pin(bg, Pin{Name: h.String(), Hash: h}))
			}
		}
		s.files.Seal()
	}
	all := diskUse(t, s)

	free = moveReserve
	res, err := s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	require.True(t, res.Postponed, "there is no room to move anything")
	require.Equal(t, 120, res.Removed)
	require.Equal(t, all, diskUse(t, s))

	free = moveReserve + 11*(33<<10)
	res, err = s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	require.True(t, res.Postponed)
	require.InDelta(t, 10*(33<<10), res.Moved, 64<<10, "the emptiest pack fits")
	require.Less(t, diskUse(t, s), all)

	free = reserve / 2 // below the reserve, and above the limit
	for mustSucceed := range 3 {
		if _, err = s.ImportBytes(bg, testkit.Random(uint64(1000+mustSucceed), 1<<20)); err != nil {
			break
		}
	}
	var full *kv.NoSpaceError
	require.ErrorAs(t, err, &full)
	res, err = s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	require.False(t, res.Postponed)
	require.Less(t, diskUse(t, s), all*6/10)
	for i, h := range kept {
		damage, err := s.Verify(bg, h, nil)
		require.NoError(t, err, i)
		require.Empty(t, damage)
	}
}

package pebble

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	pbl "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
)

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		kvtest.Run(t, func(t testing.TB) kv.Store { return open(t, "") })
	})
	t.Run("disk", func(t *testing.T) { kvtest.Run(t, openTemporary) })
	kvtest.RunDisk(t, func(dir string, reserve uint64, free kvtest.FreeBytes) (kv.Store, error) {
		s, err := Open(dir, Options{Reserve: reserve, FreeBytes: free})
		if err != nil {
			return nil, err // and no interface that holds nothing
		}
		return s, nil
	})
}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// What is committed is handed to the operating system at once: the files as they are then are all
// that is left when the process is killed.
func TestCommittedSurvivesTheProcess(t *testing.T) {
	dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	s := open(t, dir)
	for i := range 100 {
		require.NoError(t, s.Update(context.Background(), func(tx kv.Txn) error {
			return tx.Set(fmt.Appendf(nil, "k%d", i), nil)
		}))
	}
	require.NoError(t, s.Batch(context.Background(), func(w kv.Writer) error {
		return w.Set([]byte("batch"), nil)
	}))
	require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
	s = open(t, copied)
	require.NoError(t, s.View(context.Background(), func(r kv.Reader) error {
		for i := range 100 {
			has, err := r.Has(fmt.Appendf(nil, "k%d", i))
			require.NoError(t, err)
			require.True(t, has, i)
		}
		has, err := r.Has([]byte("batch"))
		require.True(t, has)
		return err
	}))
}

// After the loss of power everything is there that was committed before the last Sync, and of what
// came later the beginning.
func TestLossOfPower(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(testkit.Few(30, 4)) {
		rng := rand.New(rand.NewPCG(seed, 0))
		disk := vfs.NewCrashableMem()
		s, err := Open("kv", Options{FS: disk})
		require.NoError(t, err)
		committed, synced := 0, 0
		for range rng.IntN(400) {
			value := make([]byte, rng.IntN(40<<10)) // logs and tables change now and then
			require.NoError(t, s.Update(ctx, func(tx kv.Txn) error {
				return tx.Set(fmt.Appendf(nil, "k%06d", committed), value)
			}))
			if committed++; rng.IntN(20) == 0 {
				require.NoError(t, s.Sync(ctx))
				synced = committed
			}
		}
		cfg := vfs.CrashCloneCfg{}
		if seed%3 > 0 {
			cfg = vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(100), RNG: rng}
		}
		after := disk.CrashClone(cfg)
		require.NoError(t, s.Close())

		s, err = Open("kv", Options{FS: after})
		require.NoError(t, err, "seed %d", seed)
		require.NoError(t, s.View(ctx, func(r kv.Reader) error {
			n := 0
			for p, err := range r.Scan(kv.Range{}, kv.ScanOptions{KeysOnly: true}) {
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("k%06d", n), string(p.Key), "seed %d", seed)
				n++
			}
			require.GreaterOrEqual(t, n, synced, "seed %d", seed)
			require.LessOrEqual(t, n, committed)
			return nil
		}))
		require.NoError(t, s.Close())
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, s.db.Set(versionKey, []byte{formatVersion + 1}, pbl.Sync))
	require.NoError(t, s.Close())
	_, err := Open(dir, Options{})
	var newer *kv.VersionError
	require.ErrorAs(t, err, &newer)
	require.Equal(t, formatVersion+1, newer.Have)
	require.ErrorContains(t, err, "use a newer skerry")
}

func TestMalformedFormatIsRefused(t *testing.T) {
	for _, version := range [][]byte{{}, {0}, {0x80}} {
		dir := t.TempDir()
		s := open(t, dir)
		require.NoError(t, s.db.Set(versionKey, version, pbl.Sync))
		require.NoError(t, s.Close())
		_, err := Open(dir, Options{})
		require.ErrorContains(t, err, "its format version is malformed")
	}
}

// What a program of before the first release has written is refused, and stays as it is.
func TestOlderFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(
		t,
		errors.Join(s.db.Delete(versionKey, pbl.Sync), s.db.Set(oldVersionKey, []byte{5}, pbl.Sync)),
	)
	require.NoError(t, s.Close())
	for range 2 {
		_, err := Open(dir, Options{})
		var old *kv.OldFormatError
		require.ErrorAs(t, err, &old)
		require.Equal(t, dir, old.Dir)
		require.ErrorContains(t, err, "export")
	}
}

package kvtest

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
)

// OpenDisk opens the store in dir, which keeps so many bytes of the file system free. If free is
// not nil, it answers instead of the operating system.
type OpenDisk func(dir string, reserve uint64, free FreeBytes) (kv.Store, error)

// FreeBytes reports the bytes free on the file system of dir.
type FreeBytes = func(dir string) (uint64, error)

// RunDisk tests, beside Run, a store in a directory: it is there when it is opened again, one
// process has it at a time, and a full file system refuses writes and loses nothing.
func RunDisk(t *testing.T, open OpenDisk) {
	t.Run("opened again", func(t *testing.T) { testReopen(t, open) })
	t.Run("second open names the lock", func(t *testing.T) { testLock(t, open) })
	t.Run("full disk", func(t *testing.T) { testFullDisk(t, open) })
	t.Run("making room", func(t *testing.T) { testMakingRoom(t, open) })
}

func testReopen(t *testing.T, open OpenDisk) {
	dir, ctx := t.TempDir(), context.Background()
	s, err := open(dir, 0, nil)
	require.NoError(t, err)
	big := make([]byte, kv.MaxValueSize)
	require.NoError(t, s.Update(ctx, func(tx kv.Txn) error {
		return errors.Join(tx.Set([]byte("a"), []byte("1")), tx.Set([]byte("big"), big))
	}))
	require.NoError(t, s.Close())
	s, err = open(dir, 0, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.NoError(t, s.View(ctx, func(r kv.Reader) error {
		v, err := r.Get([]byte("big"))
		require.Equal(t, big, v)
		return err
	}))
}

func testLock(t *testing.T, open OpenDisk) {
	dir := t.TempDir()
	s, err := open(dir, 0, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	_, err = open(dir, 0, nil)
	var locked *kv.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, dir, locked.Dir)
}

func testFullDisk(t *testing.T, open OpenDisk) {
	free := uint64(math.MaxUint64)
	s, err := open(t.TempDir(), 1<<20, func(string) (uint64, error) { return free, nil })
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	ctx := context.Background()
	put := func(tx kv.Txn) error { return tx.Set([]byte("k"), []byte("v")) }
	require.NoError(t, s.Update(ctx, put))

	free = 1000
	var full *kv.NoSpaceError
	require.ErrorAs(t, s.Update(ctx, put), &full)
	require.EqualValues(t, 1000, full.Free)
	err = s.Batch(ctx, func(w kv.Writer) error { return w.Set([]byte("x"), nil) })
	require.ErrorAs(t, err, &full)
	require.NoError(t, s.View(ctx, func(r kv.Reader) error {
		v, err := r.Get([]byte("k"))
		require.Equal(t, "v", string(v))
		return err
	}))

	// A quarter is left: content is refused, small records and deletions are not.
	free = 512 << 10
	large := make([]byte, 64<<10)
	err = s.Update(ctx, func(tx kv.Txn) error { return tx.Set([]byte("large"), large) })
	require.ErrorAs(t, err, &full)
	err = s.Batch(ctx, func(w kv.Writer) error { return w.Set([]byte("large"), large) })
	require.ErrorAs(t, err, &full)
	require.NoError(t, s.Update(ctx, put))
	require.NoError(t, s.Batch(ctx, func(w kv.Writer) error { return w.Delete([]byte("k")) }))

	free = math.MaxUint64 // it fills up in the middle of a batch
	err = s.Batch(ctx, func(w kv.Writer) error {
		for i := range 64 {
			if i == 16 {
				free = 0
			}
			if err := w.Set([]byte{'b', byte(i)}, make([]byte, kv.MaxValueSize)); err != nil {
				return err
			}
		}
		return nil
	})
	require.ErrorAs(t, err, &full)
}

// On a disk that is full for all others, what makes room goes on, also after a restart.
func testMakingRoom(t *testing.T, open OpenDisk) {
	const reserve = 64 << 20
	dir, left := t.TempDir(), uint64(math.MaxUint64)
	free := func(string) (uint64, error) { return left, nil }
	s, err := open(dir, reserve, free)
	require.NoError(t, err)
	ctx := context.Background()
	room := kv.ToMakeRoom(ctx)
	key, large := []byte("k"), make([]byte, 64<<10)
	require.NoError(t, s.Update(ctx, func(tx kv.Txn) error { return tx.Set(key, large) }))

	left = reserve / 6
	write := func(ctx context.Context) []error {
		return []error{
			s.Update(ctx, func(tx kv.Txn) error { return tx.Set(key, large) }),
			s.Update(ctx, func(tx kv.Txn) error { return tx.Delete(key) }),
			s.Batch(ctx, func(w kv.Writer) error { return w.Set(key, large) }),
			s.Batch(ctx, func(w kv.Writer) error { return w.Delete(key) }),
		}
	}
	var full *kv.NoSpaceError
	for i, err := range write(ctx) {
		require.ErrorAs(t, err, &full, i)
	}
	require.ErrorAs(t, s.Compact(ctx), &full, "which would need more than there is")
	for i, err := range write(room) {
		require.NoError(t, err, i)
	}
	require.NoError(t, s.Close())
	s, err = open(dir, reserve, free)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.NoError(t, s.Update(room, func(tx kv.Txn) error { return tx.Delete(key) }))

	left = 1000
	for i, err := range write(room) {
		require.ErrorAs(t, err, &full, i)
	}
}

package pebble

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	pbl "github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
)

// smallDisk says how much is free on a disk of size bytes that others fill, but for the ballast.
type smallDisk struct {
	size uint64
	dir  string
}

func (d *smallDisk) free(string) (uint64, error) {
	info, err := os.Stat(filepath.Join(d.dir, ballastName))
	if errors.Is(err, os.ErrNotExist) {
		return d.size, nil
	}
	if err != nil {
		return 0, err
	}
	return d.size - min(d.size, uint64(info.Size())), nil
}

// On a full disk, whatever reads or makes room goes on, also after a restart, and nothing else
// takes the room that this needs.
func TestFullDiskIsNoDeadEnd(t *testing.T) {
	const ballast = 4 << 20
	d := &smallDisk{size: 100 << 20, dir: t.TempDir()}
	o := Options{Reserve: 1 << 20, Ballast: ballast, FreeBytes: d.free}
	s, err := Open(d.dir, o)
	require.NoError(t, err)
	ctx := context.Background()
	room := kv.ToMakeRoom(ctx)
	set := func(tx kv.Txn) error { return tx.Set([]byte("k"), []byte("v")) }
	remove := func(tx kv.Txn) error { return tx.Delete([]byte("k")) }
	require.NoError(t, s.Update(ctx, set))
	require.True(t, s.room.Kept())

	d.size = ballast // nothing is free
	var full *kv.NoSpaceError
	require.ErrorAs(
		t, s.Update(ctx, remove), &full, "who does not say that it makes room does not get it",
	)
	require.Zero(t, full.Free)
	require.True(t, s.room.Kept())
	require.NoError(t, s.View(ctx, func(r kv.Reader) error {
		_, err := r.Get([]byte("k"))
		return err
	}))
	require.NoError(t, s.Update(room, remove))
	require.False(t, s.room.Kept())
	require.NoError(t, s.Batch(room, func(w kv.Writer) error { return w.Delete([]byte("k")) }))
	require.ErrorAs(t, s.Update(ctx, set), &full, "the ballast's room is not for others")
	require.ErrorAs(t, s.Batch(ctx, func(w kv.Writer) error { return w.Set([]byte("k"), nil) }), &full)
	require.NoError(t, s.Close())

	s, err = Open(d.dir, o)
	require.NoError(t, err)
	require.NoError(t, s.Update(room, remove))
	require.False(t, s.room.Kept())
	d.size = leastRoom - 1
	s.opt.Reserve = 4 * leastRoom
	require.ErrorAs(t, s.Compact(ctx), &full, "which would need more than there is")
	require.ErrorAs(t, s.Update(room, remove), &full, "what is written then would be lost")
	require.NoError(t, s.Close())
	_, err = Open(d.dir, o)
	require.ErrorAs(t, err, &full)

	d.size = 100 << 20
	s, err = Open(d.dir, o)
	require.NoError(t, err)
	require.NoError(t, s.Update(ctx, set))
	require.True(t, s.room.Kept(), "there is room for it again")
	require.NoError(t, s.Compact(ctx))

	// Work in the background that fails for want of room gets it.
	listener(s.room).BackgroundError(&os.PathError{Op: "write", Err: syscall.EIO})
	require.True(t, s.room.Kept())
	listener(s.room).BackgroundError(&os.PathError{Op: "write", Err: syscall.ENOSPC})
	require.False(t, s.room.Kept())
	require.NoError(t, s.Close())
	require.NoError(t, DropBallast(d.dir))
	_, err = os.Stat(filepath.Join(d.dir, ballastName))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// The database takes the ballast for none of its files.
func TestBallastIsNoFileOfTheDatabase(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{Ballast: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, s.db.Set([]byte("k"), []byte("v"), pbl.Sync))
	require.NoError(t, s.Close())
	got, err := Salvage(t.Context(), dir, filepath.Join(t.TempDir(), "to"), Options{Ballast: 1 << 20})
	require.NoError(t, err)
	require.Empty(t, got.Damaged)
}

package files

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/kv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	require.NoError(t, err)
	return s
}

func TestOwnFiles(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	require.ErrorIs(t, s.WriteAt(1, []byte("x"), 0), fs.ErrNotExist)
	for id := range ID(2 * maxOpen) { // more than are kept open
		require.NoError(t, s.Create(id))
		require.ErrorIs(t, s.Create(id), fs.ErrExist)
		require.NoError(t, s.WriteAt(id, fmt.Appendf(nil, "file %d", id), 10))
	}
	require.LessOrEqual(t, len(s.open), maxOpen)
	for id := range ID(2 * maxOpen) {
		r, err := s.Reader(id)
		require.NoError(t, err)
		want := fmt.Sprintf("file %d", id)
		p := make([]byte, len(want))
		_, err = r.ReadAt(p, 10)
		require.NoError(t, err)
		require.Equal(t, want, string(p))
		r.Close()
	}
	require.NoError(t, s.Sync(context.Background()))

	r, err := s.Reader(3)
	require.NoError(t, err)
	require.NoError(t, s.Remove(3))
	require.NoError(t, s.Remove(3), "removing what is not there is no error")
	_, err = r.ReadAt(make([]byte, 3), 10)
	require.NoError(t, err, "who has it open may go on")
	r.Close()
	_, err = s.Reader(3)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, s.WriteAt(3, []byte("x"), 0), fs.ErrNotExist)
	all, err := s.Files()
	require.NoError(t, err)
	require.Len(t, all, 2*maxOpen-1)
	require.NoError(t, s.Close())
	_, err = s.Reader(1)
	require.ErrorIs(t, err, kv.ErrClosed)
}

func TestPacks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	parts := [][]byte{[]byte("small"), make([]byte, joinBelow), []byte("another"), []byte("third")}
	parts[1][7] = 9
	extents, err := s.Append(parts)
	require.NoError(t, err)
	check := func(s *Store, e Extent, want []byte) {
		r, err := s.PackReader(e.Pack)
		require.NoError(t, err)
		defer r.Close()
		got := make([]byte, e.Length)
		_, err = r.ReadAt(got, int64(e.Offset))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for i, e := range extents {
		check(s, e, parts[i])
	}
	require.Equal(t, Pack(2), s.Seal())
	more, err := s.Append([][]byte{[]byte("x")})
	require.NoError(t, err)
	require.Equal(t, Extent{Pack: 2, Length: 1}, more[0])
	require.NoError(t, s.Close())

	// Opened again, it goes on in the last pack, behind whatever is there.
	f, err := os.OpenFile(filepath.Join(dir, "packs", "00000002"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("torn")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	s = open(t, dir, Options{})
	defer s.Close()
	more, err = s.Append([][]byte{[]byte("y")})
	require.NoError(t, err)
	require.Equal(t, Extent{Pack: 2, Offset: 5, Length: 1}, more[0])
	require.NoError(t, s.RemovePack(1))
	packs, err := s.Packs()
	require.NoError(t, err)
	require.Equal(t, []Extent{{Pack: 2, Length: 6}}, packs)
}

// A pack that is still empty, as the end of a process may leave it, is sealed and removed like any
// other.
func TestSealOfAnEmptyPack(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "packs"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "packs", "00000001"), nil, 0o600))
	s := open(t, dir, Options{})
	defer s.Close()
	require.Equal(t, Pack(2), s.Seal())
	require.NoError(t, s.RemovePack(1))
	e, err := s.Append([][]byte{{1}})
	require.NoError(t, err)
	require.Equal(t, Pack(2), e[0].Pack)
}

func TestFullDisk(t *testing.T) {
	free := uint64(1 << 40)
	full := error(nil)
	s := open(t, t.TempDir(), Options{Reserve: 1 << 20, FreeBytes: func(string) (uint64, error) {
		return free, nil
	},
		Fault: func(string) error { return full }})
	defer s.Close()
	require.NoError(t, s.Create(1))
	free = 1 << 19
	var noSpace *kv.NoSpaceError
	require.ErrorAs(t, s.WriteAt(1, []byte("x"), 0), &noSpace, "refused while some room is left")
	free, full = 1<<40, syscall.ENOSPC
	require.ErrorAs(t, s.WriteAt(1, []byte("x"), 0), &noSpace, "or when the system says so")
	_, err := s.Append([][]byte{{1}})
	require.ErrorAs(t, err, &noSpace)
	require.ErrorAs(t, s.Sync(context.Background()), &noSpace)
	full = nil
	require.NoError(
		t, s.Sync(context.Background()), "what could not be synced is synced the next time",
	)
}

package pebble

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	pbl "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
)

// database stands in for a database that wants compactions.
type database struct {
	mu              sync.Mutex
	allowed, wanted int
	asked           int
	begun           []pbl.CompactionGrantHandle
}

func (d *database) GetAllowedWithoutPermission() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	return d.allowed
}

func (d *database) GetWaitingCompaction() (bool, pbl.WaitingCompaction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wanted > 0, pbl.WaitingCompaction{}
}

func (d *database) Schedule(h pbl.CompactionGrantHandle) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wanted == 0 {
		return false
	}
	d.wanted--
	d.begun = append(d.begun, h)
	return true
}

func (d *database) set(allowed, wanted int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.allowed, d.wanted = allowed, wanted
}

func (d *database) questions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

func (d *database) began() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.begun)
}

func TestCompactionsBeginAsAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &database{allowed: 1}
		c := newCompactions()
		c.Register(2, d)
		ok, first := c.TrySchedule()
		require.True(t, ok)
		ok, _ = c.TrySchedule()
		require.False(t, ok, "one is under way")
		d.set(1, 2)
		time.Sleep(time.Second)
		require.Zero(t, d.began())

		first.Done()
		synctest.Wait()
		require.Equal(t, 1, d.began(), "the place of the first is taken, and no more")

		d.set(2, 1) // nobody tells the scheduler that more are allowed now
		time.Sleep(2 * lookAgain)
		require.Equal(t, 2, d.began())

		d.begun[0].Done()
		d.begun[1].Done()
		synctest.Wait()
		d.set(1, 0)
		ok, third := c.TrySchedule()
		require.True(t, ok, "all places are free again")
		third.Done()
		c.Unregister()
		ok, _ = c.TrySchedule()
		require.False(t, ok, "the database is closed")
	})
}

// A database that wants nothing is left alone: a node that does nothing does not wake its
// processor.
func TestIdleDatabaseIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &database{allowed: 1}
		c := newCompactions()
		c.Register(2, d)
		ok, first := c.TrySchedule()
		require.True(t, ok)
		ok, _ = c.TrySchedule() // what waited is no longer wanted when it is looked
		require.False(t, ok)
		first.Done()
		time.Sleep(time.Second)
		synctest.Wait()
		asked := d.questions()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, asked, d.questions())
		c.Unregister()
	})
}

// Tables are compacted: level 0 does not grow with all that is written.
func TestStoreCompacts(t *testing.T) {
	s := open(t, t.TempDir())
	value := testkit.Random(1, 1<<10)
	for round := range testkit.Few(12, 6) {
		for part := range 10 {
			require.NoError(t, s.Update(t.Context(), func(tx kv.Txn) error {
				for i := range 1000 {
					if err := tx.Set(fmt.Appendf(nil, "%d %d", i, part), value); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		require.NoError(t, s.db.Flush(), round)
	}
	require.Eventually(t, func() bool {
		m := s.db.Metrics()
		return m.Compact.Count > 0 && m.Levels[0].Sublevels <= 4 && m.Compact.NumInProgress == 0
	}, time.Minute, 10*time.Millisecond)
}

// A database that cannot be opened after its scheduler has begun to work for it leaves nothing
// behind, and is opened again with another: a full disk, for which room was made.
func TestOpeningFailsBehindTheScheduler(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	db, err := openDB(dir, options(vfs.Default))
	require.NoError(t, err)
	require.NoError(t, db.Close())
	full := &noOptions{FS: vfs.Default, left: 1}
	o := options(full)
	_, err = openDB(dir, o)
	require.ErrorIs(t, err, syscall.ENOSPC)
	db, err = openDB(dir, o)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

// noOptions is a file system on which so many files of options cannot be made.
type noOptions struct {
	vfs.FS
	left int
}

func (f *noOptions) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.Contains(filepath.Base(name), "OPTIONS") || strings.Contains(name, ".dbtmp") {
		if f.left--; f.left >= 0 {
			return nil, syscall.ENOSPC
		}
	}
	return f.FS.Create(name, c)
}

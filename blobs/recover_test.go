package blobs

import (
	"bufio"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
)

func readerOf(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, decodeBuffer) }

// After a loss of power, records may be there whose content is not: what was not synced is hashed
// again, what is wrong goes, and what was synced is not touched.
func TestRecoveryAfterLossOfPower(t *testing.T) {
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	defer db.Close()
	dir := t.TempDir()
	fs, err := files.Open(dir, files.Options{})
	require.NoError(t, err)
	s, err := Open(bg, db, fs)
	require.NoError(t, err)
	source := newStore(t)
	safe, safeSmall := mustImport(
		t, s, testkit.Random(1, 2*SegmentSize),
	), mustImport(t, s, testkit.Random(2, 3000))
	require.NoError(t, s.Sync(bg))
	require.Zero(t, countKeys(t, s, keyUnsynced))
	lost, lostSmall := mustImport(
		t, s, testkit.Random(3, 4*SegmentSize),
	), mustImport(t, s, testkit.Random(4, 3000))
	partial := mustImport(t, source, testkit.Random(5, 4*SegmentSize))
	transfer(t, source, s, partial, Ranges{{0, 2 * SegmentSize}})
	require.Positive(t, countKeys(t, s, keyUnsynced))

	// The power fails: of what was not synced, some blocks never reached the disk.
	recOf := func(h Hash) record {
		rec, err := s.lookUp(bg, h)
		require.NoError(t, err)
		return rec
	}
	require.NoError(t, fs.WriteAt(recOf(lost).id, make([]byte, 2*GroupSize), SegmentSize))
	require.NoError(t, fs.WriteAt(recOf(partial).id, make([]byte, GroupSize), 0))
	pack, err := os.OpenFile(dir+"/packs/00000001", os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = pack.WriteAt(make([]byte, 1000), int64(recOf(lostSmall).extent.Offset))
	require.NoError(t, errors.Join(err, pack.Close()))
	// A file that was synced is not looked at: were it, this would be found.
	require.NoError(t, fs.WriteAt(recOf(safe).id, make([]byte, 10), 0))
	require.NoError(t, fs.Close())

	for _, boot := range []string{files.BootID(), "another run of the system"} {
		require.NoError(t, db.Update(bg, func(tx kv.Txn) error {
			return tx.Set([]byte(keyBoot), []byte(boot))
		}))
		fs, err = files.Open(dir, files.Options{})
		require.NoError(t, err)
		s, err = Open(bg, db, fs)
		require.NoError(t, err)
		if boot == files.BootID() {
			require.True(t, s.mustHave(t, lost).Complete, "only a process died: all is believed to be there")
			require.NoError(t, fs.Close())
		}
	}
	defer fs.Close()
	require.True(t, s.mustHave(t, safe).Complete)
	require.True(t, s.mustHave(t, safeSmall).Complete)
	_, err = s.Stat(bg, lostSmall)
	require.ErrorIs(t, err, ErrNotFound)
	present, err := s.Present(bg, lost)
	require.NoError(t, err)
	require.Equal(t, Ranges{{0, SegmentSize}, {SegmentSize + 2*GroupSize, 4 * SegmentSize}}, present)
	present, err = s.Present(bg, partial)
	require.NoError(t, err)
	require.Equal(
		t, Ranges{{GroupSize, 2 * SegmentSize}, {4*SegmentSize - GroupSize, 4 * SegmentSize}}, present,
	)
	require.NoError(t, s.Sync(bg))
	require.Zero(t, countKeys(t, s, keyUnsynced), "marks of an earlier process go, too")
}

func (s *Store) mustHave(t *testing.T, h Hash) Info {
	info, err := s.Stat(bg, h)
	require.NoError(t, err)
	return info
}

// A store of a later format is refused.
func TestLaterFormatIsRefused(t *testing.T) {
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	defer db.Close()
	fs, err := files.Open(t.TempDir(), files.Options{})
	require.NoError(t, err)
	defer fs.Close()
	for range 2 {
		_, err = Open(bg, db, fs)
		require.NoError(t, err)
	}
	require.NoError(
		t,
		db.Update(
			bg,
			func(tx kv.Txn) error { return tx.Set([]byte(keyFormat), []byte{formatVersion + 1}) },
		),
	)
	_, err = Open(bg, db, fs)
	var later *kv.VersionError
	require.ErrorAs(t, err, &later)
	require.Equal(t, formatVersion+1, later.Have)
}

// Golden: the records of format 1.
func TestRecordGolden(t *testing.T) {
	for _, c := range []struct {
		rec  record
		want []byte
	}{
		{record{state: stateInline, size: 300}, []byte{1, 0, 0xac, 2}},
		{record{state: stateComplete, size: 300, id: 258}, []byte{1, 1, 0xac, 2, 0, 0, 0, 0, 0, 0, 1, 2}},
		{record{
			state: statePartial, size: 300, id: 1, have: 300,
		}, []byte{1, 2, 0xac, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0xac, 2}},
		{record{
			state: statePacked, size: 300, extent: files.Extent{Pack: 3, Offset: 300, Length: 300},
		}, []byte{1, 3, 0xac, 2, 3, 0xac, 2}},
		{record{
			state: stateReferenced, size: 300, id: 1, ref: reference{"/a", time.Unix(0, 5)},
		}, []byte{1, 4, 0xac, 2, 0, 0, 0, 0, 0, 0, 0, 1, 10, '/', 'a'}},
	} {
		require.Equal(t, c.want, c.rec.marshal())
		back, err := parseRecord(c.want)
		require.NoError(t, err)
		require.Equal(t, c.rec, back)
	}
	require.Equal(
		t, append([]byte{1, 1, 7}, make([]byte, 31)...), Pin{Hash: Hash{7}, Sequence: true}.marshal(),
	)
}

func FuzzParseRecord(f *testing.F) {
	for _, rec := range []record{
		{state: stateInline, size: 3}, {state: stateComplete, size: 1 << 30, id: 7},
		{state: statePartial, size: 1 << 30, id: 7, have: 4},
		{state: statePacked, size: 4096, extent: files.Extent{Pack: 3, Offset: 70, Length: 4096}},
		{state: stateReferenced, size: 99, id: 8, ref: reference{path: "/a/b"}},
	} {
		f.Add(rec.marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := parseRecord(b)
		if err == nil {
			again, err := parseRecord(rec.marshal())
			require.NoError(t, err)
			require.Equal(t, rec, again)
		}
	})
}

package blobs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
)

func readerOf(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, decodeBuffer) }

// After a loss of power, records may be there whose content is not: what was not synced is hashed again, what is wrong goes, and what was
// synced is not touched.
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
	safe, safeSmall := mustImport(t, s, random(1, 2*SegmentSize)), mustImport(t, s, random(2, 3000))
	require.NoError(t, s.Sync(bg))
	require.Zero(t, countKeys(t, s, keyUnsynced))
	lost, lostSmall := mustImport(t, s, random(3, 4*SegmentSize)), mustImport(t, s, random(4, 3000))
	partial := mustImport(t, source, random(5, 4*SegmentSize))
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
		require.NoError(t, db.Update(bg, func(tx kv.Txn) error { return tx.Set([]byte(keyBoot), []byte(boot)) }))
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
	require.Equal(t, Ranges{{GroupSize, 2 * SegmentSize}, {4*SegmentSize - GroupSize, 4 * SegmentSize}}, present)
	require.NoError(t, s.Sync(bg))
	require.Zero(t, countKeys(t, s, keyUnsynced), "marks of an earlier process go, too")
}

func (s *Store) mustHave(t *testing.T, h Hash) Info {
	info, err := s.Stat(bg, h)
	require.NoError(t, err)
	return info
}

// A store of format 1, in which all content lay in the key-value store, is brought into the present one.
func TestMigration(t *testing.T) {
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	defer db.Close()
	source := newStore(t)
	whole, part := random(1, 34*SegmentSize+GroupSize+9), random(2, 3*SegmentSize)
	mid, tiny := random(3, 9000), []byte("tiny")
	wholeHash, partHash := mustImport(t, source, whole), mustImport(t, source, part)
	require.NoError(t, db.Update(bg, func(tx kv.Txn) error {
		for _, b := range [][]byte{mid, tiny} {
			if err := errors.Join(
				tx.Set(recordKey(HashOf(b)), binary.AppendUvarint([]byte{1, 0}, uint64(len(b)))),
				tx.Set(inlineKey(HashOf(b)), b)); err != nil {
				return err
			}
		}
		return nil
	}))
	writeV1(t, db, source, wholeHash, whole, 71, nil)
	writeV1(t, db, source, partHash, part, 72, map[uint64]uint32{0: fullMask(fanOut), 2: 1 << 31})

	fs, err := files.Open(t.TempDir(), files.Options{})
	require.NoError(t, err)
	defer fs.Close()
	for range 2 { // the second time there is nothing to do
		s, err := Open(bg, db, fs)
		require.NoError(t, err)
		for _, data := range [][]byte{whole, mid, tiny} {
			got, err := s.ReadAll(bg, HashOf(data), uint64(len(data)))
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
			damage, err := s.Verify(bg, HashOf(data), nil)
			require.NoError(t, err)
			require.Empty(t, damage)
		}
		present, err := s.Present(bg, partHash)
		require.NoError(t, err)
		require.Equal(t, Ranges{{0, SegmentSize}, {3*SegmentSize - GroupSize, 3 * SegmentSize}}, present)
		require.Zero(t, countKeys(t, s, keySegmentV1))
	}
	s, err := Open(bg, db, fs)
	require.NoError(t, err)
	got, err := s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	require.Zero(t, got.Removed, "what was there before there were pins is kept")
	transfer(t, source, s, partHash, Everything)
	require.True(t, s.mustHave(t, partHash).Complete)
	require.NoError(t, s.Unpin(bg, migratedPin))
	got, err = s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	require.Equal(t, 5, got.Removed)
}

// writeV1 writes a blob as format 1 did; masks, if not nil, gives the groups that are there.
func writeV1(t *testing.T, db kv.Store, source *Store, h Hash, data []byte, id contentID, masks map[uint64]uint32) {
	rec := source.mustHave(t, h)
	g := newGeometry(rec.Size)
	segKey := func(level int, index uint64) []byte {
		return binary.BigEndian.AppendUint32(append(idKey(keySegmentV1, id), byte(level)), uint32(index))
	}
	src, err := source.lookUp(bg, h)
	require.NoError(t, err)
	require.NoError(t, db.Batch(bg, func(w kv.Writer) error {
		return source.kv.View(bg, func(r kv.Reader) error {
			have := uint64(0)
			for p, err := range r.Scan(kv.Prefix(idKey(keyTree, src.id)), kv.ScanOptions{}) {
				require.NoError(t, err)
				k := p.Key[len(keyTree)+8:]
				if k[0] > 0 {
					require.NoError(t, w.Set(segKey(int(k[0]), uint64(binary.BigEndian.Uint32(k[1:]))), bytes.Clone(p.Value)))
				}
			}
			for i := range (g.counts[0] + fanOut - 1) / fanOut {
				n := g.children(0, i)
				mask := fullMask(n)
				if masks != nil {
					if mask = masks[i]; mask == 0 {
						continue
					}
					require.NoError(t, w.Set(maskKey(id, i), binary.LittleEndian.AppendUint32(nil, mask)))
				}
				tree := make([]byte, treeBytes(n))
				if n > 1 {
					tree, err = r.Get(blockKey(src.id, 0, i))
					require.NoError(t, err)
				}
				v := append(binary.LittleEndian.AppendUint32(nil, mask), tree...)
				for j := range n {
					if at := (i*fanOut + uint64(j)) * GroupSize; mask>>j&1 == 1 {
						v = append(v, data[at:min(at+GroupSize, rec.Size)]...)
						have++
					}
				}
				require.NoError(t, w.Set(segKey(0, i), v))
			}
			b := []byte{1, 1}
			if masks != nil {
				b[1] = 2
			}
			b = binary.BigEndian.AppendUint64(binary.AppendUvarint(b, rec.Size), uint64(id))
			if masks != nil {
				b = binary.AppendUvarint(b, have)
			}
			return w.Set(recordKey(h), b)
		})
	}))
}

// Golden: the records of format 2.
func TestRecordGolden(t *testing.T) {
	for _, c := range []struct {
		rec  record
		want []byte
	}{
		{record{state: stateInline, size: 300}, []byte{2, 0, 0xac, 2}},
		{record{state: stateComplete, size: 300, id: 258}, []byte{2, 1, 0xac, 2, 0, 0, 0, 0, 0, 0, 1, 2}},
		{record{state: statePartial, size: 300, id: 1, have: 300}, []byte{2, 2, 0xac, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0xac, 2}},
		{record{state: statePacked, size: 300, extent: files.Extent{Pack: 3, Offset: 300, Length: 300}}, []byte{2, 3, 0xac, 2, 3, 0xac, 2}},
		{record{state: stateReferenced, size: 300, id: 1, ref: reference{"/a", time.Unix(0, 5)}}, []byte{2, 4, 0xac, 2, 0, 0, 0, 0, 0, 0, 0, 1, 10, '/', 'a'}},
	} {
		require.Equal(t, c.want, c.rec.marshal())
		back, err := parseRecord(c.want)
		require.NoError(t, err)
		require.Equal(t, c.rec, back)
	}
	require.Equal(t, append([]byte{1, 1, 7}, make([]byte, 31)...), Pin{Hash: Hash{7}, Sequence: true}.marshal())
}

func FuzzParseRecord(f *testing.F) {
	for _, rec := range []record{
		{state: stateInline, size: 3}, {state: stateComplete, size: 1 << 30, id: 7}, {state: statePartial, size: 1 << 30, id: 7, have: 4},
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

package replicas

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// countingForm is the form of a journal whose id is not random.
func countingForm() *form {
	var id journalID
	for i := range id {
		id[i] = byte(i + 1)
	}
	return formOf(id)
}

// The form of the file stays what it is.
func TestJournalForm(t *testing.T) {
	const id = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
	f := countingForm()
	half := "534b434a524e4c01" + id + "1756854d86d5c3d2"
	require.Equal(t, half+half, hex.EncodeToString(f.id.head()))
	put := f.append(nil, &record{
		kind: recordPut, time: 1 << 50, key: "notes/a", kept: jsonType, body: []byte("{}"),
	}, 3, 2, 1)
	require.Equal(t, "01020304"+"00000027"+"5bce8c77d9015143"+"01"+"03"+"02"+"01"+"0004000000000000"+
		"076e6f7465732f61"+"106170706c69636174696f6e2f6a736f6e"+"7b7d", hex.EncodeToString(put))
	gone := f.append(nil, &record{kind: recordDelete, time: 1, key: "k"}, 1, 200, 0)
	require.Equal(t, "01020304"+"00000010"+"62c89680857903f0"+"02"+"01"+"c801"+"00"+"0000000000000001"+
		"016b"+"00", hex.EncodeToString(gone))
}

// written is a journal with one record for each batch, and where the records end.
func written(t *testing.T, name string, all []record) (whole []byte, ends []int) {
	j, _, err := openJournal(name)
	require.NoError(t, err)
	for i := range all {
		require.NoError(t, j.add(j.append(nil, &all[i])))
		ends = append(ends, int(j.size))
	}
	require.NoError(t, j.close())
	whole, err = os.ReadFile(name)
	require.NoError(t, err)
	return whole, ends
}

func requireRecords(t *testing.T, want, got []record) {
	require.Len(t, got, len(want))
	for i, r := range got {
		require.Equal(t, want[i].key, r.key)
		require.Equal(t, want[i].kind, r.kind)
		require.Equal(t, want[i].kept, r.kept)
		require.Equal(t, want[i].time, r.time)
		require.Equal(t, string(want[i].body), string(r.body))
	}
}

var someRecords = []record{
	{kind: recordPut, time: 5, key: "a", kept: jsonType, body: []byte(`{"n":1}`)},
	{kind: recordDelete, time: 6, key: "b"},
	{kind: recordPut, time: 7, key: "a/b", kept: "image/png", body: []byte{0, 1, 2}},
	{kind: recordPut, time: 9, key: "e", kept: "text/plain"},
}

// Of a journal that was cut off anywhere there is what stands before that.
func TestJournalCutOff(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sub", "journal")
	j, c, err := openJournal(name)
	require.NoError(t, err)
	require.True(t, j.isEmpty())
	require.Equal(t, contents{}, c)
	_, _, err = openJournal(name)
	require.ErrorIs(t, err, errOpen)
	require.NoError(t, j.close())
	whole, ends := written(t, name, someRecords)
	for size := int(headSize); size < len(whole); size++ {
		n := 0
		for n < len(ends) && ends[n] <= size {
			n++
		}
		require.NoError(t, os.WriteFile(name, whole[:size], 0o600))
		j, c, err := openJournal(name)
		require.NoError(t, err)
		requireRecords(t, someRecords[:n], c.records)
		from := int(headSize)
		if n > 0 {
			from = ends[n-1]
		}
		require.Equal(
			t, contents{records: c.records, tail: len(bytes.TrimRight(whole[from:size], "\x00"))}, c,
		)
		later := record{kind: recordDelete, key: "later"}
		require.NoError(t, j.add(j.append(nil, &later)))
		require.NoError(t, j.close())
		j, c, err = openJournal(name)
		require.NoError(t, err)
		requireRecords(t, append(someRecords[:n:n], later), c.records)
		require.Equal(t, contents{records: c.records}, c)
		require.NoError(t, j.reset())
		require.True(t, j.isEmpty())
		require.NoError(t, j.close())
	}
	// Room for more is no damage.
	require.NoError(
		t, os.WriteFile(name, append(whole[:len(whole):len(whole)], make([]byte, 1000)...), 0o600),
	)
	j, c, err = openJournal(name)
	require.NoError(t, err)
	requireRecords(t, someRecords, c.records)
	require.Equal(t, contents{records: c.records}, c)
	require.NoError(t, j.close())
	for _, foreign := range []string{
		"SKCJRNL\x02 of another version", "SKCJRNL\x02" + string(make([]byte, 200)),
	} {
		require.NoError(t, os.WriteFile(name, []byte(foreign), 0o600))
		_, _, err = openJournal(name)
		require.ErrorIs(t, err, errJournal)
	}
}

// One wrong bit anywhere costs the record that it is in, and it is told whether that one had been
// acknowledged. The damaged file is kept.
func TestJournalDamaged(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "journal")
	whole, ends := written(t, name, someRecords)
	for at := range whole {
		b := bytes.Clone(whole)
		b[at] ^= 0x20
		require.NoError(t, os.WriteFile(name, b, 0o600))
		j, c, err := openJournal(name)
		require.NoError(t, err)
		require.NoError(t, j.close())
		var logged bytes.Buffer
		c.tell(slog.New(slog.NewTextHandler(&logged, nil)), "replica")
		hit := 0
		for at >= ends[hit] {
			hit++
		}
		want := append(someRecords[:hit:hit], someRecords[hit+1:]...)
		switch {
		case at < int(headSize): // of which there are two
			requireRecords(t, someRecords, c.records)
			require.Empty(t, logged.String())
		case hit == len(ends)-1: // nothing behind it says that it was acknowledged
			requireRecords(t, want, c.records)
			require.Contains(t, logged.String(), "acknowledged writes may be among them")
			require.Equal(t, ends[hit]-ends[hit-1], c.tail)
		default:
			requireRecords(t, want, c.records)
			require.Equal(t, 1, c.lost)
			require.Contains(t, logged.String(), "acknowledged writes are lost")
			kept, err := os.ReadFile(c.kept)
			require.NoError(t, err)
			require.Equal(t, b, kept)
			require.NoError(t, os.Remove(c.kept))
		}
	}
}

// Whatever is stored, nothing of it is taken for a record when what it stands in is damaged.
func TestJournalNoForgery(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	forged := countingForm().append(
		nil, &record{kind: recordPut, time: 9, key: "admin", kept: jsonType, body: []byte(`{}`)}, 1, 9, 8,
	)
	forged = append(forged, make([]byte, recordHead)...)
	all := []record{
		{kind: recordPut, time: 1, key: "a", kept: "image/png", body: bytes.Repeat(forged, 50)},
		{kind: recordDelete, time: 2, key: "b"},
	}
	whole, _ := written(t, name, all)
	for _, at := range []int{markSize, recordHead, recordHead + 1} {
		b := bytes.Clone(whole)
		b[int(headSize)+at] ^= 1
		require.NoError(t, os.WriteFile(name, b, 0o600))
		j, c, err := openJournal(name)
		require.NoError(t, err)
		require.NoError(t, j.close())
		requireRecords(t, all[1:], c.records)
		require.Equal(t, 1, c.lost)
	}
}

// Records of before the journal was emptied, which a loss of power has left behind the new ones,
// are none of it; and neither are those of a batch that was cut off in the middle acknowledged.
func TestJournalRemains(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	j, _, err := openJournal(name)
	require.NoError(t, err)
	for i := range 5 {
		require.NoError(
			t,
			j.add(
				j.append(
					nil, &record{kind: recordPut, time: 1, key: fmt.Sprint(i), kept: jsonType, body: []byte("{}")},
				),
			),
		)
	}
	old, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, j.reset())
	for range 2 {
		require.NoError(
			t,
			j.add(
				j.append(nil, &record{kind: recordPut, time: 2, key: "n", kept: jsonType, body: []byte("{}")}),
			),
		)
	}
	require.NoError(t, j.close())
	now, err := os.ReadFile(name)
	require.NoError(t, err)
	for _, cut := range []int{0, 1} {
		require.NoError(
			t, os.WriteFile(name, append(now[:len(now):len(now)], old[len(now)+cut:]...), 0o600),
		)
		j, c, err := openJournal(name)
		require.NoError(t, err)
		require.NoError(t, j.close())
		require.Len(t, c.records, 2)
		require.Zero(t, c.lost)
		require.Zero(t, c.skipped)
	}

	j, _, err = openJournal(name)
	require.NoError(t, err)
	require.NoError(t, j.reset())
	batch := j.append(
		nil, &record{kind: recordPut, time: 3, key: "x", kept: jsonType, body: []byte("{}")},
	)
	batch[20] ^= 1
	require.NoError(
		t,
		j.add(
			j.append(batch, &record{kind: recordPut, time: 4, key: "y", kept: jsonType, body: []byte("{}")}),
		),
	)
	require.NoError(t, j.close())
	j, c, err := openJournal(name)
	require.NoError(t, err)
	require.NoError(t, j.close())
	require.Len(t, c.records, 1)
	require.Zero(t, c.lost)
	require.Positive(t, c.skipped)
}

// A journal that grows has room, which is not there any more when it is closed; and after a crash,
// what was added is there.
func TestJournalRoom(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	j, _, err := openJournal(name)
	require.NoError(t, err)
	fill := func(n int) {
		for i := range n {
			require.NoError(
				t,
				j.add(
					j.append(
						nil, &record{kind: recordPut, key: fmt.Sprint(i), kept: jsonType, body: make([]byte, 1000)},
					),
				),
			)
		}
	}
	for range 2 {
		fill(300)
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Len(t, b, int(j.room))
		require.Greater(t, j.room, j.size)
		crashed := name + " crashed"
		require.NoError(t, os.WriteFile(crashed, b, 0o600))
		k, c, err := openJournal(crashed)
		require.NoError(t, err)
		require.Len(t, c.records, 300)
		require.Equal(t, contents{records: c.records}, c)
		require.NoError(t, k.close())
		require.NoError(t, j.reset())
	}
	fill(100)
	require.NoError(t, j.close())
	i, err := os.Stat(name)
	require.NoError(t, err)
	require.Equal(t, j.size, i.Size())
}

// Whatever a journal holds, what is read of it is what would be written.
func FuzzParseRecord(f *testing.F) {
	w := countingForm()
	f.Add(
		w.append(
			nil, &record{kind: recordPut, time: 1, key: "notes/a", kept: jsonType, body: []byte("{}")}, 1, 1,
			0,
		),
	)
	f.Add(w.append(nil, &record{kind: recordDelete, time: 1, key: "k"}, 1, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := countingForm()
		if len(b) > recordHead { // so that more than what was given passes
			sum := w.checksum(b[markSize:markSize+4], b[recordHead:])
			copy(b[markSize+4:], sum[:])
		}
		r, n := w.parse(b)
		if n == 0 {
			return
		}
		require.LessOrEqual(t, n, len(b))
		again, m := w.parse(w.append(nil, &r, r.generation, r.number, r.durable))
		require.NotZero(t, m)
		require.Equal(t, r, again)
	})
}

// A file of any content is read in one pass, or refused.
func FuzzParseJournal(f *testing.F) {
	w := countingForm()
	whole := w.append(
		w.id.head(),
		&record{kind: recordPut, time: 1, key: "notes/a", kept: jsonType, body: []byte("{}")}, 1, 1, 0,
	)
	f.Add(w.append(whole, &record{kind: recordDelete, time: 1, key: "k"}, 1, 2, 1))
	f.Add([]byte(journalMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseJournal(b)
		if err != nil {
			require.ErrorIs(t, err, errJournal)
			return
		}
		require.LessOrEqual(t, c.tail+c.skipped, len(b))
		require.GreaterOrEqual(t, c.lost, 0)
	})
}

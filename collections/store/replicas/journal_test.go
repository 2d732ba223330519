package replicas

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The form of the file stays what it is.
func TestJournalForm(t *testing.T) {
	put := (&record{recordPut, "notes/a", jsonType, []byte("{}")}).append(nil)
	require.Equal(t, "0000001c312b192b"+"01"+"076e6f7465732f61"+"106170706c69636174696f6e2f6a736f6e"+"7b7d", hex.EncodeToString(put))
	gone := (&record{kind: recordDelete, key: "k"}).append(nil)
	require.Equal(t, "000000045f24f3e2"+"02"+"016b"+"00", hex.EncodeToString(gone))
}

// Of a journal that was cut off anywhere, or damaged, there is what stands before that.
func TestJournalCutOff(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sub", "journal")
	j, all, cut, err := openJournal(name)
	require.NoError(t, err)
	require.True(t, j.isEmpty())
	require.Empty(t, all)
	require.Zero(t, cut)
	_, _, _, err = openJournal(name)
	require.ErrorIs(t, err, errOpen)
	want := []record{{recordPut, "a", jsonType, []byte(`{"n":1}`)}, {kind: recordDelete, key: "b"}, {recordPut, "a/b", "image/png", []byte{0, 1, 2}}, {recordPut, "e", "text/plain", nil}}
	var ends []int
	for _, r := range want {
		require.NoError(t, j.add(r.append(nil)))
		ends = append(ends, int(j.size))
	}
	require.NoError(t, j.close())
	whole, err := os.ReadFile(name)
	require.NoError(t, err)
	check := func(b []byte, n int) {
		require.NoError(t, os.WriteFile(name, b, 0o600))
		j, all, cut, err := openJournal(name)
		require.NoError(t, err)
		require.Len(t, all, n)
		for i, r := range all {
			require.Equal(t, want[i].key, r.key)
			require.Equal(t, want[i].kind, r.kind)
			require.Equal(t, string(want[i].body), string(r.body))
		}
		if len(b) >= len(journalMagic) {
			require.Len(t, bytes.TrimRight(b[j.size:], "\x00"), cut)
		}
		require.NoError(t, j.add((&record{kind: recordDelete, key: "later"}).append(nil)))
		require.NoError(t, j.close())
		j, all, cut, err = openJournal(name)
		require.NoError(t, err)
		require.Len(t, all, n+1)
		require.Zero(t, cut)
		require.NoError(t, j.reset())
		require.True(t, j.isEmpty())
		require.NoError(t, j.close())
	}
	for size := range whole {
		n := 0
		for n < len(ends) && ends[n] <= size {
			n++
		}
		check(whole[:size], n)
	}
	for at := len(journalMagic); at < len(whole); at++ {
		b := append([]byte(nil), whole...)
		b[at] ^= 0x20
		n := 0
		for ends[n] <= at {
			n++
		}
		check(b, n)
	}
	// Room for more is no damage.
	require.NoError(t, os.WriteFile(name, append(whole[:len(whole):len(whole)], make([]byte, 1000)...), 0o600))
	j, all, cut, err = openJournal(name)
	require.NoError(t, err)
	require.Len(t, all, len(want))
	require.Zero(t, cut)
	require.NoError(t, j.close())
	require.NoError(t, os.WriteFile(name, []byte("SKCJRNL\x02 of another version"), 0o600))
	_, _, _, err = openJournal(name)
	require.ErrorIs(t, err, errJournal)
}

// A journal that grows has room, which is not there any more when it is closed; and after a crash, what was added is there.
func TestJournalRoom(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	j, _, _, err := openJournal(name)
	require.NoError(t, err)
	fill := func(n int) {
		for i := range n {
			require.NoError(t, j.add((&record{recordPut, fmt.Sprint(i), jsonType, make([]byte, 1000)}).append(nil)))
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
		k, all, cut, err := openJournal(crashed)
		require.NoError(t, err)
		require.Len(t, all, 300)
		require.Zero(t, cut)
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
	f.Add((&record{recordPut, "notes/a", jsonType, []byte("{}")}).append(nil))
	f.Add((&record{kind: recordDelete, key: "k"}).append([]byte{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n := parseRecord(b)
		if n == 0 {
			return
		}
		require.LessOrEqual(t, n, len(b))
		again, m := parseRecord(r.append(nil))
		require.NotZero(t, m)
		require.Equal(t, r, again)
	})
}

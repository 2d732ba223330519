package blobs

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
)

// What is kept as records is read together, each in its place; what has been deleted or collected
// is not served any more.
func TestReadTiny(t *testing.T) {
	s := newStore(t)
	var all []Hash
	var want [][]byte
	for i := range 3 * readTogether {
		data := testkit.Random(uint64(i), 1+i*InlineSize/(3*readTogether-1))
		all, want = append(all, mustImport(t, s, data)), append(want, data)
		if len(data) > InlineSize {
			want[i] = nil // it lies in a pack
		}
	}
	require.Nil(t, want[len(want)-1])
	all, want = append(all, Hash{1}, all[7]), append(want, nil, want[7])
	referenced, err := s.ImportFile(bg, writeFile(t, t.TempDir(), []byte("a file")),
		ImportOptions{Reference: true})
	require.NoError(t, err)
	all, want = append(all, referenced.Hash), append(want, nil)
	require.NoError(t, s.Delete(bg, all[3]))
	want[3] = nil

	read := s.BytesRead()
	got, err := s.ReadTiny(bg, all)
	require.NoError(t, err)
	require.Equal(t, len(want), len(got))
	total := 0
	for i := range want {
		require.True(t, bytes.Equal(want[i], got[i]), i)
		require.Equal(t, want[i] == nil, got[i] == nil, i)
		total += len(got[i])
	}
	require.EqualValues(t, total, s.BytesRead()-read)

	// What was read under a hold stays until that ends; the rest goes.
	held, release := s.Hold()
	_, err = held.ReadTiny(bg, all[10:11])
	require.NoError(t, err)
	_, err = s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	got, err = s.ReadTiny(bg, all[9:12])
	require.NoError(t, err)
	require.Equal(t, [][]byte{nil, want[10], nil}, got)
	release()
	_, err = s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	got, err = s.ReadTiny(bg, all[10:11])
	require.NoError(t, err)
	require.Equal(t, [][]byte{nil}, got)

	ended, cancel := context.WithCancel(bg)
	cancel()
	_, err = s.ReadTiny(ended, all)
	require.ErrorIs(t, err, context.Canceled)
	got, err = s.ReadTiny(bg, nil)
	require.NoError(t, err)
	require.Empty(t, got)
}

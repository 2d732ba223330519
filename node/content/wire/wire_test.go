package wire

import (
	"bufio"
	"bytes"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
)

// Golden: the bytes of a blob request and of an answer's head.
func TestBlobWireGolden(t *testing.T) {
	reqs := []Request{
		{Hash: blobs.Hash{1}, ProveSize: true, Ranges: blobs.Everything},
		{Hash: blobs.Hash{2}, Ranges: blobs.Ranges{{Start: 16384, End: 49152}}},
		{Hash: blobs.Hash{3}, ProveSize: true, Ranges: blobs.Everything, Children: &Children{
			First: 5, Count: 300, Limit: 65535, Budget: 128, Ranges: blobs.Ranges{{Start: 0, End: 16384}},
		}},
	}
	b, err := AppendRequests(nil, true, reqs)
	require.NoError(t, err)
	hash := func(first byte) []byte { return append([]byte{first}, make([]byte, 31)...) }
	want := slices.Concat([]byte{2, 1, 3},
		[]byte{0}, hash(1), []byte{1, 1, 0, 0},
		[]byte{0}, hash(2), []byte{0, 1, 0x80, 0x80, 1, 0x80, 0x80, 2},
		[]byte{1}, hash(3), []byte{1, 1, 0, 0, 5, 0xac, 2, 0xff, 0xff, 3, 0x80, 1, 1, 0, 0x80, 0x80, 1})
	require.Equal(t, want, b)
	background, back, _, err := ReadRequests(bufio.NewReader(bytes.NewReader(b)), nil)
	require.NoError(t, err)
	require.True(t, background)
	require.Equal(t, reqs, back)
	_, _, _, err = ReadRequests(bufio.NewReader(bytes.NewReader(nil)), nil)
	require.Equal(t, io.EOF, err)
	for at, says := range map[int]string{0: "version 3, expected 2", 1: "unknown flags"} {
		other := bytes.Clone(b)
		other[at] = 3
		_, _, _, err = ReadRequests(bufio.NewReader(bytes.NewReader(other)), nil)
		require.ErrorContains(t, err, says)
	}

	for _, c := range []struct {
		head Head
		want []byte
	}{
		{Head{StatusHere, 300, blobs.Ranges{{Start: 0, End: 300}}}, []byte{0, 0xac, 2, 1, 0, 0xac, 2}},
		{Head{Status: StatusNotHere}, []byte{1}},
		{Head{Status: StatusLarger, Size: 300}, []byte{2, 0xac, 2}},
		{Head{Status: StatusSpent}, []byte{3}},
	} {
		b, err = c.head.Append(nil)
		require.NoError(t, err)
		require.Equal(t, c.want, b)
		got, err := ReadHead(bufio.NewReader(bytes.NewReader(b)))
		require.NoError(t, err)
		require.Equal(t, c.head, got)
	}
}

func FuzzReadRequests(f *testing.F) {
	b, err := AppendRequests(nil, false, []Request{{ProveSize: true, Ranges: blobs.Everything},
		{Ranges: blobs.Ranges{{Start: 1, End: 2}}, Children: &Children{
			Count: 7, Ranges: blobs.Everything,
		}}})
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		background, reqs, _, err := ReadRequests(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			return
		}
		require.EqualValues(t, version, b[0])
		again, err := AppendRequests(nil, background, reqs)
		require.NoError(t, err)
		_, back, _, err := ReadRequests(bufio.NewReader(bytes.NewReader(again)), nil)
		require.NoError(t, err)
		require.Equal(t, reqs, back)
	})
}

func FuzzReadAnswerHead(f *testing.F) {
	f.Add([]byte{0, 0xac, 2, 1, 0, 0xac, 2})
	f.Add([]byte{1})
	f.Add([]byte{2, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ReadHead(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again, err := h.Append(nil)
		require.NoError(t, err)
		back, err := ReadHead(bufio.NewReader(bytes.NewReader(again)))
		require.NoError(t, err)
		require.Equal(t, h, back)
	})
}

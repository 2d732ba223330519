package node

import (
	"bufio"
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
)

// Golden: the bytes of a blob request and of an answer's head.
func TestBlobWireGolden(t *testing.T) {
	reqs := []blobRequest{{hash: blobs.Hash{1}, proveSize: true, ranges: blobs.Everything}, {hash: blobs.Hash{2}, ranges: blobs.Ranges{{Start: 16384, End: 49152}}}}
	b, err := appendRequests(nil, reqs)
	require.NoError(t, err)
	want := []byte{1, 2}
	want = append(append(append(want, 1), make([]byte, 31)...), 1, 1, 0, 0)
	want = append(append(append(want, 2), make([]byte, 31)...), 0, 1, 0x80, 0x80, 1, 0x80, 0x80, 2)
	require.Equal(t, want, b)
	back, err := readRequests(bufio.NewReader(bytes.NewReader(b)))
	require.NoError(t, err)
	require.Equal(t, reqs, back)

	head := answerHead{here: true, size: 300, ranges: blobs.Ranges{{Start: 0, End: 300}}}
	b, err = head.append(nil)
	require.NoError(t, err)
	require.Equal(t, []byte{0, 0xac, 2, 1, 0, 0xac, 2}, b)
	got, err := readAnswerHead(bufio.NewReader(bytes.NewReader(b)))
	require.NoError(t, err)
	require.Equal(t, head, got)
}

// A lookup is good for one replica, one responder and one day.
func TestLookupIsBound(t *testing.T) {
	base := lookupOf(replica.ID{1}, "peer", 20000)
	require.Equal(t, base, lookupOf(replica.ID{1}, "peer", 20000))
	for _, other := range [][32]byte{lookupOf(replica.ID{2}, "peer", 20000), lookupOf(replica.ID{1}, "other", 20000), lookupOf(replica.ID{1}, "peer", 20001)} {
		require.NotEqual(t, base, other)
	}
}

func TestPushIsBounded(t *testing.T) {
	head := append([]byte{pushVersion}, make([]byte, 32)...)
	for name, items := range map[string][][]byte{
		"too many":  make([][]byte, maxPush+1),
		"too long":  {make([]byte, maxPushItem+1)},
		"too large": slices.Repeat([][]byte{make([]byte, maxPushItem)}, maxPushBytes/maxPushItem+1),
	} {
		_, err := readPush(bufio.NewReader(bytes.NewReader(appendItems(appendItems(head, nil), items))))
		require.ErrorContains(t, err, "push of", name)
	}
}

func FuzzReadRequests(f *testing.F) {
	b, err := appendRequests(nil, []blobRequest{{proveSize: true, ranges: blobs.Everything}, {ranges: blobs.Ranges{{Start: 1, End: 2}}}})
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		reqs, err := readRequests(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again, err := appendRequests(nil, reqs)
		require.NoError(t, err)
		back, err := readRequests(bufio.NewReader(bytes.NewReader(again)))
		require.NoError(t, err)
		require.Equal(t, reqs, back)
	})
}

func FuzzReadAnswerHead(f *testing.F) {
	f.Add([]byte{0, 0xac, 2, 1, 0, 0xac, 2})
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readAnswerHead(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again, err := h.append(nil)
		require.NoError(t, err)
		back, err := readAnswerHead(bufio.NewReader(bytes.NewReader(again)))
		require.NoError(t, err)
		require.Equal(t, h, back)
	})
}

func FuzzReadPush(f *testing.F) {
	f.Add(appendItems(appendItems(append([]byte{pushVersion}, make([]byte, 32)...), [][]byte{{1}}), [][]byte{{2, 3}, {}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readPush(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again := appendItems(appendItems(append([]byte{pushVersion}, p.lookup[:]...), p.grants), p.entries)
		back, err := readPush(bufio.NewReader(bytes.NewReader(again)))
		require.NoError(t, err)
		require.Equal(t, p, back)
	})
}

func FuzzParseAddrs(f *testing.F) {
	f.Add(marshalAddrs(nil))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseAddrs(b) })
}

package node

import (
	"bufio"
	"bytes"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/replica"
)

// Golden: the bytes of a blob request and of an answer's head.
func TestBlobWireGolden(t *testing.T) {
	reqs := []blobRequest{
		{hash: blobs.Hash{1}, proveSize: true, ranges: blobs.Everything},
		{hash: blobs.Hash{2}, ranges: blobs.Ranges{{Start: 16384, End: 49152}}},
		{hash: blobs.Hash{3}, proveSize: true, ranges: blobs.Everything, children: &childRequest{first: 5, count: 300, limit: 65535, budget: 128, ranges: blobs.Ranges{{Start: 0, End: 16384}}}},
	}
	b, err := appendRequests(nil, true, reqs)
	require.NoError(t, err)
	hash := func(first byte) []byte { return append([]byte{first}, make([]byte, 31)...) }
	want := slices.Concat([]byte{2, 1, 3},
		[]byte{0}, hash(1), []byte{1, 1, 0, 0},
		[]byte{0}, hash(2), []byte{0, 1, 0x80, 0x80, 1, 0x80, 0x80, 2},
		[]byte{1}, hash(3), []byte{1, 1, 0, 0, 5, 0xac, 2, 0xff, 0xff, 3, 0x80, 1, 1, 0, 0x80, 0x80, 1})
	require.Equal(t, want, b)
	background, back, _, err := readRequests(bufio.NewReader(bytes.NewReader(b)), nil)
	require.NoError(t, err)
	require.True(t, background)
	require.Equal(t, reqs, back)
	_, _, _, err = readRequests(bufio.NewReader(bytes.NewReader(nil)), nil)
	require.Equal(t, io.EOF, err)

	for _, c := range []struct {
		head answerHead
		want []byte
	}{
		{answerHead{statusHere, 300, blobs.Ranges{{Start: 0, End: 300}}}, []byte{0, 0xac, 2, 1, 0, 0xac, 2}},
		{answerHead{status: statusNotHere}, []byte{1}},
		{answerHead{status: statusLarger, size: 300}, []byte{2, 0xac, 2}},
		{answerHead{status: statusSpent}, []byte{3}},
	} {
		b, err = c.head.append(nil)
		require.NoError(t, err)
		require.Equal(t, c.want, b)
		got, err := readAnswerHead(bufio.NewReader(bytes.NewReader(b)))
		require.NoError(t, err)
		require.Equal(t, c.head, got)
	}
}

// A lookup is good for one replica, one responder and one day.
func TestLookupIsBound(t *testing.T) {
	base := lookupOf(replica.ID{1}, "peer", 20000)
	require.Equal(t, base, lookupOf(replica.ID{1}, "peer", 20000))
	for _, other := range [][32]byte{lookupOf(replica.ID{2}, "peer", 20000), lookupOf(replica.ID{1}, "other", 20000), lookupOf(replica.ID{1}, "peer", 20001)} {
		require.NotEqual(t, base, other)
	}
}

// pushed is a parsed push.
type pushed struct {
	lookup              [32]byte
	statements, entries [][]byte
}

func readPush(r *bufio.Reader) (p pushed, err error) {
	if p.lookup, err = readPushHead(r); err != nil {
		return p, err
	}
	if p.statements, err = bundle.Read(r, nil); err != nil {
		return p, err
	}
	p.entries, err = bundle.Read(r, nil)
	return p, err
}

func TestPushIsBounded(t *testing.T) {
	head := append([]byte{pushVersion}, make([]byte, 32)...)
	for name, items := range map[string][][]byte{
		"too many":  make([][]byte, bundle.Max+1),
		"too long":  {make([]byte, bundle.MaxItem+1)},
		"too large": slices.Repeat([][]byte{make([]byte, bundle.MaxItem)}, bundle.MaxBytes/bundle.MaxItem+1),
	} {
		_, err := readPush(bufio.NewReader(bytes.NewReader(bundle.Append(bundle.Append(head, nil), items))))
		require.ErrorContains(t, err, "push of", name)
	}
}

func FuzzReadRequests(f *testing.F) {
	b, err := appendRequests(nil, false, []blobRequest{{proveSize: true, ranges: blobs.Everything},
		{ranges: blobs.Ranges{{Start: 1, End: 2}}, children: &childRequest{count: 7, ranges: blobs.Everything}}})
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		background, reqs, _, err := readRequests(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			return
		}
		again, err := appendRequests(nil, background, reqs)
		require.NoError(t, err)
		_, back, _, err := readRequests(bufio.NewReader(bytes.NewReader(again)), nil)
		require.NoError(t, err)
		require.Equal(t, reqs, back)
	})
}

func FuzzReadAnswerHead(f *testing.F) {
	f.Add([]byte{0, 0xac, 2, 1, 0, 0xac, 2})
	f.Add([]byte{1})
	f.Add([]byte{2, 5})
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
	f.Add(bundle.Append(bundle.Append(append([]byte{pushVersion}, make([]byte, 32)...), [][]byte{{1}}), [][]byte{{2, 3}, {}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readPush(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again := bundle.Append(bundle.Append(append([]byte{pushVersion}, p.lookup[:]...), p.statements), p.entries)
		back, err := readPush(bufio.NewReader(bytes.NewReader(again)))
		require.NoError(t, err)
		require.Equal(t, p, back)
	})
}

func FuzzParseAddrs(f *testing.F) {
	f.Add(marshalAddrs(nil))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseAddrs(b) })
}

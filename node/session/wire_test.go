package session

import (
	"bufio"
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/bundle"
)

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
	head := append([]byte{PushVersion}, make([]byte, 32)...)
	for name, items := range map[string][][]byte{
		"too many": make([][]byte, bundle.Max+1),
		"too long": {make([]byte, bundle.MaxItem+1)},
		"too large": slices.Repeat([][]byte{make([]byte, bundle.MaxItem)},
			bundle.MaxBytes/bundle.MaxItem+1),
	} {
		_, err := readPush(bufio.NewReader(bytes.NewReader(bundle.Append(bundle.Append(head, nil),
			items))))
		require.ErrorContains(t, err, "push of", name)
	}
}

func FuzzReadPush(f *testing.F) {
	f.Add(bundle.Append(bundle.Append(append([]byte{PushVersion}, make([]byte, 32)...),
		[][]byte{{1}}), [][]byte{{2, 3}, {}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readPush(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again := bundle.Append(bundle.Append(append([]byte{PushVersion}, p.lookup[:]...),
			p.statements), p.entries)
		back, err := readPush(bufio.NewReader(bytes.NewReader(again)))
		require.NoError(t, err)
		require.Equal(t, p, back)
	})
}

package bundle

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// However many statements there are, a receiver gets no more than it takes.
func TestFew(t *testing.T) {
	require.Len(t, Few(make([][]byte, Max+5)), Max)
	large := make([][]byte, 40)
	for i := range large {
		large[i] = make([]byte, MaxItem)
	}
	some := Few(large)
	require.Len(t, some, MaxBytes/MaxItem)
	back, err := Read(bufio.NewReader(bytes.NewReader(Append(nil, some))), nil)
	require.NoError(t, err)
	require.Len(t, back, len(some))
	require.Len(t, Few(large[:2]), 2)
}

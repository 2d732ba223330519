package ticket

import (
	"slices"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
)

// longAddr returns an address of n bytes.
func longAddr(t *testing.T, n int) ma.Multiaddr {
	with := func(name int) ma.Multiaddr {
		return addrs(t, "/dns4/"+strings.Repeat("x", name)+"/tcp/1/p2p/"+peerID)[0]
	}
	short := len(with(200).Bytes()) // with the length of the name in two bytes, as below
	a := with(200 + n - short)
	require.Len(t, a.Bytes(), n)
	return a
}

// What is just within a limit is written and read; one more is not.
func TestLimits(t *testing.T) {
	one := addrs(t, "/ip4/192.0.2.7/tcp/4001/p2p/"+peerID)
	most := &Blob{Addrs: slices.Repeat(one, MaxAddrs)}
	text, err := most.Text()
	require.NoError(t, err)
	back, err := Parse(text)
	require.NoError(t, err)
	require.Len(t, back.(*Blob).Addrs, MaxAddrs)
	_, err = (&Blob{Addrs: slices.Repeat(one, MaxAddrs+1)}).Text()
	require.ErrorContains(t, err, "addresses, at most")

	longest := &Blob{Addrs: []ma.Multiaddr{longAddr(t, MaxAddr)}}
	text, err = longest.Text()
	require.NoError(t, err)
	back, err = Parse(text)
	require.NoError(t, err)
	require.Equal(t, longest, back)
	_, err = (&Blob{Addrs: []ma.Multiaddr{longAddr(t, MaxAddr+1)}}).Text()
	require.ErrorContains(t, err, "longer than")

	_, err = Parse("blob" + strings.Repeat("a", MaxText-len("blob")))
	require.NotErrorIs(t, err, ErrNotTicket)
	require.Error(t, err)
	require.False(t, Looks("blob"+strings.Repeat("z", 36)))
	require.True(t, Looks("blob"+strings.Repeat("z", 37)))
}

// What follows on a whole ticket makes it too long, whatever number of letters there are then.
func TestOddLength(t *testing.T) {
	for name, tk := range examples(t) {
		good, err := tk.Text()
		require.NoError(t, err)
		for more := 1; more < 8; more++ {
			text := good + strings.Repeat("a", more)
			_, err := Parse(text)
			require.ErrorIs(t, err, ErrTooLong, "%s and %d", name, more)
		}
	}
}

// A checksum of nothing is no ticket of a later version.
func TestChecksumAlone(t *testing.T) {
	for _, prefix := range []string{prefixBlob, prefixDoc} {
		sum := checksum(prefix, nil)
		require.Greater(t, sum[0], byte(version), "it reads as a later version")
		_, err := Parse(prefix + encoding.EncodeToString(sum))
		require.ErrorIs(t, err, ErrMistyped)
	}
}

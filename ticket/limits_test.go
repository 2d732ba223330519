package ticket

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
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

// sealed returns the text of bytes, with their checksum.
func sealed(prefix string, body ...byte) string {
	return prefix + encoding.EncodeToString(append(body, checksum(prefix, body)...))
}

// longer returns other texts for a ticket with one address, with a right checksum: each has one of
// its numbers in a longer form.
func longer(t testing.TB) (all []string) {
	at := string(addrs(t, "/ip4/192.0.2.7/tcp/4001")[0].Bytes())
	key := strings.Repeat("k", keySize)
	numbers := []byte{1, keySize, 1, byte(len(at))}
	for i := range len(numbers) + 1 {
		forms := make([]string, len(numbers))
		for k, x := range numbers {
			if forms[k] = string([]byte{x}); k == i {
				forms[k] = string([]byte{x | 0x80, 0})
			}
		}
		b := append([]byte{version, 0}, make([]byte, 32)...)
		b = append(b, forms[0]+forms[1]+key+forms[2]+forms[3]+at...)
		all = append(all, sealed(prefixBlob, b...))
	}
	return all
}

// A ticket has one text, but for white space and capitals.
func TestOneText(t *testing.T) {
	all := longer(t)
	good := all[len(all)-1] // in which none is longer
	_, err := Parse(good)
	require.NoError(t, err)
	_, err = Parse(" " + strings.ToUpper(good[:9]) + "\n" + good[9:])
	require.NoError(t, err)
	for i, text := range all[:len(all)-1] {
		_, err := Parse(text)
		require.ErrorIs(t, err, ErrMistyped, i)
	}
	for _, tk := range examples(t) {
		text, err := tk.Text()
		require.NoError(t, err)
		if strings.Contains(text, "k") { // the lower case of the sign for kelvin is a k
			_, err = Parse(strings.Replace(text, "k", "\u212a", 1))
			require.ErrorIs(t, err, ErrMistyped)
		}
	}
}

// Ids for which there is no form are refused when a ticket is written, and not read as others.
func TestPeerIDsWithoutForm(t *testing.T) {
	for _, tt := range []struct {
		code, size byte
		form       bool
	}{
		{0, 29, true}, {0, 30, false}, {0, 31, true}, {0, 126, true}, {0, 127, false}, // by themselves
		{0x12, 32, true}, // by SHA-256
	} {
		id := append([]byte{tt.code, tt.size}, make([]byte, tt.size)...)
		at := append([]byte{0xa5, 0x03}, binary.AppendUvarint(nil, uint64(len(id)))...) // /p2p/
		a, err := ma.NewMultiaddrBytes(append(at, id...))
		require.NoError(t, err)
		text, err := (&Blob{Addrs: []ma.Multiaddr{a}}).Text()
		if !tt.form {
			require.ErrorContains(t, err, "no form", tt)
			continue
		}
		require.NoError(t, err, tt)
		back, err := Parse(text)
		require.NoError(t, err)
		require.Equal(t, peer.ID(id), back.Peers()[0].ID)
	}
}

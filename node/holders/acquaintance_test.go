package holders

import (
	"encoding/hex"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
)

// Golden: the record of a peer.
func TestAcquaintanceGolden(t *testing.T) {
	addr, err := ma.NewMultiaddr("/ip4/192.0.2.1/tcp/4001")
	require.NoError(t, err)
	a := acquaintance{
		named: true, history: true, first: 1777636800, last: 1777723200, days: 2,
		addrs: []ma.Multiaddr{addr},
	}
	golden := "0103" + "0000000069f495c0" + "0000000069f5e740" + "0002" +
		"01" + "08" + "04c0000201060fa1"
	require.Equal(t, golden, hex.EncodeToString(a.marshal()))
	back, err := parseAcquaintance(a.marshal())
	require.NoError(t, err)
	require.Equal(t, a, back)
}

func FuzzAcquaintance(f *testing.F) {
	f.Add((&acquaintance{named: true, days: 1}).marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAcquaintance(b)
		if err != nil {
			return
		}
		again, err := parseAcquaintance(a.marshal())
		require.NoError(t, err)
		require.Equal(t, a, again)
	})
}

func FuzzParseAddrs(f *testing.F) {
	f.Add(marshalAddrs(nil))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseAddrs(b) })
}

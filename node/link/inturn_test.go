package link

import (
	"fmt"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
)

// Whoever has many addresses does not push out those of others, and none is lost.
func TestInTurn(t *testing.T) {
	of := func(party, n int) (all []ma.Multiaddr) {
		for i := range n {
			all = append(all, ma.StringCast(fmt.Sprintf("/ip4/10.0.%d.%d/tcp/1", party, i)))
		}
		return all
	}
	many, two, one := of(1, 20), of(2, 2), of(3, 1)
	all := InTurn(many, nil, two, one)
	require.Equal(t, []ma.Multiaddr{many[0], two[0], one[0], many[1], two[1], many[2]}, all[:6])
	require.Len(t, all, 23)
	require.Equal(t, many[19], all[22])
	require.Empty(t, InTurn())
	require.Empty(t, InTurn(nil, nil))
}

package names

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// A lookup is good for one replica, one responder and one day.
func TestLookupIsBound(t *testing.T) {
	base := Lookup(replica.ID{1}, "peer", 20000)
	require.Equal(t, base, Lookup(replica.ID{1}, "peer", 20000))
	for _, other := range [][32]byte{
		Lookup(replica.ID{2}, "peer", 20000), Lookup(replica.ID{1}, "other", 20000),
		Lookup(replica.ID{1}, "peer", 20001),
	} {
		require.NotEqual(t, base, other)
	}
}

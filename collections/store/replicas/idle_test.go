package replicas_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/internal/cost"
)

// A reader who asks again and again, while nothing comes, costs a fraction of what reading costs:
// its cursor stays what it is, and the digests in it are not made anew.
func TestNothingNewCostsLittle(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	const last = 1_700_000_000_000
	for i := range 20 { // of the times of all digests
		e := store.Element{Time: last - 1<<(2*(20-i)), Body: fmt.Appendf(nil, `{"ts":%d}`, i)}
		require.NoError(t, m.Append(t.Context(), "log", e, &store.Object{Body: []byte("{}")}))
	}
	n, err := m.Since(t.Context(), "log", "", -1, 100, nil)
	require.NoError(t, err)
	require.Len(t, n.Elements, 20)
	poll := func(cursor string) func() {
		return func() {
			again, err := m.Since(t.Context(), "log", cursor, -1, 100, nil)
			require.NoError(t, err)
			require.Equal(t, n.Next, again.Next)
		}
	}
	whole, idle := cost.Bytes(poll("")), cost.Bytes(poll(n.Next))
	require.Less(t, 3*idle, whole, "%d bytes of %d", idle, whole)
}

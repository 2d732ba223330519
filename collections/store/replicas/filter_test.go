package replicas_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// What has been added is never excluded, and most of what has not is, however many there are.
func TestFilter(t *testing.T) {
	f := replicas.NewFilter()
	require.False(t, f.Excludes("absent"), "nothing is known yet")
	f.Complete()
	require.True(t, f.Excludes("absent"))
	const count = 200_000 // three layers
	for i := range count {
		f.Add(fmt.Sprint(i))
	}
	wrong := 0
	for i := range count {
		require.False(t, f.Excludes(fmt.Sprint(i)))
		if !f.Excludes(fmt.Sprint("absent ", i)) {
			wrong++
		}
	}
	require.Less(t, wrong, count/10)
	f.Miss()
	require.False(t, f.Excludes("absent"), "keys may be missing")
}

// What others write is read, also when more came than there are notices of, and what was there
// before the store was opened.
func TestExcludesNothingThatIsThere(t *testing.T) {
	testkit.SeenElsewhere(t)
	dir := t.TempDir()
	m := founded(t, dir)
	m.fill(t, 10, func(i int) (string, string) { return fmt.Sprintf("doc/before/%d", i), note })
	require.NoError(t, m.Store.Close())
	require.NoError(t, m.n.Close())
	m = founded(t, dir)
	defer func() { require.NoError(t, m.Close()) }()
	knows := func() bool { return replicas.Excludes(m.Store, "absent") }
	require.Eventually(t, knows, 10*time.Second, time.Millisecond)
	there := func(key string) {
		t.Helper()
		_, err := m.Get(t.Context(), key)
		require.NoError(t, err)
		require.False(t, replicas.Excludes(m.Store, key))
	}
	there("before/3")
	_, err := m.Get(t.Context(), "absent")
	require.ErrorIs(t, err, store.ErrNotFound)

	m.fill(t, 10, func(i int) (string, string) { return fmt.Sprintf("doc/some/%d", i), note })
	there("some/3")
	require.True(t, knows())

	m.fill(t, 20_000, func(i int) (string, string) { return fmt.Sprintf("file/many/%d", i), note })
	there("many/3") // of which no notice is left
	require.Eventually(t, knows, 60*time.Second, time.Millisecond)
	for i := 0; i < 20_000; i += 100 {
		there(fmt.Sprintf("many/%d", i))
	}
}

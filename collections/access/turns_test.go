package access

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// A list that has to go for another takes no later one with it that its issuer has brought
// meanwhile, neither from memory nor from the store.
func TestLaterListStays(t *testing.T) {
	x := newLists(t, 10)
	l := listOf(t, "a", 2, 0)
	require.NoError(t, x.Accept(t.Context(), l))
	require.NoError(t, x.drop(t.Context(), leaving{l.Issuer, 1}), "as it was when room was made")
	require.EqualValues(t, 2, x.byIssuer[l.Issuer].generation)
	require.True(t, x.stored(keyOf(l.Issuer, 2)))

	// Of another server of the store, which this one has not read yet.
	require.NoError(t, x.failed.Put(t.Context(), keyOf(l.Issuer, 3),
		&store.Object{Body: []byte("{}")}, store.Whatever))
	require.NoError(t, x.drop(t.Context(), leaving{l.Issuer, 2}))
	require.False(t, x.stored(keyOf(l.Issuer, 2)))
	require.True(t, x.stored(keyOf(l.Issuer, 3)))
}

// slowly is a store whose first removal stops until another thing is done, or waits for it.
type slowly struct {
	store.Store
	once  sync.Once
	while func()
}

func (s *slowly) List(ctx context.Context, prefix, after string, n int) ([]string, error) {
	s.once.Do(s.while)
	return s.Store.List(ctx, prefix, after, n)
}

// A list that is accepted while an earlier one of its issuer is being removed is in the store
// afterwards.
func TestAcceptedWhileRemoved(t *testing.T) {
	x := newLists(t, 10)
	l := listOf(t, "a", 1, 0)
	require.NoError(t, x.Accept(t.Context(), l))
	accepted := make(chan error, 1)
	x.store = &slowly{Store: x.failed, while: func() {
		done := make(chan error, 1)
		go func() { done <- x.Accept(context.Background(), l) }() // the same: nobody knows it now
		select {
		case err := <-done:
			accepted <- err
		case <-time.After(100 * time.Millisecond): // it waits for its turn
			go func() { accepted <- <-done }()
		}
	}}
	require.NoError(t, x.drop(t.Context(), leaving{l.Issuer, math.MaxInt64}))
	require.NoError(t, <-accepted)
	require.NotNil(t, x.byIssuer[l.Issuer])
	require.True(t, x.stored(revocationsKey(l)))
}

// Whoever has a network has thousands of sources, and each list leaves a trace in a replica.
func TestNetworkShare(t *testing.T) {
	testkit.OneGoroutine(t)
	x, err := NewRevocations(t.Context(), nil, nil)
	require.NoError(t, err)
	taken := 0
	for i := range 2 * networkShares {
		ctx := WithSource(t.Context(), fmt.Sprintf("2001:db8:0:%02x00::1", i))
		for range sourceLists {
			if x.allows(ctx, &newcomer{source: SourceOf(ctx)}, 100, false) {
				taken++
			}
		}
	}
	require.GreaterOrEqual(t, taken, networkShares*sourceLists)
	require.Less(t, taken, (networkShares+1)*sourceLists)
}

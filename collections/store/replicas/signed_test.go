package replicas_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/replica"
)

// signing takes the target of a request for the time at which it was signed.
type signing struct{ openGuard }

func (signing) Proof(p *store.Proof) []byte {
	if p == nil {
		return nil
	}
	return []byte(p.Target)
}

func (signing) SignedAt(v *replicas.Version) int64 {
	if at, err := strconv.ParseInt(string(v.Proof), 10, 64); err == nil {
		return at
	}
	return v.Time
}

// Of files the one that was signed last stands at all nodes. So one that was signed before what is
// there is refused, and one that nobody has signed is later than that, whatever clocks say.
func TestFilesAreInTheOrderOfTheirSignatures(t *testing.T) {
	const ahead = 8 * time.Minute
	ctx := t.Context()
	var r replica.Replica
	open := func(by time.Duration) *member {
		m := &member{n: openNode(t, t.TempDir(), func() time.Time { return time.Now().Add(by) })}
		var err error
		if r, err = joined(m.n, t, r); err == nil {
			m.open(t, r)
			err = m.Store.Close()
		}
		require.NoError(t, err)
		m.reopen(t, replicas.Options{Guard: signing{}})
		return m
	}
	one, two := open(ahead), open(0)
	file := func(text string, signed time.Time) *store.Object {
		o := &store.Object{Body: []byte(text), Type: "text/plain"}
		if !signed.IsZero() {
			o.Proof = &store.Proof{Target: strconv.FormatInt(signed.UnixMilli(), 10)}
		}
		return o
	}
	requireAll := func(key, text string) {
		one.learn(t, two)
		two.learn(t, one)
		for _, m := range []*member{one, two} {
			o, err := m.Get(ctx, key)
			require.NoError(t, err)
			require.Equal(t, text, string(o.Body))
		}
	}
	now := two.n.Now()
	unsigned := time.Time{}
	require.NoError(t, one.Put(ctx, "a", file("1", unsigned), store.Whatever))
	requireAll("a", "1")
	require.NoError(t, two.Put(ctx, "a", file("2", unsigned), store.Whatever))
	requireAll("a", "2")

	for _, settled := range []bool{false, true} {
		key := "b" + strconv.FormatBool(settled)
		require.NoError(t, two.Put(ctx, key, file("1", now.Add(5*time.Minute)), store.Whatever))
		if settled {
			requireAll(key, "1")
		}
		require.ErrorIs(t, two.Put(ctx, key, file("2", now), store.Whatever), store.ErrSignedLater)
		requireAll(key, "1")
		require.NoError(t, two.Put(ctx, key, file("3", unsigned), store.Whatever))
		requireAll(key, "3")
		require.NoError(t, two.Put(ctx, key, file("4", now.Add(6*time.Minute)), store.Whatever))
		requireAll(key, "4")
		require.NoError(t, two.Put(ctx, key, file("5", now.Add(6*time.Minute)), store.Whatever))
		requireAll(key, "5")
	}
	require.NoError(t, errors.Join(one.Close(), two.Close()))
}

package document_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// weighed is a store that knows the longest body that was written.
type weighed struct {
	store.Store
	longest int
}

func (w *weighed) Put(
	ctx context.Context, key string, o *store.Object, if_ store.Condition,
) error {
	w.longest = max(w.longest, len(o.Body))
	return w.Store.Put(ctx, key, o, if_)
}

// What an append writes has a limit, however long elements are.
func TestChunksOfLongElements(t *testing.T) {
	testkit.OneGoroutine(t)
	const n, long = 60, 60_000
	for name, data := range map[string]any{
		"text":    strings.Repeat("x", long),
		"numbers": make(value.Array, long/5),
		"members": func() *value.Object {
			o := &value.Object{}
			for i := range long / 10 {
				o.Set(fmt.Sprint("k", i), false)
			}
			return o
		}(),
	} {
		s, c := &weighed{Store: store.NewMemory()}, newClock()
		d := document.In(s, c.now)
		l := document.Log{Field: "items"}
		for i := range n {
			o := value.NewObject(
				value.Member{Key: "i", Value: float64(i)}, value.Member{Key: "d", Value: data})
			_, err := d.Append(t.Context(), "log", o, nil, nil, l)
			require.NoError(t, err)
		}
		require.Less(t, s.longest, 5<<18, name)
		p, err := d.Elements(t.Context(), "log", 0, nil, l)
		require.NoError(t, err)
		require.Len(t, p.Elements, n)
		for i, e := range p.Elements {
			v, _ := e.(*value.Object).Get("data")
			at, _ := v.(*value.Object).Get("i")
			require.EqualValues(t, i, at)
		}
	}
}

package document_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// A reader whose cursor is of a store that was brought back from a backup since misses nothing of
// what has come after that.
func TestCursorOfARestoredLog(t *testing.T) {
	for chunk := range 4 {
		for had := range 8 {
			s, c := store.NewMemory(), newClock()
			d := document.In(s, c.now)
			l := document.Log{Field: "items", ChunkSize: int64(1 + chunk)}
			add := func(from, to int, name string) {
				for i := from; i < to; i++ {
					data := object(t, fmt.Sprintf(`{%q:%d}`, name, i))
					_, err := d.Append(t.Context(), "log", data, nil, nil, l)
					require.NoError(t, err)
				}
			}
			cursor := ""
			read := func() (all []string) {
				for more := true; more; {
					n, err := d.Since(t.Context(), "log", cursor, -1, 2, l)
					require.NoError(t, err)
					for _, e := range n.Elements {
						data, _ := e.(*value.Object).Get("data")
						all = append(all, text(data.(*value.Object)))
					}
					require.False(t, n.More && n.Next == cursor)
					cursor, more = n.Next, n.More
				}
				return all
			}
			add(0, 3, "kept")
			keys, err := s.List(t.Context(), "", "", 100)
			require.NoError(t, err)
			backup := map[string]*store.Object{}
			for _, k := range keys {
				o, err := s.Get(t.Context(), k)
				require.NoError(t, err)
				backup[k] = &store.Object{Body: o.Body, Type: o.Type}
			}
			add(3, 3+had, "lost")
			require.Len(t, read(), 3+had)
			require.Empty(t, read())
			keys, err = s.List(t.Context(), "", "", 100)
			require.NoError(t, err)
			for _, k := range keys {
				require.NoError(t, s.Delete(t.Context(), k))
			}
			for k, o := range backup {
				require.NoError(t, s.Put(t.Context(), k, o, store.Whatever))
			}
			c.at = c.at.Add(time.Hour)
			add(3, 10, "new")
			got := read()
			for i := 3; i < 10; i++ {
				require.Contains(t, got, fmt.Sprintf(`{"new":%d}`, i), "chunks of %d, %d lost", 1+chunk, had)
			}
			require.Empty(t, read())
		}
	}
}

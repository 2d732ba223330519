package replicas_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/node"
)

// fill writes entries straight into the replica, many at once.
func (m *member) fill(b testing.TB, count int, entry func(i int) (key, content string)) {
	batch, err := m.n.ReplicaOf(m.id).Batch(b.Context(), node.WriteOptions{})
	require.NoError(b, err)
	defer batch.Close()
	for i := range count {
		k, content := entry(i)
		require.NoError(b, batch.Add(node.Change{Key: []byte(k), Value: []byte(content)}))
		if batch.Len() == 2000 || i == count-1 {
			_, err := batch.Write()
			require.NoError(b, err)
		}
	}
}

const note = `{"title":"A note","tags":["a","b"],"count":12,"body":"words and words and words and words"}`

// BenchmarkPush pushes new documents, 32 at once.
func BenchmarkPush(b *testing.B) {
	m := founded(b, b.TempDir())
	defer m.Close()
	d := document.In(m, nil)
	data := object(b, note)
	var n int
	var mu sync.Mutex
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			n++
			key := fmt.Sprintf("notes/%d", n)
			mu.Unlock()
			if _, err := d.Push(b.Context(), key, data, nil, nil, false); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkLog appends to logs of several lengths, one element at a time, and reads the last ten
// elements.
func BenchmarkLog(b *testing.B) {
	for _, length := range []int{1000, 1_000_000} {
		if length > 1000 && testing.Short() {
			continue
		}
		m := founded(b, b.TempDir())
		d := document.In(m, nil)
		l := document.Log{Field: "items"}
		_, err := d.Append(b.Context(), "log", object(b, note), nil, nil, l)
		require.NoError(b, err)
		began := time.Now().UnixMilli() - int64(length) - 1
		m.fill(b, length, func(i int) (string, string) {
			at := began + int64(i)
			return fmt.Sprintf("log/log\x00%016d", at), fmt.Sprintf(`{"ts":%d,"data":%s}`, at, note)
		})
		data := object(b, note)
		b.Run(fmt.Sprintf("append/%d", length), func(b *testing.B) {
			for b.Loop() {
				_, err := d.Append(b.Context(), "log", data, nil, nil, l)
				require.NoError(b, err)
			}
		})
		b.Run(fmt.Sprintf("last10/%d", length), func(b *testing.B) {
			ten := int64(10)
			for b.Loop() {
				p, err := d.Elements(b.Context(), "log", 0, &ten, l)
				require.NoError(b, err)
				require.Len(b, p.Elements, 10)
			}
		})
		require.NoError(b, m.Close())
	}
}

// BenchmarkCollection lists a collection of 100,000 documents, page by page, and opens it.
func BenchmarkCollection(b *testing.B) {
	dir := b.TempDir()
	m := founded(b, dir)
	doc := document.New(object(b, note), time.Now().UnixMilli(), nil, false).Bytes()
	m.fill(b, 100_000, func(i int) (string, string) {
		return fmt.Sprintf("doc/notes/%06d", i), string(doc)
	})
	d := document.In(m, nil)
	for _, page := range []int{100, 1000} {
		b.Run(fmt.Sprintf("list/%d", page), func(b *testing.B) {
			after := ""
			for b.Loop() {
				items, more, err := d.List(b.Context(), "notes/", after, page)
				require.NoError(b, err)
				if after = ""; more {
					after = items[len(items)-1]
				}
			}
		})
	}
	require.NoError(b, m.Close())
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			m := founded(b, dir)
			_, err := m.Get(b.Context(), "notes/000000")
			require.NoError(b, err)
			require.NoError(b, m.Close())
		}
	})
}

package replicas_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// several returns nodes that hold one replica.
func several(t *testing.T, n int) (all []*member) {
	var r replica.Replica
	for i := range n {
		m := &member{n: openNode(t, t.TempDir(), nil)}
		var err error
		if i == 0 {
			r, err = m.n.CreateReplica(t.Context(), "docs", false)
		} else {
			r, err = hold(t, m.n, r)
		}
		require.NoError(t, err)
		m.open(t, r)
		all = append(all, m)
	}
	return all
}

func closeAll(t *testing.T, all []*member) {
	for _, m := range all {
		require.NoError(t, m.Close())
	}
}

var items = document.Log{Field: "items"}

// Readers with cursors get every element of a log that several nodes serve, in whatever order the
// nodes learn of each other's, and at whichever node they ask.
func TestNewsOfSeveralNodes(t *testing.T) {
	testkit.SeenElsewhere(t)
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		all := several(t, 3)
		at := time.UnixMilli(1_700_000_000_000)
		clock := func() time.Time { return at }
		want := map[string]bool{}
		cursors, got := make([]string, 4), make([]map[string]bool, 4)
		for i := range got {
			got[i] = map[string]bool{}
		}
		read := func(reader int, m *member) {
			for more := true; more; {
				n, err := document.In(m, clock).
					Since(t.Context(), "log", cursors[reader], -1, 1+rnd.IntN(5), items)
				require.NoError(t, err)
				for _, e := range n.Elements {
					got[reader][string(value.Append(nil, e))] = true
				}
				cursors[reader], more = n.Next, n.More
			}
		}
		for i := range 50 {
			at = at.Add(time.Duration(rnd.IntN(60_000)) * time.Millisecond)
			m := all[rnd.IntN(len(all))]
			data := fmt.Sprintf(`{"i":%d}`, i)
			var given *int64
			if rnd.IntN(4) == 0 {
				given = ptr(at.UnixMilli() + rnd.Int64N(300_000))
			}
			if w, err := document.In(m, clock).Append(
				t.Context(), "log", object(t, data), given, nil, items,
			); given == nil || err == nil {
				require.NoError(t, err)
				want[fmt.Sprintf(`{"ts":%d,"data":%s}`, w.Time, data)] = true
			}
			if rnd.IntN(3) == 0 {
				all[rnd.IntN(len(all))].learn(t, m)
			}
			// The first stay with a node, the last goes to any.
			reader := rnd.IntN(len(cursors))
			read(reader, all[min(reader, rnd.IntN(len(all)))])
		}
		for range 2 {
			for _, m := range all {
				for _, other := range all {
					m.learn(t, other)
				}
			}
		}
		for reader := range cursors {
			m := all[rnd.IntN(len(all))]
			read(reader, m)
			require.Equal(t, want, got[reader], "seed %d, reader %d", seed, reader)
			n, err := document.In(m, clock).Since(t.Context(), "log", cursors[reader], -1, 100, items)
			require.NoError(t, err)
			require.Empty(t, n.Elements)
			require.Equal(t, cursors[reader], n.Next)
		}
		closeAll(t, all)
	}
}

func ptr[T any](v T) *T { return &v }

// After a partition, who reads with a cursor gets what the other side has written meanwhile, and
// little else again.
func TestNewsAfterPartition(t *testing.T) {
	all := several(t, 2)
	defer closeAll(t, all)
	at := time.UnixMilli(1_700_000_000_000)
	clock := func() time.Time { return at }
	cursor := ""
	read := func() (n int) {
		news, err := document.In(all[0], clock).Since(t.Context(), "log", cursor, -1, 1000, items)
		require.NoError(t, err)
		cursor = news.Next
		return len(news.Elements)
	}
	for i := range 100 {
		at = at.Add(4 * time.Minute)
		_, err := document.In(all[0], clock).Append(
			t.Context(), "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), nil, nil, items,
		)
		require.NoError(t, err)
	}
	require.Equal(t, 100, read())
	require.Zero(t, read())
	all[1].learn(t, all[0])
	for i := range 10 {
		at = at.Add(time.Minute)
		for j, m := range all {
			_, err := document.In(m, clock).Append(
				t.Context(), "log", object(t, fmt.Sprintf(`{"i":%d}`, 100+2*i+j)), nil, nil, items,
			)
			require.NoError(t, err)
		}
		require.Equal(t, 1, read())
	}
	all[0].learn(t, all[1])
	n := read()
	require.GreaterOrEqual(t, n, 20)
	require.Less(t, n, 60)
	require.Zero(t, read())
}

// An element whose entry has come and whose content has not is no part of the log yet; a reader
// gets it when it is.
func TestNewsWithoutContent(t *testing.T) {
	all := several(t, 2)
	defer closeAll(t, all)
	d := document.In(all[0], nil)
	for i := range 3 {
		_, err := d.Append(t.Context(), "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), nil, nil, items)
		require.NoError(t, err)
	}
	require.NoError(t, all[0].Settle(t.Context()))
	grants, err := all[0].n.Replicas().Grants(t.Context(), all[0].id)
	require.NoError(t, err)
	for i := range grants {
		_, err = all[1].n.TakeStatements(t.Context(), all[1].id, [][]byte{grants[i].Bytes()})
		require.NoError(t, err)
	}
	var withheld replica.Entry
	bring := func(e *replica.Entry) {
		r, err := all[0].n.OpenContent(t.Context(), e.Hash, e.Size)
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		_, err = all[1].n.Blobs().ImportBytes(t.Context(), b)
		require.NoError(t, err)
	}
	i := 0
	for e, err := range all[0].n.Replicas().Entries(t.Context(), all[0].id, replica.Query{}) {
		require.NoError(t, err)
		if i++; i == 3 { // behind the document and the first element
			withheld = e
		} else {
			bring(&e)
		}
		_, err = all[1].n.TakeEntries(t.Context(), all[1].id, []replica.Entry{e}, replica.Origin{})
		require.NoError(t, err)
	}
	cursor := ""
	for _, want := range []int{2, 0} {
		n, err := all[1].Since(t.Context(), "log", cursor, -1, 10, nil)
		require.NoError(t, err)
		require.Len(t, n.Elements, want)
		cursor = n.Next
	}
	bring(&withheld)
	for _, want := range []int{1, 0} {
		n, err := all[1].Since(t.Context(), "log", cursor, -1, 10, nil)
		require.NoError(t, err)
		require.Len(t, n.Elements, want)
		cursor = n.Next
	}
}

// What a cursor looks like stays what it is, and what is none is refused.
func TestCursorForm(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	n, err := m.Since(t.Context(), "log", "", -1, 10, nil)
	require.NoError(t, err)
	require.Equal(t, "AQAAAAAAAAAAAA", n.Next)
	for _, bad := range []string{
		"x", "AgAAAAAAAAAAAA", "AwAAAAAAAAAAAA", "AQAAAAAAAAAAAA==", "AQAAAAAAAAAAAQ",
		"AQAAAAAAAAABAA", "AQAAAAAAAAAAAAA", "AYAAAAAAAAAAAA", "AX__________AA",
	} {
		_, err = m.Since(t.Context(), "log", bad, -1, 10, nil)
		require.ErrorIs(t, err, store.ErrCursor, bad)
	}
}

// Whoever knows all of an element but a hidden field, and where and when it was written, cannot
// find the field out from a cursor: the cursor is not a function of what such a caller may know or
// guess.
func TestCursorTellsNothingOfWhatItCovers(t *testing.T) {
	all := several(t, 2)
	defer closeAll(t, all)
	m := all[0]
	d := document.In(m, nil)
	for i := range 3 {
		_, err := d.Append(
			t.Context(), "log", object(t, fmt.Sprintf(`{"i":%d,"pin":"1234"}`, i)), nil, nil, items,
		)
		require.NoError(t, err)
	}
	n, err := m.Since(t.Context(), "log", "", -1, 10, nil)
	require.NoError(t, err)
	require.Len(t, n.Elements, 3)
	b, err := base64.RawURLEncoding.DecodeString(n.Next)
	require.NoError(t, err)

	// The entries as such a caller can make them, with the right guess: without their signatures.
	guessed := reconcile.Summary{}
	for e, err := range m.n.Replicas().Entries(
		t.Context(), m.id, replica.Query{Prefix: []byte("log/log\x00")},
	) {
		require.NoError(t, err)
		e.Signature = [64]byte{}
		guessed.Add(reconcile.Mark{ID: e.ID()})
	}
	r := replica.PrefixRange([]byte("log/log\x00"))
	sums, err := m.n.Replicas().EntrySet(m.id).Summaries(t.Context(), [][]byte{r.From, r.To})
	require.NoError(t, err)
	require.Equal(t, sums[0].Hash(), guessed.Hash(), "that is what there is")
	h := guessed.Hash()
	require.NotContains(t, string(b), string(h[:8]))

	// Another node, which has the entries, agrees.
	all[1].learn(t, m)
	there, err := all[1].Since(t.Context(), "log", n.Next, -1, 10, nil)
	require.NoError(t, err)
	require.Empty(t, there.Elements)
	require.Equal(t, n.Next, there.Next)
}

// An element of time 0 comes to a reader with a cursor, once.
func TestNewsOfTimeZero(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	for name, s := range map[string]store.Store{"replica": m, "memory": store.NewMemory()} {
		d := document.In(s, nil)
		cursor := ""
		for i, want := range []int{1, 0, 1, 0} {
			if want == 1 {
				_, err := d.Append(t.Context(), "log", object(t, `{}`), ptr(int64(i)), nil, items)
				require.NoError(t, err)
			}
			n, err := d.Since(t.Context(), "log", cursor, -1, 10, items)
			require.NoError(t, err)
			require.Len(t, n.Elements, want, "%s, %d", name, i)
			cursor = n.Next
		}
	}
}

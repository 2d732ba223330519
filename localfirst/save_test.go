package localfirst

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/record"
)

// shownLarge returns what somebody has seen of an item of which many heads, each after edits of
// many devices, stand beside each other.
func shownLarge(t *testing.T, heads, devices int) versions.Shown {
	t.Helper()
	b := append([]byte{1}, make([]byte, 32)...)
	b = binary.AppendUvarint(b, uint64(heads))
	for i := range heads {
		author := replica.AuthorID{0xff, byte(i)}
		r := record.Record{
			Dot:    record.Dot{Device: record.Device{Author: record.TagOf(author)}, Counter: 1},
			Height: 1, Content: record.Content{Size: 1, Hash: record.Hash{1}},
		}
		for j := range devices {
			d := record.Device{}
			binary.BigEndian.PutUint32(d.Author[:], uint32(j))
			r.Context = r.Context.With(record.Dot{Device: d, Counter: record.MaxCounter})
		}
		enc, err := r.Append(nil)
		require.NoError(t, err)
		b = binary.BigEndian.AppendUint64(append(b, author[:]...), 1)
		b = append(binary.AppendUvarint(b, uint64(len(enc))), enc...)
	}
	shown, err := versions.ParseShown(b)
	require.NoError(t, err)
	return shown
}

// What others can make so large that no store takes it is forgotten, and the rest is not.
func TestStateOfBoundedSize(t *testing.T) {
	s := itemState{Has: true, Base: [32]byte{1}, Scoped: true, Fault: "why"}
	s.Shown = shownLarge(t, 3, record.MaxDevices)
	b, err := s.marshal()
	require.NoError(t, err)
	back, err := parseState(b)
	require.NoError(t, err)
	require.Equal(t, s, back)

	s.Shown = shownLarge(t, record.MaxResolved, record.MaxDevices)
	b, err = s.marshal()
	require.NoError(t, err)
	require.LessOrEqual(t, len(b), MaxRecord)
	back, err = parseState(b)
	require.NoError(t, err)
	s.Shown = versions.Shown{}
	require.Equal(t, s, back)
}

// batches notes how large the batches are that a store is given.
type batches struct {
	*MemoryStore
	sizes []int
}

func (s *batches) Apply(ctx context.Context, all []Record) error {
	s.sizes = append(s.sizes, len(all))
	return s.MemoryStore.Apply(ctx, all)
}

// What is known of many items is written in batches that a store takes.
func TestSaveInBatches(t *testing.T) {
	ctx, store := t.Context(), &batches{MemoryStore: NewMemoryStore()}
	c := &collection{ns: &Namespace{e: &Engine{cfg: Config{Store: store}}, name: "ns"}, name: "c"}
	states := map[string]*itemState{}
	large := shownLarge(t, 10, record.MaxDevices)
	for i := range 10 {
		states[fmt.Sprint(i)] = &itemState{Has: true, Shown: large}
	}
	require.NoError(t, c.save(ctx, states))
	require.Greater(t, len(store.sizes), 1)
	for key := range states {
		s, known, err := c.state(ctx, key)
		require.NoError(t, err)
		require.True(t, known)
		require.True(t, s.Has)
	}
	require.NoError(t, c.save(ctx, nil))
}

package replica

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An author whose grant has ended can still sign entries with a time within it: all nodes take
// them, whenever they come, since they agree by what is signed alone. Once the replica key has
// taken over what is here and revoked everything by that author, all nodes hold the content as it
// was, and refuse whatever the author signs, with whatever time.
func TestBackdatingAndItsEnd(t *testing.T) {
	c := newClock()
	a, b := newStore(t, c), newStore(t, c)
	owner, writer := testKey(1), testKey(2)
	id := hold(t, a, owner, Write)
	hold(t, b, owner, Read)
	now := uint64(c.t.UnixMicro())
	_, err := a.Grant(bg, id, writer.Author(), Permission{Prefix: []byte("p/"), NotAfter: now + 1000})
	require.NoError(t, err)
	entry := func(key, value string, at uint64) Entry {
		ch := change(key, value)
		e := Entry{Replica: id, Key: ch.Key, Hash: ch.Hash, Size: ch.Size, Timestamp: at}
		e.Sign(writer)
		return e
	}
	write(t, a, id, testKey(3), "p/old", "owner", "p/deleted", "owner", "p/newer", "owner")
	deletion := Entry{
		Replica: id, Key: []byte("p/deleted"), Timestamp: now + 5, Hash: change("", "").Hash,
	}
	deletion.Sign(writer)
	older := entry("p/newer", "writer", now-1)
	_, err = a.Insert(
		bg, id,
		[]Entry{entry("p/old", "writer", now+5), entry("p/own", "writer", now+5), deletion, older}, Local,
	)
	require.NoError(t, err)
	exchange(t, a, b, id)

	c.t = c.t.Add(time.Hour)
	backdated := []Entry{entry("p/late", "backdated", now+10), entry("p/own", "backdated", now+10)}
	for _, s := range []*Store{a, b} { // wherever it comes first
		_, err = s.Insert(bg, id, backdated[:1], Local)
		require.NoError(t, err, "nobody can know that it is new")
	}
	sameEntries(t, a, b, id)
	_, err = b.Insert(bg, id, []Entry{entry("p/x", "y", now+1001)}, Local)
	require.ErrorIs(t, err, ErrNotGranted)

	show := func(s *Store) (out []string) {
		for _, e := range collect(t, s.Latest(bg, id, Query{})) {
			out = append(out, fmt.Sprintf("%s=%s@%d", e.Key, e.Hash.String()[:6], e.Timestamp))
		}
		return out
	}
	before := show(a)
	_, err = b.Adopt(bg, id, writer.Author(), testKey(3), nil)
	var denied *NotAllowedError
	require.ErrorAs(t, err, &denied)
	_, err = a.Adopt(bg, id, writer.Author(), writer, nil)
	require.ErrorIs(t, err, ErrOwnEntries)
	n, err := a.Adopt(bg, id, writer.Author(), testKey(3), nil)
	require.NoError(t, err)
	require.Equal(t, 4, n, "what is the latest of its key")
	_, err = a.Revoke(bg, id, writer.Author(), 0)
	require.NoError(t, err)
	exchange(t, a, b, id)
	for _, s := range []*Store{a, b} {
		require.Equal(t, before, show(s), "content and times are as they were")
		require.NotContains(t, keysOf(collect(t, s.Latest(bg, id, Query{}))), "p/deleted")
		_, err = s.Insert(bg, id, backdated, Local)
		require.ErrorIs(t, err, ErrNotGranted)
		require.Equal(t, before, show(s))
		require.False(t, slices.ContainsFunc(collect(t, s.Entries(bg, id, Query{})), func(e Entry) bool {
			return e.Author == writer.Author()
		}))
		rep, err := s.Check(bg, id, false, nil)
		require.NoError(t, err)
		require.Empty(t, rep.Faults)
		require.Zero(t, rep.Bad)
	}
	sameEntries(t, a, b, id)
}

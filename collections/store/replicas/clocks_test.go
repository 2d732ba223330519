package replicas_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// What a node has written over what it knew stands at all nodes, also if the other's clock is ahead
// of its own.
func TestWritesOverThoseOfAClockAhead(t *testing.T) {
	const ahead = 8 * time.Minute
	ctx := t.Context()
	dirs := []string{t.TempDir(), t.TempDir()}
	open := func(i int, r *replica.Replica) *member {
		now := func() time.Time { return time.Now().Add(time.Duration(1-i) * ahead) }
		m := &member{n: openNode(t, dirs[i], now)}
		var err error
		if *r, err = joined(m.n, t, *r); err == nil {
			m.open(t, *r)
		}
		require.NoError(t, err)
		return m
	}
	var r replica.Replica
	one := open(0, &r)
	two := open(1, &r)
	body := func(text string) *store.Object {
		return &store.Object{Body: []byte(`{"is":"` + text + `"}`), Type: "text/plain"}
	}
	list := func(text string) *store.Object {
		o := body(text)
		o.Type = "application/json"
		return o
	}
	require.NoError(t, one.Put(ctx, "file", body("former"), store.Whatever))
	require.NoError(t, one.Put(ctx, "gone", body("former"), store.Whatever))
	require.NoError(t, one.Put(ctx, store.Internal+"list", list("former"), store.Whatever))
	two.learn(t, one)
	require.NoError(t, two.Put(ctx, "file", body("latter"), store.Whatever))
	require.NoError(t, two.Delete(ctx, "gone"))
	require.NoError(t, two.Put(ctx, store.Internal+"list", list("latter"), store.Whatever))
	one.learn(t, two)
	require.NoError(t, two.Close())
	two = open(1, &r)
	for _, m := range []*member{one, two} {
		for _, key := range []string{"file", store.Internal + "list"} {
			o, err := m.Get(ctx, key)
			require.NoError(t, err)
			require.Equal(t, `{"is":"latter"}`, string(o.Body), key)
		}
		_, err := m.Get(ctx, "gone")
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	require.NoError(t, two.Put(ctx, "gone", list("again"), store.Absent))
	one.learn(t, two)
	o, err := one.Get(ctx, "gone")
	require.NoError(t, err)
	require.Equal(t, `{"is":"again"}`, string(o.Body))
	require.NoError(t, errors.Join(one.Close(), two.Close()))
}

// joined returns the replica of a test, which is made if there is none.
func joined(n *node.Node, t *testing.T, r replica.Replica) (replica.Replica, error) {
	if r.ID == (replica.ID{}) {
		return n.CreateReplica(t.Context(), "docs", false)
	}
	if has, err := n.Replicas().Get(t.Context(), r.ID); err == nil {
		return has, nil
	}
	return hold(t, n, r)
}

// hold adds a replica of another node to this one.
func hold(t testing.TB, n *node.Node, r replica.Replica) (replica.Replica, error) {
	doc := &ticket.Doc{Capability: r.Capability, Replica: r.ID, Secret: r.Secret}
	return n.Keep(t.Context(), doc, r.Name)
}

// Files of JSON are no documents: of several versions the latest stands, byte by byte.
func TestFilesOfJSON(t *testing.T) {
	ctx := t.Context()
	one, two := founded(t, t.TempDir()), &member{n: openNode(t, t.TempDir(), nil)}
	r, err := one.n.Replicas().Get(ctx, one.id)
	require.NoError(t, err)
	r, err = hold(t, two.n, r)
	require.NoError(t, err)
	two.open(t, r)
	const media = "application/json; charset=utf-8"
	file := func(text string) *store.Object { return &store.Object{Body: []byte(text), Type: media} }
	require.NoError(t, one.Put(ctx, "f", file(`{"x": 1}`), store.Whatever))
	two.learn(t, one)
	require.NoError(t, two.Put(ctx, "f", file(`{"x": 2}`), store.Whatever))
	one.learn(t, two)
	for _, m := range []*member{one, two} {
		o, err := m.Get(ctx, "f")
		require.NoError(t, err)
		require.Equal(t, `{"x": 2}`, string(o.Body))
		require.Equal(t, media, o.Type)
		require.NoError(t, m.Close())
	}
}

// Whatever times somebody gives a version, what is written over it later stands.
func TestTimesThatNeverCome(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	evil := m.other(t)
	now := time.Now().UnixMilli()
	for i, times := range []string{
		`"ts":9007199254740991`, fmt.Sprintf(`"ts":%d,"whole":true`, now+time.Hour.Milliseconds()),
		fmt.Sprintf(`"ts":%d,"times":1e300`, now), fmt.Sprintf(`"ts":%d,"times":{"a":1e300}`, now),
		fmt.Sprintf(`"ts":%d,"times":[1e308,{"a":1e300}]`, now),
		fmt.Sprintf(`"ts":%d,"times":{"a":{"b":[1e308,{"c":9e15}]}}`, now),
	} {
		for _, alone := range []bool{false, true} {
			key := fmt.Sprint(i, alone)
			if !alone {
				none := ""
				_, err := document.In(m, nil).Push(
					t.Context(), key, object(t, `{"a":0}`), &none, nil, false)
				require.NoError(t, err)
				require.NoError(t, m.Settle(t.Context()))
			}
			m.forge(t, evil, "doc/"+key, fmt.Appendf(nil, `{"v":1,"data":{"a":1},"hash":"x",%s}`, times))
			m.requireStands(t, key, times)
		}
	}
}

// The same holds for the latest times that a version may have at all.
func TestLatestTimes(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	evil := m.granted(t)
	for _, ahead := range []time.Duration{0, replica.MaxAhead / 2} {
		at := m.n.Now().Add(ahead)
		latest := at.Add(2 * replica.MaxAhead).UnixMilli()
		for i, times := range []string{
			fmt.Sprintf(`"ts":%d`, latest), fmt.Sprintf(`"ts":%d,"whole":true`, latest),
			fmt.Sprintf(`"ts":%d,"times":{"a":%d}`, at.UnixMilli(), latest),
		} {
			key := fmt.Sprint(ahead, i)
			b := fmt.Appendf(nil, `{"v":1,"data":{"a":1},"hash":"x",%s}`, times)
			info, err := m.n.Blobs().ImportBytes(t.Context(), b)
			require.NoError(t, err)
			m.bring(t, evil, "doc/"+key, info.Hash, info.Size, at)
			m.requireStands(t, key, times)
		}
	}
}

// requireStands writes a document, over what somebody has given some times, again and again.
func (m *member) requireStands(t *testing.T, key, times string) {
	for n := range 3 {
		hash, err := m.fresh(t, key)
		require.NoError(t, err)
		data := object(t, fmt.Sprintf(`{"a":{"n":%d}}`, n))
		w, err := document.In(m, nil).Push(t.Context(), key, data, &hash, nil, false)
		require.NoError(t, err)
		require.NoError(t, m.Settle(t.Context()))
		hash, err = m.fresh(t, key)
		require.NoError(t, err)
		require.Equal(t, w.Hash, hash, "%s over %s", value.Append(nil, data), times)
	}
}

// Nor is it lost if the other has written the very same before.
func TestWritesOverTheSameOfAClockAhead(t *testing.T) {
	const ahead = 8 * time.Minute
	ctx := t.Context()
	var r replica.Replica
	open := func(by time.Duration) *member {
		m := &member{n: openNode(t, t.TempDir(), func() time.Time { return time.Now().Add(by) })}
		var err error
		if r, err = joined(m.n, t, r); err == nil {
			m.open(t, r)
		}
		require.NoError(t, err)
		return m
	}
	one, two := open(ahead), open(0)
	body := func(text, media string) *store.Object {
		return &store.Object{Body: []byte(`{"is":"` + text + `"}`), Type: media}
	}
	for key, media := range map[string]string{
		"file": "text/plain", store.Internal + "list": "application/json",
	} {
		require.NoError(t, two.Put(ctx, key, body("same", media), store.Whatever))
		require.NoError(t, two.Settle(ctx))
		require.NoError(t, one.Put(ctx, key, body("same", media), store.Whatever))
		two.learn(t, one)
		require.NoError(t, two.Put(ctx, key, body("latter", media), store.Whatever))
		one.learn(t, two)
		for _, m := range []*member{one, two} {
			o, err := m.Get(ctx, key)
			require.NoError(t, err)
			require.Equal(t, `{"is":"latter"}`, string(o.Body), key)
		}
	}
	require.NoError(t, errors.Join(one.Close(), two.Close()))
}

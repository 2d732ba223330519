package replicas_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/collections/store/storetest"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// member is a node with a store in a replica.
type member struct {
	*replicas.Store
	n     *node.Node
	id    replica.ID
	codec store.Codec
}

func openNode(t testing.TB, dir string, now func() time.Time) *node.Node {
	n, err := node.Open(
		t.Context(), node.Config{Dir: dir, Now: now, Log: slog.New(slog.NewTextHandler(io.Discard, nil))},
	)
	require.NoError(t, err)
	return n
}

func (m *member) open(t testing.TB, r replica.Replica) {
	author, err := m.n.Authors().Default(t.Context())
	require.NoError(t, err)
	key, err := m.n.Authors().Key(t.Context(), author)
	require.NoError(t, err)
	m.id = r.ID
	m.Store, err = replicas.Open(
		t.Context(), m.n, r, key, replicas.Options{Codec: m.codec, Log: slog.New(slog.DiscardHandler)},
	)
	require.NoError(t, err)
}

// Close closes the node, too.
func (m *member) Close() error { return errors.Join(m.Store.Close(), m.n.Close()) }

func founded(t testing.TB, dir string) *member { return foundedWith(t, dir, nil) }

func foundedWith(t testing.TB, dir string, codec store.Codec) *member {
	m := &member{n: openNode(t, dir, nil), codec: codec}
	r, err := m.n.Replicas().Resolve(t.Context(), "docs")
	if errors.Is(err, replica.ErrNotFound) {
		r, err = m.n.CreateReplica(t.Context(), "docs", false)
	}
	require.NoError(t, err)
	m.open(t, r)
	return m
}

func TestStore(t *testing.T) {
	dir := t.TempDir()
	storetest.Run(t, true, func(t *testing.T, name string) store.Store {
		return founded(t, filepath.Join(dir, name))
	})
	t.Run("encrypted", func(t *testing.T) {
		c, dir := encryptedBy(t, true, "a secret"), t.TempDir()
		storetest.Run(t, true, func(t *testing.T, name string) store.Store {
			return foundedWith(t, filepath.Join(dir, name), c)
		})
	})
}

func TestRefused(t *testing.T) {
	n := openNode(t, t.TempDir(), nil)
	r, err := n.CreateReplica(t.Context(), "sealed", true)
	require.NoError(t, err)
	_, err = replicas.Open(t.Context(), n, r, replica.NewSecretKey(), replicas.Options{})
	require.ErrorIs(t, err, replicas.ErrEncrypted)
	require.NoError(t, n.Close())
	m := founded(t, t.TempDir())
	require.NoError(t, m.Close())
	require.ErrorIs(
		t, m.Put(t.Context(), "a", &store.Object{Body: []byte("{}")}, store.Whatever), replicas.ErrClosed,
	)
}

func object(t testing.TB, text string) *value.Object {
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	require.NoError(t, err)
	return o
}

func TestLog(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	d := document.In(m, nil)
	ctx := t.Context()
	l := document.Log{Field: "items"}
	var at []int64
	for i := range 30 {
		w, err := d.Append(ctx, "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), nil, nil, l)
		require.NoError(t, err)
		require.Equal(t, value.Hash(object(t, fmt.Sprintf(`{"n":%d,"last":{"i":%d}}`, i+1, i))), w.Hash)
		at = append(at, w.Time)
	}
	_, err := d.Append(ctx, "log2", object(t, `{}`), nil, nil, l) // whose key begins alike
	require.NoError(t, err)
	require.IsIncreasing(t, at)
	limit := int64(4)
	for _, x := range []struct {
		after int64
		limit *int64
		from  int
	}{{0, nil, 0}, {at[9], nil, 10}, {at[29], nil, 30}, {0, &limit, 26}, {at[27], &limit, 28}} {
		p, err := d.Elements(ctx, "log", x.after, x.limit, l)
		require.NoError(t, err)
		require.Len(t, p.Elements, 30-x.from)
		require.Equal(t, at[29], p.Time)
		require.Equal(t, value.Hash(object(t, `{"n":30,"last":{"i":29}}`)), p.Hash)
		for i, e := range p.Elements {
			require.Equal(
				t, fmt.Sprintf(`{"ts":%d,"data":{"i":%d}}`, at[x.from+i], x.from+i),
				string(value.Append(nil, e)),
			)
		}
	}
	_, err = d.Append(ctx, "log", object(t, `{}`), &at[29], nil, l)
	require.ErrorIs(t, err, document.ErrNotMonotonic)
	_, err = d.Append(
		ctx, "log", object(t, `{}`), nil, nil, document.Log{Field: "items", MaxItems: 30},
	)
	var full *document.FullError
	require.ErrorAs(t, err, &full)
	keys, err := m.List(ctx, "", "", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"log", "log2"}, keys)
}

// Writes that come at the same time are all done, and each reader sees what was acknowledged before
// it asked.
func TestManyAtOnce(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	d := document.In(m, nil)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			key := fmt.Sprintf("notes/%d", i)
			base := ""
			for j := range 10 {
				w, err := d.Push(t.Context(), key, object(t, fmt.Sprintf(`{"j":%d}`, j)), &base, nil, false)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := d.Get(t.Context(), key)
				if err != nil || got.Hash != w.Hash {
					t.Errorf("%d: %v %v", j, err, got)
					return
				}
				base = w.Hash
			}
		})
	}
	wg.Wait()
	items, more, err := d.List(t.Context(), "notes/", "", 100)
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, items, 32)
}

// learn brings the entries of one node, with their content, to this one.
func (m *member) learn(t *testing.T, from *member) {
	ctx := t.Context()
	// Otherwise what m has written is read for a moment more, without what it learns.
	require.NoError(t, errors.Join(from.Settle(ctx), m.Settle(ctx)))
	grants, err := from.n.Replicas().Grants(ctx, from.id)
	require.NoError(t, err)
	var statements [][]byte
	for i := range grants {
		statements = append(statements, grants[i].Bytes())
	}
	_, err = m.n.TakeStatements(ctx, m.id, statements)
	require.NoError(t, err)
	var entries []replica.Entry
	for e, err := range from.n.Replicas().Entries(ctx, from.id, replica.Query{Tombstones: true}) {
		require.NoError(t, err)
		entries = append(entries, e)
	}
	for i := range entries {
		if e := &entries[i]; !e.IsTombstone() {
			r, err := from.n.OpenContent(ctx, e.Hash, e.Size)
			require.NoError(t, err)
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			info, err := m.n.Blobs().ImportBytes(ctx, b)
			require.NoError(t, err)
			require.Equal(t, e.Hash, info.Hash)
		}
	}
	_, err = m.n.TakeEntries(ctx, m.id, entries, replica.Origin{})
	require.NoError(t, err)
}

// Several nodes write the same documents and logs at the same time, with clocks that differ, and
// learn of each other in any order. In the end all serve the same.
func TestNodesConverge(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		start := time.Now()
		var all []*member
		var r replica.Replica
		for i := range 3 {
			skew := time.Duration(rnd.IntN(60)) * time.Second
			ticks := 0
			var mu sync.Mutex
			now := func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				ticks++
				return start.Add(skew + time.Duration(ticks)*time.Millisecond)
			}
			m := &member{n: openNode(t, t.TempDir(), now), codec: encryptedBy(t, seed%2 == 1, "a secret")}
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
		appended := 0
		for range 60 {
			m := all[rnd.IntN(len(all))]
			d := document.In(m, nil)
			switch rnd.IntN(4) {
			case 0:
				m.learn(t, all[rnd.IntN(len(all))])
			case 1:
				appended++
				_, err := d.Append(
					t.Context(), "log", object(t, fmt.Sprintf(`{"n":%d}`, appended)), nil, nil,
					document.Log{Field: "items"},
				)
				require.NoError(t, err)
			default:
				key := fmt.Sprintf("notes/%d", rnd.IntN(2))
				old, err := d.Get(t.Context(), key)
				require.NoError(t, err)
				data, base := &value.Object{}, ""
				if old != nil {
					data, base = old.Data.Clone(), old.Hash
				}
				field := string("abcd"[rnd.IntN(4)])
				if rnd.IntN(4) == 0 {
					data.Delete(field)
				} else {
					data.Set(field, float64(rnd.IntN(100)))
				}
				w, err := d.Push(t.Context(), key, data, &base, nil, false)
				require.NoError(t, err)
				got, err := d.Get(t.Context(), key)
				require.NoError(t, err)
				require.Equal(t, w.Hash, got.Hash, "seed %d: who writes reads what it wrote", seed)
			}
		}
		for range 2 {
			for _, m := range all {
				for _, other := range all {
					m.learn(t, other)
				}
			}
		}
		var want []string
		for i, m := range all {
			d := document.In(m, nil)
			var got []string
			for _, key := range []string{"notes/0", "notes/1"} {
				// What has come is forgotten in the cache a moment later.
				require.Eventually(t, func() bool {
					doc, err := d.Get(t.Context(), key)
					require.NoError(t, err)
					fresh, err := m.fresh(t, key)
					require.NoError(t, err)
					return doc == nil && fresh == "" || doc != nil && doc.Hash == fresh
				}, 5*time.Second, time.Millisecond)
				hash, err := m.fresh(t, key)
				require.NoError(t, err)
				got = append(got, hash)
			}
			p, err := d.Elements(t.Context(), "log", 0, nil, document.Log{Field: "items"})
			require.NoError(t, err)
			require.Len(t, p.Elements, appended)
			got = append(got, string(value.Append(nil, p.Elements)), p.Hash)
			if i == 0 {
				want = got
			}
			require.Equal(t, want, got, "seed %d", seed)
		}
		for _, m := range all {
			require.NoError(t, m.Close())
		}
	}
}

// fresh returns the hash of a document as a store says that was opened just now.
func (m *member) fresh(t *testing.T, key string) (string, error) {
	r, err := m.n.Replicas().Get(t.Context(), m.id)
	require.NoError(t, err)
	require.NoError(t, m.Store.Close())
	m.open(t, r)
	d, err := document.In(m, nil).Get(t.Context(), key)
	if d == nil {
		return "", err
	}
	return d.Hash, err
}

// A version whose content has not come is left out until it has.
func TestContentThatIsMissing(t *testing.T) {
	a, b := founded(t, t.TempDir()), &member{n: openNode(t, t.TempDir(), nil)}
	defer func() { require.NoError(t, errors.Join(a.Close(), b.Close())) }()
	r, err := a.n.Replicas().Get(t.Context(), a.id)
	require.NoError(t, err)
	r, err = hold(t, b.n, r)
	require.NoError(t, err)
	b.open(t, r)
	da, db := document.In(a, nil), document.In(b, nil)
	w, err := da.Push(t.Context(), "k", object(t, `{"a":1}`), nil, nil, false)
	require.NoError(t, err)
	b.learn(t, a)
	_, err = da.Push(t.Context(), "k", object(t, `{"a":2}`), &w.Hash, nil, false)
	require.NoError(t, err)
	got, err := db.Get(t.Context(), "k")
	require.NoError(t, err)
	_, err = db.Push(t.Context(), "k", object(t, `{"a":1,"b":1}`), &got.Hash, nil, false)
	require.NoError(t, err)
	require.NoError(t, a.Settle(t.Context()))
	var missing replica.Entry
	for e, err := range a.n.Replicas().Entries(
		t.Context(), a.id, replica.Query{Key: []byte("doc/k")},
	) {
		require.NoError(t, err)
		missing = e
	}
	_, err = b.n.TakeEntries(t.Context(), b.id, []replica.Entry{missing}, replica.Origin{})
	require.NoError(t, err)
	// Whoever does not wait for it is given what is there.
	got, err = db.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, `{"a":1,"b":1}`, string(got.Text()))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	content, err := a.n.OpenContent(ctx, missing.Hash, missing.Size)
	require.NoError(t, err)
	body, err := io.ReadAll(content)
	require.NoError(t, err)
	_, err = b.n.Blobs().ImportBytes(ctx, body)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		got, err = db.Get(t.Context(), "k")
		return err == nil && string(got.Text()) == `{"a":2,"b":1}`
	}, 5*time.Second, 10*time.Millisecond)
	require.NotEqual(t, blobs.Hash{}, missing.Hash)
}

// A node that may only read the replica acknowledges no write.
func TestReadOnly(t *testing.T) {
	one := founded(t, t.TempDir())
	put(t, one, "a", `{"v":1,"data":{},"ts":1,"hash":""}`)
	two := &member{n: openNode(t, t.TempDir(), nil)}
	r, err := hold(t, two.n, replica.Replica{ID: one.id, Name: "docs", Capability: replica.Read})
	require.NoError(t, err)
	two.open(t, r)
	two.learn(t, one)
	_, err = two.Get(t.Context(), "a")
	require.NoError(t, err)
	var refused *store.ReadOnlyError
	require.ErrorAs(
		t, two.Put(t.Context(), "b", &store.Object{Body: []byte("{}")}, store.Whatever), &refused,
	)
	require.ErrorAs(t, two.Delete(t.Context(), "a"), &refused)
	_, err = one.n.Grant(
		t.Context(), one.id, two.author(t), replica.Permission{Prefix: []byte("doc/b")},
	)
	require.NoError(t, err)
	two.learn(t, one)
	require.NoError(t, two.Put(t.Context(), "b", &store.Object{Body: []byte("{}")}, store.Whatever))
	require.ErrorAs(
		t, two.Put(t.Context(), "c", &store.Object{Body: []byte("{}")}, store.Whatever), &refused,
	)
	require.NoError(t, two.Close())
	require.NoError(t, one.Close())
}

func (m *member) author(t testing.TB) replica.AuthorID {
	id, err := m.n.Authors().Default(t.Context())
	require.NoError(t, err)
	return id
}

// Lists of revocations that several nodes have taken, of the same issuer, all count for those who
// hold the replica.
func TestRevocationsOfSeveralNodes(t *testing.T) {
	one, two := founded(t, t.TempDir()), &member{n: openNode(t, t.TempDir(), nil)}
	r, err := one.n.Replicas().Get(t.Context(), one.id)
	require.NoError(t, err)
	r, err = hold(t, two.n, r)
	require.NoError(t, err)
	two.open(t, r)
	root, err := pairing.Root("correct horse battery staple")
	require.NoError(t, err)
	accept := func(m *member, generation int64, subject string) {
		l, err := capcert.SignRevocations(root.Key, generation, nil, []string{subject})
		require.NoError(t, err)
		all, err := access.NewRevocations(t.Context(), m, nil)
		require.NoError(t, err)
		require.NoError(t, all.Accept(t.Context(), l))
	}
	accept(two, 3, "third")
	accept(one, 1, "first") // which has not heard of the third
	accept(one, 2, "second")
	accept(one, 3, "third") // the same, by another author
	for range 2 {
		one.learn(t, two)
		two.learn(t, one)
	}
	for _, m := range []*member{one, two} {
		all, err := access.NewRevocations(t.Context(), m, nil)
		require.NoError(t, err)
		require.NoError(t, all.Load(t.Context()))
		require.True(t, all.IsRevoked(root.Key.Public, "third", "x"))
		require.False(t, all.IsRevoked(root.Key.Public, "first", "x"))
		require.NoError(t, m.Close())
	}
}

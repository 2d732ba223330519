package replicas_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/replica"
)

// shifted is a clock that can be set forward.
type shifted struct{ by atomic.Int64 }

func (c *shifted) now() time.Time { return time.Now().Add(time.Duration(c.by.Load())) }

// withClock is a member whose node goes by a clock.
func withClock(t testing.TB, dir string) (*member, *shifted) {
	c := &shifted{}
	m := &member{n: openNode(t, dir, c.now)}
	r, err := m.n.CreateReplica(t.Context(), "docs", false)
	require.NoError(t, err)
	m.open(t, r)
	return m, c
}

// withhold brings entries of an author whose content nobody gives.
func (m *member) withhold(t testing.TB, as replica.SecretKey, keys ...string) {
	for _, key := range keys {
		m.bring(t, as, key, blobs.HashOf([]byte(key+as.Author().String())), 40, m.n.Now())
	}
}

// remove brings the tombstone of an author.
func (m *member) remove(t testing.TB, as replica.SecretKey, key string) {
	m.bring(t, as, key, blobs.EmptyHash, 0, m.n.Now())
}

// bring brings an entry.
func (m *member) bring(
	t testing.TB, as replica.SecretKey, key string, h blobs.Hash, size uint64, at time.Time,
) {
	e := replica.Entry{
		Replica: m.id, Key: []byte(key), Hash: h, Size: size, Timestamp: uint64(at.UnixMicro()),
	}
	e.Sign(as)
	_, err := m.n.TakeEntries(t.Context(), m.id, []replica.Entry{e}, replica.Origin{})
	require.NoError(t, err)
}

// granted returns an author who may write, and has.
func (m *member) granted(t testing.TB) replica.SecretKey {
	as := m.other(t)
	m.forge(t, as, "rules", []byte("some rules")) // which takes a grant
	return as
}

// reopen opens the store with other options.
func (m *member) reopen(t testing.TB, o replicas.Options) {
	r, err := m.n.Replicas().Get(t.Context(), m.id)
	require.NoError(t, err)
	key, err := m.n.Authors().Key(t.Context(), m.author(t))
	require.NoError(t, err)
	m.Store, err = replicas.Open(t.Context(), m.n, r, key, o)
	require.NoError(t, err)
}

var aDocument = &store.Object{
	Body: []byte(`{"v":1,"data":{"a":1},"ts":1,"hash":"x"}`), Type: "application/json",
}

// A key under which there is nothing but content that nobody gives is free after a while, and
// whoever writes without a condition does not wait for that.
func TestContentThatNobodyGives(t *testing.T) {
	m, clock := withClock(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	evil := m.granted(t)
	m.withhold(t, evil, "doc/a", "doc/b", "doc/log", "file/f", "doc/gone")
	for _, key := range []string{"a", "f", "gone"} {
		_, err := m.Get(t.Context(), key)
		require.ErrorIs(t, err, store.ErrNotCome, key)
		require.ErrorIs(t, m.Put(t.Context(), key, aDocument, store.Absent), store.ErrNotCome, key)
	}
	require.NoError(t, m.Put(t.Context(), "b", aDocument, store.Whatever))
	require.NoError(t, m.Delete(t.Context(), "gone"))
	_, err := document.In(m, nil).Append(
		t.Context(), "log", object(t, `{}`), nil, nil, document.Log{Field: "items"})
	require.NoError(t, err)

	clock.by.Store(int64(replicas.KeptFor))
	m.withhold(t, evil, "doc/a") // another one does not begin the time anew
	for _, key := range []string{"a", "f"} {
		_, err := m.Get(t.Context(), key)
		require.ErrorIs(t, err, store.ErrNotFound, key)
		require.NoError(t, m.Put(t.Context(), key, aDocument, store.Absent), key)
	}
	require.NoError(t, m.Settle(t.Context()))
	m.withhold(t, evil, "doc/a")
	for _, key := range []string{"a", "b", "f"} {
		o, err := m.Get(t.Context(), key)
		require.NoError(t, err, key)
		require.Equal(t, aDocument.Body, o.Body, key)
	}
}

// However many entries there are whose content nobody gives, a reader waits for few of them.
func TestWaitsForLittle(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	var keys []string
	for i := range 20 {
		keys = append(keys, "log/log\x00"+fmt.Sprintf("%016d", i), fmt.Sprintf("doc/%d", i))
	}
	for range 8 {
		m.withhold(t, m.granted(t), keys...)
	}
	// Waiting for each would take more than 10 min.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, _, err := m.Elements(ctx, "log", -1, time.Now().UnixMilli(), -1, nil)
	require.NoError(t, err)
	for i := range 20 {
		_, err := m.Get(ctx, fmt.Sprint(i))
		require.ErrorIs(t, err, store.ErrNotCome)
	}
}

// Whoever admits writes, of all keys in turn, waits for no content that has not come.
func TestWritesDoNotWaitForContent(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	m.withhold(t, m.granted(t), "doc/missing")
	require.ErrorIs(t, m.Admit(t.Context(), "missing", aDocument, store.Absent), store.ErrNotCome)
	require.False(t, m.HasWaited())
	require.ErrorIs(t, m.Put(t.Context(), "missing", aDocument, store.Absent), store.ErrNotCome)
	require.True(t, m.HasWaited(), "who writes waits")
}

// slowGuard allows nothing, and only when nobody asks any more.
type slowGuard struct{}

func (slowGuard) InForce() bool                             { return true }
func (slowGuard) Attach(_ *store.Proof, body []byte) []byte { return body }
func (slowGuard) Proof(*store.Proof) []byte                 { return nil }
func (slowGuard) IsServer(replica.AuthorID) bool            { return false }
func (slowGuard) SignedAt(v *replicas.Version) int64        { return v.Time }

func (slowGuard) Check(ctx context.Context, v *replicas.Version) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Whoever admits writes, of all keys in turn, does not wait for what a guard asks elsewhere.
func TestWritesDoNotWaitForTheGuard(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	evil := m.granted(t)
	m.forge(t, evil, "doc/a", aDocument.Body)
	m.forge(t, evil, "doc/b", aDocument.Body)
	require.NoError(t, m.Store.Close())
	m.reopen(t, replicas.Options{Guard: slowGuard{}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, key := range []string{"a", "b"} {
		require.Error(t, m.Admit(ctx, key, aDocument, store.Absent))
		require.NoError(t, ctx.Err())
	}
}

// What has come for a key since a write to it was acknowledged, and cannot be read, keeps no server
// from starting.
func TestStartsOverWhatCannotBeRead(t *testing.T) {
	for _, withheld := range []bool{true, false} {
		dir, codec := t.TempDir(), encryptedBy(t, true, "a secret")
		m := foundedWith(t, dir, codec)
		evil := m.granted(t)
		require.NoError(t, m.Settle(t.Context()))
		r, err := m.n.Replicas().Get(t.Context(), m.id)
		require.NoError(t, err)
		require.NoError(t, m.Close())
		crashed := copyDir(t, dir)
		m = foundedWith(t, dir, codec)
		name := filepath.Join("collections", m.id.String()+".journal")
		var journal []byte
		for len(journal) <= 96 { // it is emptied some time after a write
			require.NoError(t, m.Put(t.Context(), "k", aDocument, store.Whatever))
			journal, err = os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
		}
		require.NoError(t, m.Close())
		m = &member{n: openNode(t, crashed, nil), id: r.ID, codec: codec}
		if withheld {
			m.withhold(t, evil, "doc/k")
		} else {
			m.forge(t, evil, "doc/k", []byte("not encrypted"))
		}
		require.NoError(t, os.WriteFile(filepath.Join(crashed, name), journal, 0o600))
		m.open(t, r)
		require.NoError(t, m.Settle(t.Context()))
		o, err := m.Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, aDocument.Body, o.Body)
		require.NoError(t, m.Close())
	}
}

// A list of revocations whose content nobody gives keeps no server from starting, nor another list
// from being read or accepted.
func TestRevocationsThatNobodyGives(t *testing.T) {
	dir := t.TempDir()
	m := founded(t, dir)
	root, err := pairing.Root("correct horse battery staple")
	require.NoError(t, err)
	list := func(generation int64) *capcert.Revocations {
		l, err := capcert.SignRevocations(root.Key, generation, nil, []string{"gone"})
		require.NoError(t, err)
		return l
	}
	key := func(generation int64) string {
		return fmt.Sprintf("doc/%srevocations/%s/%016d", store.Internal, root.Key.Public, generation)
	}
	all, err := access.NewRevocations(t.Context(), m, nil)
	require.NoError(t, err)
	require.NoError(t, all.Accept(t.Context(), list(2)))
	require.NoError(t, m.Settle(t.Context()))
	m.withhold(t, m.granted(t), key(1), key(3), key(4))
	all, err = access.NewRevocations(t.Context(), m, nil)
	require.NoError(t, err)
	require.True(t, all.IsRevoked(root.Key.Public, "gone", "x"))
	require.ErrorIs(t, all.Load(t.Context()), store.ErrNotCome)
	require.NoError(t, all.Accept(t.Context(), list(4)))
	require.NoError(t, m.Close())
}

// Without rules, too, nobody can put anything else in the place of a list of revocations, nor
// delete it.
func TestListsOfRevocationsStay(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	root, err := pairing.Root("correct horse battery staple")
	require.NoError(t, err)
	all, err := access.NewRevocations(t.Context(), m, nil)
	require.NoError(t, err)
	evil := m.granted(t)
	revoked := map[string]bool{}
	check := func(what string) {
		all, err := access.NewRevocations(t.Context(), m, nil)
		require.NoError(t, err)
		for subject := range revoked {
			require.True(t, all.IsRevoked(root.Key.Public, subject, "x"), what)
		}
	}
	l, err := capcert.SignRevocations(root.Key, 1, nil, []string{"gone"})
	require.NoError(t, err)
	require.NoError(t, all.Accept(t.Context(), l))
	require.NoError(t, m.Settle(t.Context()))
	revoked["gone"] = true
	key := fmt.Sprintf("doc/%srevocations/%s/%016d", store.Internal, root.Key.Public, 1)
	check("as it was accepted")
	for _, junk := range []string{"junk", "{}", `{"v":1}`} {
		m.forge(t, evil, key, []byte(junk))
		check(junk)
	}
	m.remove(t, evil, key)
	check("deleted by another")
	keys, err := m.List(t.Context(), store.Internal+"revocations/", "", 10)
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.NoError(t, m.Delete(t.Context(), keys[0])) // by whom it was written
	keys, err = m.List(t.Context(), store.Internal+"revocations/", "", 10)
	require.NoError(t, err)
	require.Empty(t, keys)
}

// openGuard allows everything, as rules in force.
type openGuard struct{ slowGuard }

func (openGuard) Check(_ context.Context, v *replicas.Version) ([]byte, error) {
	return v.Kept, nil
}

// Where there are rules, nobody deletes what another has written: it is listed, and it stays when
// what is kept is rewritten.
func TestNobodyDeletesUnderRules(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	evil := m.granted(t)
	require.NoError(t, m.Store.Close())
	m.reopen(t, replicas.Options{Guard: openGuard{}})
	put(t, m, "a", string(aDocument.Body))
	put(t, m, "f", "a picture")
	require.NoError(t, m.Settle(t.Context()))
	for _, key := range []string{"doc/a", "file/f", "type/f"} {
		m.remove(t, evil, key)
	}
	look := func() {
		keys, err := m.List(t.Context(), "", "", 10)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "f"}, keys)
		for _, key := range keys {
			_, err = m.Get(t.Context(), key)
			require.NoError(t, err, key)
		}
	}
	look()
	require.NoError(t, m.Rewrite(t.Context(), func(_ string, kept []byte) ([]byte, error) {
		return append(kept, ' '), nil
	}))
	look()
}

// An entry of a document that does not count hides no file.
func TestFileBesideWhatIsMissing(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	put(t, m, "f", "a picture")
	require.NoError(t, m.Settle(t.Context()))
	m.withhold(t, m.granted(t), "doc/f")
	o, err := m.Get(t.Context(), "f")
	require.NoError(t, err)
	require.Equal(t, "a picture", string(o.Body))
	put(t, m, "f", "another picture")
	require.NoError(t, m.Settle(t.Context()))
	o, err = m.Get(t.Context(), "f")
	require.NoError(t, err)
	require.Equal(t, "another picture", string(o.Body))
}

// What another author has written over a file, or its media type, and whose content does not come,
// or is longer than any server stores, hides no file.
func TestFileUnderWhatIsMissing(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	evil := m.granted(t)
	long := make([]byte, 64<<20+1)
	for i, bring := range []func(key string){
		func(key string) { m.withhold(t, evil, "file/"+key) },
		func(key string) { m.withhold(t, evil, "type/"+key) },
		func(key string) { m.withhold(t, evil, "file/"+key, "type/"+key) },
		func(key string) { m.forge(t, evil, "file/"+key, long) },
		func(key string) { m.forge(t, evil, "type/"+key, long) },
	} {
		key := fmt.Sprint("f", i)
		put(t, m, key, "a picture")
		require.NoError(t, m.Settle(t.Context()))
		bring(key)
		o, err := m.Get(t.Context(), key)
		require.NoError(t, err, key)
		require.Equal(t, "a picture", string(o.Body), key)
		require.Equal(t, "image/png", o.Type, key)
	}
}

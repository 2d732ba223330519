package replicas_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/replica"
)

func copyDir(t *testing.T, from string) (to string) {
	to = filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

// entries returns all entries of the replica, with their times.
func (m *member) entries(t *testing.T) (all []string) {
	require.NoError(t, m.Settle(t.Context()))
	for e, err := range m.n.Replicas().Entries(t.Context(), m.id, replica.Query{Tombstones: true}) {
		require.NoError(t, err)
		all = append(
			all, fmt.Sprintf("%q %x %d %s", e.Key, e.Hash[:4], e.Timestamp, e.Author.String()[:4]),
		)
	}
	return all
}

// What was acknowledged is there after a crash at any time between that and the write to the
// replica, and is not written again if that had happened.
func TestCrash(t *testing.T) {
	for seed := range uint64(testkit.Few(6, 2)) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		dir, codec := t.TempDir(), encryptedBy(t, seed%2 == 1, "a secret")
		m := foundedWith(t, dir, codec)
		put(t, m, "k1", `{"before":1}`)
		put(t, m, "k2", "a picture")
		require.NoError(t, m.Close())
		before := copyDir(t, dir)

		m = foundedWith(t, dir, codec)
		model := []map[string]string{{"k1": `{"before":1}`, "k2": "a picture"}} // after each write
		for i := range 12 {
			now := map[string]string{}
			for k, v := range model[i] {
				now[k] = v
			}
			key := fmt.Sprintf("k%d", rnd.IntN(4))
			if rnd.IntN(4) == 0 {
				require.NoError(t, m.Delete(t.Context(), key))
				delete(now, key)
			} else {
				now[key] = fmt.Sprintf([]string{`{"n":%d}`, "bytes %d"}[rnd.IntN(2)], i)
				put(t, m, key, now[key])
			}
			model = append(model, now)
		}
		name := filepath.Join("collections", m.id.String()+".journal")
		// The journal is emptied only some time after the last write.
		journal, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		all := m.entries(t)
		require.NoError(t, m.Close())
		emptied, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Len(t, emptied, 96)

		// Nothing had come to the replica yet; some of the journal may be cut off, of which nobody was
		// told.
		for range 4 {
			crashed := copyDir(t, before)
			size := len(journal) - rnd.IntN(len(journal)/3)
			require.NoError(t, os.WriteFile(filepath.Join(crashed, name), journal[:size], 0o600))
			m = foundedWith(t, crashed, codec)
			got := map[string]string{}
			for i := range 4 {
				key := fmt.Sprintf("k%d", i)
				o, err := m.Get(t.Context(), key)
				if errors.Is(err, store.ErrNotFound) {
					continue
				}
				require.NoError(t, err)
				got[key] = string(o.Body)
			}
			if size == len(journal) {
				require.Equal(t, model[12], got, "seed %d", seed)
			} else {
				require.Contains(t, model, got, "seed %d", seed)
			}
			require.NoError(t, m.Settle(t.Context()))
			keys, err := m.List(t.Context(), "", "", 10)
			require.NoError(t, err)
			require.Len(t, keys, len(got))
			require.NoError(t, m.Close())
		}

		// All of it had come to the replica.
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), journal, 0o600))
		m = foundedWith(t, dir, codec)
		require.Equal(t, all, m.entries(t), "seed %d", seed)
		require.NoError(t, m.Close())
	}
}

func put(t *testing.T, m *member, key, text string) {
	kind := "application/json"
	if text[0] != '{' {
		kind = "image/png"
	}
	require.NoError(
		t, m.Put(t.Context(), key, &store.Object{Body: []byte(text), Type: kind}, store.Whatever),
	)
}

// Writes too large for the journal are there when they are acknowledged, in their order with
// others.
func TestLargeWrites(t *testing.T) {
	dir := t.TempDir()
	m := founded(t, dir)
	large := make([]byte, 3<<20)
	for i := range 5 {
		large[0] = byte(i)
		require.NoError(
			t,
			m.Put(
				t.Context(), "file", &store.Object{Body: append([]byte(nil), large...), Type: "image/png"},
				store.Whatever,
			),
		)
		put(t, m, "file", `{"n":1}`)
		o, err := m.Get(t.Context(), "file")
		require.NoError(t, err)
		require.Equal(t, `{"n":1}`, string(o.Body))
		err = m.Put(t.Context(), "file", &store.Object{Body: large, Type: "image/png"}, store.Absent)
		require.ErrorIs(t, err, store.ErrChanged)
	}
	require.NoError(
		t, m.Put(t.Context(), "file", &store.Object{Body: large, Type: "image/png"}, store.Whatever),
	)
	require.NoError(t, m.Close())
	m = founded(t, dir)
	o, err := m.Get(t.Context(), "file")
	require.NoError(t, err)
	require.Equal(t, large, o.Body)
	require.NoError(t, m.Close())
}

// A wrong bit in the journal costs one write, and not all that were acknowledged after it.
func TestDamagedJournal(t *testing.T) {
	dir := t.TempDir()
	m := founded(t, dir)
	name := filepath.Join(dir, "collections", m.id.String()+".journal")
	require.NoError(t, m.Close())
	before := copyDir(t, dir)
	m = founded(t, dir)
	for i := range 300 {
		put(t, m, fmt.Sprintf("k%03d", i), fmt.Sprintf(`{"n":%d}`, i))
	}
	journal, err := os.ReadFile(name) // it is emptied only some time after the last write
	require.NoError(t, err)
	require.NoError(t, m.Close())
	journal[len(journal)/100] ^= 4
	require.NoError(
		t, os.WriteFile(filepath.Join(before, "collections", filepath.Base(name)), journal, 0o600),
	)
	m = founded(t, before)
	keys, err := m.List(t.Context(), "", "", 400)
	require.NoError(t, err)
	require.Len(t, keys, 299)
	require.NoError(t, m.Close())
}

// A journal of an older backup than the replica, or than what peers have, writes nothing over what
// was written since.
func TestOlderJournal(t *testing.T) {
	dir := t.TempDir()
	m := founded(t, dir)
	name := filepath.Join("collections", m.id.String()+".journal")
	put(t, m, "gone", `{}`)
	put(t, m, "file", `{}`)
	put(t, m, "other", "a picture")
	require.NoError(t, m.Close())
	before := copyDir(t, dir)

	m = founded(t, dir)
	put(t, m, "doc", `{"n":1}`)
	put(t, m, "gone", `{"n":1}`)
	put(t, m, "file", `{"n":1}`)
	put(t, m, "other", "a picture of before")
	older, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	require.NoError(t, m.Settle(t.Context()))
	put(t, m, "doc", `{"n":2}`)
	require.NoError(t, m.Delete(t.Context(), "gone"))
	put(t, m, "file", "a picture")
	put(t, m, "other", `{"n":2}`)
	all := m.entries(t)
	require.NoError(t, m.Close())

	// The journal alone is older.
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), older, 0o600))
	m = founded(t, dir)
	require.Equal(t, all, m.entries(t))
	require.NoError(t, m.Close())

	// All of it is older than what the peers have: what it writes does not stand against that.
	require.NoError(t, os.WriteFile(filepath.Join(before, name), older, 0o600))
	m = founded(t, before)
	require.NoError(t, m.Settle(t.Context()))
	o, err := m.Get(t.Context(), "doc")
	require.NoError(t, err)
	require.Equal(t, `{"n":1}`, string(o.Body))
	newer := founded(t, dir)
	for e, err := range newer.n.Replicas().Entries(
		t.Context(), m.id, replica.Query{Tombstones: true},
	) {
		require.NoError(t, err)
		for mine, err := range m.n.Replicas().Entries(
			t.Context(), m.id, replica.Query{Key: e.Key, Tombstones: true},
		) {
			require.NoError(t, err)
			require.LessOrEqual(t, replica.CompareVersions(&mine, &e), 0, "%q", e.Key)
		}
	}
	require.NoError(t, newer.Close())
	require.NoError(t, m.Close())
}

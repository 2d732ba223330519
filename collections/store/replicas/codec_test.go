package replicas_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/atrest"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/encrypted"
	"github.com/skerry-sync/skerry/collections/store/replicas"
)

// encryptedBy is the codec of a secret for what the tests of this package write, if there is to be
// one.
func encryptedBy(t testing.TB, is bool, secret string) store.Codec {
	if !is {
		return nil
	}
	c, err := config.Parse([]byte(`{"version": 1, "collections": [
		{"name": "one", "storagePath": "{a}", "readRoles": ["x"], "writeRoles": ["x"], "encryption": "server", "maxBodyBytes": 10},
		{"name": "two", "storagePath": "{a}/{b}", "readRoles": ["x"], "writeRoles": ["x"], "encryption": "server", "maxBodyBytes": 10}]}`))
	require.NoError(t, err)
	x, err := encrypted.New(c, encrypted.Secrets{Server: []string{secret}, Salts: []string{"salt"}})
	require.NoError(t, err)
	return x
}

// has reports whether a file of a directory has a text in it.
func has(t *testing.T, dir, text string) (is bool) {
	require.NoError(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		is = is || bytes.Contains(b, []byte(text))
		return err
	}))
	return is
}

// What a codec encrypts is in no file of the node, the journal among them. Without the secret there
// is an error, and not another document.
func TestEncrypted(t *testing.T) {
	dir := t.TempDir()
	write := func(c store.Codec) {
		m := foundedWith(t, dir, c)
		d := document.In(m, nil)
		_, err := d.Push(
			t.Context(), "notes/a", object(t, `{"text":"somethingwritten"}`), nil, nil, false,
		)
		require.NoError(t, err)
		for range 3 {
			_, err = d.Append(
				t.Context(), "log", object(t, `{"text":"somethingappended"}`), nil, nil,
				document.Log{Field: "items"},
			)
			require.NoError(t, err)
		}
		require.NoError(t, m.Close())
	}
	one := encryptedBy(t, true, "one")
	write(one)
	for _, text := range []string{"somethingwritten", "somethingappended"} {
		require.False(t, has(t, dir, text), text)
	}
	require.True(t, has(t, dir, "notes/a"), "paths are in clear")
	m := foundedWith(t, dir, encryptedBy(t, true, "other"))
	_, err := m.Get(t.Context(), "notes/a")
	require.ErrorIs(t, err, atrest.ErrSealed)
	require.NoError(t, m.Close())
	m = foundedWith(t, dir, one)
	o, err := m.Get(t.Context(), "notes/a")
	require.NoError(t, err)
	require.Contains(t, string(o.Body), "somethingwritten")
	require.NoError(t, m.Close())

	dir = t.TempDir()
	write(nil)
	require.True(t, has(t, dir, "somethingwritten") &&
		has(t, dir, "somethingappended"), "or this test finds nothing")
}

// A node rewrites its own versions, whether they were in the journal or in the replica, and what
// others have deleted since does not come back.
func TestRewrite(t *testing.T) {
	dir := t.TempDir()
	m := founded(t, dir)
	one := encryptedBy(t, true, "one").(*encrypted.Codec)
	other := &member{n: openNode(t, t.TempDir(), nil)}
	r, err := m.n.Replicas().Get(t.Context(), m.id)
	require.NoError(t, err)
	r, err = hold(t, other.n, r)
	require.NoError(t, err)
	other.open(t, r)
	put(t, m, "notes/gone", `{"v":1,"data":{"a":1},"ts":1,"hash":""}`)
	put(t, m, "notes/both", `{"v":1,"data":{"a":1},"ts":1,"hash":""}`)
	other.learn(t, m)
	require.NoError(t, other.Delete(t.Context(), "notes/gone"))
	put(t, other, "notes/both", `{"v":1,"data":{"b":1},"ts":2,"hash":""}`)
	m.learn(t, other)
	d := document.In(m, nil)
	_, err = d.Push(t.Context(), "notes/a", object(t, `{"text":"somethingwritten"}`), nil, nil, false)
	require.NoError(t, err)
	_, err = d.Append(
		t.Context(), "log", object(t, `{"text":"somethingappended"}`), nil, nil,
		document.Log{Field: "items"},
	)
	require.NoError(t, err)

	n, err := (&encrypted.Migration{To: one}).Run(t.Context(), m)
	require.NoError(t, err)
	require.Equal(t, 5, n.Encrypted)
	require.NoError(t, m.Store.Close())
	m.codec = one
	m.open(t, r)
	o, err := m.Get(t.Context(), "notes/a")
	require.NoError(t, err)
	require.Contains(t, string(o.Body), "somethingwritten")
	p, err := document.In(m, nil).Elements(t.Context(), "log", 0, nil, document.Log{Field: "items"})
	require.NoError(t, err)
	require.Len(t, p.Elements, 1)
	_, err = m.Get(t.Context(), "notes/gone")
	require.ErrorIs(t, err, store.ErrNotFound)
	o, err = m.Get(t.Context(), "notes/both")
	require.NoError(t, err)
	require.NotContains(t, string(o.Body), `"b"`, "what the other node has left in clear is left out")

	n, err = (&encrypted.Migration{To: one}).Run(t.Context(), other)
	require.NoError(t, err)
	require.Equal(t, 1, n.Encrypted)
	m.learn(t, other)
	o, err = m.Get(t.Context(), "notes/both")
	require.NoError(t, err)
	require.Contains(t, string(o.Body), `"b"`)
	n, err = (&encrypted.Migration{To: one}).Run(t.Context(), m)
	require.NoError(t, err)
	require.Zero(t, n.Encrypted+n.Rewritten)
	require.NoError(t, m.Close())
	require.NoError(t, other.Close())
}

var _ store.Rewriter = (*replicas.Store)(nil)

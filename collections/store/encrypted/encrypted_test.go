package encrypted_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/atrest"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/encrypted"
	"github.com/skerry-sync/skerry/collections/store/storetest"
	"github.com/skerry-sync/skerry/collections/value"
)

const (
	alice = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
	admin = "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
)

func parse(t testing.TB, notes, bots, shared string) *config.Config {
	c, err := config.Parse(fmt.Appendf(nil, `{"version": 1, "collections": [
		{"name": "notes", "storagePath": "notes/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": %q, "maxBodyBytes": 1000},
		{"name": "bots", "storagePath": "users/{identity}", "bundle": "b", "readRoles": ["self"], "writeRoles": ["self"], "encryption": %q, "maxBodyBytes": 1000},
		{"name": "log", "storagePath": "log/{id}", "readRoles": ["user"], "writeRoles": ["user"], "appendOnly": {"chunkSize": 2}, "encryption": %q, "maxBodyBytes": 1000}]}`,
		notes, bots, shared))
	require.NoError(t, err)
	return c
}

func secrets() encrypted.Secrets {
	return encrypted.Secrets{
		Identity: []string{"one"}, Server: []string{"two"}, Salts: []string{admin},
		Spell: config.IdentityOf,
	}
}

func codec(t testing.TB, c *config.Config, s encrypted.Secrets) *encrypted.Codec {
	x, err := encrypted.New(c, s)
	require.NoError(t, err)
	return x
}

// A store with a codec is a store, and one that many keys are encrypted in.
func TestStore(t *testing.T) {
	c, err := config.Parse([]byte(`{"version": 1, "collections": [
		{"name": "one", "storagePath": "{a}", "readRoles": ["x"], "writeRoles": ["x"], "encryption": "server", "maxBodyBytes": 10},
		{"name": "two", "storagePath": "{a}/{b}", "readRoles": ["x"], "writeRoles": ["x"], "encryption": "server", "maxBodyBytes": 10}]}`))
	require.NoError(t, err)
	x := codec(t, c, secrets())
	t.Run("memory", func(t *testing.T) {
		storetest.Run(t, false, func(*testing.T, string) store.Store {
			return store.Coded(store.NewMemory(), x)
		})
	})
	dir := t.TempDir()
	t.Run("directory", func(t *testing.T) {
		storetest.Run(t, true, func(t *testing.T, name string) store.Store {
			s, err := store.OpenDirectory(filepath.Join(dir, name))
			require.NoError(t, err)
			return store.Coded(s, x)
		})
	})
}

func TestMissingSecrets(t *testing.T) {
	var missing *encrypted.MissingError
	for _, s := range []encrypted.Secrets{
		{}, {Identity: []string{"x"}}, {Server: []string{"x"}, Salts: []string{"y"}},
		{Identity: []string{"x"}, Server: []string{"x"}},
		{Identity: []string{""}, Server: []string{"x"}, Salts: []string{"y"}},
	} {
		_, err := encrypted.New(parse(t, "none", "identity", "server"), s)
		require.ErrorAs(t, err, &missing)
	}
	require.True(t, codec(t, parse(t, "none", "none", "none"), encrypted.Secrets{}).IsEmpty())
}

// Which documents are encrypted, and that nobody can put one in the place of another, or in clear.
func TestCodec(t *testing.T) {
	c := codec(t, parse(t, "none", "identity", "server"), secrets())
	body := []byte(`{"v":1}`)
	for key, sealed := range map[string]bool{
		"notes/a": false, "users/" + alice + "/bots": true, "users/" + alice + "/else": false,
		"users/" + alice: false, "log/a": true, "log/a__seg/0000000000000001": true,
		"log/a\x000000000000000001": true, "log/a/b": false, "__sync__/x": false,
	} {
		kept, err := c.Encode(key, body)
		require.NoError(t, err)
		require.Equal(t, sealed, !bytes.Equal(body, kept), key)
		got, err := c.Decode(key, kept)
		require.NoError(t, err)
		require.Equal(t, body, got)
		if !sealed {
			continue
		}
		_, err = c.Decode(key, body)
		require.ErrorIs(t, err, encrypted.ErrPlain)
		_, err = c.Decode(key, kept[:len(kept)-8])
		require.Error(t, err)
	}
	kept, err := c.Encode("log/a", body)
	require.NoError(t, err)
	_, err = c.Decode("log/b", kept)
	require.ErrorIs(t, err, atrest.ErrSealed)
	_, err = c.Decode("log/a__seg/0000000000000001", kept)
	require.ErrorIs(t, err, atrest.ErrSealed)
}

// What OctoBot's server has stored is read, also where a caller's address was sent in lower case,
// and what a former secret has encrypted.
func TestOldForms(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "testdata", "evm", "auth.json"))
	require.NoError(t, err)
	var v struct {
		Rest struct {
			Vectors []struct {
				Secret, Salt, Info, Plaintext string
				Stored                        string `json:"stored_base64"`
			}
		} `json:"encryption_at_rest"`
	}
	require.NoError(t, json.Unmarshal(text, &v))
	cfg := parse(t, "none", "identity", "server")
	kinds := map[string]int{}
	for _, x := range v.Rest.Vectors {
		s := secrets()
		key := "log/x"
		switch x.Info {
		case atrest.InfoIdentity:
			s.Identity, key = []string{"new", x.Secret}, "users/"+x.Salt+"/bots"
		case atrest.InfoServer:
			s.Server, s.Salts = []string{"new", x.Secret}, []string{admin, x.Salt}
		default:
			continue
		}
		kinds[x.Info]++
		got, err := codec(t, cfg, s).Decode(key, []byte(x.Stored))
		require.NoError(t, err)
		require.Equal(t, x.Plaintext, string(got))
	}
	require.Len(t, kinds, 2)

	lower, err := atrest.NewKey("one", strings.ToLower(alice), atrest.InfoIdentity)
	require.NoError(t, err)
	key := "users/" + alice + "/bots"
	got, err := codec(t, cfg, secrets()).Decode(key, lower.Seal(key, []byte("{}")))
	require.NoError(t, err)
	require.Equal(t, "{}", string(got))
}

func push(t *testing.T, d *document.Documents, key string, n int) {
	o, err := value.ParseObject(fmt.Appendf(nil, `{"secret":"word %d of many"}`, n), value.MaxDepth)
	require.NoError(t, err)
	if strings.HasPrefix(key, "log/") {
		_, err = d.Append(t.Context(), key, o, nil, nil, document.Log{Field: "items", ChunkSize: 2})
	} else {
		var base *string
		if was, err := d.Get(t.Context(), key); err == nil && was != nil {
			base = &was.Hash
		}
		_, err = d.Push(t.Context(), key, o, base, nil, false)
	}
	require.NoError(t, err)
}

// inClear are the files of a directory that have a text in them.
func inClear(t *testing.T, dir, text string) (n int) {
	require.NoError(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if bytes.Contains(b, []byte(text)) {
			n++
		}
		return err
	}))
	return n
}

// What was in clear is encrypted by a migration, which may be interrupted; then a new secret takes
// the place of the old one; and in the end all is in clear again.
func TestMigration(t *testing.T) {
	dir := t.TempDir()
	base, err := store.OpenDirectory(dir)
	require.NoError(t, err)
	keys := []string{"notes/a", "notes/b", "users/" + alice + "/bots", "log/x", "elsewhere"}
	plain := document.In(base, nil)
	for i, k := range keys {
		for range 5 {
			push(t, plain, k, i)
		}
	}
	const text = "of many"
	require.Equal(t, 7, inClear(t, dir, text), "four documents and three chunks")
	cfg, none := parse(t, "none", "identity", "server"), parse(t, "none", "none", "none")
	reads := func(c *encrypted.Codec) {
		t.Helper()
		d := document.In(store.Coded(base, c), nil)
		for i, k := range keys {
			if strings.HasPrefix(k, "log/") {
				p, err := d.Elements(t.Context(), k, 0, nil, document.Log{Field: "items"})
				require.NoError(t, err)
				require.Len(t, p.Elements, 5)
				continue
			}
			got, err := d.Get(t.Context(), k)
			require.NoError(t, err, k)
			require.Contains(t, string(got.Text()), fmt.Sprintf("word %d", i))
		}
	}
	one := codec(t, cfg, secrets())
	d := document.In(store.Coded(base, one), nil)
	_, err = d.Get(t.Context(), keys[2])
	require.ErrorIs(t, err, encrypted.ErrPlain)

	m := &encrypted.Migration{To: one, DryRun: true}
	n, err := m.Run(t.Context(), base)
	require.NoError(t, err)
	require.Equal(t, encrypted.Migrated{Documents: 8, Encrypted: 5}, n)
	require.Equal(t, 7, inClear(t, dir, text))
	m = &encrypted.Migration{To: one}
	n, err = m.Run(t.Context(), &failing{Store: base, after: 2})
	require.ErrorIs(t, err, errFull)
	require.NotZero(t, n.Encrypted)
	n, err = m.Run(t.Context(), base)
	require.NoError(t, err)
	require.Equal(t, 3, n.Encrypted, "the rest")
	require.Equal(t, 3, inClear(t, dir, text), "those of no collection that is encrypted")
	reads(one)
	n, err = m.Run(t.Context(), base)
	require.NoError(t, err)
	require.Equal(t, encrypted.Migrated{Documents: 8}, n)

	s := secrets()
	s.Identity, s.Server = []string{"three", "one"}, []string{"four", "two"}
	both := codec(t, cfg, s)
	reads(both)
	n, err = (&encrypted.Migration{To: both}).Run(t.Context(), base)
	require.NoError(t, err)
	require.Equal(t, encrypted.Migrated{Documents: 8, Rewritten: 5}, n)
	s.Identity, s.Server = s.Identity[:1], s.Server[:1]
	fresh := codec(t, cfg, s)
	reads(fresh)
	_, err = document.In(store.Coded(base, one), nil).Get(t.Context(), keys[2])
	require.ErrorIs(t, err, atrest.ErrSealed)

	var failed []string
	n, err = (&encrypted.Migration{To: one, Failed: func(key string, _ error) {
		failed = append(failed, key)
	}}).Run(t.Context(), base)
	require.NoError(t, err)
	require.Equal(t, 5, n.Failed)
	require.Contains(t, failed, keys[2])
	n, err = (&encrypted.Migration{
		To: codec(t, parse(t, "server", "none", "none"), s), From: fresh,
	}).Run(t.Context(), base)
	require.NoError(t, err)
	require.Equal(t, encrypted.Migrated{Documents: 8, Encrypted: 2, Decrypted: 5}, n)
	n, err = (&encrypted.Migration{
		To: codec(t, none, s), From: codec(t, parse(t, "server", "none", "none"), s),
	}).Run(t.Context(), base)
	require.NoError(t, err)
	require.Equal(t, 2, n.Decrypted)
	require.Equal(t, 7, inClear(t, dir, text))
	reads(codec(t, none, s))
}

var errFull = errors.New("the disk is full")

// failing is a store that takes some writes.
type failing struct {
	store.Store
	after int
}

func (s *failing) Put(ctx context.Context, key string, o *store.Object, if_ store.Condition) error {
	if s.after--; s.after < 0 {
		return errFull
	}
	return s.Store.Put(ctx, key, o, if_)
}

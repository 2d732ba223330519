package vault

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/replica"
)

type vectors struct {
	Vault struct {
		Cases []struct {
			Secret    string `json:"secret"`
			Seed      string `json:"namespace_seed"`
			Catalogue string `json:"catalog_key"`
			ID        string `json:"namespace_id"`
		} `json:"cases"`
	} `json:"vault"`
	Catalog struct {
		Case struct {
			Entry struct {
				ProjectID string `json:"project_id"`
				ReplicaID string `json:"replica_id"`
				Name      string `json:"project_name"`
				Created   int64  `json:"created_at"`
			} `json:"entry"`
			Plaintext string `json:"plaintext"`
			Nonce     string `json:"nonce"`
			Key       string `json:"key"`
			Sealed    string `json:"sealed"`
		} `json:"case"`
	} `json:"catalog"`
}

func load(t testing.TB) (v vectors) {
	b, err := os.ReadFile("../testdata/objects-vectors.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	return v
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// The derivation, for both kinds of keys.
func TestDerive(t *testing.T) {
	_, err := Derive(identity.Key{})
	require.Error(t, err)
	v := load(t)
	require.Len(t, v.Vault.Cases, 3)
	for _, c := range v.Vault.Cases {
		for _, kind := range []identity.Kind{identity.Wallet, identity.Passkey} {
			key, err := identity.KeyFromSecret(kind, [32]byte(unhex(t, c.Secret)))
			require.NoError(t, err)
			k, err := Derive(key)
			require.NoError(t, err)
			seed, id := k.Replica.Seed(), k.Replica.Replica()
			require.Equal(t, c.Seed, hex.EncodeToString(seed[:]))
			require.Equal(t, c.ID, hex.EncodeToString(id[:]))
			require.Equal(t, c.Catalogue, hex.EncodeToString(k.Catalogue[:]))
			shown := fmt.Sprintf("%v %+v %#v %x", k, k, k, k.Catalogue)
			require.NotContains(t, shown, c.Catalogue[:8])
			require.NotContains(t, shown, c.Seed[:8])
		}
	}
}

// The form of an entry, and its encryption.
func TestCatalogueVector(t *testing.T) {
	c := load(t).Catalog.Case
	p := Project{
		ID: c.Entry.ProjectID, Replica: replica.ID(unhex(t, c.Entry.ReplicaID)), Name: c.Entry.Name,
		Created: time.Unix(c.Entry.Created, 0).UTC(),
	}
	require.Equal(t, c.Plaintext, hex.EncodeToString(p.marshal()))
	key := CatalogueKey(unhex(t, c.Key))
	sealed, err := p.sealWith(key, unhex(t, c.Nonce))
	require.NoError(t, err)
	require.Equal(t, c.Sealed, hex.EncodeToString(sealed))
	require.Equal(t, "/catalog/"+c.Entry.ProjectID, string(p.Key()))
	back, err := Open(key, p.Key(), sealed)
	require.NoError(t, err)
	require.Equal(t, p, back)
}

func TestSealAndOpen(t *testing.T) {
	key := CatalogueKey{7}
	p := NewProject(replica.ID{1, 2}, "Motor", time.Now())
	require.Equal(t, "01020000000000000000000000000000", p.ID)
	one, err := p.Seal(key)
	require.NoError(t, err)
	two, err := p.Seal(key)
	require.NoError(t, err)
	require.NotEqual(t, one, two, "nonces are random")
	back, err := Open(key, p.Key(), one)
	require.NoError(t, err)
	require.Equal(t, p, back)
	require.NotContains(t, string(one), "Motor")

	_, err = Open(CatalogueKey{8}, p.Key(), one)
	require.ErrorIs(t, err, ErrSealed)
	for i := range one {
		changed := bytes.Clone(one)
		changed[i] ^= 1
		_, err = Open(key, p.Key(), changed)
		require.ErrorIs(t, err, ErrSealed, i)
	}
	for _, cut := range [][]byte{nil, one[:39], one[:len(one)-1], make([]byte, MaxSealed+1)} {
		_, err = Open(key, p.Key(), cut)
		require.ErrorIs(t, err, ErrSealed)
	}
	_, err = Open(key, []byte("/catalogue/"+p.ID), one)
	require.ErrorIs(t, err, ErrNotCatalogue)
	_, err = Open(key, []byte("/catalog/other"), one)
	require.ErrorIs(t, err, ErrBadProject, "under another project's key")

	for name, bad := range map[string]Project{
		"no id":       {Replica: replica.ID{1}},
		"a path":      {ID: "a/b", Replica: replica.ID{1}},
		"a long id":   {ID: strings.Repeat("a", 65), Replica: replica.ID{1}},
		"no replica":  {ID: "a"},
		"a long name": {ID: "a", Replica: replica.ID{1}, Name: strings.Repeat("a", 1025)},
		"no UTF-8":    {ID: "a", Replica: replica.ID{1}, Name: "\xff"},
		"before 1970": {ID: "a", Replica: replica.ID{1}, Created: time.Unix(-1, 0)},
	} {
		_, err := bad.Seal(key)
		require.ErrorIs(t, err, ErrBadProject, name)
	}
}

// Fields of later versions survive being read and written.
func TestUnknownFieldsAreKept(t *testing.T) {
	p := NewProject(replica.ID{1}, "n", time.Unix(5, 0))
	plain := protowire.AppendString(protowire.AppendTag(p.marshal(), 9, protowire.BytesType), "later")
	back, err := parseProject(plain)
	require.NoError(t, err)
	require.Equal(t, plain, back.marshal())
	back.Name = "renamed"
	sealed, err := back.Seal(CatalogueKey{})
	require.NoError(t, err)
	again, err := Open(CatalogueKey{}, back.Key(), sealed)
	require.NoError(t, err)
	require.Equal(t, back, again)
}

func FuzzProject(f *testing.F) {
	p := NewProject(replica.ID{1}, "n", time.Unix(5, 0))
	f.Add(p.marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseProject(b)
		if err != nil {
			require.ErrorIs(t, err, ErrBadProject)
			return
		}
		again, err := parseProject(p.marshal())
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}

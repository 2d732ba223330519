package keyed

import (
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/vault"
)

func TestIdentity(t *testing.T) {
	ctx := t.Context()
	key, err := identity.KeyFromSecret(identity.Passkey, [32]byte{31: 7})
	require.NoError(t, err)
	s := &identity.Secret{Key: key, Nonce: key.Nonce()}
	id, err := New(s)
	require.NoError(t, err)
	name, err := id.KeyID(ctx)
	require.NoError(t, err)
	require.Equal(t, s.ID().String(), name)

	p, err := id.Derive(ctx, "p")
	require.NoError(t, err)
	require.Equal(t, golden, hex.EncodeToString(p[:]), "it would find other namespaces")
	q, err := id.Derive(ctx, "q")
	require.NoError(t, err)
	require.NotEqual(t, p, q)

	// Not even a purpose that is the vault's gives a key of the vault.
	keys, err := vault.Derive(key)
	require.NoError(t, err)
	v, err := id.Derive(ctx, "skerry vault read key 1")
	require.NoError(t, err)
	require.NotEqual(t, [32]byte(keys.ReadKey), v)

	secret := key.Secret()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		text := fmt.Sprintf(verb, id)
		require.NotContains(t, text, hex.EncodeToString(secret[:]))
	}
}

const golden = "c8e4c634ce8f8edaa93f03b6b68fc9d194a1210a6145bdb1397e4ded4f7befbb"

func TestNoKey(t *testing.T) {
	_, err := New(nil)
	require.Error(t, err)
	_, err = New(&identity.Secret{})
	require.Error(t, err)
}

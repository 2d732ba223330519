package pairing

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/testkit"
)

type rootVector struct {
	UserID string
	Keys   struct{ EdPub, KemPub string }
}

func (v *rootVector) check(t *testing.T, d *Device) {
	id, err := capcert.UserID(d.Key.Public)
	require.NoError(t, err)
	require.Equal(t, v.UserID, id)
	require.Equal(t, v.Keys.EdPub, d.Key.Public)
	require.Equal(t, v.Keys.KemPub, d.KEMPublic())
}

// Roots follow from signatures of wallets, and secrets are sealed, as the published packages do it.
func TestRootVectors(t *testing.T) {
	testkit.OneGoroutine(t)
	b, err := os.ReadFile("../../testdata/starfish/identity.json")
	require.NoError(t, err)
	var v struct {
		Secp struct {
			PubHex    string
			Signature []byte
			Root      rootVector
		}
		EVM struct {
			Address   string
			Signature []byte
			Root      rootVector
		}
		Envelope struct {
			Passphrase string
			Plain      []byte
			Envelope   json.RawMessage
		}
	}
	require.NoError(t, json.Unmarshal(b, &v))
	d, err := RootFromSchnorr(v.Secp.PubHex, v.Secp.Signature)
	require.NoError(t, err)
	v.Secp.Root.check(t, d)
	wallet, err := eth.ParseAddress(v.EVM.Address)
	require.NoError(t, err)
	d, err = RootFromEVM(wallet, v.EVM.Signature)
	require.NoError(t, err)
	v.EVM.Root.check(t, d)

	changed := func(b []byte) []byte {
		b = append([]byte(nil), b...)
		b[5] ^= 1
		return b
	}
	for _, sig := range [][]byte{nil, changed(v.Secp.Signature), v.Secp.Signature[1:]} {
		_, err = RootFromSchnorr(v.Secp.PubHex, sig)
		require.ErrorIs(t, err, ErrSignature)
	}
	for _, key := range []string{
		"", "zz", "756D08a3546fd6bf9dbac440b20db9a7a3cce7499f4e0c50bb2dafc8315c4d03",
		v.Secp.Root.Keys.EdPub,
	} {
		_, err = RootFromSchnorr(key, v.Secp.Signature)
		require.ErrorIs(t, err, ErrSignature)
	}
	for _, sig := range [][]byte{nil, changed(v.EVM.Signature), append(v.EVM.Signature[:64:64], 2)} {
		_, err = RootFromEVM(wallet, sig)
		require.ErrorIs(t, err, ErrSignature)
	}
	wallet[0] ^= 1
	_, err = RootFromEVM(wallet, v.EVM.Signature)
	require.ErrorIs(t, err, ErrSignature)

	envelope, err := value.ParseObject(v.Envelope.Envelope, value.MaxDepth)
	require.NoError(t, err)
	text, err := Open(v.Envelope.Passphrase, envelope)
	require.NoError(t, err)
	require.Equal(t, v.Envelope.Plain, text)
	kdf, _ := envelope.Get("kdf")
	bytes := func(o any, key string) []byte {
		s, _ := o.(*value.Object).String(key)
		b, err := base64.StdEncoding.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	again, err := seal(v.Envelope.Passphrase, text, bytes(kdf, "salt"), bytes(envelope, "iv"))
	require.NoError(t, err)
	require.Equal(
		t, string(value.AppendCanonical(nil, envelope)), string(value.AppendCanonical(nil, again)),
	)
	for _, wrong := range []string{
		`{}`, `{"v":1,"enc":"passphrase"}`,
		`{"v":1,"enc":"passphrase","kdf":{"alg":"argon2id","memKiB":1,"iter":1,"par":1,"salt":""},"iv":"","ct":""}`,
	} {
		o, err := value.ParseObject([]byte(wrong), value.MaxDepth)
		require.NoError(t, err)
		_, err = Open("secret", o)
		require.ErrorIs(t, err, ErrEnvelope)
	}
	_, err = Open("another", envelope)
	require.ErrorIs(t, err, ErrEnvelope)
	fresh, err := Seal("words", []byte("keys"))
	require.NoError(t, err)
	text, err = Open("words", fresh)
	require.NoError(t, err)
	require.Equal(t, "keys", string(text))
	_, err = Seal("", nil)
	require.ErrorIs(t, err, ErrEmptyPassphrase)
}

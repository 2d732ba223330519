package pairing_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/keyring"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/testkit"
)

func load(t testing.TB, name string, v any) {
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "starfish", name))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, v))
}

func object(t testing.TB, text []byte) *value.Object {
	o, err := value.ParseObject(text, value.MaxDepth)
	require.NoError(t, err)
	return o
}

type person struct{ EdPriv, EdPub, KemPriv, KemPub, UserID string }

func (p person) device(t testing.TB) *pairing.Device {
	key, err := capcert.ParseKey(p.EdPriv)
	require.NoError(t, err)
	kem, err := keyring.ParseKEM(p.KemPriv)
	require.NoError(t, err)
	return &pairing.Device{Key: key, KEM: kem}
}

func TestVectors(t *testing.T) {
	testkit.OneGoroutine(t)
	var people struct {
		People struct{ Owner, Device person }
	}
	load(t, "capcert.json", &people)
	owner, device := people.People.Owner, people.People.Device
	var v struct {
		Passphrase string
		Root       struct {
			UserID string
			Keys   person
		}
		QR                        string `json:"qr"`
		Bundle, Request, Response json.RawMessage
		Collections               map[string]struct {
			Epoch int
			CEK   string
		}
		Now              int64
		Code, Rendezvous string
	}
	load(t, "identity.json", &v)
	root, err := pairing.Root(v.Passphrase)
	require.NoError(t, err)
	require.Equal(t, v.Root.Keys.EdPub, root.Key.Public)
	require.Equal(t, v.Root.Keys.KemPub, root.KEMPublic())
	require.Equal(t, v.Root.Keys.KemPriv, hex.EncodeToString(root.KEM.Bytes()))
	id, err := capcert.UserID(root.Key.Public)
	require.NoError(t, err)
	require.Equal(t, v.Root.UserID, id)
	decomposed, err := pairing.Root("correct horse battery staple e\u0301")
	require.NoError(t, err)
	require.Equal(t, root.Key.Public, decomposed.Key.Public)

	offer, err := pairing.ParseOffer(v.QR)
	require.NoError(t, err)
	require.Equal(t, v.QR, offer.String())
	require.Equal(t, device.EdPub, offer.Subject.Key)
	path, err := offer.Path()
	require.NoError(t, err)
	require.Equal(t, v.Rendezvous, path)
	bundle, err := pairing.ParseBundle(object(t, v.Bundle))
	require.NoError(t, err)
	require.Equal(
		t, value.AppendCanonical(nil, object(t, v.Bundle)), value.AppendCanonical(nil, bundle.Object()),
	)
	check := func(keys map[string]pairing.Key) {
		require.Len(t, keys, len(v.Collections))
		for name, want := range v.Collections {
			require.Equal(t, want.CEK, base64.StdEncoding.EncodeToString(keys[name].Bytes))
			require.Equal(t, want.Epoch, keys[name].Epoch)
		}
	}
	d := device.device(t)
	keys, err := bundle.Install(d, owner.EdPub, offer.Nonce, v.Now)
	require.NoError(t, err)
	check(keys)
	for _, x := range []struct{ root, nonce string }{{device.EdPub, offer.Nonce}, {owner.EdPub, "x"}} {
		_, err = bundle.Install(d, x.root, x.nonce, v.Now)
		require.ErrorIs(t, err, pairing.ErrForeign)
	}
	_, err = bundle.Install(owner.device(t), owner.EdPub, offer.Nonce, v.Now)
	require.ErrorIs(t, err, pairing.ErrForeign)
	var refused *capcert.RefusedError
	_, err = bundle.Install(d, owner.EdPub, offer.Nonce, v.Now+10_000)
	require.ErrorAs(t, err, &refused)

	asked, err := pairing.ReadRequest(object(t, v.Request), v.Code)
	require.NoError(t, err)
	require.Equal(t, device.EdPub, asked.Subject.Key)
	_, err = pairing.ReadRequest(object(t, v.Request), "654321")
	require.ErrorIs(t, err, pairing.ErrCode)
	answer, err := pairing.ReadResponse(object(t, v.Response), v.Code)
	require.NoError(t, err)
	keys, err = answer.Install(d, owner.EdPub, offer.Nonce, v.Now)
	require.NoError(t, err)
	check(keys)
}

// A new device is certified by QR code and by a code of digits.
func TestPairing(t *testing.T) {
	root, err := pairing.Root("passphrase")
	require.NoError(t, err)
	cert, err := pairing.RootCert(root, 1000)
	require.NoError(t, err)
	require.True(t, cert.IsRoot())
	require.NoError(t, cert.CheckTime(1000))
	d, err := pairing.NewDevice()
	require.NoError(t, err)
	offer, err := pairing.ParseOffer(pairing.NewOffer(d, nil).String())
	require.NoError(t, err)
	bundle, err := pairing.Certify(
		root, offer, capcert.ReaderScope("notes"), pairing.Terms(1000, 60),
		map[string]pairing.Key{"notes": {Epoch: 3, Bytes: make([]byte, 32)}},
	)
	require.NoError(t, err)
	bundle, err = pairing.ParseBundle(object(t, value.Append(nil, bundle.Object())))
	require.NoError(t, err)
	keys, err := bundle.Install(d, root.Key.Public, offer.Nonce, 1000)
	require.NoError(t, err)
	require.Equal(t, 3, keys["notes"].Epoch)

	request, nonce, err := pairing.Ask(d, "123456")
	require.NoError(t, err)
	offer, err = pairing.ReadRequest(request, "123456")
	require.NoError(t, err)
	require.Equal(t, nonce, offer.Nonce)
	bundle, err = pairing.Certify(root, offer, capcert.RootScope(), pairing.Terms(1000, 60), nil)
	require.NoError(t, err)
	response, err := pairing.Respond(bundle, "123456", nonce)
	require.NoError(t, err)
	_, err = pairing.ReadResponse(response, "000000")
	require.ErrorIs(t, err, pairing.ErrCode)
	bundle, err = pairing.ReadResponse(response, "123456")
	require.NoError(t, err)
	_, err = bundle.Install(d, root.Key.Public, nonce, 1000)
	require.NoError(t, err)

	_, err = pairing.Root(" \n")
	require.ErrorIs(t, err, pairing.ErrEmptyPassphrase)
	for _, text := range []string{
		"", "*", "e30", base64.RawURLEncoding.EncodeToString([]byte(`{"v":2}`)),
		base64.RawURLEncoding.EncodeToString([]byte(`{"v":1,"devEdPub":"x"}`)),
	} {
		_, err = pairing.ParseOffer(text)
		require.ErrorIs(t, err, pairing.ErrMalformed)
	}
	_, err = pairing.ReadRequest(
		object(t, []byte(`{"requestNonce":"AAAA","iv":"AAAA","ct":"AAAA"}`)), "1",
	)
	require.ErrorIs(t, err, pairing.ErrMalformed)
}

func FuzzParseOffer(f *testing.F) {
	var v struct {
		QR string `json:"qr"`
	}
	load(f, "identity.json", &v)
	f.Add(v.QR)
	f.Fuzz(func(t *testing.T, text string) {
		o, err := pairing.ParseOffer(text)
		if err != nil {
			require.ErrorIs(t, err, pairing.ErrMalformed)
			return
		}
		again, err := pairing.ParseOffer(o.String())
		require.NoError(t, err)
		require.Equal(t, o.String(), again.String())
		_, _ = o.Path()
	})
}

// By no code anybody could ask, and answer, in another's name.
func TestNoCode(t *testing.T) {
	d, err := pairing.NewDevice()
	require.NoError(t, err)
	_, _, err = pairing.Ask(d, "")
	require.ErrorIs(t, err, pairing.ErrNoCode)
	request, _, err := pairing.Ask(d, "123456")
	require.NoError(t, err)
	_, err = pairing.ReadRequest(request, "")
	require.ErrorIs(t, err, pairing.ErrNoCode)
	_, err = pairing.ReadResponse(request, "")
	require.ErrorIs(t, err, pairing.ErrNoCode)
}

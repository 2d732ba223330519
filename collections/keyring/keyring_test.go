package keyring_test

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/keyring"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/value"
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

type person struct{ EdPriv, EdPub, KemPriv, KemPub string }

func (p person) kem(t testing.TB) *ecdh.PrivateKey {
	k, err := keyring.ParseKEM(p.KemPriv)
	require.NoError(t, err)
	require.Equal(t, p.KemPub, hex.EncodeToString(k.PublicKey().Bytes()))
	return k
}

func (p person) key(t testing.TB) capcert.Key {
	k, err := capcert.ParseKey(p.EdPriv)
	require.NoError(t, err)
	return k
}

func people(t testing.TB) (owner, bob, carol person) {
	var v struct {
		People struct{ Owner, Bob, Carol person }
	}
	load(t, "capcert.json", &v)
	return v.People.Owner, v.People.Bob, v.People.Carol
}

func TestVectors(t *testing.T) {
	owner, bob, carol := people(t)
	var v struct {
		CEK, EphPriv, IV string
		Wrapped          struct {
			SubKem, EphKem, Ct, AddedBy, AddedSig string
			AddedAt                               int64
		}
		Keyring1, Keyring2, Data json.RawMessage
		Sealed                   struct {
			One, Two         json.RawMessage
			Blob, Aad, Plain string
		}
	}
	load(t, "keyring.json", &v)
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	eph, err := keyring.ParseKEM(v.EphPriv)
	require.NoError(t, err)
	ephemeral, wrapped, err := keyring.Wrap(decode(v.CEK), bob.KemPub, eph, decode(v.IV))
	require.NoError(t, err)
	require.Equal(t, v.Wrapped.EphKem, ephemeral)
	require.Equal(t, v.Wrapped.Ct, wrapped)
	key, err := keyring.Unwrap(ephemeral, wrapped, bob.kem(t))
	require.NoError(t, err)
	require.Equal(t, decode(v.CEK), key)
	_, err = keyring.Unwrap(ephemeral, wrapped, carol.kem(t))
	require.ErrorIs(t, err, keyring.ErrSealed)

	one, err := keyring.Parse(object(t, v.Keyring1))
	require.NoError(t, err)
	two, err := keyring.Parse(object(t, v.Keyring2))
	require.NoError(t, err)
	require.Equal(
		t, value.AppendCanonical(nil, object(t, v.Keyring2)), value.AppendCanonical(nil, two.Object()),
	)
	trusted := []string{owner.EdPub}
	bobs, err := one.Open(bob.kem(t), trusted, 1)
	require.NoError(t, err)
	want := string(value.AppendCanonical(nil, object(t, v.Data)))
	got, err := bobs.Open(object(t, v.Sealed.One))
	require.NoError(t, err)
	require.Equal(t, want, string(value.AppendCanonical(nil, got)))
	_, err = bobs.Open(object(t, v.Sealed.Two))
	require.ErrorIs(t, err, keyring.ErrNotARecipient)
	_, err = two.Open(bob.kem(t), trusted, 1)
	require.ErrorIs(t, err, keyring.ErrNotARecipient, "removed")
	owners, err := two.Open(owner.kem(t), trusted, 2)
	require.NoError(t, err)
	for _, sealed := range []json.RawMessage{v.Sealed.One, v.Sealed.Two} {
		got, err := owners.Open(object(t, sealed))
		require.NoError(t, err)
		require.Equal(t, want, string(value.AppendCanonical(nil, got)))
	}
	plain, err := owners.OpenBytes(decode(v.Sealed.Blob), v.Sealed.Aad)
	require.NoError(t, err)
	require.Equal(t, decode(v.Sealed.Plain), plain)
	_, err = owners.OpenBytes(decode(v.Sealed.Blob), "files/b")
	require.ErrorIs(t, err, keyring.ErrSealed)
}

// Recipients come and go; who was removed reads what was written before, and nothing after.
func TestRecipients(t *testing.T) {
	owner, bob, carol := people(t)
	trusted := []string{owner.EdPub}
	k, err := keyring.New(owner.key(t), []string{owner.KemPub}, 100)
	require.NoError(t, err)
	owners, err := k.Open(owner.kem(t), trusted, 0)
	require.NoError(t, err)
	first, err := owners.Seal(object(t, []byte(`{"a":1}`)))
	require.NoError(t, err)
	k, err = k.Add(owner.key(t), owners, bob.KemPub, 101)
	require.NoError(t, err)
	_, err = k.Add(owner.key(t), owners, bob.KemPub, 101)
	require.ErrorIs(t, err, keyring.ErrPresent)
	_, err = k.Add(owner.key(t), owners, "00", 101)
	require.Error(t, err)
	k, err = keyring.Parse(k.Object())
	require.NoError(t, err)
	bobs, err := k.Open(bob.kem(t), trusted, 1)
	require.NoError(t, err)
	got, err := bobs.Open(first)
	require.NoError(t, err)
	require.Equal(t, `{"a":1}`, string(value.Append(nil, got)))
	_, err = k.Open(carol.kem(t), trusted, 1)
	require.ErrorIs(t, err, keyring.ErrNotARecipient)
	_, err = k.Open(bob.kem(t), nil, 1)
	require.ErrorIs(t, err, keyring.ErrUntrusted)
	_, err = k.Open(bob.kem(t), []string{carol.EdPub}, 1)
	require.ErrorIs(t, err, keyring.ErrNotARecipient, "added by somebody who is not trusted")
	_, err = k.Open(bob.kem(t), trusted, 2)
	require.ErrorIs(t, err, keyring.ErrRolledBack)
	// Somebody who is not trusted adds herself, and is not carried over.
	spoiled, err := k.Add(carol.key(t), owners, carol.KemPub, 102)
	require.NoError(t, err)
	all, err := spoiled.Recipients(trusted)
	require.NoError(t, err)
	require.Len(t, all, 2)
	after, err := spoiled.Remove(owner.key(t), []string{bob.KemPub}, trusted, 103)
	require.NoError(t, err)
	require.Equal(t, 2, after.Current)
	all, err = after.Recipients(trusted)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, owner.KemPub, all[0].Recipient)
	for _, p := range []person{bob, carol} {
		_, err = after.Open(p.kem(t), trusted, 1)
		require.ErrorIs(t, err, keyring.ErrNotARecipient)
	}
	// An entry twice, or signed for another epoch, counts for nothing.
	twice := after.Epochs[2]
	twice.Entries = append(twice.Entries, twice.Entries[0])
	_, err = (&keyring.Keyring{
		Current: 2, Epochs: map[int]keyring.Epoch{2: twice},
	}).Open(owner.kem(t), trusted, 1)
	require.ErrorIs(t, err, keyring.ErrNotARecipient)
	_, err = (&keyring.Keyring{
		Current: 3, Epochs: map[int]keyring.Epoch{3: after.Epochs[2]},
	}).Open(owner.kem(t), trusted, 1)
	require.ErrorIs(t, err, keyring.ErrNotARecipient)
	sealed, err := owners.SealBytes([]byte("file"), "x")
	require.NoError(t, err)
	sealed[len(sealed)-1] ^= 1
	_, err = owners.OpenBytes(sealed, "x")
	require.ErrorIs(t, err, keyring.ErrSealed)
	_, err = owners.OpenBytes(sealed[:10], "x")
	require.ErrorIs(t, err, keyring.ErrSealed)
	for _, text := range []string{
		`{}`, `{"_encrypted":"*"}`, `{"_encrypted":"AAAA","_epoch":"1"}`, `{"_encrypted":"AAAA"}`,
	} {
		_, err = owners.Open(object(t, []byte(text)))
		require.Error(t, err)
	}
}

func FuzzParse(f *testing.F) {
	var v struct{ Keyring1, Keyring2 json.RawMessage }
	load(f, "keyring.json", &v)
	f.Add([]byte(v.Keyring1))
	f.Add([]byte(v.Keyring2))
	f.Add([]byte(`{"v":1,"currentEpoch":1,"epochs":{"1":{"wrappedKeys":[]}}}`))
	owner, _, _ := people(f)
	kem := owner.kem(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := value.ParseObject(text, value.MaxDepth)
		if err != nil {
			return
		}
		k, err := keyring.Parse(o)
		if err != nil {
			require.ErrorIs(t, err, keyring.ErrMalformed)
			return
		}
		again, err := keyring.Parse(k.Object())
		require.NoError(t, err)
		require.Equal(t, k, again)
		_, _ = k.Open(kem, []string{owner.EdPub}, 0)
	})
}

func TestZeroKeyring(t *testing.T) {
	d, err := pairing.NewDevice()
	require.NoError(t, err)
	k, err := (&keyring.Keyring{}).Rotate(d.Key, []string{d.KEMPublic()}, 1)
	require.NoError(t, err)
	_, err = k.Open(d.KEM, []string{d.Key.Public}, 1)
	require.NoError(t, err)
}

// What is made of a keyring that a server has made up can be read again.
func TestNoEpochFollows(t *testing.T) {
	key, err := capcert.NewKey(make([]byte, 32))
	require.NoError(t, err)
	k := &keyring.Keyring{Current: math.MaxInt32, Epochs: map[int]keyring.Epoch{math.MaxInt32: {}}}
	k, err = keyring.Parse(k.Object())
	require.NoError(t, err)
	_, err = k.Rotate(key, nil, 1)
	require.ErrorIs(t, err, keyring.ErrMalformed)
}

// A server can put an epoch behind the last that is empty, or full of entries that nobody trusted
// has made. No epoch follows on it for which everybody is removed.
func TestNobodyLeft(t *testing.T) {
	owner, bob, carol := people(t)
	trusted := []string{owner.EdPub}
	k, err := keyring.New(owner.key(t), []string{owner.KemPub, bob.KemPub}, 1)
	require.NoError(t, err)
	forged, err := keyring.New(carol.key(t), []string{carol.KemPub}, 1)
	require.NoError(t, err)
	for _, epoch := range []keyring.Epoch{{}, forged.Epochs[1]} {
		spoiled := &keyring.Keyring{Current: 2, Epochs: map[int]keyring.Epoch{1: k.Epochs[1], 2: epoch}}
		_, err = spoiled.Remove(owner.key(t), []string{bob.KemPub}, trusted, 2)
		require.ErrorIs(t, err, keyring.ErrNotARecipient)
	}
	_, err = k.Remove(owner.key(t), []string{owner.KemPub, bob.KemPub}, trusted, 2)
	require.ErrorIs(t, err, keyring.ErrNotARecipient)
	k, err = k.Remove(owner.key(t), []string{bob.KemPub}, trusted, 2)
	require.NoError(t, err)
	require.Len(t, k.Epochs[2].Entries, 1)
}

// What is made of a keyring can be read again: one that is full is not made longer.
func TestFullKeyring(t *testing.T) {
	const most = 10_000 // epochs, and entries of one
	owner, err := pairing.NewDevice()
	require.NoError(t, err)
	trusted := []string{owner.Key.Public}
	k, err := keyring.New(owner.Key, []string{owner.KEMPublic()}, 1)
	require.NoError(t, err)
	sealer, err := k.Open(owner.KEM, trusted, 1)
	require.NoError(t, err)
	name := func(i int) string { return fmt.Sprintf("%064x", i+2) } // of 0 and 1 there is no key

	first := k.Epochs[1]
	for i := range most - 2 {
		first.Entries = append(first.Entries, keyring.Entry{Recipient: name(i)})
	}
	k.Epochs[1] = first
	k, err = k.Add(owner.Key, sealer, name(most), 1)
	require.NoError(t, err)
	k, err = keyring.Parse(k.Object())
	require.NoError(t, err)
	require.Len(t, k.Epochs[1].Entries, most)
	_, err = k.Add(owner.Key, sealer, name(most+1), 1)
	require.ErrorIs(t, err, keyring.ErrMalformed)
	_, err = k.Add(owner.Key, sealer, name(most), 1)
	require.ErrorIs(t, err, keyring.ErrPresent)

	var all []string
	for i := range most + 1 {
		all = append(all, name(i))
	}
	_, err = k.Rotate(owner.Key, all, 1)
	require.ErrorIs(t, err, keyring.ErrMalformed)
	_, err = keyring.New(owner.Key, all, 1)
	require.ErrorIs(t, err, keyring.ErrMalformed)

	for n := range most - 2 {
		k.Epochs[n+2] = keyring.Epoch{}
	}
	k.Current = most - 1
	k, err = k.Rotate(owner.Key, []string{owner.KEMPublic()}, 1)
	require.NoError(t, err)
	k, err = keyring.Parse(k.Object())
	require.NoError(t, err)
	require.Len(t, k.Epochs, most)
	_, err = k.Rotate(owner.Key, []string{owner.KEMPublic()}, 1)
	require.ErrorIs(t, err, keyring.ErrMalformed)
	_, err = k.Remove(owner.Key, nil, trusted, 1)
	require.ErrorIs(t, err, keyring.ErrMalformed)
}

// A recipient is one however often and in which letters it is named, also where a server has said
// an entry twice.
func TestOneRecipientOneEntry(t *testing.T) {
	owner, bob, carol := people(t)
	trusted := []string{owner.EdPub}
	upper := strings.ToUpper(bob.KemPub)
	k, err := keyring.New(
		owner.key(t), []string{owner.KemPub, owner.KemPub, bob.KemPub, upper, carol.KemPub}, 1,
	)
	require.NoError(t, err)
	require.Len(t, k.Epochs[1].Entries, 3)
	owners, err := k.Open(owner.kem(t), trusted, 1)
	require.NoError(t, err)
	_, err = k.Open(bob.kem(t), trusted, 1)
	require.NoError(t, err)
	_, err = k.Add(owner.key(t), owners, upper, 1)
	require.ErrorIs(t, err, keyring.ErrPresent)

	twice := k.Epochs[1]
	twice.Entries = append(slices.Clip(twice.Entries), twice.Entries...)
	k.Epochs[1] = twice
	k, err = k.Remove(owner.key(t), []string{upper}, trusted, 2)
	require.NoError(t, err)
	for _, kept := range []person{owner, carol} {
		_, err = k.Open(kept.kem(t), trusted, 2)
		require.NoError(t, err)
	}
	_, err = k.Open(bob.kem(t), trusted, 2)
	require.ErrorIs(t, err, keyring.ErrNotARecipient)
}

package eth

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type vectors struct {
	Keys []struct {
		Name    string `json:"name"`
		Private string `json:"private_key"`
		Public  string `json:"public_key_compressed"`
		Address string `json:"address_eip55"`
		Lower   string `json:"address_lower"`
	} `json:"keys"`
	EIP191 []struct {
		Message   string `json:"message"`
		Digest    string `json:"digest"`
		Signature string `json:"signature_by_alice"`
	} `json:"eip191"`
	EIP55 []struct {
		Lower       string `json:"lower"`
		Checksummed string `json:"checksummed"`
	} `json:"eip55"`
	EIP712 struct {
		Cases []struct {
			Signer  string `json:"signer"`
			Message struct {
				Application string `json:"application"`
				Challenge   string `json:"challenge"`
				Timestamp   string `json:"timestamp"`
			} `json:"message"`
			EncodeType string `json:"encode_type"`
			Struct     string `json:"struct_hash"`
			Separator  string `json:"domain_separator"`
			Digest     string `json:"digest"`
			Signature  string `json:"signature"`
		} `json:"cases"`
	} `json:"eip712"`
}

func load(t testing.TB) (v vectors) {
	b, err := os.ReadFile("../../testdata/ethereum.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	return v
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	require.NoError(t, err)
	return b
}

func key(t testing.TB, v vectors, name string) Key {
	for _, k := range v.Keys {
		if k.Name == name {
			got, err := KeyFromSecret([32]byte(unhex(t, k.Private)))
			require.NoError(t, err)
			return got
		}
	}
	t.Fatal("no key ", name)
	return Key{}
}

func TestKeysAndAddresses(t *testing.T) {
	v := load(t)
	require.Len(t, v.Keys, 3)
	for _, c := range v.Keys {
		k := key(t, v, c.Name)
		public := k.Public()
		require.Equal(t, unhex(t, c.Public), public[:])
		require.Equal(t, c.Address, k.Address().String())
		require.Equal(t, c.Lower, k.Address().Lower())
		secret := k.Secret()
		require.Equal(t, unhex(t, c.Private), secret[:])
		a, err := AddressOf(public)
		require.NoError(t, err)
		require.Equal(t, k.Address(), a)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v", k, k, k), c.Private[2:10])
	}
	for _, c := range v.EIP55 {
		for _, s := range []string{c.Lower, "0x" + strings.ToUpper(c.Lower[2:]), c.Checksummed} {
			a, err := ParseAddress(s)
			require.NoError(t, err, s)
			require.Equal(t, c.Checksummed, a.String())
		}
	}
	for _, s := range []string{
		"", "0x", "9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F",
		"0x9D8A62f656a8d1615C1294fd71e9CFb3E4855A4F", "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4",
		"0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4G", "0X9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f",
	} {
		_, err := ParseAddress(s)
		require.ErrorIs(t, err, ErrBadAddress, s)
	}
	for _, s := range []string{
		strings.Repeat("00", 32), "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
	} {
		_, err := KeyFromSecret([32]byte(unhex(t, s)))
		require.ErrorIs(t, err, ErrBadKey)
	}
	_, err := AddressOf([33]byte{5})
	require.ErrorIs(t, err, ErrBadKey)
}

func TestTextDigests(t *testing.T) {
	v := load(t)
	alice := key(t, v, "alice")
	require.NotEmpty(t, v.EIP191)
	for _, c := range v.EIP191 {
		d := TextDigest([]byte(c.Message))
		require.Equal(t, unhex(t, c.Digest), d[:])
		require.Equal(t, c.Signature, alice.Sign(d).String())
		sig, err := ParseSignature(c.Signature)
		require.NoError(t, err)
		public, err := Recover(d, sig)
		require.NoError(t, err)
		require.Equal(t, alice.Public(), public)
	}
}

func TestTypedDigests(t *testing.T) {
	v := load(t)
	require.NotEmpty(t, v.EIP712.Cases)
	domain := Domain{Name: "OBJECTS Identity Protocol", Version: "1", ChainID: 1}
	for _, c := range v.EIP712.Cases {
		at, ok := new(big.Int).SetString(c.Message.Timestamp, 10)
		require.True(t, ok)
		s := StructHash(
			c.EncodeType, String(c.Message.Application), Value(unhex(t, c.Message.Challenge)), Uint256(at),
		)
		require.Equal(t, unhex(t, c.Struct), s[:])
		sep := domain.Separator()
		require.Equal(t, unhex(t, c.Separator), sep[:])
		d := TypedDigest(domain, s)
		require.Equal(t, unhex(t, c.Digest), d[:])
		require.Equal(t, c.Signature, key(t, v, c.Signer).Sign(d).String())
	}
}

// A signature has one form, and all others are refused.
func TestRecoverIsStrict(t *testing.T) {
	alice := key(t, load(t), "alice")
	d := TextDigest([]byte("hello"))
	good := alice.Sign(d)
	n, _ := new(big.Int).SetString(
		"fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16,
	)
	edit := func(fn func(*Signature)) Signature {
		s := good
		fn(&s)
		return s
	}
	low := edit(func(s *Signature) { s[64] -= 27 })
	public, err := Recover(d, low)
	require.NoError(t, err)
	require.Equal(t, alice.Public(), public)
	for name, s := range map[string]Signature{
		"v":            edit(func(s *Signature) { s[64] = 29 }),
		"v of EIP-155": edit(func(s *Signature) { s[64] = 37 }),
		"r is 0":       edit(func(s *Signature) { clear(s[:32]) }),
		"s is 0":       edit(func(s *Signature) { clear(s[32:64]) }),
		"r is n":       edit(func(s *Signature) { n.FillBytes(s[:32]) }),
		"s is n":       edit(func(s *Signature) { n.FillBytes(s[32:64]) }),
		"the other s": edit(func(s *Signature) {
			new(big.Int).Sub(n, new(big.Int).SetBytes(s[32:64])).FillBytes(s[32:64])
			s[64] = 27 + (good[64] - 27) ^ 1
		}),
	} {
		_, err := Recover(d, s)
		require.ErrorIs(t, err, ErrBadSignature, name)
	}
	public, err = Recover(TextDigest([]byte("hello!")), good)
	if err == nil {
		require.NotEqual(t, alice.Public(), public)
	}
	for _, s := range []string{"", "0x", good.String() + "00", "0x" + strings.Repeat("zz", 65)} {
		_, err := ParseSignature(s)
		require.ErrorIs(t, err, ErrBadSignature)
	}
}

func FuzzRecover(f *testing.F) {
	k, err := KeyFromSecret([32]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	d := TextDigest([]byte("hello"))
	sig := k.Sign(d)
	f.Add(d[:], sig[:])
	f.Fuzz(func(t *testing.T, digest, sig []byte) {
		if len(digest) != 32 || len(sig) != 65 {
			return
		}
		public, err := Recover([32]byte(digest), Signature(sig))
		if err == nil {
			_, err := AddressOf(public)
			require.NoError(t, err)
		}
	})
}

package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/testkit"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	require.NoError(t, err)
	return b
}

func vectors(t testing.TB, name string, into any) {
	b, err := os.ReadFile("../testdata/" + name)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, into))
}

var at = time.Unix(1742900000, 0)

func TestIDs(t *testing.T) {
	type idCase struct {
		PublicKey string `json:"public_key"`
		Nonce     string `json:"nonce"`
		ID        string `json:"identity_id"`
	}
	var objects struct {
		IdentityID struct {
			Cases []idCase `json:"cases"`
		} `json:"identity_id"`
	}
	var ethereum struct {
		IdentityIDs struct {
			Cases []idCase `json:"cases"`
		} `json:"identity_ids"`
	}
	vectors(t, "objects-vectors.json", &objects)
	vectors(t, "ethereum.json", &ethereum)
	all := append(objects.IdentityID.Cases, ethereum.IdentityIDs.Cases...)
	require.Len(t, all, 7)
	for _, c := range all {
		id := IDOf(PublicKey(unhex(t, c.PublicKey)), Nonce(unhex(t, c.Nonce)))
		require.Equal(t, c.ID, id.String())
		back, err := ParseID(c.ID)
		require.NoError(t, err)
		require.Equal(t, id, back)
	}
	good := all[0].ID
	for _, s := range []string{
		"", "obj_", good[4:], "OBJ_" + good[4:], good + "1", good[:len(good)-2],
		good[:10] + "0" + good[11:], good[:10] + "l" + good[11:], "obj_1" + good[4:], " " + good,
		"obj_" + strings.Repeat("1", 1<<20),
	} {
		_, err := ParseID(s)
		require.ErrorIs(t, err, ErrNotID, s[:min(len(s), 40)])
	}
	var id ID
	require.NoError(t, json.Unmarshal([]byte(`"`+good+`"`), &id))
	require.Error(t, json.Unmarshal([]byte(`"obj_x"`), &id))
}

func TestHandles(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", "@Alice": "alice", "a.b_c": "a.b_c", "a_": "a_", "0x": "0x",
		strings.Repeat("z", 30): strings.Repeat("z", 30),
	} {
		got, err := ParseHandle(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{
		"", "@", ".a", "_a", "a.", "a..b", "a b", "a-b", "ä", "Admin", "@ROOT", strings.Repeat("z", 31),
		"a\n", "a\u212a",
	} { // the last has the Kelvin sign
		_, err := ParseHandle(in)
		require.ErrorIs(t, err, ErrBadHandle, in)
	}
}

func TestMessages(t *testing.T) {
	id := ID{1}
	auth, err := Authenticate("photos.example", bytes.Repeat([]byte{0xab}, 32), at)
	require.NoError(t, err)
	for want, m := range map[string]Message{
		"Action: Create Identity\nIdentity: " + id.String() + "\nHandle: alice": CreateIdentity(
			id, "alice", at,
		),
		"Action: Link Wallet\nIdentity: " + id.String() + "\nWallet: 0x9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f": LinkWallet(
			id, mustAddress(t, "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"), at,
		),
		"Action: Change Handle\nIdentity: " + id.String() + "\nNew Handle: bob": ChangeHandle(
			id, "bob", at,
		),
		"Action: Sign Asset\nIdentity: " + id.String() + "\nAsset: 07" + strings.Repeat(
			"0", 62,
		): SignAsset(
			id, [32]byte{7}, at,
		),
		"Action: Authenticate\nApplication: photos.example\nChallenge: " + strings.Repeat(
			"ab", 32,
		): auth,
		"Action: Register Backup\nIdentity: " + id.String() + "\nReplica: abc": RegisterBackup(
			id, "abc", at,
		),
	} {
		require.Equal(t, "OBJECTS Identity Protocol v1\n"+want+"\nTimestamp: 1742900000", m.Text())
		require.True(t, at.Equal(m.Time()))
	}
	_, err = Authenticate("photos.example", make([]byte, 31), at)
	require.Error(t, err)
	_, err = Authenticate("photos\nChallenge: x", make([]byte, 32), at)
	require.Error(t, err)
	m := RegisterBackup(id, "abc", at)
	for offset, ok := range map[time.Duration]bool{
		0: true, 5 * time.Minute: true, 5*time.Minute + 1: false, -24 * time.Hour: true,
		-24*time.Hour - 1: false,
	} {
		err := m.CheckTime(at.Add(-offset), RegistryAhead, RegistryBehind)
		require.Equal(t, ok, err == nil, offset)
		require.True(t, ok || errors.Is(err, ErrOutOfTime))
	}
}

func mustAddress(t testing.TB, s string) eth.Address {
	a, err := eth.ParseAddress(s)
	require.NoError(t, err)
	return a
}

// The struct that a wallet signs to authenticate, against the vectors.
func TestTypedAuthenticate(t *testing.T) {
	var v struct {
		EIP712 struct {
			Cases []struct {
				Message struct {
					Application string `json:"application"`
					Challenge   string `json:"challenge"`
					Timestamp   string `json:"timestamp"`
				} `json:"message"`
				Digest string `json:"digest"`
			} `json:"cases"`
		} `json:"eip712"`
	}
	vectors(t, "ethereum.json", &v)
	c := v.EIP712.Cases[0]
	require.Equal(t, "1742900000", c.Message.Timestamp)
	m, err := Authenticate(c.Message.Application, unhex(t, c.Message.Challenge), at)
	require.NoError(t, err)
	d, ok := m.typedDigest(1)
	require.True(t, ok)
	require.Equal(t, unhex(t, c.Digest), d[:])
	m, err = Authenticate(c.Message.Application, make([]byte, 33), at)
	require.NoError(t, err)
	_, ok = m.typedDigest(1)
	require.False(t, ok, "a longer challenge is no bytes32")
}

func keys(t testing.TB) []Key {
	var all []Key
	for _, kind := range []Kind{Wallet, Passkey} {
		k, err := KeyFromSecret(kind, [32]byte{5, 6, 7})
		require.NoError(t, err)
		all = append(all, k)
	}
	return all
}

func TestSignatures(t *testing.T) {
	for _, k := range keys(t) {
		t.Run(k.Kind().String(), func(t *testing.T) {
			nonce := Nonce{9}
			id := IDOf(k.Public(), nonce)
			m := ChangeHandle(id, "bob", at)
			sign := func() Signature {
				s, err := k.Sign(m)
				require.NoError(t, err)
				return s
			}
			good := sign()
			require.NoError(t, good.Verify(m, id, nonce))
			require.ErrorIs(t, good.Verify(m, id, Nonce{8}), ErrBadSignature)
			require.ErrorIs(t, good.Verify(ChangeHandle(id, "eve", at), id, nonce), ErrBadSignature)
			require.ErrorIs(
				t, good.Verify(ChangeHandle(id, "bob", at.Add(time.Second)), id, nonce), ErrBadSignature,
			)
			other, err := NewKey(k.Kind())
			require.NoError(t, err)
			stolen := sign()
			stolen.PublicKey = other.Public()
			require.ErrorIs(t, stolen.Verify(m, IDOf(other.Public(), nonce), nonce), ErrBadSignature)
			for i := range good.Signature {
				s := good
				s.Signature = bytes.Clone(good.Signature)
				s.Signature[i] ^= 1
				require.ErrorIs(t, s.Verify(m, id, nonce), ErrBadSignature, i)
			}
			s := sign()
			s.Kind = 3 - s.Kind
			require.ErrorIs(t, s.Verify(m, id, nonce), ErrBadSignature)
			s.Kind = 7
			require.ErrorIs(t, s.Verify(m, id, nonce), ErrBadSignature)
			require.NotContains(t, fmt.Sprintf("%v %+v %#v", k, k, k), "050607")
			_, err = k.MarshalText()
			require.Error(t, err)
		})
	}
}

func TestTypedSignatures(t *testing.T) {
	k := keys(t)[0]
	nonce := Nonce{9}
	id := IDOf(k.Public(), nonce)
	for _, m := range []Message{
		CreateIdentity(id, "a", at), LinkWallet(id, eth.Address{1}, at), ChangeHandle(id, "b", at),
		SignAsset(id, [32]byte{2}, at),
	} {
		s, err := k.SignTyped(m, 8453)
		require.NoError(t, err)
		require.NoError(t, s.Verify(m, id, nonce, 1, 8453))
		require.ErrorIs(t, s.Verify(m, id, nonce, 1), ErrBadSignature, "another chain")
		require.ErrorIs(t, s.Verify(m, id, nonce), ErrBadSignature)
	}
	_, err := k.SignTyped(RegisterBackup(id, "r", at), 1)
	require.Error(t, err)
	_, err = keys(t)[1].SignTyped(CreateIdentity(id, "a", at), 1)
	require.Error(t, err)
	s, err := k.Sign(CreateIdentity(id, "a", at))
	require.NoError(t, err)
	s.Signature[64] -= 27
	require.ErrorIs(
		t, s.Verify(CreateIdentity(id, "a", at), id, nonce), ErrBadSignature,
		"v is 27 or 28 on this wire",
	)
	s.Signature[64] += 27
	s.Address = "0x" + strings.Repeat("0", 40)
	require.ErrorIs(t, s.Verify(CreateIdentity(id, "a", at), id, nonce), ErrBadSignature)
}

// What a passkey has signed besides must be right, too.
func TestPasskeyData(t *testing.T) {
	k := keys(t)[1]
	m := SignAsset(ID{1}, [32]byte{2}, at)
	resign := func(
		s Signature,
	) Signature { // as somebody would who has the key and is told other things by a browser
		d := s.passkeyDigest()
		sig, err := ecdsa.SignASN1(rand.Reader, k.p256, d[:])
		require.NoError(t, err)
		s.Signature = sig
		return s
	}
	good, err := k.Sign(m)
	require.NoError(t, err)
	require.NoError(t, good.VerifyKey(m))
	for name, edit := range map[string]func(*Signature){
		"created": func(s *Signature) {
			s.ClientDataJSON = bytes.Replace(
				s.ClientDataJSON, []byte("webauthn.get"), []byte("webauthn.create"), 1,
			)
		},
		"no challenge": func(s *Signature) { s.ClientDataJSON = []byte(`{"type":"webauthn.get"}`) },
		"no JSON":      func(s *Signature) { s.ClientDataJSON = []byte("x") },
		"huge": func(s *Signature) {
			s.ClientDataJSON = append(bytes.Repeat([]byte(" "), maxClientData), s.ClientDataJSON...)
		},
		"nobody there": func(s *Signature) {
			s.AuthenticatorData = bytes.Clone(s.AuthenticatorData)
			s.AuthenticatorData[32] = 0
		},
		"cut short": func(s *Signature) { s.AuthenticatorData = s.AuthenticatorData[:36] },
	} {
		s := good
		edit(&s)
		s = resign(s)
		require.ErrorIs(t, s.VerifyKey(m), ErrBadSignature, name)
	}
}

// The list is that of BIP-39, and sorted, as look-ups need.
func TestWordList(t *testing.T) {
	require.Equal(t, "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda",
		fmt.Sprintf("%x", sha256.Sum256([]byte(english))))
	require.Len(t, wordList, 2048)
	require.True(t, slices.IsSorted(wordList))
}

// Further vectors of BIP-39's own, and whatever is written down comes back.
func TestMnemonics(t *testing.T) {
	legal := "legal winner thank year wave sausage worth useful "
	letter := "letter advice cage absurd amount doctor acoustic avoid "
	for b, words := range map[byte]string{
		0x7f: legal + legal + strings.TrimSuffix(legal, "useful ") + "title",
		0x80: letter + letter + strings.TrimSuffix(letter, "avoid ") + "bless",
	} {
		k, err := KeyFromSecret(Wallet, [32]byte(bytes.Repeat([]byte{b}, 32)))
		require.NoError(t, err)
		require.Equal(t, words, k.Mnemonic())
	}
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret")
		k, err := KeyFromSecret(Passkey, [32]byte(secret))
		if err != nil {
			t.Skip("no key of the curve")
		}
		back, err := KeyFromMnemonic(Passkey, k.Mnemonic())
		require.NoError(t, err)
		require.Equal(t, secret, func() []byte { s := back.Secret(); return s[:] }())
	})
}

func TestMnemonic(t *testing.T) {
	// The last vector of BIP-39's own that has 256 bits.
	words := "void come effort suffer camp survey warrior heavy shoot primary clutch crush open " +
		"amazing screen patrol group space point ten exist slush involve unfold"
	k, err := KeyFromMnemonic(Wallet, "  "+strings.ToUpper(words)+"\n")
	require.NoError(t, err)
	secret := k.Secret()
	require.Equal(
		t, "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f",
		hex.EncodeToString(secret[:]),
	)
	require.Equal(t, words, k.Mnemonic())
	for _, bad := range []string{
		"", words + " void", strings.Replace(words, "void", "voids", 1),
		strings.Replace(words, "void come", "come void", 1), strings.Replace(words, "unfold", "void", 1),
	} {
		_, err := KeyFromMnemonic(Wallet, bad)
		require.ErrorIs(t, err, ErrBadMnemonic)
		require.NotContains(t, err.Error(), "voids")
	}
	// all ones: not below the order
	_, err = KeyFromMnemonic(Wallet, strings.Repeat("zoo ", 23)+"vote")
	require.ErrorIs(t, err, ErrBadMnemonic)
}

func TestKeystore(t *testing.T) {
	testkit.OneGoroutine(t)
	for _, k := range keys(t) {
		s := Secret{k, Nonce{1, 2, 3}}
		file, err := s.Seal("correct horse")
		require.NoError(t, err)
		require.NotContains(t, string(file), "050607")
		back, err := OpenKeystore(file, "correct horse")
		require.NoError(t, err)
		require.Equal(t, s.ID(), back.ID())
		require.Equal(t, s.Key.Secret(), back.Key.Secret())
		for _, wrong := range []string{"", "correct horse ", "Correct horse"} {
			_, err = OpenKeystore(file, wrong)
			require.Equal(t, ErrWrongPassword, err, "nothing more is said")
		}
		for old, changed := range map[string]string{
			`"kind": "` + k.Kind().String(): `"kind": "` + (3 - k.Kind()).String(),
			`"nonce": "0102030000000000"`:   `"nonce": "0102030000000001"`,
		} {
			require.Contains(t, string(file), old)
			_, err = OpenKeystore([]byte(strings.Replace(string(file), old, changed, 1)), "correct horse")
			require.Equal(t, ErrWrongPassword, err, old)
		}
		for old, changed := range map[string]string{
			`"memory": 65536`:      `"memory": 1048577`,
			`"time": 3`:            `"time": 0`,
			`"argon2id"`:           `"argon2d"`,
			`"skerry_keystore": 1`: `"skerry_keystore": 2`,
			s.ID().String():        ID{}.String(),
			`"ciphertext": "`:      `"ciphertext": "00`,
			`"public_key": "`:      `"public_key": "zz`,
			`"xchacha20poly1305"`:  `"none"`,
			`{` + "\n":             `[`,
		} {
			require.Contains(t, string(file), old)
			_, err = OpenKeystore([]byte(strings.Replace(string(file), old, changed, 1)), "correct horse")
			require.ErrorIs(t, err, ErrBadKeystore, old)
		}
	}
	_, err := (&Secret{keys(t)[0], Nonce{}}).Seal("")
	require.Error(t, err)
	_, err = OpenKeystore(make([]byte, MaxKeystore+1), "x")
	require.ErrorIs(t, err, ErrBadKeystore)
}

// The examples of Ethereum's documentation of the format.
var ethExamples = map[string]string{
	"pbkdf2": `{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}`,
	"scrypt": `{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"83dbcc02d8ccb40e466191a123791e0e"},"ciphertext":"d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c","kdf":"scrypt","kdfparams":{"dklen":32,"n":262144,"p":8,"r":1,"salt":"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},"mac":"2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}`,
}

func TestEthereumKeystore(t *testing.T) {
	testkit.OneGoroutine(t)
	for name, file := range ethExamples {
		s, err := OpenKeystore([]byte(file), "testpassword")
		require.NoError(t, err, name)
		secret := s.Key.Secret()
		require.Equal(
			t, "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d",
			hex.EncodeToString(secret[:]),
		)
		_, err = OpenKeystore([]byte(file), "testpasswords")
		require.Equal(t, ErrWrongPassword, err)
	}
	for old, changed := range map[string]string{
		`"n":262144`:    `"n":1073741824`,
		`"p":8`:         `"p":1000000`,
		`"dklen":32`:    `"dklen":16`,
		`aes-128-ctr`:   `aes-128-cbc`,
		`"kdf":"scrypt`: `"kdf":"md5`,
		`"version":3`:   `"version":1`,
		`"iv":"83`:      `"iv":"`,
	} {
		require.Contains(t, ethExamples["scrypt"], old)
		_, err := OpenKeystore(
			[]byte(strings.Replace(ethExamples["scrypt"], old, changed, 1)), "testpassword",
		)
		require.ErrorIs(t, err, ErrBadKeystore, old)
	}
	k := keys(t)[0]
	file, err := k.SealEthereum("correct horse")
	require.NoError(t, err)
	s, err := OpenKeystore(file, "correct horse")
	require.NoError(t, err)
	require.Equal(t, k.Secret(), s.Key.Secret())
	_, err = keys(t)[1].SealEthereum("correct horse")
	require.Error(t, err)
}

func FuzzKeystore(f *testing.F) {
	for _, s := range ethExamples {
		f.Add([]byte(s))
	}
	own, err := (&Secret{keys(f)[0], Nonce{}}).Seal("x")
	require.NoError(f, err)
	f.Add(own)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseKeystore(b); err != nil {
			require.ErrorIs(t, err, ErrBadKeystore)
		}
	})
}

func FuzzPasskey(f *testing.F) {
	k := keys(f)[1]
	m := SignAsset(ID{1}, [32]byte{2}, at)
	s, err := k.Sign(m)
	require.NoError(f, err)
	f.Add(s.Signature, s.AuthenticatorData, s.ClientDataJSON)
	f.Fuzz(func(t *testing.T, sig, auth, client []byte) {
		got := Signature{
			Kind: Passkey, PublicKey: k.Public(), Signature: sig, AuthenticatorData: auth,
			ClientDataJSON: client,
		}
		if got.VerifyKey(m) == nil {
			require.Equal(t, s.AuthenticatorData, auth, "nobody else can have signed it")
		}
	})
}

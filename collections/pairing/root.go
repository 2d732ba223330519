package pairing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
)

var (
	// ErrEmptyPassphrase reports a passphrase without any character that shows.
	ErrEmptyPassphrase = errors.New("the passphrase is empty")
	// ErrSignature reports a signature that is not the named key's, over the text that is to be
	// signed.
	ErrSignature = errors.New(
		"the signature is not that of the key over the text from which the root is to follow",
	)
	// ErrEnvelope reports an envelope that does not open: the passphrase was another, or it was
	// changed.
	ErrEnvelope = errors.New("the passphrase is wrong, or the envelope was changed")
)

// The cost of turning a passphrase into keys.
const (
	argonMemory = 47104 // KiB
	argonPasses = 3
	argonLanes  = 1
	rootSalt    = "starfish-v3-root"
)

func stretch(passphrase string, salt []byte) []byte {
	return argon2.IDKey(
		norm.NFC.Bytes([]byte(passphrase)), salt, argonPasses, argonMemory, argonLanes, 32,
	)
}

// Root returns the keys of the root that follows from a passphrase. They are the same each time, so
// the passphrase is all that protects them. It returns ErrEmptyPassphrase.
func Root(passphrase string) (*Device, error) {
	if strings.TrimSpace(passphrase) == "" {
		return nil, ErrEmptyPassphrase
	}
	master := stretch(passphrase, []byte(rootSalt))
	defer clear(master)
	return derive(
		master, [2]string{"starfish-root-sign", "starfish-root-kem"}, [2]string{"ed25519", "x25519"},
	)
}

// derive returns the keys that follow from a secret by HKDF with salts and infos, of the signing
// and of the KEM key.
func derive(secret []byte, salts, infos [2]string) (*Device, error) {
	seed, err := hkdf.Key(sha256.New, secret, []byte(salts[0]), infos[0], 32)
	if err != nil {
		return nil, err
	}
	key, err := capcert.NewKey(seed)
	if err != nil {
		return nil, err
	}
	private, err := hkdf.Key(sha256.New, secret, []byte(salts[1]), infos[1], 32)
	if err != nil {
		return nil, err
	}
	kem, err := ecdh.X25519().NewPrivateKey(private)
	return &Device{key, kem}, err
}

var signedInfos = [2]string{"starfish-root-sign:ed25519", "starfish-root-kem:x25519"}

// Texts that wallets sign to get a root.
const (
	SchnorrText = "starfish-v3:bootstrap-secp256k1" // its SHA-256 is what is signed
	EVMText     = "starfish:bootstrap-evm"          // as a personal message (EIP-191)
)

// RootFromSchnorr returns the keys of the root that follows from a BIP-340 signature of 64 bytes,
// by the secp256k1 key whose x coordinate is given in hex, over the SHA-256 of SchnorrText. Whoever
// sees the signature has the root. A key that signs with other randomness gets another root. It
// returns ErrSignature.
func RootFromSchnorr(publicHex string, signature []byte) (*Device, error) {
	const salt = "starfish-v3-bootstrap-secp256k1"
	b, err := hex.DecodeString(publicHex)
	if err != nil || len(b) != 32 || strings.ToLower(publicHex) != publicHex {
		return nil, ErrSignature
	}
	digest := sha256.Sum256([]byte(SchnorrText))
	if len(signature) != 64 || !eth.VerifySchnorr([32]byte(b), digest, [64]byte(signature)) {
		return nil, ErrSignature
	}
	return derive(signature, [2]string{salt, salt}, signedInfos)
}

// RootFromEVM returns the keys of the root that follows from the signature of a wallet over
// EVMText: 65 bytes, of which the last is 27 or 28 (or 0 or 1, from which another root follows).
// Whoever sees the signature has the root. It returns ErrSignature.
func RootFromEVM(wallet eth.Address, signature []byte) (*Device, error) {
	const salt = "starfish-v3-bootstrap-evm"
	if len(signature) != 65 {
		return nil, ErrSignature
	}
	public, err := eth.Recover(eth.TextDigest([]byte(EVMText)), eth.Signature(signature))
	if err != nil {
		return nil, ErrSignature
	}
	if at, err := eth.AddressOf(public); err != nil || at != wallet {
		return nil, ErrSignature
	}
	return derive(signature, [2]string{salt, salt}, signedInfos)
}

// Envelopes hold secrets that a passphrase opens, such as a device's keys in a file.
const (
	envelopeSalt = 16 // bytes
	envelopeIV   = 12
)

// Seal returns an envelope with a text that a passphrase opens. It returns ErrEmptyPassphrase.
func Seal(passphrase string, text []byte) (*value.Object, error) {
	if passphrase == "" {
		return nil, ErrEmptyPassphrase
	}
	random := make([]byte, envelopeSalt+envelopeIV)
	_, _ = rand.Read(random) // never fails
	return seal(passphrase, text, random[:envelopeSalt], random[envelopeSalt:])
}

func seal(passphrase string, text, salt, iv []byte) (*value.Object, error) {
	aead, err := envelopeKey(passphrase, salt)
	if err != nil {
		return nil, err
	}
	b64 := base64.StdEncoding.EncodeToString
	kdf := value.NewObject(
		member("alg", "argon2id"), member("memKiB", float64(argonMemory)),
		member("iter", float64(argonPasses)), member("par", float64(argonLanes)),
		member("salt", b64(salt)),
	)
	return value.NewObject(
		member("v", 1.0), member("enc", "passphrase"), member("kdf", kdf), member("iv", b64(iv)),
		member("ct", b64(aead.Seal(nil, iv, text, nil))),
	), nil
}

func envelopeKey(passphrase string, salt []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(stretch(passphrase, salt))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Open returns the text in an envelope. It returns ErrEnvelope.
func Open(passphrase string, envelope *value.Object) ([]byte, error) {
	kind, _ := envelope.String("enc")
	version, _ := envelope.Get("v")
	v, _ := envelope.Get("kdf")
	kdf, _ := v.(*value.Object)
	alg, _ := kdf.String("alg")
	if kind != "passphrase" || version != 1.0 || alg != "argon2id" {
		return nil, ErrEnvelope
	}
	for key, want := range map[string]float64{
		"memKiB": argonMemory, "iter": argonPasses, "par": argonLanes,
	} { // others would let an envelope cost whoever opens it what it likes
		if v, _ := kdf.Get(key); v != want {
			return nil, ErrEnvelope
		}
	}
	part := func(o *value.Object, key string) []byte {
		s, _ := o.String(key)
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil
		}
		return b
	}
	salt, iv := part(kdf, "salt"), part(envelope, "iv")
	if len(salt) != envelopeSalt || len(iv) != envelopeIV {
		return nil, ErrEnvelope
	}
	aead, err := envelopeKey(passphrase, salt)
	if err != nil {
		return nil, err
	}
	text, err := aead.Open(nil, iv, part(envelope, "ct"), nil)
	if err != nil {
		return nil, ErrEnvelope
	}
	return text, nil
}

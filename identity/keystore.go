package identity

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/skerry-sync/skerry/internal/kind"
)

// A keystore is a JSON file with a key that is encrypted with a password:
//
//	{"skerry_keystore":1,"kind":"wallet"|"passkey","public_key":33 bytes,"nonce":8 bytes,"identity":id,
//	 "kdf":{"name":"argon2id","time":t,"memory":KiB,"threads":p,"salt":16 bytes},
//	 "cipher":{"name":"xchacha20poly1305","nonce":24 bytes,"ciphertext":48 bytes}}
//
// Bytes are in hex. The password, as UTF-8, gives by Argon2id (RFC 9106) the key for
// XChaCha20-Poly1305, which seals the 32-byte secret; associated data is "skerry keystore 1\n", the
// number of the kind, the public key and the nonce. A key from elsewhere may come as Ethereum's
// version 3 file (see ethkeystore.go).
const (
	keystoreVersion = 1
	keystoreMagic   = "skerry keystore 1\n"
	saltSize        = 16
	// The second recommendation of RFC 9106, section 4: some 0.1 s and 64 MiB.
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4
	// What a file may ask for: a quarter of a gigabyte, and 16 times the work of a file of our own.
	// A file that somebody sends must not stop the machine that is to open it.
	maxArgonTime    = 64
	maxArgonMemory  = 256 << 10 // KiB
	maxArgonThreads = 16
	maxArgonWork    = 16 * argonTime * argonMemory // KiB written: time·memory
	// MaxKeystore is the length of the longest file in bytes.
	MaxKeystore = 64 << 10
)

var (
	// ErrWrongPassword reports a password that does not open a keystore, or a keystore that was
	// changed: these cannot be told apart.
	ErrWrongPassword = kind.New(kind.NotAllowed, "wrong password, or a damaged keystore")
	// ErrNoPassword reports an empty password, which protects nothing.
	ErrNoPassword = kind.New(kind.Usage, "an empty password protects nothing")
	// ErrBadKeystore reports a file that is no keystore.
	ErrBadKeystore = kind.New(kind.Usage, "not a keystore")
)

// Secret is what a keystore holds: a key, and the nonce that its identity id is made with.
type Secret struct {
	Key   Key
	Nonce Nonce
}

// ID returns the identity.
func (s *Secret) ID() ID { return IDOf(s.Key.Public(), s.Nonce) }

// hexBytes are bytes that JSON has in hex.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type keystoreFile struct {
	Version   int      `json:"skerry_keystore"`
	Kind      string   `json:"kind"`
	PublicKey hexBytes `json:"public_key"`
	Nonce     hexBytes `json:"nonce"`
	Identity  ID       `json:"identity"`
	KDF       struct {
		Name    string   `json:"name"`
		Time    uint32   `json:"time"`
		Memory  uint32   `json:"memory"`
		Threads uint8    `json:"threads"`
		Salt    hexBytes `json:"salt"`
	} `json:"kdf"`
	Cipher struct {
		Name       string   `json:"name"`
		Nonce      hexBytes `json:"nonce"`
		Ciphertext hexBytes `json:"ciphertext"`
	} `json:"cipher"`
}

// associated is what the cipher makes sure of besides the secret.
func associated(kind Kind, public []byte, nonce []byte) []byte {
	return append(append(append([]byte(keystoreMagic), byte(kind)), public...), nonce...)
}

// Seal returns a keystore file with the secret, encrypted with a password.
func (s *Secret) Seal(password string) ([]byte, error) {
	if password == "" {
		return nil, ErrNoPassword
	}
	public, id := s.Key.Public(), s.ID()
	f := keystoreFile{
		Version: keystoreVersion, Kind: s.Key.Kind().String(), PublicKey: public[:], Nonce: s.Nonce[:],
		Identity: id,
	}
	salt, nonce := make([]byte, saltSize), make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = rand.Read(salt) // never fails
	_, _ = rand.Read(nonce)
	f.KDF.Name, f.KDF.Time, f.KDF.Memory, f.KDF.Threads, f.KDF.Salt = "argon2id", argonTime, argonMemory, argonThreads, salt
	aead, err := chacha20poly1305.NewX(
		argon2.IDKey(
			[]byte(password), salt, argonTime, argonMemory, argonThreads, chacha20poly1305.KeySize,
		),
	)
	if err != nil {
		return nil, err
	}
	secret := s.Key.Secret()
	f.Cipher.Name, f.Cipher.Nonce = "xchacha20poly1305", nonce
	f.Cipher.Ciphertext = aead.Seal(
		nil, nonce, secret[:], associated(s.Key.Kind(), public[:], s.Nonce[:]),
	)
	b, err := json.MarshalIndent(&f, "", "  ")
	return append(b, '\n'), err
}

// OpenKeystore reads a keystore file, of Skerry or of Ethereum (version 3), with its password. A
// key from Ethereum's has the nonce of [Key.Nonce], since that format knows none. It returns
// ErrWrongPassword, or ErrBadKeystore for what is no keystore or asks for more work than one may. A
// wrong password takes as long as the right one.
func OpenKeystore(file []byte, password string) (*Secret, error) {
	open, err := parseKeystore(file)
	if err != nil {
		return nil, err
	}
	return open(password)
}

// parseKeystore checks all of a file that can be checked without a password.
func parseKeystore(file []byte) (open func(password string) (*Secret, error), err error) {
	if len(file) > MaxKeystore {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrBadKeystore, len(file), MaxKeystore)
	}
	var which struct {
		Skerry  int `json:"skerry_keystore"`
		Version int `json:"version"`
	}
	if !json.Valid(file) {
		return nil, fmt.Errorf("%w: it is not JSON", ErrBadKeystore)
	}
	if err := json.Unmarshal(file, &which); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKeystore, err)
	}
	switch {
	case which.Skerry == keystoreVersion:
		return parseOwn(file)
	case which.Skerry > keystoreVersion:
		return nil, fmt.Errorf("%w of a version that is known: use a newer skerry", ErrBadKeystore)
	case which.Version == ethVersion:
		return parseEth(file)
	}
	return nil, fmt.Errorf("%w: it has neither skerry_keystore 1 nor version 3", ErrBadKeystore)
}

func parseOwn(file []byte) (open func(password string) (*Secret, error), err error) {
	var f keystoreFile
	if err := json.Unmarshal(file, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKeystore, err)
	}
	kind, err := ParseKind(f.Kind)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKeystore, err)
	}
	switch k := &f.KDF; {
	case k.Name != "argon2id" || f.Cipher.Name != "xchacha20poly1305":
		return nil, fmt.Errorf(
			"%w: unknown way of encryption %.32q, %.32q", ErrBadKeystore, k.Name, f.Cipher.Name,
		)
	case k.Time < 1 || k.Time > maxArgonTime || k.Memory < 8 || k.Memory > maxArgonMemory ||
		k.Threads < 1 || k.Threads > maxArgonThreads ||
		uint64(k.Time)*uint64(k.Memory) > maxArgonWork || len(k.Salt) < 8 || len(k.Salt) > 64:
		return nil, fmt.Errorf(
			"%w: it asks for Argon2id with time %d, %d KiB and %d threads", ErrBadKeystore, k.Time, k.Memory,
			k.Threads,
		)
	case len(f.PublicKey) != len(PublicKey{}) || len(f.Nonce) != len(Nonce{}) ||
		len(f.Cipher.Nonce) != chacha20poly1305.NonceSizeX || len(
		f.Cipher.Ciphertext,
	) != 32+chacha20poly1305.Overhead:
		return nil, fmt.Errorf("%w: a part of it has the wrong length", ErrBadKeystore)
	}
	return func(password string) (*Secret, error) { return f.open(kind, password) }, nil
}

func (f *keystoreFile) open(kind Kind, password string) (*Secret, error) {
	aead, err := chacha20poly1305.NewX(
		argon2.IDKey(
			[]byte(password), f.KDF.Salt, f.KDF.Time, f.KDF.Memory, f.KDF.Threads, chacha20poly1305.KeySize,
		),
	)
	if err != nil {
		return nil, err
	}
	secret, err := aead.Open(
		nil, f.Cipher.Nonce, f.Cipher.Ciphertext, associated(kind, f.PublicKey, f.Nonce),
	)
	if err != nil {
		return nil, ErrWrongPassword
	}
	key, err := KeyFromSecret(kind, [32]byte(secret))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKeystore, err)
	}
	public := key.Public()
	s := &Secret{key, Nonce(f.Nonce)}
	if !bytes.Equal(public[:], f.PublicKey) || s.ID() != f.Identity {
		return nil, fmt.Errorf("%w: its key is not that of the identity that it names", ErrBadKeystore)
	}
	return s, nil
}

// KeystoreInfo is what a keystore file says without its password. Nothing of it is proved.
type KeystoreInfo struct {
	ID     ID
	Kind   Kind
	Public PublicKey
	Nonce  Nonce
}

// DescribeKeystore reads a file of Skerry's own form without opening it, or returns ErrBadKeystore.
func DescribeKeystore(file []byte) (i KeystoreInfo, err error) {
	if len(file) > MaxKeystore {
		return i, fmt.Errorf("%w: %d bytes, at most %d", ErrBadKeystore, len(file), MaxKeystore)
	}
	if _, err := parseOwn(file); err != nil {
		return i, err
	}
	var f keystoreFile
	if err := json.Unmarshal(file, &f); err != nil {
		return i, fmt.Errorf("%w: %w", ErrBadKeystore, err)
	}
	kind, err := ParseKind(f.Kind)
	if err != nil {
		return i, fmt.Errorf("%w: %w", ErrBadKeystore, err)
	}
	i = KeystoreInfo{f.Identity, kind, PublicKey(f.PublicKey), Nonce(f.Nonce)}
	if IDOf(i.Public, i.Nonce) != i.ID {
		return i, fmt.Errorf(
			"%w: its public key is not that of the identity that it names", ErrBadKeystore,
		)
	}
	return i, nil
}

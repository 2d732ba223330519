package vault

import (
	"encoding/hex"
	"encoding/json"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/skerry-sync/skerry/identity"
)

// newLocal returns a keyring whose files take little work to open, so that tests are quick.
func newLocal(dir string, now func() time.Time) *Local {
	l := NewLocal(dir, now)
	l.seal = cheapKeystore
	return l
}

// cheapKeystore writes a keystore as package identity describes it, with the least work that
// Argon2id can have.
func cheapKeystore(s *identity.Secret, password string) ([]byte, error) {
	public, secret := s.Key.Public(), s.Key.Secret()
	salt, nonce := randomBytes(16), randomBytes(chacha20poly1305.NonceSizeX)
	aead, err := chacha20poly1305.NewX(
		argon2.IDKey([]byte(password), salt, 1, 8, 1, chacha20poly1305.KeySize),
	)
	if err != nil {
		return nil, err
	}
	associated := append([]byte("skerry keystore 1\n"), byte(s.Key.Kind()))
	associated = append(append(associated, public[:]...), s.Nonce[:]...)
	return json.Marshal(map[string]any{
		"skerry_keystore": 1, "kind": s.Key.Kind().String(), "identity": s.ID(),
		"public_key": hex.EncodeToString(public[:]), "nonce": hex.EncodeToString(s.Nonce[:]),
		"kdf": map[string]any{
			"name": "argon2id", "time": 1, "memory": 8, "threads": 1, "salt": hex.EncodeToString(salt),
		},
		"cipher": map[string]any{
			"name": "xchacha20poly1305", "nonce": hex.EncodeToString(nonce),
			"ciphertext": hex.EncodeToString(aead.Seal(nil, nonce, secret[:], associated)),
		},
	})
}

package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"

	"golang.org/x/crypto/scrypt"

	"github.com/skerry-sync/skerry/identity/eth"
)

// Ethereum's keystore, version 3 ("Web3 Secret Storage"): scrypt or PBKDF2 gives at least 32 bytes,
// of which the first 16 are the key of AES-128-CTR, and the next 16 go before the ciphertext into a
// Keccak-256 hash, which shows whether the password was right.
const (
	ethVersion = 3
	// What wallets write: some 0.5 s and 256 MiB.
	scryptN = 1 << 18
	scryptR = 8
	scryptP = 1
	// What a file may ask for.
	maxScryptMemory = 256 << 20             // bytes, 128·n·r: what wallets write
	maxScryptWork   = 4 * scryptN * scryptR // n·r·p
	maxPBKDF2       = 4_000_000
)

type ethFile struct {
	Address string    `json:"address,omitempty"`
	Crypto  ethCrypto `json:"crypto"`
	ID      string    `json:"id,omitempty"`
	Version int       `json:"version"`
}

type ethCrypto struct {
	Cipher       string `json:"cipher"`
	CipherParams struct {
		IV hexBytes `json:"iv"`
	} `json:"cipherparams"`
	Ciphertext hexBytes        `json:"ciphertext"`
	KDF        string          `json:"kdf"`
	KDFParams  json.RawMessage `json:"kdfparams"`
	MAC        hexBytes        `json:"mac"`
}

type scryptParams struct {
	DKLen int      `json:"dklen"`
	N     int      `json:"n"`
	P     int      `json:"p"`
	R     int      `json:"r"`
	Salt  hexBytes `json:"salt"`
}

type pbkdf2Params struct {
	C     int      `json:"c"`
	DKLen int      `json:"dklen"`
	PRF   string   `json:"prf"`
	Salt  hexBytes `json:"salt"`
}

// derivation returns how a password gives a key, or ErrBadKeystore.
func (c *ethCrypto) derivation() (derive func(password string) ([]byte, error), err error) {
	bad := func(format string, args ...any) (func(string) ([]byte, error), error) {
		return nil, fmt.Errorf("%w: %s", ErrBadKeystore, fmt.Sprintf(format, args...))
	}
	switch c.KDF {
	case "scrypt":
		var p scryptParams
		if err := json.Unmarshal(c.KDFParams, &p); err != nil {
			return bad("%v", err)
		}
		if p.N < 2 || p.N&(p.N-1) != 0 || p.R < 1 || p.P < 1 || p.DKLen < 32 || p.DKLen > 64 ||
			p.N > maxScryptMemory || p.R > 1<<10 || p.P > 1<<10 ||
			128*int64(p.N)*int64(p.R) > maxScryptMemory || int64(p.N)*int64(p.R)*int64(p.P) > maxScryptWork {
			return bad("it asks for scrypt with n %d, r %d, p %d and %d bytes", p.N, p.R, p.P, p.DKLen)
		}
		return func(password string) ([]byte, error) {
			return scrypt.Key([]byte(password), p.Salt, p.N, p.R, p.P, p.DKLen)
		}, nil
	case "pbkdf2":
		var p pbkdf2Params
		if err := json.Unmarshal(c.KDFParams, &p); err != nil {
			return bad("%v", err)
		}
		if p.C < 1 || p.C > maxPBKDF2 || p.DKLen < 32 || p.DKLen > 64 || p.PRF != "hmac-sha256" {
			return bad("it asks for PBKDF2 with %d rounds of %.32q and %d bytes", p.C, p.PRF, p.DKLen)
		}
		return func(password string) ([]byte, error) {
			return pbkdf2.Key(sha256.New, password, p.Salt, p.C, p.DKLen)
		}, nil
	}
	return bad("unknown way %.32q from password to key", c.KDF)
}

func (c *ethCrypto) mac(key []byte) [32]byte { return eth.Keccak256(key[16:32], c.Ciphertext) }

func (c *ethCrypto) crypt(key []byte) ([]byte, error) {
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(c.Ciphertext))
	cipher.NewCTR(block, c.CipherParams.IV).XORKeyStream(out, c.Ciphertext)
	return out, nil
}

func parseEth(file []byte) (open func(password string) (*Secret, error), err error) {
	var f ethFile
	if err := json.Unmarshal(file, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKeystore, err)
	}
	c := &f.Crypto
	if c.Cipher != "aes-128-ctr" || len(c.CipherParams.IV) != aes.BlockSize || len(c.MAC) != 32 ||
		len(c.Ciphertext) != 32 {
		return nil, fmt.Errorf("%w: expected 32 bytes by aes-128-ctr", ErrBadKeystore)
	}
	derive, err := c.derivation()
	if err != nil {
		return nil, err
	}
	return func(password string) (*Secret, error) {
		derived, err := derive(password)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadKeystore, err)
		}
		if mac := c.mac(derived); subtle.ConstantTimeCompare(mac[:], c.MAC) != 1 {
			return nil, ErrWrongPassword
		}
		secret, err := c.crypt(derived)
		if err != nil {
			return nil, err
		}
		key, err := KeyFromSecret(Wallet, [32]byte(secret))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadKeystore, err)
		}
		return &Secret{key, key.Nonce()}, nil
	}, nil
}

// SealEthereum returns an Ethereum keystore file, version 3, with a wallet's key, encrypted with a
// password.
func (k Key) SealEthereum(password string) ([]byte, error) {
	if k.kind != Wallet {
		return nil, fmt.Errorf("an Ethereum keystore holds the key of a wallet, not of a %s", k.kind)
	}
	if password == "" {
		return nil, ErrNoPassword
	}
	salt, iv := make([]byte, 32), make([]byte, aes.BlockSize)
	var id [16]byte
	_, _ = rand.Read(salt) // never fails
	_, _ = rand.Read(iv)
	_, _ = rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a random UUID (RFC 9562)
	f := ethFile{
		Address: k.wallet.Address().Lower()[2:], Version: ethVersion,
		ID: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
	}
	params, err := json.Marshal(scryptParams{32, scryptN, scryptP, scryptR, salt})
	if err != nil {
		return nil, err
	}
	secret := k.Secret()
	c := &f.Crypto
	c.Cipher, c.CipherParams.IV, c.KDF, c.KDFParams, c.Ciphertext = "aes-128-ctr", iv, "scrypt", params, secret[:]
	derive, err := c.derivation()
	if err != nil {
		return nil, err
	}
	derived, err := derive(password)
	if err != nil {
		return nil, err
	}
	if c.Ciphertext, err = c.crypt(derived); err != nil { // the same in both directions
		return nil, err
	}
	mac := c.mac(derived)
	c.MAC = mac[:]
	b, err := json.MarshalIndent(&f, "", "  ")
	return append(b, '\n'), err
}

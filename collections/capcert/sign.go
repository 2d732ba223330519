package capcert

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/edsig"
)

// maxKnownKeys is how many public keys are kept ready for verification, at about 1.3 KiB each.
const maxKnownKeys = 4096

// known verifies by ZIP-215, as the published packages do, so that all who read a signed document
// agree about it.
var known = edsig.NewKeys(edsig.ZIP215, maxKnownKeys)

func verify(pubHex string, msg, sig []byte) bool {
	pub, err := hex.DecodeString(pubHex)
	return err == nil && len(pub) == ed25519.PublicKeySize && len(sig) == ed25519.SignatureSize &&
		known.Verify([32]byte(pub), msg, [64]byte(sig))
}

// decode64 decodes base64 as browsers do (WHATWG, "forgiving-base64 decode"): white space is left
// out, padding may be missing, bits that are left over are ignored.
func decode64(s string) ([]byte, error) {
	if strings.ContainsAny(s, " \t\n\f\r") {
		s = strings.NewReplacer(" ", "", "\t", "", "\n", "", "\f", "", "\r", "").Replace(s)
	}
	if len(s)%4 == 0 {
		s = strings.TrimSuffix(strings.TrimSuffix(s, "="), "=")
	}
	return base64.RawStdEncoding.DecodeString(s)
}

// Key is an Ed25519 key with which certificates, requests and documents are signed.
type Key struct {
	private ed25519.PrivateKey
	Public  string // hex
}

// NewKey returns the key with a seed of 32 bytes.
func NewKey(seed []byte) (Key, error) {
	if len(seed) != ed25519.SeedSize {
		return Key{}, fmt.Errorf("the seed of a key has %d bytes, not %d", ed25519.SeedSize, len(seed))
	}
	k := ed25519.NewKeyFromSeed(seed)
	return Key{k, hex.EncodeToString(k.Public().(ed25519.PublicKey))}, nil
}

// ParseKey returns the key with a seed in hex.
func ParseKey(seedHex string) (Key, error) {
	seed, err := hex.DecodeString(seedHex)
	if err != nil {
		return Key{}, errors.New("the seed of a key is not in hex") // the text is secret
	}
	return NewKey(seed)
}

func (k Key) sign(msg []byte) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(k.private, msg))
}

// Sign signs a message and returns the signature in base64.
func (k Key) Sign(msg []byte) string { return k.sign(msg) }

// Verify reports whether signature, in base64, is one of msg by the holder of an Ed25519 public
// key, in hex.
func Verify(pubHex string, msg []byte, signature string) bool {
	sig, err := decode64(signature)
	return err == nil && verify(pubHex, msg, sig)
}

// String shows the public half alone.
func (k Key) String() string { return k.Public }

// GoString is String.
func (k Key) GoString() string { return k.Public }

const requestDomain = "starfish-req-v1\n"

// Request is what the signature of a request covers.
type Request struct {
	Method       string
	PathAndQuery string
	Body         []byte // empty for reads and for uploads that are not JSON
	Host         string // host and, unless it is the default one, port
}

// RequestSignature is the signature of a request.
type RequestSignature struct {
	Signature string // base64
	Time      int64  // Unix milliseconds
	Nonce     string // base64 of NonceSize bytes
}

// SigningInput returns what is signed of a request, at a time in Unix milliseconds.
func (r *Request) SigningInput(time int64, nonce string) []byte {
	sum := sha256.Sum256(r.Body)
	b := append(make([]byte, 0, 256+len(r.PathAndQuery)), requestDomain...)
	b = append(hex.AppendEncode(append(b, `{"b":"`...), sum[:]), `","h":`...)
	b = append(value.AppendString(b, r.Host), `,"m":`...)
	b = append(value.AppendString(b, r.Method), `,"nonce":`...)
	b = append(value.AppendString(b, nonce), `,"p":`...)
	b = append(value.AppendString(b, r.PathAndQuery), `,"ts":`...)
	return append(value.Append(b, float64(time)), '}')
}

// Sign signs a request at a time in Unix milliseconds with a nonce of NonceSize bytes, which must
// never be used again.
func (r *Request) Sign(k Key, time int64, nonce []byte) RequestSignature {
	s := RequestSignature{Time: time, Nonce: base64.StdEncoding.EncodeToString(nonce)}
	s.Signature = k.sign(r.SigningInput(s.Time, s.Nonce))
	return s
}

// Verify reports whether the holder of an Ed25519 public key, in hex, has signed the request.
func (r *Request) Verify(s *RequestSignature, pubHex string) bool {
	sig, err := decode64(s.Signature)
	return err == nil && verify(pubHex, r.SigningInput(s.Time, s.Nonce), sig)
}

// What an author signs.
const (
	AppendDomain   = "starfish-append-author-v1\n" // an element of a log
	DocumentDomain = "starfish-doc-author-v1\n"    // a document
)

func authorInput(domain, key string, data any) []byte {
	return value.AppendCanonical(
		[]byte(domain),
		value.NewObject(value.Member{Key: "k", Value: key}, value.Member{Key: "d", Value: data}),
	)
}

// SignAuthor signs data under a storage path. domain is AppendDomain or DocumentDomain.
func SignAuthor(domain, key string, data any, k Key) (signature string) {
	return k.sign(authorInput(domain, key, data))
}

// VerifyAuthor reports whether the holder of a public key, in hex, has signed data under a storage
// path.
func VerifyAuthor(domain, key string, data any, pubHex, signature string) bool {
	sig, err := decode64(signature)
	return err == nil && verify(pubHex, authorInput(domain, key, data), sig)
}

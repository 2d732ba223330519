// Package pairing is how a person's devices get their keys: the root's follow from a passphrase,
// those of another device are made there and certified by the root, to which they come by QR code
// or by a code of digits.
//
// What belongs here: these forms and derivations, as pure functions. What never belongs here:
// showing codes, and bringing messages from one device to another. All forms are those of
// docs/protocol/starfish-v3.md, sections 2 and 13; vectors are in testdata/starfish.
package pairing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/keyring"
	"github.com/skerry-sync/skerry/collections/value"
)

var (
	// ErrMalformed reports what is no message of pairing.
	ErrMalformed = errors.New("not a message of pairing")
	// ErrCode reports a message that does not open: the code was another, or it was changed.
	ErrCode = errors.New("the code is wrong, or the message was changed")
	// ErrNoCode reports that there is no code, by which anybody could open and make messages.
	ErrNoCode = errors.New("the code is empty")
	// ErrForeign reports a bundle that is for another device, of another root or of another pairing.
	ErrForeign = errors.New("the bundle is not for this device and pairing")
)

// Device are the keys of a device.
type Device struct {
	Key capcert.Key
	KEM *ecdh.PrivateKey
}

// KEMPublic returns the public half of the device's KEM key, in hex.
func (d *Device) KEMPublic() string { return hex.EncodeToString(d.KEM.PublicKey().Bytes()) }

// Subject returns whom a certificate of the device is for.
func (d *Device) Subject() capcert.Subject {
	return capcert.Subject{Key: d.Key.Public, KEM: d.KEMPublic()}
}

// NewDevice makes the keys of a device.
func NewDevice() (*Device, error) {
	seed := make([]byte, 32)
	_, _ = rand.Read(seed) // never fails
	key, err := capcert.NewKey(seed)
	if err != nil {
		return nil, err
	}
	kem, err := ecdh.X25519().GenerateKey(rand.Reader)
	return &Device{key, kem}, err
}

func nonce() []byte {
	b := make([]byte, capcert.NonceSize)
	_, _ = rand.Read(b)
	return b
}

// Terms are those of a certificate from a time in Unix seconds on, with a new nonce.
func Terms(now, ttl int64) capcert.Terms {
	return capcert.Terms{NotBefore: now, Expires: now + ttl, Nonce: nonce()}
}

// RootCert returns the certificate with which a root device presents itself, from a time in Unix
// seconds on.
func RootCert(root *Device, now int64) (*capcert.Cert, error) {
	return capcert.MintDevice(
		root.Key, root.Subject(), capcert.RootScope(), Terms(now, capcert.DefaultTTL),
	)
}

func member(key string, v any) value.Member { return value.Member{Key: key, Value: v} }

// Offer is what a device shows as a QR code, to be certified.
type Offer struct {
	Subject capcert.Subject
	Scope   *value.Object // that it asks for; whoever certifies it decides
	Nonce   string        // base64
}

// NewOffer returns the offer of a device.
func NewOffer(d *Device, scope *value.Object) *Offer {
	return &Offer{d.Subject(), scope, base64.StdEncoding.EncodeToString(nonce())}
}

// String returns the text of the QR code.
func (o *Offer) String() string {
	return base64.RawURLEncoding.EncodeToString(
		value.AppendCanonical(
			nil,
			value.NewObject(
				member("v", 1.0), member("devEdPub", o.Subject.Key), member("devKemPub", o.Subject.KEM),
				member("requestedScope", scopeOf(o.Scope)), member("qrNonce", o.Nonce),
			),
		),
	)
}

func scopeOf(o *value.Object) any {
	if o == nil {
		return nil
	}
	return o
}

// ParseOffer reads the text of a QR code. It returns an error that is ErrMalformed.
func ParseOffer(text string) (*Offer, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(text), "="))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	v, err := value.ParseObject(b, value.MaxDepth)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	o := &Offer{}
	if n, _ := v.Get("v"); n != 1.0 {
		return nil, fmt.Errorf("%w: its version is not 1", ErrMalformed)
	}
	var ok [3]bool
	o.Subject.Key, ok[0] = v.String("devEdPub")
	o.Subject.KEM, ok[1] = v.String("devKemPub")
	o.Nonce, ok[2] = v.String("qrNonce")
	if ok != [3]bool{true, true, true} {
		return nil, fmt.Errorf("%w: it lacks a key or the nonce", ErrMalformed)
	}
	scope, _ := v.Get("requestedScope")
	o.Scope, _ = scope.(*value.Object)
	return o, nil
}

// Path returns the storage path at which a bundle for the offer may be left. It returns an error
// that is ErrMalformed.
func (o *Offer) Path() (string, error) {
	b, err := base64.StdEncoding.DecodeString(o.Nonce)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return "_pairing/" + hex.EncodeToString(b), nil
}

// Key is the current key of a collection's keyring.
type Key struct {
	Epoch int
	Bytes []byte
}

// Bundle is what a root gives to a device: its certificate, and the keys of collections.
type Bundle struct {
	Cert    *capcert.Cert
	Root    string // Ed25519 public key, hex
	Nonce   string // of the offer
	wrapped *value.Object
}

// Certify returns the bundle for an offer, with what the device may do and the keys that it is
// given.
func Certify(
	root *Device, o *Offer, scope capcert.Scope, t capcert.Terms, keys map[string]Key,
) (*Bundle, error) {
	cert, err := capcert.MintDevice(root.Key, o.Subject, scope, t)
	if err != nil {
		return nil, err
	}
	wrapped := &value.Object{}
	for col, k := range keys {
		eph, ct, err := keyring.Wrap(k.Bytes, o.Subject.KEM, nil, nil)
		if err != nil {
			return nil, err
		}
		wrapped.Set(
			col, value.NewObject(member("epoch", float64(k.Epoch)), member("ephKem", eph), member("ct", ct)),
		)
	}
	return &Bundle{cert, root.Key.Public, o.Nonce, wrapped}, nil
}

// Object returns the bundle as JSON.
func (b *Bundle) Object() *value.Object {
	return value.NewObject(
		member("v", 1.0), member("capCert", b.Cert.Object()), member("rootEdPub", b.Root),
		member("wrappedCEKs", b.wrapped), member("qrNonce", b.Nonce),
	)
}

// ParseBundle reads a bundle. It returns an error that is ErrMalformed, or a *capcert.RefusedError.
func ParseBundle(o *value.Object) (*Bundle, error) {
	b := &Bundle{}
	v, _ := o.Get("capCert")
	var err error
	if b.Cert, err = capcert.Parse(v); err != nil {
		return nil, err
	}
	var ok [3]bool
	b.Root, ok[0] = o.String("rootEdPub")
	b.Nonce, ok[1] = o.String("qrNonce")
	v, _ = o.Get("wrappedCEKs")
	b.wrapped, ok[2] = v.(*value.Object)
	if ok != [3]bool{true, true, true} {
		return nil, fmt.Errorf("%w: the bundle is not whole", ErrMalformed)
	}
	return b, nil
}

// Install checks a bundle at a time in Unix seconds, and returns the keys of collections in it.
// root is the root that the person expects, and nonce that of the device's offer. It returns an
// error that is ErrForeign, a *capcert.RefusedError, or keyring.ErrSealed.
//
// The root has signed the certificate, and nobody the keys: whoever brings a bundle, as the server
// at Offer.Path does, can put in others. They are the collections' keys if the bundle came under a
// code, or if the keyrings of the collections hold the same.
func (b *Bundle) Install(d *Device, root, nonce string, now int64) (map[string]Key, error) {
	if err := errors.Join(b.Cert.CheckTime(now), b.Cert.CheckSignature()); err != nil {
		return nil, err
	}
	if b.Cert.Kind != capcert.Device || b.Cert.Issuer != b.Root || b.Root != root ||
		b.Nonce != nonce || b.Cert.Subject != d.Key.Public || b.Cert.SubjectKEM != d.KEMPublic() {
		return nil, ErrForeign
	}
	keys := map[string]Key{}
	for col, v := range b.wrapped.All() {
		o, _ := v.(*value.Object)
		eph, _ := o.String("ephKem")
		ct, _ := o.String("ct")
		key, err := keyring.Unwrap(eph, ct, d.KEM)
		if err != nil {
			return nil, fmt.Errorf("collection %s: %w", col, err)
		}
		n, _ := o.Get("epoch")
		epoch, ok := n.(float64)
		if !ok || epoch != math.Trunc(epoch) || epoch < 0 || epoch > math.MaxInt32 {
			return nil, fmt.Errorf("%w: collection %s has no epoch", ErrMalformed, col)
		}
		keys[col] = Key{int(epoch), key}
	}
	return keys, nil
}

// codeRounds is the cost of trying a code.
const codeRounds = 600_000

func codeKey(code string, nonce []byte) ([]byte, error) {
	return pbkdf2.Key(sha256.New, code, append([]byte("starfish-pair"), nonce...), codeRounds, 32)
}

func sealed(code string, nonce []byte) (cipher.AEAD, error) {
	if code == "" {
		return nil, ErrNoCode
	}
	key, err := codeKey(code, nonce)
	if err != nil {
		return nil, err
	}
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// sealCode seals a message under a code of digits.
func sealCode(code string, nonce []byte, v any) (*value.Object, error) {
	gcm, err := sealed(code, nonce)
	if err != nil {
		return nil, err
	}
	iv := make([]byte, gcm.NonceSize())
	_, _ = rand.Read(iv)
	ct := gcm.Seal(nil, iv, value.AppendCanonical(nil, v), nil)
	b64 := base64.StdEncoding.EncodeToString
	return value.NewObject(
		member("v", 1.0), member("requestNonce", b64(nonce)), member("iv", b64(iv)),
		member("ct", b64(ct)),
	), nil
}

func openCode(code string, o *value.Object) (*value.Object, string, error) {
	var b [3][]byte
	var text string
	for i, key := range []string{"requestNonce", "iv", "ct"} {
		s, ok := o.String(key)
		var err error
		if b[i], err = base64.StdEncoding.DecodeString(s); !ok || err != nil {
			return nil, "", fmt.Errorf("%w: it has no %s", ErrMalformed, key)
		}
		if i == 0 {
			text = s
		}
	}
	gcm, err := sealed(code, b[0])
	if err != nil {
		return nil, "", err
	}
	if len(b[1]) != gcm.NonceSize() {
		return nil, "", fmt.Errorf("%w: its iv has %d bytes", ErrMalformed, len(b[1]))
	}
	plain, err := gcm.Open(nil, b[1], b[2], nil)
	if err != nil {
		return nil, "", ErrCode
	}
	v, err := value.ParseObject(plain, value.MaxDepth)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return v, text, nil
}

// possession is what a device signs to show that it has the key that it asks a certificate for.
func possession(sub capcert.Subject, nonce string) []byte {
	return value.AppendCanonical(
		nil,
		value.NewObject(
			member("devEdPub", sub.Key), member("devKemPub", sub.KEM), member("requestNonce", nonce),
		),
	)
}

// Ask returns a device's request under a code of digits that the person types on both sides, and
// its nonce. It returns ErrNoCode, as does all that opens or seals by a code.
func Ask(d *Device, code string) (request *value.Object, requestNonce string, err error) {
	n := nonce()
	requestNonce = base64.StdEncoding.EncodeToString(n)
	sub := d.Subject()
	request, err = sealCode(
		code, n,
		value.NewObject(
			member("devEdPub", sub.Key), member("devKemPub", sub.KEM),
			member("popSig", d.Key.Sign(possession(sub, requestNonce))),
		),
	)
	return request, requestNonce, err
}

// ReadRequest opens a device's request, as an offer whose nonce is the request's. It returns an
// error that is ErrMalformed or ErrCode.
func ReadRequest(request *value.Object, code string) (*Offer, error) {
	v, requestNonce, err := openCode(code, request)
	if err != nil {
		return nil, err
	}
	o := &Offer{Nonce: requestNonce}
	var ok [3]bool
	var proof string
	o.Subject.Key, ok[0] = v.String("devEdPub")
	o.Subject.KEM, ok[1] = v.String("devKemPub")
	proof, ok[2] = v.String("popSig")
	if ok != [3]bool{true, true, true} {
		return nil, fmt.Errorf("%w: it lacks a key or the proof of it", ErrMalformed)
	}
	if !capcert.Verify(o.Subject.Key, possession(o.Subject, requestNonce), proof) {
		return nil, fmt.Errorf("%w: the device has not proved its key", ErrMalformed)
	}
	return o, nil
}

// Respond seals a bundle for the request with a nonce.
func Respond(b *Bundle, code, requestNonce string) (*value.Object, error) {
	n, err := base64.StdEncoding.DecodeString(requestNonce)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return sealCode(code, n, b.Object())
}

// ReadResponse opens the answer to a request. It returns an error that is ErrMalformed or ErrCode.
func ReadResponse(response *value.Object, code string) (*Bundle, error) {
	v, _, err := openCode(code, response)
	if err != nil {
		return nil, err
	}
	return ParseBundle(v)
}

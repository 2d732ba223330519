// Package capcert is the cryptography by which a caller of collections proves what it may do:
// capability certificates, signatures of requests and of what is written, lists of revocations, and
// the scopes that certificates carry.
//
// What belongs here: formats, their checks and how they are made, as pure functions. What never
// belongs here: HTTP, what a server remembers (nonces, revocations), and which role opens which
// collection.
//
// Start at Cert. All formats are those of docs/protocol/starfish-v3.md; its vectors are in
// testdata/starfish.
package capcert

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/collections/value"
)

// The kinds of certificates.
const (
	Device = "device" // acts for its issuer
	Member = "member" // a grant of one collection to another identity
	// a grant of one collection to whoever presents it, or to those whom it lists
	Audience = "audience"
)

// The operations of a scope.
const (
	Read  = "read"
	Write = "write"
	List  = "list"
)

const (
	// NonceSize is the length of the nonces of certificates and requests in bytes.
	NonceSize = 16
	// MaxAudience is how many keys an audience may list.
	MaxAudience = 64
	// Skew is by how many seconds clocks may differ, for certificates and for requests.
	Skew = 300
	// DefaultTTL is the lifetime of a certificate in seconds.
	DefaultTTL = 30 * 24 * 3600
)

// RefusedError says why a certificate is not valid, with the code that the published packages have
// for it, such as "expired" or "member-self".
type RefusedError struct{ Code string }

func (e *RefusedError) Error() string { return "the certificate is refused: " + e.Code }

func refuse(code string) error { return &RefusedError{code} }

// Scope is what a certificate grants.
type Scope struct {
	Ops         []string
	Collections []string
	// globs of storage paths, those with "!" in front are exceptions; none is no restriction
	Paths []string
}

// Cert is a capability certificate: what Issuer's root key grants to Subject.
type Cert struct {
	Kind         string
	Issuer       string // Ed25519 public key, hex
	IssuerID     string // its user id
	Subject      string // Ed25519 public key, hex; "" in an audience certificate
	SubjectKEM   string // X25519 public key, hex; likewise
	SubjectID    string // its user id, "" if not given
	Scope        Scope
	Audience     []string // Ed25519 public keys, hex; nil for anybody
	NotBefore    int64    // Unix seconds
	Expires      int64
	Nonce        string // base64 of NonceSize bytes
	Signature    string // base64
	HasSubjectID bool   // also if it is ""
	object       *value.Object
}

// Object returns the certificate as JSON, as it was parsed or made; nil if it is Checked.
func (c *Cert) Object() *value.Object { return c.object }

// Checked returns a certificate whose form and signature are right without its JSON, which may
// have members that mean nothing and takes up to thirty times the bytes of its text.
func (c *Cert) Checked() *Cert {
	short := *c
	short.object = nil
	return &short
}

// IsRoot reports whether the certificate is that of a root device: signed by its own subject.
func (c *Cert) IsRoot() bool { return c.Kind == Device && c.Issuer == c.Subject }

// UserID returns the id of the user with an Ed25519 public key, given in hex: the first 16 bytes of
// its SHA-256, in hex.
func UserID(pubHex string) (string, error) {
	b, err := hex.DecodeString(pubHex)
	if err != nil {
		return "", fmt.Errorf("public key %.80q: %w", pubHex, err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16]), nil
}

// Parse reads a certificate and checks its form, but neither its signature nor the time. It returns
// a *RefusedError.
func Parse(v any) (*Cert, error) {
	o, _ := v.(*value.Object)
	malformed := refuse("malformed-shape")
	c := &Cert{object: o}
	c.Kind, _ = o.String("kind")
	if c.Kind != Device && c.Kind != Member && c.Kind != Audience {
		return nil, malformed
	}
	var ok [3]bool
	c.Issuer, ok[0] = o.String("iss")
	c.IssuerID, ok[1] = o.String("issUserId")
	c.Nonce, ok[2] = o.String("nonce")
	if ok != [3]bool{true, true, true} {
		return nil, malformed
	}
	if c.Kind == Audience {
		for _, k := range []string{"sub", "subKem", "subUserId"} {
			if _, ok := o.Get(k); ok {
				return nil, refuse("audience-has-sub")
			}
		}
	} else {
		c.Subject, ok[0] = o.String("sub")
		c.SubjectKEM, ok[1] = o.String("subKem")
		if !ok[0] || !ok[1] {
			return nil, malformed
		}
	}
	for k, at := range map[string]*int64{"nbf": &c.NotBefore, "exp": &c.Expires} {
		v, _ := o.Get(k)
		f, ok := v.(float64)
		if !ok || f != math.Trunc(f) || math.IsInf(f, 0) {
			return nil, malformed
		}
		*at = int64(max(-1<<62, min(1<<62, f)))
	}
	if v, ok := o.Get("subUserId"); ok {
		if c.SubjectID, c.HasSubjectID = v.(string); !c.HasSubjectID {
			return nil, malformed
		}
	}
	if nonce, err := decode64(c.Nonce); err != nil || len(nonce) != NonceSize {
		return nil, malformed
	}
	if err := c.parseScope(o); err != nil {
		return nil, err
	}
	if aud, ok := o.Get("aud"); ok {
		if c.Kind != Audience {
			return nil, refuse("non-audience-has-aud")
		}
		var err error
		if c.Audience, err = parseAudience(aud); err != nil {
			return nil, err
		}
	}
	if id, err := UserID(c.Issuer); err != nil {
		return nil, refuse("malformed")
	} else if id != c.IssuerID {
		return nil, refuse("iss-userid-mismatch")
	}
	if c.HasSubjectID {
		if id, err := UserID(c.Subject); err != nil {
			return nil, refuse("malformed")
		} else if id != c.SubjectID {
			return nil, refuse("sub-userid-mismatch")
		}
	}
	c.Signature, _ = o.String("sig")
	return c, nil
}

func (c *Cert) parseScope(o *value.Object) error {
	v, _ := o.Get("scope")
	scope, _ := v.(*value.Object)
	var ok [2]bool
	c.Scope.Ops, ok[0] = texts(scope, "ops")
	c.Scope.Collections, ok[1] = texts(scope, "collections")
	if !ok[0] || !ok[1] {
		return refuse("malformed-shape")
	}
	for _, op := range c.Scope.Ops {
		if op != Read && op != Write && op != List {
			return refuse("malformed-shape")
		}
	}
	if _, given := scope.Get("paths"); given {
		if c.Scope.Paths, given = texts(scope, "paths"); !given {
			return refuse("malformed-shape")
		}
	}
	return nil
}

// texts returns a member that is an array of strings.
func texts(o *value.Object, key string) ([]string, bool) {
	v, _ := o.Get(key)
	a, ok := v.(value.Array)
	if !ok {
		return nil, false
	}
	all := make([]string, len(a))
	for i, x := range a {
		if all[i], ok = x.(string); !ok {
			return nil, false
		}
	}
	return all, true
}

func parseAudience(v any) ([]string, error) {
	a, ok := v.(value.Array)
	switch {
	case !ok:
		return nil, refuse("audience-aud-bad-entry")
	case len(a) == 0:
		return nil, refuse("audience-empty-aud")
	case len(a) > MaxAudience:
		return nil, refuse("audience-aud-too-large")
	}
	all := make([]string, len(a))
	for i, x := range a {
		if all[i], ok = x.(string); !ok || !IsKey(all[i]) {
			return nil, refuse("audience-aud-bad-entry")
		}
	}
	for i := range all {
		if slices.Contains(all[:i], all[i]) {
			return nil, refuse("audience-aud-dup")
		}
	}
	return all, nil
}

// IsKey reports whether s is 64 lower-case hex digits.
func IsKey(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// CheckTime checks at what time the certificate is presented, in Unix seconds. It returns a
// *RefusedError.
func (c *Cert) CheckTime(now int64) error {
	switch {
	case c.Expires <= c.NotBefore:
		return refuse("inverted-window")
	case now < c.NotBefore-Skew:
		return refuse("not-yet-valid")
	case now > c.Expires+Skew:
		return refuse("expired")
	}
	return nil
}

const certDomain = "starfish-capcert-v1\n"

// SigningInput returns what the issuer signs.
func (c *Cert) SigningInput() []byte {
	unsigned := c.object.Clone()
	unsigned.Delete("sig")
	return value.AppendCanonical([]byte(certDomain), unsigned)
}

// CheckSignature checks that the issuer has signed the certificate. It returns a *RefusedError.
func (c *Cert) CheckSignature() error {
	sig, err := decode64(c.Signature)
	if err != nil || !verify(c.Issuer, c.SigningInput(), sig) {
		return refuse("bad-signature")
	}
	return nil
}

// Authorization returns the value of the header in which the certificate is presented.
func (c *Cert) Authorization() string {
	return "Cap " + base64.StdEncoding.EncodeToString(value.AppendCanonical(nil, c.object))
}

// MaxAuthorization is how long that header may be in bytes.
const MaxAuthorization = 8 << 10

// ErrNoCert reports a header that presents no certificate.
var ErrNoCert = errors.New("the header holds no certificate")

// ParseAuthorization reads the header in which a certificate is presented. It returns an error that
// is ErrNoCert, or a *RefusedError.
func ParseAuthorization(header string) (*Cert, error) {
	text, ok := strings.CutPrefix(header, "Cap ")
	if !ok {
		return nil, ErrNoCert
	}
	if len(header) > MaxAuthorization {
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrNoCert, MaxAuthorization)
	}
	b, err := decode64(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCert, err)
	}
	v, err := value.Parse(b, value.MaxDepth)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCert, err)
	}
	return Parse(v)
}

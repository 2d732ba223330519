package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/store"
)

// The headers of a request that presents a certificate.
const (
	HeaderSignature = "X-Starfish-Sig"   // base64
	HeaderTime      = "X-Starfish-Ts"    // Unix milliseconds
	HeaderNonce     = "X-Starfish-Nonce" // base64
	// HeaderPublic is the Ed25519 public key, in hex, of who presents an audience certificate.
	HeaderPublic = "X-Starfish-Pub"
)

// Caps is the resolver of capability certificates: a request presents one and is signed by its
// subject.
type Caps struct {
	Nonces      NonceStore
	Revocations *Revocations // may be nil
	Kinds       []string     // of certificates that are accepted; nil is all
	// MustIdentify denies whoever presents no certificate, also where anybody may read.
	MustIdentify   bool
	Clock          Clock
	MaxNonceLength int // in bytes; 0 is defaultNonceLength

	// Certificates whose form and signature are right, by the header that presents them.
	mu     sync.Mutex
	known  map[[32]byte]knownCert
	memory int // of all of them
}

// knownCert is a certificate that is remembered.
type knownCert struct {
	*capcert.Cert
	memory int // bytes that it takes, at most
}

// How many certificates are remembered, and in how many bytes. Anybody can make them.
const (
	maxKnown       = 16384
	maxKnownMemory = 64 << 20
)

// defaultNonceLength is more than the published clients send.
const defaultNonceLength = 256

// Resolve implements Resolver. What costs little is checked first; a nonce is used up only by a
// request whose signature is right.
func (c *Caps) Resolve(ctx context.Context, r *Request) (who Auth, err error) {
	h := r.HTTP.Header
	header := h.Get("Authorization")
	if !strings.HasPrefix(header, "Cap ") {
		if c.MustIdentify {
			return who, deny(http.StatusUnauthorized, "no certificate is presented")
		}
		return Anonymous, nil
	}
	now := c.Clock.Now()
	sig, err := c.signature(h, now.UnixMilli())
	if err != nil {
		return who, err
	}
	cert, err := c.cert(header)
	if err == nil {
		err = cert.CheckTime(now.Unix())
	}
	if err != nil {
		return who, deny(http.StatusUnauthorized, "%v", err)
	}
	if c.Kinds != nil && !slices.Contains(c.Kinds, cert.Kind) {
		return who, deny(http.StatusUnauthorized, "certificates of kind %s are not accepted", cert.Kind)
	}
	body, err := r.Body()
	if err != nil {
		return who, err
	}
	key := cert.Subject
	if cert.Kind == capcert.Audience {
		if key = h.Get(HeaderPublic); !capcert.IsKey(key) {
			return who, deny(
				http.StatusUnauthorized, "who presents an audience certificate must name its public key in %s",
				HeaderPublic,
			)
		}
	}
	proof := signed(r, body, &sig, key)
	if proof == nil {
		return who, deny(http.StatusUnauthorized, "the signature of the request is wrong")
	}
	if cert.Audience != nil && !slices.Contains(cert.Audience, key) {
		return who, deny(http.StatusForbidden, "the certificate is not for this audience")
	}
	if err := c.Nonces.Use(ctx, key, sig.Nonce, sig.Time, now.UnixMilli()); err != nil {
		return who, deny(http.StatusUnauthorized, "%v", err)
	}
	if c.Revocations != nil {
		c.Revocations.Present(cert.Issuer)
	}
	if c.Revocations != nil && c.Revocations.IsRevoked(cert.Issuer, cert.Subject, cert.Nonce) {
		return who, deny(http.StatusUnauthorized, "the certificate is revoked")
	}
	if who, err = authOf(cert, key); err == nil {
		who.Proof = proof
	}
	return who, err
}

func (c *Caps) signature(h http.Header, now int64) (s capcert.RequestSignature, err error) {
	s.Signature, s.Nonce = h.Get(HeaderSignature), h.Get(HeaderNonce)
	at := h.Get(HeaderTime)
	if s.Signature == "" || s.Nonce == "" || at == "" {
		return s, deny(http.StatusUnauthorized, "the headers of the signature are not all there")
	}
	limit := c.MaxNonceLength
	if limit == 0 {
		limit = defaultNonceLength
	}
	if len(s.Nonce) > limit {
		return s, deny(http.StatusUnauthorized, "the nonce is longer than %d bytes", limit)
	}
	if s.Time, err = strconv.ParseInt(at, 10, 53); err != nil || at[0] == '+' {
		return s, deny(http.StatusUnauthorized, "%s is no time", HeaderTime)
	}
	if ahead := s.Time - now; ahead > skew || -ahead > skew {
		return s, deny(http.StatusUnauthorized, "the time of the request is %d ms off", ahead)
	}
	return s, nil
}

// skew is by how many milliseconds the clock of a caller may differ.
const skew = capcert.Skew * 1000

// cert returns the certificate in a header, with its form and signature checked.
func (c *Caps) cert(header string) (*capcert.Cert, error) {
	if len(header) > capcert.MaxAuthorization {
		return nil, errors.New("the certificate is too long")
	}
	id := sha256.Sum256([]byte(header))
	c.mu.Lock()
	there := c.known[id]
	c.mu.Unlock()
	if there.Cert != nil {
		return there.Cert, nil
	}
	cert, err := capcert.ParseAuthorization(header)
	if err == nil {
		err = cert.CheckSignature()
	}
	if err == nil {
		err = cert.CheckKind()
	}
	if err != nil {
		return nil, err
	}
	cert = cert.Checked()
	c.remember(id, cert, len(header))
	return cert, nil
}

// remember remembers a certificate that came in a header of so many bytes, and forgets others for
// it.
func (c *Caps) remember(id [32]byte, cert *capcert.Cert, header int) {
	// Without its JSON a certificate is strings in arrays. The shortest element that JSON has takes
	// three bytes of text, which are four of the header, and a string takes sixteen of memory, which
	// the allocator rounds up.
	k := knownCert{cert, 1<<10 + 5*header}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = map[[32]byte]knownCert{}
	}
	if _, there := c.known[id]; there { // another request has presented it meanwhile
		return
	}
	for old, was := range c.known {
		if len(c.known) < maxKnown && c.memory+k.memory <= maxKnownMemory {
			break
		}
		delete(c.known, old)
		c.memory -= was.memory
	}
	c.known[id] = k
	c.memory += k.memory
}

// signed returns the reading of the request that is signed, nil if none is.
func signed(r *Request, body []byte, sig *capcert.RequestSignature, key string) *store.Proof {
	h := r.HTTP.Header
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	if media = strings.ToLower(strings.TrimSpace(media)); media != "" && media != config.JSON {
		body = nil // clients do not sign the bytes of a file
	}
	for _, host := range r.Hosts {
		for _, target := range r.Targets {
			signed := capcert.Request{Method: r.HTTP.Method, PathAndQuery: target, Body: body, Host: host}
			if !signed.Verify(sig, key) {
				continue
			}
			p := &store.Proof{
				Method: r.HTTP.Method, Target: target, Host: host, Media: h.Get("Content-Type"),
				Header: http.Header{},
			}
			for _, name := range []string{
				"Authorization", HeaderSignature, HeaderTime, HeaderNonce, HeaderPublic,
			} {
				if v := h.Get(name); v != "" {
					p.Header.Set(name, v)
				}
			}
			return p
		}
	}
	return nil
}

// authOf returns what a certificate lets its presenter do.
func authOf(cert *capcert.Cert, key string) (who Auth, err error) {
	who.Presenter = key
	switch cert.Kind {
	case capcert.Device:
		who.Identity = cert.IssuerID
	case capcert.Member:
		who.Identity = cert.SubjectID
	default:
		if who.Identity, err = capcert.UserID(key); err != nil {
			return who, deny(http.StatusUnauthorized, "%v", err)
		}
	}
	// What is named twice would be multiplied below: a header has room for hundreds of each.
	who.Scope = &Scope{
		Ops: once(cert.Scope.Ops), Collections: once(cert.Scope.Collections),
		Paths: cert.Scope.ExpandPaths(who.Identity), Issuer: cert.IssuerID,
	}
	if cert.Kind != capcert.Device && len(who.Scope.Paths) == 0 {
		return Auth{}, deny(
			http.StatusForbidden, "a certificate of kind %s must say which paths it is for", cert.Kind,
		)
	}
	for _, op := range who.Scope.Ops {
		for _, col := range who.Scope.Collections {
			who.Roles = append(who.Roles, "cap:"+op+":"+col)
		}
	}
	if cert.Kind != capcert.Device {
		for _, col := range who.Scope.Collections {
			who.Roles = append(who.Roles, "delegated:"+cert.IssuerID+":"+col)
		}
	}
	if cert.IsRoot() {
		who.Roles = append(who.Roles, config.RoleRoot)
	}
	return who, nil
}

// once returns strings in their order, each once.
func once(all []string) []string {
	seen := make(map[string]bool, len(all))
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool {
		was := seen[s]
		seen[s] = true
		return was
	})
}

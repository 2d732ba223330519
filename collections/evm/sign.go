package evm

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/netaddr"
)

// Signer signs requests.
type Signer struct {
	Key    eth.Key
	Chain  string // as evm:8453, one that the server knows
	Family Family // "" is OctoBot
	Clock  access.Clock
}

// Sign returns the headers of a request that is made now. The path has no query; it returns ErrPath
// for one with an escape.
func (s *Signer) Sign(method, path string, body []byte) (http.Header, error) {
	if strings.Contains(path, "%") {
		return nil, fmt.Errorf("%w: %s", ErrPath, path)
	}
	now := s.Clock.Now().UnixMilli()
	return s.sign(method, path, strconv.FormatInt(now, 10), newNonce(), body), nil
}

func (s *Signer) sign(method, path, time, nonce string, body []byte) http.Header {
	f := string(cmp.Or(s.Family, OctoBot))
	h := http.Header{}
	h.Set(f+headerAddress, s.Key.Address().String())
	h.Set(
		f+headerSignature, hexOf(s.Key.Sign(eth.TextDigest(Canonical(method, path, time, nonce, body)))),
	)
	h.Set(f+headerTime, time)
	h.Set(f+headerNonce, nonce)
	h.Set(f+headerChain, s.Chain)
	return h
}

// newNonce returns a random UUID (RFC 9562, version 4).
func newNonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ReadKey reads the secret key of a wallet from a file: 64 hex digits, with or without 0x before
// them.
func ReadKey(file string) (k eth.Key, err error) {
	b, err := disk.ReadFile(file, 256)
	if err != nil {
		return k, err
	}
	secret, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(b)), "0x"))
	if err != nil || len(secret) != 32 {
		return k, fmt.Errorf("%s: it is not the secret key of a wallet, which is 64 hex digits", file)
	}
	if k, err = eth.KeyFromSecret([32]byte(secret)); err != nil {
		return k, fmt.Errorf("%s: %w", file, err)
	}
	return k, nil
}

// ErrRedirect reports a redirect of a signed request to another path, or with another method. A
// signature does not say for which server it is: one that is asked could have any request signed,
// and make it at another server where the wallet has something.
var ErrRedirect = errors.New(
	"a signed request is redirected only to the same path of the same server; name the path that it " +
		"leads to instead",
)

// NewClient returns a client like base, http.DefaultClient if nil, that signs its requests. It
// follows no redirect to another server (netaddr.ErrRedirect) or path (ErrRedirect).
func NewClient(s *Signer, base *http.Client) *http.Client {
	if base == nil {
		base = http.DefaultClient
	}
	c := *base
	c.Transport = &Transport{Signer: s, Base: base.Transport}
	c.CheckRedirect = netaddr.SameServer
	return &c
}

// Transport signs what it hands to Base, http.DefaultTransport if nil, each time anew, also after a
// redirect, unless that is ErrRedirect. A body is read into memory.
type Transport struct {
	Signer *Signer
	Base   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		if closed := r.Body.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return nil, fmt.Errorf("request to sign: %w", err)
		}
	}
	if !asksTheSame(r) {
		return nil, fmt.Errorf("%w: %s", ErrRedirect, r.URL.EscapedPath())
	}
	h, err := t.Signer.Sign(r.Method, cmp.Or(r.URL.EscapedPath(), "/"), body)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	for name, values := range h {
		r.Header[name] = values
	}
	if body != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
	}
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	return base.RoundTrip(r)
}

// asksTheSame reports whether what is signed for a request, but for its time, was signed for the
// one that it is a redirect of, if it is one; and for the same server.
func asksTheSame(r *http.Request) bool {
	if r.Response == nil {
		return true
	}
	was := r.Response.Request
	return was != nil && was.Method == r.Method && was.URL.Scheme == r.URL.Scheme &&
		was.URL.Host == r.URL.Host && was.URL.EscapedPath() == r.URL.EscapedPath()
}

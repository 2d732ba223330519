package evm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
)

// Window is by how much the time of a request may differ from the server's, exactly that included.
const Window = 10 * time.Second

// RoleUser is the role of every caller, RoleAdmin that of administrators besides.
const (
	RoleUser  = "user"
	RoleAdmin = "admin"
)

// Caller is who has signed a request.
type Caller struct {
	Address eth.Address
	Chain   string // as evm:8453; the signature does not cover it
	Admin   bool
}

// Roles returns the roles that do not depend on what is asked for.
func (c Caller) Roles() []string {
	if c.Admin {
		return []string{RoleUser, RoleAdmin}
	}
	return []string{RoleUser}
}

// Request is what is checked.
type Request struct {
	Method string
	Path   string // as the client has sent it, without query
	Header http.Header
	// is asked for when all that costs less is right; nil is an empty body
	Body func() ([]byte, error)
}

// Verifier checks the signatures of requests.
type Verifier struct {
	Chains func(id string) bool // which are known
	Admins []eth.Address
	Nonces access.NonceStore // with a skew of Window
	Clock  access.Clock
	// Signers, unless nil, knows keys that have signed before, for several verifiers.
	Signers *eth.Recoverer

	own eth.Recoverer
}

// signers returns what knows keys that have signed before.
func (v *Verifier) signers() *eth.Recoverer {
	if v.Signers != nil {
		return v.Signers
	}
	return &v.own
}

// Verify returns who has signed a request, or a *access.DeniedError. The nonce is used up by a
// request whose signature is right.
func (v *Verifier) Verify(ctx context.Context, r *Request) (c Caller, err error) {
	h, err := readHeaders(r.Header)
	if err != nil {
		return c, denied("%w", err)
	}
	at, err := parseTime(h.time)
	if err != nil {
		return c, denied("%w", err)
	}
	now := v.Clock.Now()
	if off := at - now.UnixMilli(); off > Window.Milliseconds() || -off > Window.Milliseconds() {
		return c, denied("the time of the request is %d ms off", off)
	}
	if v.Chains == nil || !v.Chains(h.chain) {
		return c, denied("the chain %q is not known", h.chain[:min(len(h.chain), 64)])
	}
	if strings.Contains(r.Path, "%") {
		return c, denied("%w", ErrPath)
	}
	address, err := eth.ParseAddress(h.address)
	if err != nil {
		return c, denied("%w", err)
	}
	sig, err := eth.ParseSignature(h.signature)
	if err != nil {
		return c, denied("%w", err)
	}
	var body []byte
	if r.Body != nil {
		if body, err = r.Body(); err != nil {
			return c, err
		}
	}
	if err := v.signers().Verify(
		eth.TextDigest(Canonical(r.Method, r.Path, h.time, h.nonce, body)), sig, address,
	); err != nil {
		return c, denied("another key, or another request, has been signed: %w", err)
	}
	if err := v.Nonces.Use(ctx, address.Lower(), h.nonce, at, now.UnixMilli()); err != nil {
		if ctx.Err() != nil {
			return c, ctx.Err()
		}
		return c, denied("%w", err)
	}
	return Caller{address, h.chain, slices.Contains(v.Admins, address)}, nil
}

func parseTime(s string) (ms int64, err error) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, errors.New("the time of the request is not all digits")
		}
	}
	if len(s) > maxTime {
		return 0, fmt.Errorf("the time of the request has more than %d digits", maxTime)
	}
	return strconv.ParseInt(s, 10, 64)
}

func denied(format string, args ...any) error {
	return &access.DeniedError{
		Status: http.StatusUnauthorized, Reason: fmt.Errorf(format, args...).Error(),
	}
}

// Resolve implements access.Resolver. Whoever presents nothing is denied.
func (v *Verifier) Resolve(ctx context.Context, r *access.Request) (access.Auth, error) {
	path, _, _ := strings.Cut(r.Targets[0], "?")
	c, err := v.Verify(
		ctx, &Request{Method: r.HTTP.Method, Path: path, Header: r.HTTP.Header, Body: r.Body},
	)
	if err != nil {
		return access.Auth{}, err
	}
	return access.Auth{
		Identity: c.Address.String(), Roles: c.Roles(),
		Proof: &store.Proof{
			Method: r.HTTP.Method, Target: path, Media: r.HTTP.Header.Get("Content-Type"),
			Header: Only(r.HTTP.Header),
		},
		VerifyAuthor: func(data *value.Object, signature string) error {
			return v.verifyData(c.Address, data, signature)
		},
	}, nil
}

// verifyData is VerifyData, faster for signers who come again.
func (v *Verifier) verifyData(address eth.Address, data *value.Object, signature string) error {
	sig, err := eth.ParseSignature(signature)
	if err == nil {
		err = v.signers().Verify(eth.TextDigest(value.AppendCanonical(nil, data)), sig, address)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAuthor, err)
	}
	return nil
}

// Only returns the headers that present a wallet, alone.
func Only(h http.Header) http.Header {
	own := http.Header{}
	for _, f := range families {
		for _, name := range headerNames {
			if all := h.Values(string(f) + name); len(all) > 0 {
				own[http.CanonicalHeaderKey(string(f)+name)] = all
			}
		}
	}
	return own
}

type callerKey struct{}

// CallerOf returns who has made the request that Require has let in.
func CallerOf(ctx context.Context) (c Caller, ok bool) {
	c, ok = ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// maxWait is how long it may take to find out who a caller is.
const maxWait = 5 * time.Second

// Require returns a handler that lets in, to h, only signed requests with bodies of at most maxBody
// bytes. It answers others as the scheme's servers do: 401, 413, or 503 if that takes too long,
// with a JSON object that has an error. CallerOf tells h who has made a request.
func (v *Verifier) Require(maxBody int64, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), maxWait)
		defer cancel()
		var body []byte
		read := func() (_ []byte, err error) {
			body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
			return body, err
		}
		if r.ContentLength > maxBody {
			answer(w, http.StatusRequestEntityTooLarge, "Payload too large")
			return
		}
		c, err := v.Verify(ctx, &Request{r.Method, r.URL.EscapedPath(), r.Header, read})
		var refused *access.DeniedError
		var tooLong *http.MaxBytesError
		switch {
		case errors.As(err, &refused):
			answer(w, refused.Status, "Unauthorized")
			return
		case errors.As(err, &tooLong):
			answer(w, http.StatusRequestEntityTooLarge, "Payload too large")
			return
		case err != nil && ctx.Err() != nil:
			answer(w, http.StatusServiceUnavailable, "Unauthorized")
			return
		case err != nil:
			answer(w, http.StatusBadRequest, "The body could not be read")
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, what string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":%q}`, what)
}

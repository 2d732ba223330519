package collections

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/evm"
)

// Sharing says which pages of other origins may use a server, and how (Fetch standard, "CORS
// protocol"). Its fields are those of the published servers' corsMiddleware.
type Sharing struct {
	// Origins are those of the pages, such as https://app.example, or "*" for all; none shares
	// nothing.
	Origins     []string
	Credentials bool // such pages may send cookies; not with "*"
	// Methods are what they may do; none is GET, HEAD and POST, which is all that there is.
	Methods []string
	// Headers are what they may send besides what the clients of this server do.
	Headers []string
	// Expose are what they may read of an answer's headers, besides those that clients look at.
	Expose []string
	MaxAge time.Duration // for which browsers keep this; 0 is a day, less is not at all
}

// ownHeaders are those that clients of this server send: the published ones, and those that sign
// with a wallet.
func ownHeaders() []string {
	all := []string{
		"Authorization", "Content-Type", access.HeaderSignature, access.HeaderTime, access.HeaderNonce,
		access.HeaderPublic, "X-Requested-With", "Accept", "If-None-Match", "If-Range", "Range",
	}
	for _, f := range []evm.Family{evm.OctoBot, evm.Starfish} {
		for _, h := range f.Headers() {
			if !slices.Contains(all, h.Header) { // the nonce has one name in both ways of signing
				all = append(all, h.Header)
			}
		}
	}
	return all
}

// ownExposed are the headers of answers that clients look at and browsers would hide.
var ownExposed = []string{"ETag", "Retry-After", "Accept-Ranges", "Content-Range"}

const dayOfSharing = 24 * time.Hour

// Check rejects settings that browsers ignore, or that share more than they seem to. Errors name
// the flags of `skerry collections serve`.
func (s Sharing) Check() error {
	if slices.Contains(s.Origins, "*") && s.Credentials {
		return errors.New("--cors '*' cannot be combined with --cors-credentials; name the origins")
	}
	if slices.Contains(s.Origins, "null") && s.Credentials {
		return errors.New("--cors null cannot be combined with --cors-credentials: " +
			"any page can give itself that origin, in a sandboxed frame; name the origins")
	}
	for _, o := range s.Origins {
		u, err := url.Parse(o)
		if o == "*" || o == "null" || err == nil && u.Scheme != "" && u.Host != "" && originOf(u) == o {
			continue
		}
		if err == nil && u.Scheme != "" && u.Host != "" {
			return fmt.Errorf("--cors %s: browsers write that origin as %q", o, originOf(u))
		}
		return fmt.Errorf("--cors must be an origin such as https://app.example, or *, not %q", o)
	}
	for _, f := range []struct {
		flag, what string
		names      []string
	}{
		{"--cors-method", "method", s.Methods}, {"--cors-header", "header", s.Headers},
		{"--cors-expose", "header", s.Expose},
	} {
		for _, name := range f.names {
			if !httpguts.ValidHeaderFieldName(name) {
				return fmt.Errorf("%s must be the name of a %s, not %q", f.flag, f.what, name)
			}
			if name == "*" && s.Credentials {
				return fmt.Errorf("%s '*' cannot be combined with --cors-credentials; name each %s",
					f.flag, f.what)
			}
		}
	}
	return nil
}

// originOf returns an origin as browsers write it.
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch port := u.Port(); {
	case u.Scheme == "https" && port == "443", u.Scheme == "http" && port == "80":
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host
}

// with lets the pages use h.
func (s Sharing) with(h http.Handler) http.Handler {
	all := slices.Contains(s.Origins, "*")
	methods := s.Methods
	if len(methods) == 0 {
		methods = []string{http.MethodGet, http.MethodHead, http.MethodPost}
	}
	allowMethods := strings.Join(methods, ", ")
	allowHeaders := strings.Join(append(ownHeaders(), s.Headers...), ", ")
	expose := strings.Join(slices.Concat(ownExposed, s.Expose), ", ")
	maxAge := strconv.FormatInt(int64(max(cmp.Or(s.MaxAge, dayOfSharing), 0)/time.Second), 10)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := w.Header()
		origin := r.Header.Get("Origin")
		switch {
		case all:
			to.Set("Access-Control-Allow-Origin", "*")
		default:
			to.Add("Vary", "Origin")
			if !slices.Contains(s.Origins, origin) {
				origin = s.Origins[0] // which the asking page's is not, so that its browser refuses it
			}
			to.Set("Access-Control-Allow-Origin", origin)
		}
		if s.Credentials {
			to.Set("Access-Control-Allow-Credentials", "true")
		}
		if r.Method == http.MethodOptions {
			to.Set("Access-Control-Allow-Methods", allowMethods)
			to.Set("Access-Control-Allow-Headers", allowHeaders)
			to.Set("Access-Control-Max-Age", maxAge)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		to.Set("Access-Control-Expose-Headers", expose)
		h.ServeHTTP(w, r)
	})
}

package netaddr

import (
	"errors"
	"fmt"
	"net/http"
)

// ErrRedirect reports a redirect that leads to another server than the one that was asked.
var ErrRedirect = errors.New(
	"a request is not redirected to another server, who would get its headers and body; name the " +
		"URL that it leads to instead",
)

// maxRedirects is how many redirects of a request are followed.
const maxRedirects = 10

// SameServer is a CheckRedirect of http.Client for requests that carry what only the server asked
// may have, such as a key in a header or a signature: they are redirected to paths of that server
// only. net/http leaves out Authorization and cookies at another host, but no other header.
func SameServer(r *http.Request, via []*http.Request) error {
	if r.URL.Scheme != via[0].URL.Scheme || r.URL.Host != via[0].URL.Host {
		return fmt.Errorf("%w: from %s to %s", ErrRedirect, via[0].URL.Host, r.URL.Host)
	}
	if len(via) >= maxRedirects {
		return fmt.Errorf("%d redirects", len(via))
	}
	return nil
}

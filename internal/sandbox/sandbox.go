// Package sandbox tells browsers how to treat content that strangers have made: a page or drawing
// in it must not act as one of the address that it is served at.
//
// What belongs here: the headers of such answers, the same for all servers of the program. What
// never belongs here: which content there is, and who may read it.
package sandbox

import (
	"net/http"
	"slices"
	"strings"
)

// Embedding says which pages may show content, as an image or a script of theirs.
type Embedding string

// The values of Cross-Origin-Resource-Policy.
const (
	SameOrigin  Embedding = "same-origin" // those of this server
	SameSite    Embedding = "same-site"   // those of the same registered domain
	CrossOrigin Embedding = "cross-origin"
)

// Policy says how content is treated. The zero value is the strictest.
type Policy struct {
	Embedding Embedding // "" is SameOrigin
	// Active lets pages in the content run scripts, as ones of this server.
	Active bool
}

// Protect adds the headers for content of a media type.
func Protect(h http.Header, media string, p Policy) {
	h["X-Content-Type-Options"] = nosniff
	if p.Embedding == "" {
		p.Embedding = SameOrigin
	}
	h.Set("Cross-Origin-Resource-Policy", string(p.Embedding))
	if !p.Active && !inert(media) {
		h["Content-Security-Policy"] = boxed
	}
}

var nosniff, boxed = []string{"nosniff"}, []string{"sandbox"}

// inertTypes are media types besides images, sound and video that browsers do not run anything of.
// What is not known to be one is put into a sandbox.
var inertTypes = []string{
	"application/json", "application/octet-stream", "application/pdf", "application/zip",
	"application/gzip", "text/plain", "text/csv",
}

func inert(media string) bool {
	media, _, _ = strings.Cut(media, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	kind, sub, _ := strings.Cut(media, "/")
	switch kind {
	case "image", "audio", "video", "font":
		return !strings.Contains(sub, "xml") && !strings.Contains(sub, "svg") &&
			!strings.Contains(sub, "html")
	}
	return slices.Contains(inertTypes, media)
}

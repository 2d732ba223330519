package collections

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzhttp"
)

// Answers are compressed for those who take it. What is compressed is another representation: it
// has other bytes, so it must not have the same strong ETag (RFC 9110, 8.8.3), or whoever resumes a
// download puts bytes of one behind those of the other. It has a weak one, which If-None-Match
// takes for the same and If-Range never does.
//
// What is served in ranges is not compressed: its bytes are numbered, and the published client
// takes the ETag of a file for its hash.

// compressFrom is from how many bytes on answers are compressed.
const compressFrom = 1 << 10

// compressed returns a handler whose answers are those of h, compressed where it helps.
func compressed(h http.Handler) (http.Handler, error) {
	wrap, err := gzhttp.NewWrapper(
		gzhttp.MinSize(compressFrom), gzhttp.ContentTypes([]string{"application/json", "text/plain"}))
	if err != nil {
		return nil, err
	}
	compress := wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&rangeWriter{w}, r)
	}))
	vary := []string{"Accept-Encoding"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, asked := r.Header["Accept-Encoding"]; asked {
			tagged := &tagWriter{ResponseWriter: w, r: r}
			defer tagged.end()
			compress.ServeHTTP(tagged, r.WithContext(context.WithValue(r.Context(), sending{}, tagged)))
			tagged.send()
			return
		}
		if to := w.Header(); to["Vary"] == nil {
			to["Vary"] = vary
		} else {
			to.Add("Vary", vary[0])
		}
		h.ServeHTTP(w, r)
	}), nil
}

// rangeWriter has what is served in ranges left as it is.
type rangeWriter struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *rangeWriter) WriteHeader(status int) {
	w.mark()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *rangeWriter) Write(b []byte) (int, error) {
	w.mark()
	return w.ResponseWriter.Write(b)
}

func (w *rangeWriter) mark() {
	if to := w.Header(); to["Accept-Ranges"] != nil {
		to.Set(gzhttp.HeaderNoCompression, "ranges") // which goes no further
	}
}

// Unwrap is for http.ResponseController.
func (w *rangeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// tagWriter makes the ETag of what is compressed weak, and that of a 304 to whoever has that.
//
// It keeps what is compressed until all of it is. A compressor takes about a megabyte, also for a
// short answer, which must not be held for as long as a caller takes to read: one address may have
// thousands of requests under way by HTTP/2.
type tagWriter struct {
	http.ResponseWriter
	r          *http.Request
	wrote      bool
	compressed []byte
	sent       []func() // what is called when all has been sent
}

// sending is the key of a context for the *tagWriter that an answer goes through.
type sending struct{}

// afterSending calls fn when the answer of a request has been sent: now, unless it is kept until it
// is compressed.
func afterSending(r *http.Request, fn func()) {
	if w, ok := r.Context().Value(sending{}).(*tagWriter); ok {
		w.sent = append(w.sent, fn)
		return
	}
	fn()
}

func (w *tagWriter) end() {
	for _, fn := range w.sent {
		fn()
	}
}

// send sends what is kept.
func (w *tagWriter) send() {
	if len(w.compressed) > 0 {
		_, _ = w.ResponseWriter.Write(w.compressed) // whoever has gone misses nothing
	}
}

// Write implements http.ResponseWriter.
func (w *tagWriter) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	if w.Header().Get("Content-Encoding") != "" {
		w.compressed = append(w.compressed, b...)
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// WriteHeader implements http.ResponseWriter.
func (w *tagWriter) WriteHeader(status int) {
	w.wrote = status >= http.StatusOK
	to := w.Header()
	tag := to.Get("ETag")
	weak := to.Get("Content-Encoding") != "" || status == http.StatusNotModified && w.hasOnlyWeak(tag)
	if weak && strings.HasPrefix(tag, `"`) {
		to.Set("ETag", "W/"+tag)
	}
	w.ResponseWriter.WriteHeader(status)
}

// hasOnlyWeak reports whether the caller says that it has what has a tag in its weak form alone.
func (w *tagWriter) hasOnlyWeak(tag string) bool {
	var have []string
	for _, list := range w.r.Header.Values("If-None-Match") {
		for t := range strings.SplitSeq(list, ",") {
			have = append(have, strings.TrimSpace(t))
		}
	}
	return slices.Contains(have, "W/"+tag) && !slices.Contains(have, tag)
}

// Unwrap is for http.ResponseController.
func (w *tagWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

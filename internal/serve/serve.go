// Package serve answers HTTP requests with content of a known size, where net/http departs from
// RFC 9110.
//
// What belongs here: conditions and ranges of a request. What never belongs here: what the content
// is, who may read it, and headers that say so.
package serve

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Content is http.ServeContent for content without a time and a name: the caller has set ETag and
// Content-Type. A range of the last 0 bytes cannot be satisfied (RFC 9110, 14.1.2): with no other
// range, it is answered with 416.
func Content(w http.ResponseWriter, r *http.Request, content io.ReadSeeker) error {
	if set := r.Header.Get("Range"); strings.Contains(set, "-0") {
		size, err := content.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		r = r.Clone(r.Context())
		r.Header.Set("Range", satisfiable(set, size))
	}
	http.ServeContent(w, r, "", time.Time{}, content)
	return nil
}

// satisfiable returns a set of byte ranges without those of the last 0 bytes. If nothing is left,
// it is one that begins behind the content.
func satisfiable(set string, size int64) string {
	unit, list, ok := strings.Cut(set, "=")
	if !ok {
		return set
	}
	var left []string
	for spec := range strings.SplitSeq(list, ",") {
		if last, ok := strings.CutPrefix(strings.TrimSpace(spec), "-"); ok && last != "" &&
			strings.Trim(last, "0") == "" {
			continue
		}
		left = append(left, spec)
	}
	if len(left) == 0 {
		return fmt.Sprintf("%s=%d-", unit, size)
	}
	return unit + "=" + strings.Join(left, ",")
}

package client

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/value"
)

// Reader reads a log of a Skerry server, and misses nothing: who goes by the time of the last
// element misses those that another node's writers added before it and that come after it. It is
// used by one goroutine at a time.
type Reader struct {
	Client *Client
	Path   string // storage path
	Field  string // that holds the log, "" is the usual one
	// Cursor says what was read; it is kept up to date. A program that ends and begins again brings it
	// along, and may get some elements again. "" is nothing yet.
	Cursor string
	// More says that there is more than News has returned, for the next call.
	More bool

	// seen are digests of the last elements, and before those of as many that came before them.
	seen, before map[[16]byte]struct{}
}

// maxSeen is of how many elements it is known at least that they have come. Servers say those again
// that are later than one which has come late: of a log of several nodes, after a partition.
const maxSeen = 1 << 16

// A server can say for ever that there is more. So one call takes no more answers after these have
// so many bytes together, or after so many in a row that have no new element.
const (
	maxNews  = 128 << 20
	maxEmpty = 1000
)

// News returns what has come since the last time, in the order of times; of much, the next call
// returns the rest. Each element comes once, unless another that is older than the last maxSeen
// comes late; then later ones may come again.
func (r *Reader) News(ctx context.Context) (all []Element, err error) {
	field := r.Field
	if field == "" {
		field = config.DefaultField
	}
	taken, empty, more := 0, 0, true
	for r.More = false; more && taken < maxNews; {
		q := url.Values{"cursor": {r.Cursor}}
		o, size, err := r.Client.sized(
			ctx, &request{method: http.MethodGet, path: "/pull/" + r.Path, query: q.Encode()},
		)
		if err != nil && len(all) > 0 {
			return all, nil // the next call meets the error; what has come would be lost beside it
		}
		if err != nil {
			return all, fmt.Errorf("read log %s: %w", r.Path, err)
		}
		next, ok := o.String("cursor")
		if !ok {
			return all, fmt.Errorf("read log %s: the server knows no cursors", r.Path)
		}
		had := len(all)
		for _, e := range elementsIn(o, field) {
			if r.isNew(&e) {
				all = append(all, e)
			}
		}
		taken += size
		if empty++; len(all) > had {
			empty = 0
		}
		v, _ := o.Get("more")
		more, _ = v.(bool)
		if more && (next == r.Cursor || empty >= maxEmpty) {
			return all, fmt.Errorf("read log %s: the server's cursor does not go on", r.Path)
		}
		r.Cursor = next
	}
	r.More = more
	return all, nil
}

// isNew reports whether an element was not seen before.
func (r *Reader) isNew(e *Element) bool {
	author := Author{}
	if e.Author != nil {
		author = *e.Author
	}
	var data any
	if e.Data != nil {
		data = e.Data
	}
	sum := sha256.Sum256(
		value.Append(nil, value.Array{float64(e.Time), data, author.Key, author.Signature}),
	)
	id := [16]byte(sum[:16])
	if _, is := r.seen[id]; is {
		return false
	}
	if r.seen == nil || len(r.seen) >= maxSeen {
		r.seen, r.before = map[[16]byte]struct{}{}, r.seen
	}
	r.seen[id] = struct{}{}
	_, is := r.before[id]
	return !is
}

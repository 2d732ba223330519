package collections

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// maxNews is how many elements an answer to a cursor has at most, unless the collection says
// otherwise.
const maxNews = 1000

// newsBounds are how much is asked for with a cursor.
func (x *exchange) newsBounds(q url.Values, now int64) (after int64, limit int, err error) {
	if q.Has("checkpoint") || q.Has("last") || q.Has("full") {
		return 0, 0, refuse(http.StatusBadRequest, "cursor_with_bounds")
	}
	after = -1
	n, err := number(q, "limit", "Invalid limit")
	if err != nil {
		return 0, 0, err
	}
	a := x.route.col.AppendOnly
	most := int64(maxNews)
	if a.MaxPullLimit > 0 {
		most = a.MaxPullLimit
	}
	if n != nil && *n == 0 {
		return 0, 0, refuse(http.StatusBadRequest, "Invalid limit")
	}
	if n != nil && *n < most {
		most = *n
	}
	if a.MaxCheckpointAgeMS > 0 { // what is older is not given by way of a cursor, either
		after = max(after, now-a.MaxCheckpointAgeMS-1)
	}
	return after, int(most), nil
}

// pullNews answers with the elements of a log that a reader has not got who has a cursor.
func (x *exchange) pullNews(ctx context.Context, q url.Values, now int64) error {
	key := x.object.Key
	after, limit, err := x.newsBounds(q, now)
	if err != nil {
		return err
	}
	col := x.object.Collection
	if ttl := col.TTLMS; ttl != nil && *ttl > 0 {
		after = max(after, now-*ttl-1)
	}
	field := col.AppendOnly.Field
	n, err := x.s.opts.Documents.Since(ctx, key, q.Get("cursor"), after, limit, document.Log{
		Field: field, Before: x.takeTurn, Skipped: x.skipped})
	switch {
	case errors.Is(err, store.ErrCursor):
		return refuse(http.StatusBadRequest, "Invalid cursor")
	case errors.Is(err, document.ErrCorrupt):
		x.s.opts.Log.Error("a stored log cannot be read", "key", key, "error", err)
		n, err = document.News{Rest: &value.Object{}, Next: q.Get("cursor")}, nil
	}
	if err != nil {
		return err
	}
	if expired(col, n.Time, now) {
		n.Rest = &value.Object{}
	}
	data := n.Rest.Clone()
	if n.Elements == nil {
		n.Elements = value.Array{}
	}
	data.Set(field, n.Elements)
	x.w.Header().Set("Cache-Control", "no-store")
	return x.answer(value.Append(nil, withUndecided(value.NewObject(
		value.Member{Key: "data", Value: hideInLog(col, data, x.who)},
		value.Member{Key: "cursor", Value: n.Next},
		value.Member{Key: "more", Value: n.More},
		value.Member{Key: "timestamp", Value: float64(now)},
	), n.Undecided)))
}

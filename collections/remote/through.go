package remote

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/value"
)

func (m *Manager) beforePush(
	ctx context.Context, e *collections.Event, body []byte,
) (*collections.Answer, error) {
	r := m.of(e.Collection)
	if r == nil {
		return nil, nil
	}
	switch r.Mode {
	case config.PullOnly:
		return nil, &collections.RefusedError{
			Status: http.StatusMethodNotAllowed, Reason: "This collection is read-only on this server",
		}
	case config.PushThrough:
		answer, err := m.through(ctx, r, e, body)
		if err == nil && answer.Status == http.StatusBadGateway && ctx.Err() != nil {
			return nil, ctx.Err() // the caller's time is over
		}
		return answer, err
	}
	return nil, nil
}

// sameTarget reports whether a path that was signed here is the one that the other server sees,
// too.
func (r *remote) sameTarget(target string) bool {
	u, err := url.Parse(r.client.Base + r.PushPath)
	return err == nil && u.EscapedPath() == target
}

func failure(status int, reason string) *collections.Answer {
	return &collections.Answer{
		Status: status, Body: value.NewObject(value.Member{Key: "error", Value: reason}),
	}
}

// through hands a push to the other server: as the caller's own, if its signature is good there,
// too. Otherwise it is this server's, which may have more roles there than the caller has here:
// then no field changes that the caller may not write.
func (m *Manager) through(
	ctx context.Context, r *remote, e *collections.Event, body []byte,
) (*collections.Answer, error) {
	own := e.Proof != nil && evm.Presents(e.Proof.Header) && r.sameTarget(e.Proof.Target)
	switch {
	case own:
		c := *r.client
		c.HTTP, c.Credentials = m.direct, nil
		// The headers of the configuration may have keys, which do not go with what is the caller's:
		// nobody has looked which fields that may write.
		c.Header = http.Header{"Accept": {config.JSON}}
		maps.Copy(c.Header, e.Proof.Header)
		return m.send(ctx, r, &c, body), nil
	case !r.presents(), e.Fields.All() && !r.signs():
		return m.send(ctx, r, r.client, body), nil
	}
	p, refused, err := parsePush(ctx, body)
	if refused != nil || err != nil {
		return refused, err
	}
	if e.Fields.All() {
		p.body.Set("data", p.data)
		r.sign(p.body, p.data, false)
		return m.send(ctx, r, r.client, value.Append(nil, p.body)), nil
	}
	return m.fill(ctx, r, e.Fields, p)
}

// presents reports whether the other server may take requests for those of somebody with roles.
func (r *remote) presents() bool { return r.signs() || len(r.Headers) > 0 }

// signs reports whether requests to the other server are signed by somebody, which then is whose
// all is that is pushed there.
func (r *remote) signs() bool { return r.client.Credentials != nil || r.wallet != nil }

// sign makes the author that the body of a push names one that the other server takes, of data: it
// refuses the proof of anybody but who has signed the request. changed says that data is not what
// the caller has signed.
func (r *remote) sign(body, data *value.Object, changed bool) {
	foreign := r.wallet != nil || changed
	if !foreign && r.client.Credentials != nil {
		author, _ := body.String("authorPubkey")
		foreign = author != r.client.Credentials().Key.Public
	}
	if foreign {
		body.Delete("authorPubkey")
		body.Delete("authorSignature")
	}
	if r.wallet != nil {
		body.Set("authorSignature", evm.SignData(*r.wallet, data))
	}
}

// parsed is the body of a push, and its data, which is what the other server would store.
type parsed struct{ body, data *value.Object }

// parsePush reads the body of a push. It returns an answer to one that is none.
func parsePush(ctx context.Context, text []byte) (p parsed, _ *collections.Answer, err error) {
	v, err := value.ParseWithin(ctx, text, value.MaxDepth)
	if ctx.Err() != nil {
		return p, nil, ctx.Err()
	}
	o, ok := v.(*value.Object)
	if err != nil || !ok {
		return p, failure(http.StatusBadRequest, "Body must be a JSON object"), nil
	}
	v, _ = o.Get("data")
	data, ok := v.(*value.Object)
	if !ok {
		return p, failure(http.StatusBadRequest, "Missing or invalid data"), nil
	}
	return parsed{o.Clone(), value.Sanitize(data)}, nil, nil
}

// fill hands on a push of a caller who may not write or not see some fields: with these as the
// other server has them, and with the hashes of what the caller sees.
func (m *Manager) fill(
	ctx context.Context, r *remote, f collections.Fields, p parsed,
) (*collections.Answer, error) {
	if err := f.Refuses(p.data); err != nil {
		return nil, err
	}
	theirs, err := r.pull(ctx)
	if err != nil {
		return m.failed(r, err), nil
	}
	var was *value.Object
	if theirs.hash != "" {
		was = theirs.data
	}
	v, _ := p.body.Get("baseHash")
	base, isText := v.(string)
	switch {
	case v != nil && !isText:
		return failure(http.StatusBadRequest, "baseHash must be a string or null"), nil
	case v == nil && was != nil, isText && base != seenAs(f, was, theirs.hash):
		return failure(http.StatusConflict, "hash_mismatch"), nil
	}
	stored := f.Over(was, p.data)
	p.body.Set("data", stored)
	if was != nil {
		p.body.Set("baseHash", theirs.hash)
	}
	r.sign(p.body, stored, stored != p.data)
	answer := m.send(ctx, r, r.client, value.Append(nil, p.body))
	if told, ok := answer.Body.(*value.Object); ok && answer.Status == http.StatusOK {
		hash, _ := told.String("hash")
		told.Set("hash", seenAs(f, stored, hash))
	}
	return answer, nil
}

// seenAs returns the hash by which a caller knows data that has a hash; nil is nothing.
func seenAs(f collections.Fields, data *value.Object, hash string) string {
	if data == nil {
		return ""
	}
	if shown := f.Shown(data); shown != data {
		return value.Hash(shown)
	}
	return hash
}

// maxTold is how many bytes of an answer to a push are read, which has a hash and a time: it is
// parsed for each push, and waits in memory until the caller has read it.
const maxTold = 64 << 10

// send hands the body of a push to the other server.
func (m *Manager) send(
	ctx context.Context, r *remote, c *client.Client, body []byte,
) *collections.Answer {
	short := *c
	short.MaxAnswer = min(c.MaxAnswer, maxTold)
	answer, err := short.Send(ctx, http.MethodPost, r.PushPath, body, config.JSON)
	if err != nil {
		return m.failed(r, err)
	}
	o, err := value.ParseObject(answer, value.MaxDepth)
	if _, ok := o.String("hash"); err != nil || !ok {
		return failure(http.StatusBadGateway, "Primary returned an unexpected response")
	}
	r.ask()
	return &collections.Answer{Status: http.StatusOK, Body: o}
}

// failed is what a caller is told whose push the other server has not taken.
func (m *Manager) failed(r *remote, err error) *collections.Answer {
	var status *client.StatusError
	switch {
	case errors.As(err, &status) && status.Status == http.StatusConflict:
		return failure(http.StatusConflict, "hash_mismatch")
	case errors.As(err, &status):
		told := status.Status
		if told < http.StatusBadRequest { // it is no refusal, and may change what a connection is
			told = http.StatusBadGateway
		}
		return failure(told, fmt.Sprintf("Primary returned %d", status.Status))
	}
	m.log.Warn(
		"a push did not reach the other server", "collection", r.Collection.Name, "url", r.URL, "error",
		err,
	)
	return failure(http.StatusBadGateway, "Failed to reach primary")
}

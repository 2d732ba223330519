// Package client uses servers of collections, Skerry's and any other that speaks the Starfish v3
// wire.
//
// What belongs here: requests and their signatures, retries, the loop that merges conflicts, and
// keyrings at a server. What never belongs here: the forms of certificates, keyrings and pairing
// messages, which have packages of their own.
//
// Start at Client and Sync.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/netaddr"
)

// ErrConflict reports that somebody else has written since the version that a push is based on.
var ErrConflict = errors.New("the document has changed meanwhile")

// StatusError is an answer that is not the one that was asked for.
type StatusError struct {
	Status int    // of HTTP
	Reason string // what the server says
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the server answers %d: %s", e.Status, e.Reason)
}

// Credentials are what a client presents itself with.
type Credentials struct {
	Cert *capcert.Cert
	Key  capcert.Key // of the certificate's subject; with an audience certificate anybody's
}

// Client uses the collections of a server. Its methods may be called by several goroutines at once.
type Client struct {
	Base        string             // URL that paths follow, such as https://sync.example/v1
	Namespace   string             // "" is none
	Credentials func() Credentials // nil presents nothing; it is called for each request
	Header      http.Header        // that each request has, too
	// SignAuthor, unless nil, returns the signature of the author that all written data must bear, of
	// callers who sign otherwise than with a certificate's key.
	SignAuthor func(data *value.Object) string
	// HTTP is http.DefaultClient if nil. Redirects stay at the server, unless its CheckRedirect says
	// otherwise.
	HTTP *http.Client
	// MaxAnswer is how long an answer may be in bytes, after decompression; 0 is 1 GiB for a file and
	// 64 MiB for all else. Of JSON, which takes up to 30 times the memory, it may have a value in 16
	// bytes, and 1,048,576 in any case.
	MaxAnswer int64
	// of requests that the network or the server has failed; 0 is 3, less than 0 none
	Retries int
	Backoff time.Duration    // before the first, each later one waits twice as long; 0 is 500 ms
	Now     func() time.Time // nil is time.Now
}

const (
	maxAnswer  = 1 << 30  // see Client.MaxAnswer
	maxJSON    = 64 << 20 // likewise
	valueBytes = 16       // likewise
	maxReason  = 64 << 10 // bytes of an answer that is not the one that was asked for
	maxBackoff = 10 * time.Second
)

// ErrTooLong reports an answer that is longer than Client.MaxAnswer, or of more values.
var ErrTooLong = errors.New("the server's answer is too long")

// request is one that may be sent several times.
type request struct {
	method, path, query string
	body                []byte
	media               string
	file                bool // is asked for
}

// most is how many bytes an answer may have.
func (c *Client) most(r *request) int64 {
	if r.file {
		return cmp.Or(c.MaxAnswer, maxAnswer)
	}
	return cmp.Or(c.MaxAnswer, maxJSON)
}

// target returns the path and query of a request, below the base.
func (c *Client) target(r *request) string {
	path := r.path
	if c.Namespace != "" {
		path = "/" + c.Namespace + path
	}
	if r.query != "" {
		path += "?" + r.query
	}
	return path
}

// send sends a request until it is answered. It returns a *StatusError for any status but 200.
func (c *Client) send(
	ctx context.Context, r *request,
) (body []byte, header http.Header, err error) {
	retries, wait := c.Retries, c.Backoff
	if retries == 0 {
		retries = 3
	}
	if wait == 0 {
		wait = 500 * time.Millisecond
	}
	for attempt := 0; ; attempt++ {
		var after time.Duration
		body, header, after, err = c.once(ctx, r)
		var status *StatusError
		final := err == nil || ctx.Err() != nil || errors.Is(err, ErrTooLong) ||
			errors.As(err, &status) && status.Status != http.StatusTooManyRequests && status.Status < 500
		if final || attempt >= retries {
			return body, header, err
		}
		if after == 0 {
			after = min(wait<<attempt, maxBackoff) + mathrand.N(wait/4+1)
		}
		select {
		case <-time.After(min(after, maxBackoff)):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// once sends a request. after is how long the server asks to wait, if it does.
func (c *Client) once(
	ctx context.Context, r *request,
) (body []byte, header http.Header, after time.Duration, err error) {
	target := c.target(r)
	req, err := http.NewRequestWithContext(
		ctx, r.method, strings.TrimSuffix(c.Base, "/")+target, bytes.NewReader(r.body),
	)
	if err != nil {
		return nil, nil, 0, err
	}
	for key, all := range c.Header {
		req.Header[http.CanonicalHeaderKey(key)] = all
	}
	if r.media != "" {
		req.Header.Set("Content-Type", r.media)
	}
	c.sign(req, r)
	hc := c.HTTP
	if hc == nil {
		hc = http.DefaultClient
	}
	if hc.CheckRedirect == nil {
		near := *hc
		near.CheckRedirect = netaddr.SameServer
		hc = &near
	}
	resp, err := hc.Do(req)
	if err != nil {
		return nil, nil, 0, err
	}
	most := c.most(r)
	if resp.StatusCode != http.StatusOK {
		most = min(most, maxReason)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, most+1))
	if int64(len(body)) > most {
		body = body[:most]
		if resp.StatusCode == http.StatusOK {
			err = fmt.Errorf("%w: more than %d bytes", ErrTooLong, most)
		}
	}
	err = errors.Join(err, resp.Body.Close())
	if err == nil && resp.StatusCode != http.StatusOK {
		if n, bad := strconv.Atoi(resp.Header.Get("Retry-After")); bad == nil && n > 0 {
			after = time.Duration(n) * time.Second
		}
		err = &StatusError{resp.StatusCode, reasonOf(body)}
	}
	return body, resp.Header, after, err
}

// Send sends a request for a path below the base, with a body unless that is nil, and returns the
// body of the answer. It returns a *StatusError for any status but 200.
func (c *Client) Send(
	ctx context.Context, method, path string, body []byte, media string,
) ([]byte, error) {
	answer, _, err := c.send(ctx, &request{method: method, path: path, body: body, media: media})
	return answer, err
}

// reasonOf returns what an answer says is wrong.
func reasonOf(body []byte) string {
	if o, err := value.ParseObject(body, value.MaxDepth); err == nil {
		if s, ok := o.String("error"); ok {
			return s
		}
	}
	return fmt.Sprintf("%.200s", body)
}

// sign adds the headers that present the client. What is signed is the path as the server receives
// it.
func (c *Client) sign(req *http.Request, r *request) {
	if c.Credentials == nil {
		return
	}
	who := c.Credentials()
	nonce := make([]byte, capcert.NonceSize)
	_, _ = rand.Read(nonce) // never fails
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	signed := capcert.Request{
		Method: r.method, PathAndQuery: req.URL.RequestURI(), Body: r.body, Host: hostOf(req.URL),
	}
	if r.media != "" && r.media != config.JSON {
		signed.Body = nil
	}
	s := signed.Sign(who.Key, now().UnixMilli(), nonce)
	req.Header.Set("Authorization", who.Cert.Authorization())
	req.Header.Set(access.HeaderSignature, s.Signature)
	req.Header.Set(access.HeaderTime, strconv.FormatInt(s.Time, 10))
	req.Header.Set(access.HeaderNonce, s.Nonce)
	if who.Cert.Kind == capcert.Audience {
		req.Header.Set(access.HeaderPublic, who.Key.Public)
	}
}

// hostOf returns the host of a URL as browsers write it: without the port if that is the usual one.
func hostOf(u *url.URL) string {
	usual := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	return strings.TrimSuffix(strings.ToLower(u.Host), usual)
}

// json sends a request that is answered by a JSON object.
func (c *Client) json(ctx context.Context, r *request) (*value.Object, error) {
	o, _, err := c.sized(ctx, r)
	return o, err
}

// sized does the same, and returns how many bytes the object has.
func (c *Client) sized(ctx context.Context, r *request) (*value.Object, int, error) {
	body, _, err := c.send(ctx, r)
	if err != nil {
		return nil, 0, err
	}
	values := max(value.MaxValues, c.most(r)/valueBytes)
	o, err := value.ParseObjectOf(int(values), body, value.MaxDepth+4)
	if errors.Is(err, value.ErrTooMany) {
		err = fmt.Errorf("%w: %w", ErrTooLong, err)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("the server's answer: %w", err)
	}
	return o, len(body), nil
}

// Author is the proof of who has written something.
type Author struct{ Key, Signature string }

// Document is a document as a server has it.
type Document struct {
	Data   *value.Object // without members if there is none
	Hash   string        // "" if there is none
	Time   int64         // of the answer, in Unix milliseconds
	Author *Author
}

// Verify reports whether the document, pulled from a storage path, bears the proof of an author,
// whose public key or address it must be unless that is "".
func (d *Document) Verify(path, key string) bool {
	return d.Author != nil && d.Author.verify(capcert.DocumentDomain, path, key, d.Data)
}

// verify reports whether the proof is of an author of data, by public key or address; key is whose
// it must be, unless it is "".
func (a *Author) verify(domain, path, key string, data *value.Object) bool {
	if address, err := eth.ParseAddress(a.Key); err == nil {
		if want, err := eth.ParseAddress(key); key != "" && (err != nil || want != address) {
			return false
		}
		return evm.VerifyData(address, data, a.Signature) == nil
	}
	return (key == "" || a.Key == key) && capcert.VerifyAuthor(domain, path, data, a.Key, a.Signature)
}

func time64(o *value.Object, key string) int64 {
	v, _ := o.Get(key)
	f, _ := v.(float64)
	if math.Abs(f) > 1<<53 {
		return 0
	}
	return int64(f)
}

func authorOf(o *value.Object) *Author {
	key, ok := o.String("authorPubkey")
	sig, signed := o.String("authorSignature")
	if !ok || !signed {
		return nil
	}
	return &Author{key, sig}
}

// Pull returns the document at a storage path. One that is stored without a hash is as if there
// were none: what a server says of it is not to be told from what it says of nothing.
func (c *Client) Pull(ctx context.Context, path string) (*Document, error) {
	o, err := c.json(ctx, &request{method: http.MethodGet, path: "/pull/" + path})
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", path, err)
	}
	d := &Document{Time: time64(o, "timestamp"), Author: authorOf(o)}
	v, _ := o.Get("data")
	d.Data, _ = v.(*value.Object)
	if d.Hash, _ = o.String("hash"); d.Hash == "" {
		// There is nothing, whatever a server says of it: nobody looks for proofs of that, or opens it.
		d.Data, d.Author = &value.Object{}, nil
	} else if d.Data == nil {
		return nil, fmt.Errorf("pull %s: the server's answer has a hash and no data", path)
	}
	return d, nil
}

// Written tells of a write.
type Written struct {
	Hash string
	Time int64 // Unix milliseconds
}

// Push stores data at a storage path if base is the hash of what is there, "" if there must be
// nothing. sign adds the client's proof. It returns an error that is ErrConflict.
func (c *Client) Push(
	ctx context.Context, path string, data *value.Object, base string, sign bool,
) (Written, error) {
	body := value.NewObject(
		value.Member{Key: "data", Value: data}, value.Member{Key: "baseHash", Value: nil},
	)
	if base != "" {
		body.Set("baseHash", base)
	}
	if sign || c.SignAuthor != nil {
		c.prove(body, capcert.DocumentDomain, path, data)
	}
	w, err := c.write(ctx, path, body)
	var status *StatusError
	if errors.As(err, &status) && status.Status == http.StatusConflict {
		err = ErrConflict
	}
	if err != nil {
		return w, fmt.Errorf("push %s: %w", path, err)
	}
	return w, nil
}

// prove adds to a body the proof that the client has written data.
func (c *Client) prove(body *value.Object, domain, path string, data *value.Object) {
	switch {
	case c.SignAuthor != nil:
		body.Set("authorSignature", c.SignAuthor(data))
		return
	case c.Credentials == nil:
		return
	}
	key := c.Credentials().Key
	body.Set("authorPubkey", key.Public)
	body.Set("authorSignature", capcert.SignAuthor(domain, path, data, key))
}

func (c *Client) write(
	ctx context.Context, path string, body *value.Object,
) (w Written, err error) {
	o, err := c.json(
		ctx,
		&request{
			method: http.MethodPost, path: "/push/" + path, body: value.Append(nil, body),
			media: config.JSON,
		},
	)
	if err != nil {
		return w, err
	}
	w.Hash, _ = o.String("hash")
	w.Time = time64(o, "timestamp")
	return w, nil
}

// Append adds data to the log at a storage path, with the client's proof. at is its time in Unix
// milliseconds; 0 leaves it to the server. A request whose answer was lost is not sent again by
// itself, as the element may have been appended.
func (c *Client) Append(
	ctx context.Context, path string, data *value.Object, at int64,
) (Written, error) {
	body := value.NewObject(value.Member{Key: "data", Value: data})
	if at > 0 {
		body.Set("ts", float64(at))
	}
	c.prove(body, capcert.AppendDomain, path, data)
	careful := *c
	if at == 0 {
		careful.Retries = -1
	}
	w, err := careful.write(ctx, path, body)
	if err != nil {
		return w, fmt.Errorf("append to %s: %w", path, err)
	}
	return w, nil
}

// Element is an element of a log.
type Element struct {
	Time   int64 // Unix milliseconds
	Data   *value.Object
	Author *Author
}

// Verify reports whether the element, pulled from the log at a storage path, bears the proof of an
// author, whose public key it must be unless that is "".
func (e *Element) Verify(path, key string) bool {
	return e.Author != nil && e.Author.verify(capcert.AppendDomain, path, key, e.Data)
}

// Part says which part of a log is wanted: the elements after a time in Unix milliseconds, or all
// if that is 0; no more than the last so many, unless that is 0.
type Part struct{ After, Last int64 }

// PullLog returns a part of the log at a storage path. field is the member of the data that holds
// it, "" the usual one.
func (c *Client) PullLog(ctx context.Context, path, field string, p Part) ([]Element, error) {
	if field == "" {
		field = config.DefaultField
	}
	q := url.Values{}
	if p.After > 0 || p.Last == 0 {
		q.Set("checkpoint", strconv.FormatInt(p.After, 10))
	}
	if p.Last > 0 {
		q.Set("last", strconv.FormatInt(p.Last, 10))
	}
	o, err := c.json(ctx, &request{method: http.MethodGet, path: "/pull/" + path, query: q.Encode()})
	if err != nil {
		return nil, fmt.Errorf("pull log %s: %w", path, err)
	}
	return elementsIn(o, field), nil
}

// elementsIn returns the elements of a log in an answer.
func elementsIn(o *value.Object, field string) (all []Element) {
	v, _ := o.Get("data")
	data, _ := v.(*value.Object)
	v, _ = data.Get(field)
	list, _ := v.(value.Array)
	for _, v := range list {
		x, _ := v.(*value.Object)
		d, _ := x.Get("data")
		e := Element{Time: time64(x, "ts"), Author: authorOf(x)}
		e.Data, _ = d.(*value.Object)
		all = append(all, e)
	}
	return all
}

// List returns a page of what the last parameter of a collection's paths may be, under a path,
// after an item ("" is from the first), and whether there is more. limit 0 is the server's own.
func (c *Client) List(
	ctx context.Context, path, after string, limit int,
) (items []string, more bool, err error) {
	q := url.Values{}
	if after != "" {
		q.Set("after", after)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	body, _, err := c.send(
		ctx, &request{method: http.MethodGet, path: "/list/" + path, query: q.Encode()},
	)
	var page struct {
		Items   []string
		HasMore bool
	}
	if err == nil {
		err = json.Unmarshal(body, &page)
	}
	if err != nil {
		return nil, false, fmt.Errorf("list %s: %w", path, err)
	}
	return page.Items, page.HasMore, nil
}

// File is a file as a server has it.
type File struct {
	Bytes []byte
	Type  string // media type
	Hash  string // SHA-256, hex
}

// PullFile returns the file at a storage path.
func (c *Client) PullFile(ctx context.Context, path string) (*File, error) {
	body, h, err := c.send(ctx, &request{method: http.MethodGet, path: "/pull/" + path, file: true})
	if err != nil {
		return nil, fmt.Errorf("pull file %s: %w", path, err)
	}
	tag := strings.TrimPrefix(h.Get("ETag"), "W/") // as of proxies that compress
	return &File{body, h.Get("Content-Type"), strings.Trim(tag, `"`)}, nil
}

// PushFile stores a file of a media type at a storage path, and returns its hash.
func (c *Client) PushFile(
	ctx context.Context, path string, b []byte, media string,
) (hash string, err error) {
	o, err := c.json(
		ctx, &request{method: http.MethodPost, path: "/push/" + path, body: b, media: media},
	)
	if err != nil {
		return "", fmt.Errorf("push file %s: %w", path, err)
	}
	hash, _ = o.String("hash")
	return hash, nil
}

// Revoke brings a server a list of revocations. Servers other than Skerry's may have no way to take
// one.
func (c *Client) Revoke(ctx context.Context, l *capcert.Revocations) error {
	outside := *c
	outside.Credentials, outside.Namespace = nil, ""
	_, err := outside.json(
		ctx,
		&request{
			method: http.MethodPost, path: "/revocations", body: value.Append(nil, l.Object()),
			media: config.JSON,
		},
	)
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	return nil
}

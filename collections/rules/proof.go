package rules

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// proofMember is the member of a document, or of an element of a log, that holds the proof.
const proofMember = "proof"

// errProof reports a proof that is malformed.
var errProof = errors.New("the proof is malformed")

// proofObject returns a proof as JSON. data is the text of what has been written, which most bodies
// hold as it is, so that it need not be kept twice; nil of a file, whose body is the file.
func proofObject(p *store.Proof, data []byte) *value.Object {
	o := value.NewObject(value.Member{Key: "target", Value: p.Target})
	if p.Host != "" {
		o.Set("host", p.Host)
	}
	if p.Media != "" {
		o.Set("media", p.Media)
	}
	headers := &value.Object{}
	names := make([]string, 0, len(p.Header))
	for name := range p.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		headers.Set(name, p.Header.Get(name))
	}
	o.Set("headers", headers)
	if data == nil {
		return o
	}
	i := bytes.Index(p.Body, data)
	switch {
	case !utf8.Valid(p.Body):
		o.Set("body64", base64.StdEncoding.EncodeToString(p.Body))
	case i >= 0:
		o.Set("before", string(p.Body[:i]))
		o.Set("after", string(p.Body[i+len(data):]))
	default:
		o.Set("body", string(p.Body))
	}
	return o
}

// parseProof reads a proof. data is as of proofObject, or the file.
func parseProof(o *value.Object, data []byte, isFile bool) (*store.Proof, error) {
	p := &store.Proof{Method: http.MethodPost, Header: http.Header{}, Body: data}
	p.Target, _ = o.String("target")
	p.Host, _ = o.String("host")
	p.Media, _ = o.String("media")
	v, _ := o.Get("headers")
	headers, ok := v.(*value.Object)
	if !ok || p.Target == "" {
		return nil, errProof
	}
	for name, v := range headers.All() {
		s, ok := v.(string)
		if !ok || name != http.CanonicalHeaderKey(name) || strings.ContainsAny(s, "\r\n\x00") {
			return nil, errProof
		}
		p.Header.Set(name, s)
	}
	if isFile {
		return p, nil
	}
	if s, ok := o.String("body64"); ok {
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		p.Body = b
		return p, err
	}
	if s, ok := o.String("body"); ok {
		p.Body = []byte(s)
		return p, nil
	}
	before, ok := o.String("before")
	after, also := o.String("after")
	if !ok || !also {
		return nil, errProof
	}
	p.Body = []byte(before + string(data) + after)
	return p, nil
}

// request returns the request that a proof is of, as a server with a prefix sees it.
func request(p *store.Proof, prefix string) (*http.Request, error) {
	target := p.Target
	if !strings.HasPrefix(target, prefix+"/") {
		target = prefix + target // clients of certificates sign paths without the prefix
	}
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Host != "" || u.Scheme != "" {
		return nil, errProof
	}
	r := &http.Request{
		Method: p.Method, URL: u, Header: p.Header.Clone(), Host: p.Host,
		Body: noCloser{bytes.NewReader(p.Body)}, ContentLength: int64(len(p.Body)), Proto: "HTTP/1.1",
		ProtoMajor: 1, ProtoMinor: 1,
	}
	if p.Media != "" {
		r.Header.Set("Content-Type", p.Media)
	}
	return r, nil
}

type noCloser struct{ *bytes.Reader }

func (noCloser) Close() error { return nil }

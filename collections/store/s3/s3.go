// Package s3 keeps documents of collections in a bucket of an S3-compatible service.
//
// What belongs here: keys of the bucket, and what its answers mean to a store. What never belongs
// here: the protocol itself, which a library speaks.
//
// An object's key in the bucket is its own with "!" behind it, so that none is the beginning of
// another and services that keep them in directories can; a space in it is written "!0" and an
// exclamation mark "!1", by which the order of keys stays. Writes are conditional (If-Match,
// If-None-Match), so that several servers may use one bucket, if the service passes Store.Contend.
package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/skerry-sync/skerry/collections/store"
)

// ErrUnconditional reports a service that stores objects although a condition is not met, at which
// concurrent writes would be lost.
var ErrUnconditional = errors.New("the service does not heed conditions of writes")

// Options say how a service is reached.
type Options struct {
	Region string // "" lets the service tell
	// PlainNames lets objects have the names of their keys, as those of other servers have. Where one
	// is the beginning of another, followed by a slash, services that keep objects in directories
	// refuse one of them.
	PlainNames bool
	// nil looks for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, files of the AWS command line, and a
	// machine's role, in this order
	Credentials *credentials.Credentials
}

// Store keeps objects in a bucket. It implements store.Store.
type Store struct {
	client         *minio.Client
	transport      *http.Transport
	bucket, prefix string
	plain          bool
}

// Open opens the bucket that a URL such as https://s3.example/bucket/prefix names. It returns an
// error that is ErrUnconditional.
func Open(ctx context.Context, at string, o Options) (*Store, error) {
	u, err := url.Parse(at)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("bucket %q: it is a URL such as https://s3.example/bucket/prefix", at)
	}
	bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if bucket == "" {
		return nil, fmt.Errorf("bucket %q: the URL names no bucket", at)
	}
	if prefix != "" {
		prefix += "/"
	}
	transport, err := minio.DefaultTransport(u.Scheme == "https")
	if err != nil {
		return nil, err
	}
	if o.Credentials == nil {
		o.Credentials = credentials.NewChainCredentials(
			[]credentials.Provider{
				&credentials.EnvAWS{}, &credentials.FileAWSCredentials{},
				&credentials.IAM{Client: &http.Client{Transport: transport}},
			},
		)
	}
	client, err := minio.New(
		u.Host,
		&minio.Options{
			Creds: o.Credentials, Secure: u.Scheme == "https", Region: o.Region, Transport: transport,
		},
	)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", at, err)
	}
	s := &Store{
		client: client, transport: transport, bucket: bucket, prefix: prefix, plain: o.PlainNames,
	}
	if err := s.probe(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("bucket %s: %w", at, err), s.Close())
	}
	return s, nil
}

// probe finds out whether the bucket is there, may be written to, and conditions are heeded.
// Several servers may begin to use it at once, so each has an object of its own for that.
func (s *Store) probe(ctx context.Context) (err error) {
	there, err := s.client.BucketExists(ctx, s.bucket)
	if err != nil {
		return err
	}
	if !there {
		return errors.New("there is no such bucket, or it is somebody else's")
	}
	name := s.prefix + newProbe()
	put := func(condition string) error {
		o := minio.PutObjectOptions{DisableMultipart: true}
		if condition != "" {
			o.SetMatchETagExcept(condition)
		}
		_, err := s.client.PutObject(ctx, s.bucket, name, bytes.NewReader(nil), 0, o)
		return err
	}
	if err := put(""); err != nil {
		return err
	}
	defer func() {
		always := context.WithoutCancel(ctx)
		err = errors.Join(err, s.client.RemoveObject(always, s.bucket, name, minio.RemoveObjectOptions{}))
	}()
	switch err := put("*"); {
	case err == nil:
		return ErrUnconditional
	case !unmet(err):
		return err
	}
	return nil
}

// newProbe returns a name of the bucket that nobody else has.
func newProbe() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return probeKey + "-" + hex.EncodeToString(random[:])
}

// probeKey is what the names of no objects begin with.
const probeKey = "!probe"

var (
	escaper   = strings.NewReplacer("!", "!1", " ", "!0")
	unescaper = strings.NewReplacer("!1", "!", "!0", " ")
)

func (s *Store) name(key string) string {
	if s.plain {
		return s.prefix + key
	}
	return s.prefix + escaper.Replace(key) + "!"
}

// key returns what a name in the bucket stands for; ok is false if it is none of ours.
func (s *Store) key(name string) (key string, ok bool) {
	if s.plain {
		key = strings.TrimPrefix(name, s.prefix)
		return key, key != "" && !strings.HasSuffix(key, "/") && !strings.HasPrefix(key, probeKey)
	}
	name, ok = strings.CutSuffix(strings.TrimPrefix(name, s.prefix), "!")
	return unescaper.Replace(name), ok
}

// answer returns what the service has answered, if it has.
func answer(err error) (r minio.ErrorResponse) {
	errors.As(err, &r)
	return r
}

// missing reports an answer that there is nothing.
func missing(err error) bool {
	r := answer(err)
	return r.Code == minio.NoSuchKey || r.StatusCode == http.StatusNotFound
}

// unmet reports an answer that a condition is not met, or that another write is under way.
func unmet(err error) bool {
	r := answer(err)
	return r.StatusCode == http.StatusPreconditionFailed || r.StatusCode == http.StatusConflict ||
		r.Code == minio.PreconditionFailed
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (*store.Object, error) {
	o, err := s.client.GetObject(ctx, s.bucket, s.name(key), minio.GetObjectOptions{})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	body, err := io.ReadAll(o)
	var info minio.ObjectInfo
	if err == nil {
		info, err = o.Stat()
	}
	if err = errors.Join(err, o.Close()); err != nil {
		if missing(err) {
			return nil, store.ErrNotFound
		}
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return &store.Object{Body: body, Type: info.ContentType, Tag: info.ETag}, nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, o *store.Object, if_ store.Condition) error {
	opts := minio.PutObjectOptions{ContentType: o.Type, DisableMultipart: true}
	tag, given := if_.Tag()
	switch {
	case given && tag == "":
		opts.SetMatchETagExcept("*")
	case given:
		opts.SetMatchETag(tag)
	}
	_, err := s.client.PutObject(
		ctx, s.bucket, s.name(key), bytes.NewReader(o.Body), int64(len(o.Body)), opts,
	)
	if err != nil && given && (unmet(err) || missing(err)) {
		return store.ErrChanged
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// page is how many keys are asked for at once at most.
const page = 1000

// List implements store.Store.
func (s *Store) List(
	ctx context.Context, prefix, after string, limit int,
) (all []string, err error) {
	ctx, cancel := context.WithCancel(ctx) // ends the listing
	defer cancel()
	opts := minio.ListObjectsOptions{
		Prefix: strings.TrimSuffix(s.name(prefix), "!"), Recursive: true, MaxKeys: min(limit, page),
	}
	if after != "" {
		opts.StartAfter = s.name(after)
	}
	if limit <= 0 {
		return nil, nil
	}
	for o := range s.client.ListObjectsIter(ctx, s.bucket, opts) {
		if o.Err != nil {
			return nil, fmt.Errorf("list %s: %w", prefix, o.Err)
		}
		key, ok := s.key(o.Key)
		if !ok || key <= after {
			continue
		}
		if all = append(all, key); len(all) == limit {
			break
		}
	}
	return all, nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.client.RemoveObject(
		ctx, s.bucket, s.name(key), minio.RemoveObjectOptions{},
	); err != nil && !missing(err) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

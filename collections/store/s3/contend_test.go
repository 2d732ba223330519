package s3

import (
	"crypto/md5"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bucket is an S3 service of one bucket, as far as a store needs one.
type bucket struct {
	early bool          // the condition is looked at before the body comes
	gap   time.Duration // between that and the writing

	mu   sync.Mutex
	tags map[string]string
}

// metLocked reports whether the condition of a write is met.
func (b *bucket) metLocked(r *http.Request) bool {
	tag, there := b.tags[r.URL.Path]
	if r.Header.Get("If-None-Match") == "*" && there {
		return false
	}
	want := r.Header.Get("If-Match")
	return want == "" || want == tag || want == `"`+tag+`"`
}

func (b *bucket) met(r *http.Request) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.metLocked(r)
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.RawQuery == "location=":
		_, _ = io.WriteString(
			w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">x</LocationConstraint>`,
		)
		return
	case r.Method == http.MethodDelete:
		b.mu.Lock()
		delete(b.tags, r.URL.Path)
		b.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
		return
	case r.Method != http.MethodPut:
		return
	}
	met := b.early && b.met(r)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if b.gap > 0 {
		met = b.met(r)
		time.Sleep(b.gap)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.early && b.gap == 0 { // in one step
		met = b.metLocked(r)
	}
	if !met {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	sum := md5.Sum(body)
	tag := hex.EncodeToString(sum[:])
	b.tags[r.URL.Path] = tag
	w.Header().Set("ETag", `"`+tag+`"`)
}

// A service that looks at conditions and writes later is found out, whenever it looks.
func TestContend(t *testing.T) {
	for name, x := range map[string]struct {
		bucket *bucket
		want   error
	}{
		"in one step":                {&bucket{}, nil},
		"before the body":            {&bucket{early: true}, ErrRaces},
		"behind the body, but apart": {&bucket{gap: 20 * time.Millisecond}, ErrRaces},
	} {
		t.Run(name, func(t *testing.T) {
			x.bucket.tags = map[string]string{}
			srv := httptest.NewServer(x.bucket)
			defer srv.Close()
			s, err := Open(
				t.Context(), srv.URL+"/bucket",
				Options{Credentials: credentials.NewStaticV4("key", "secret", "")},
			)
			require.NoError(t, err, "one writer sees no difference")
			require.ErrorIs(t, s.Contend(t.Context()), x.want)
			require.NoError(t, s.Close())
			require.Empty(t, x.bucket.tags)
		})
	}
}

// Servers that begin to use a bucket at the same time do not take each other for a service that
// heeds no conditions.
func TestOpenTogether(t *testing.T) {
	b := &bucket{tags: map[string]string{}}
	srv := httptest.NewServer(b)
	defer srv.Close()
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			s, err := Open(t.Context(), srv.URL+"/bucket",
				Options{Credentials: credentials.NewStaticV4("key", "secret", "")})
			if assert.NoError(t, err) {
				assert.NoError(t, s.Close())
			}
		})
	}
	all.Wait()
	require.Empty(t, b.tags)
}

// TestServiceContends tries the service that SKERRY_TEST_S3 names, which SKERRY_TEST_S3_RACES says
// (true or false) lets several writers win.
func TestServiceContends(t *testing.T) {
	at, races := os.Getenv("SKERRY_TEST_S3"), os.Getenv("SKERRY_TEST_S3_RACES")
	if at == "" || races == "" {
		t.Skip("SKERRY_TEST_S3 and SKERRY_TEST_S3_RACES name no S3 service; .ci/services runs them")
	}
	s, err := Open(t.Context(), at+"/contend", Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	if races == "true" {
		require.ErrorIs(t, s.Contend(t.Context()), ErrRaces)
	} else {
		require.NoError(t, s.Contend(t.Context()))
	}
	all, err := s.List(t.Context(), "", "", 10)
	require.NoError(t, err)
	require.Empty(t, all)
}

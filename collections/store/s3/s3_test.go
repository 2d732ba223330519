package s3

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Names in the bucket are as different and in the same order as the keys, none is the beginning of
// another, and prefixes stay prefixes.
func TestNames(t *testing.T) {
	s := &Store{prefix: "p/"}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune(" !0/1aé~")), 1, 8, -1)
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		if got, ok := s.key(s.name(a)); !ok || got != a {
			t.Fatalf("%q became %q", a, got)
		}
		if strings.Compare(a, b) != strings.Compare(s.name(a), s.name(b)) {
			t.Fatalf("%q and %q have another order", a, b)
		}
		if a != b && strings.HasPrefix(s.name(b), s.name(a)) && !strings.HasPrefix(b, a+" ") &&
			!strings.HasPrefix(b, a+"!") {
			t.Fatalf("%q is the beginning of %q", s.name(a), s.name(b))
		}
		if strings.HasPrefix(b, a) != strings.HasPrefix(s.name(b), "p/"+escaper.Replace(a)) {
			t.Fatalf("%q, %q: not the same prefix", a, b)
		}
	})
}

// A service that stores in spite of a condition is not used, and neither is what is no bucket.
func TestOpen(t *testing.T) {
	careless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"x"`)
		if r.URL.RawQuery == "location=" {
			_, _ = w.Write(
				[]byte(
					`<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">x</LocationConstraint>`,
				),
			)
		}
	}))
	defer careless.Close()
	o := Options{Credentials: credentials.NewStaticV4("key", "secret", "")}
	_, err := Open(t.Context(), careless.URL+"/bucket", o)
	require.ErrorIs(t, err, ErrUnconditional)
	for _, at := range []string{"", "bucket", "ftp://host/bucket", "https://host", "https://host/"} {
		_, err := Open(t.Context(), at, o)
		require.Error(t, err, at)
	}
}

// TestService runs the suite of stores at the service that SKERRY_TEST_S3 names, with the
// credentials of the environment; .ci/collections starts one.
func TestService(t *testing.T) {
	at := os.Getenv("SKERRY_TEST_S3")
	if at == "" {
		t.Skip("SKERRY_TEST_S3 names no S3 service; .ci/services runs one")
	}
	bucket := at
	at = fmt.Sprintf("%s/%d", at, time.Now().UnixNano()) // what an earlier run has left is elsewhere
	storetest.Run(t, true, func(t *testing.T, name string) store.Store {
		s, err := Open(t.Context(), at+"/"+strings.ReplaceAll(name, " ", "-"), Options{})
		require.NoError(t, err)
		return s
	})
	_, err := Open(t.Context(), bucket+"x", Options{})
	require.ErrorContains(t, err, "no such bucket")

	// Many keys are listed page by page, and keys of others in the bucket are none of ours.
	s, err := Open(t.Context(), at+"/many", Options{})
	require.NoError(t, err)
	_, err = s.client.PutObject(
		t.Context(), s.bucket, s.prefix+"foreign", strings.NewReader("x"), 1, minio.PutObjectOptions{},
	)
	require.NoError(t, err)
	var want []string
	for i := range 1100 {
		key := "d/" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/26)
		want = append(want, key)
		require.NoError(
			t,
			s.Put(
				t.Context(), key, &store.Object{Body: []byte("{}"), Type: "application/json"}, store.Whatever,
			),
		)
	}
	slices.Sort(want)
	want = slices.Compact(want)
	got, err := s.List(t.Context(), "", "", 5000)
	require.NoError(t, err)
	require.Equal(t, want, got)
	got, err = s.List(t.Context(), "d/", want[499], 3)
	require.NoError(t, err)
	require.Equal(t, want[500:503], got)
	require.NoError(t, s.Close())
}

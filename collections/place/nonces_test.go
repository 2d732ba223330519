package place

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/service"
	"github.com/skerry-sync/skerry/collections/store/s3"
)

// Used nonces are shared by no store that cannot tell for sure whether one was used; such a bucket
// is still of use to one server.
func TestSharedNoncesNeedASureStore(t *testing.T) {
	_, err := (&Replica{}).Open(t.Context(), service.Keep{SharedNonces: true})
	require.ErrorIs(t, err, ErrSharedNonces)

	// A service that heeds conditions of writes one after the other.
	probe := regexp.MustCompile(`/!probe-[0-9a-f]{16}$`)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"x"`)
		switch {
		case r.URL.RawQuery == "location=":
			_, _ = io.WriteString(
				w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">x</LocationConstraint>`,
			)
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case probe.MatchString(r.URL.Path) && r.Header.Get("If-None-Match") != "":
			w.WriteHeader(http.StatusPreconditionFailed)
		default:
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}))
	defer srv.Close()
	k := service.Keep{SharedNonces: true, Log: slog.New(slog.DiscardHandler)}
	spec := &Spec{Name: "s3:" + srv.URL + "/bucket", AccessKey: "key", SecretAccessKey: "secret"}
	_, err = spec.Place().Open(t.Context(), k)
	require.ErrorIs(t, err, s3.ErrRaces)
	require.ErrorContains(t, err, "sharedNonces")
	k.SharedNonces = false
	kept, err := spec.Place().Open(t.Context(), k)
	require.NoError(t, err)
	require.NoError(t, kept.Close())
}

package collections

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

// Whatever is announced, a body is read as it comes, and what is taken for it is asked for first.
func TestReadGrowing(t *testing.T) {
	for _, n := range []int{0, 1, 511, 512, 513, announced - 1, announced, announced + 1, 300_000} {
		text := strings.Repeat("x", n)
		for _, known := range []bool{false, true} {
			for _, r := range []io.Reader{strings.NewReader(text), iotest.DataErrReader(
				strings.NewReader(text)), iotest.HalfReader(strings.NewReader(text))} {
				size, taken := int64(-1), 0
				if known {
					size = int64(n)
				}
				b, err := readGrowing(r, size, func(more int) error {
					taken += more
					return nil
				})
				require.NoError(t, err)
				require.Equal(t, text, string(b))
				if n > announced {
					require.GreaterOrEqual(t, taken+announced, n)
				}
				require.LessOrEqual(t, taken, 2*n)
			}
		}
		_, err := readGrowing(strings.NewReader(text), int64(n+1), func(int) error { return nil })
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		broken := errors.New("broken")
		_, err = readGrowing(iotest.ErrReader(broken), -1, func(int) error { return nil })
		require.ErrorIs(t, err, broken)
	}
	full := errors.New("full")
	_, err := readGrowing(strings.NewReader(strings.Repeat("x", 200_000)), 200_000,
		func(int) error { return full })
	require.ErrorIs(t, err, full)
}

// Bodies of which the last byte does not come take the room of one network, and nobody else's.
func TestBodiesThatDoNotEnd(t *testing.T) {
	c, err := config.Parse([]byte(`{"version": 1, "collections": [
		{"name": "news", "storagePath": "news/{id}", "readRoles": ["public"], "writeRoles": ["public"],
		 "encryption": "none", "maxBodyBytes": 8388608}]}`))
	require.NoError(t, err)
	s, err := New(c, Options{Documents: document.In(store.NewMemory(), nil), ProxyHops: 1,
		Resolver: access.ResolverFunc(nil)})
	require.NoError(t, err)
	const size = 8 << 20
	head, tail := `{"baseHash":null,"data":{"a":"`, `"}}`
	body := head + strings.Repeat("x", size-len(head)-len(tail)) + tail
	push := func(from string, r io.Reader) int {
		req := httptest.NewRequest(http.MethodPost, "/push/news/"+strings.ReplaceAll(from, ".", "-"), r)
		req.ContentLength = size
		req.Header.Set("Content-Type", config.JSON)
		req.Header.Set("X-Forwarded-For", from)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		return w.Code
	}
	var ends []*io.PipeWriter
	done := make(chan int, 20)
	for range 20 { // 8 MiB each, of which 64 MiB have room
		r, w := io.Pipe()
		go func() {
			done <- push("11.0.0.1", r)
			_ = r.Close() // as net/http does, so that nobody writes for ever
		}()
		if _, err := w.Write([]byte(body[:size-1])); err != nil {
			require.Equal(t, http.StatusServiceUnavailable, <-done)
			continue
		}
		ends = append(ends, w)
	}
	require.Len(t, ends, roomOfParty/size)
	require.Equal(t, http.StatusServiceUnavailable, push("11.0.0.1", strings.NewReader(body)))
	require.Equal(t, http.StatusOK, push("12.0.0.1", strings.NewReader(body)))
	for _, w := range ends {
		require.NoError(t, w.CloseWithError(errors.New("gone")))
		require.Equal(t, http.StatusBadRequest, <-done)
	}
	require.Equal(t, http.StatusOK, push("11.0.0.1", strings.NewReader(body)))
	require.Zero(t, s.bodies.all)
}

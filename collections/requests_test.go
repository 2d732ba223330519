package collections_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
)

// exchangeOf sends text to a server, closes its own side if that is asked for, and returns the
// answer. The server has no time limit: it must answer by itself. On a connection that goes on,
// net/http reads a short body before it answers.
func exchangeOf(t *testing.T, h http.Handler, text string, end bool) (status int, body string) {
	srv := httptest.NewServer(h)
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	if end {
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(b)
}

// What is refused for its length or number is refused before its body has come, also where a hook
// wants to see that.
func TestRefusedWithoutABody(t *testing.T) {
	asked := 0
	limited := strings.Replace(open, `"maxBodyBytes": 1000`,
		`"maxBodyBytes": 1000, "rateLimit": {"push": {"windowMs": 60000, "maxRequests": 1}}`, 1)
	w := newWorld(t, []byte(limited), func(o *collections.Options) {
		o.Hooks = []collections.Hook{{
			BeforePush: func(context.Context, *collections.Event, []byte) (*collections.Answer, error) {
				asked++
				return nil, nil
			},
		}}
	})
	const head = "POST /push/notes/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
		"Content-Type: application/json\r\n"
	status, _ := exchangeOf(t, w, head+"Content-Length: 1001\r\n\r\n", false)
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
	status, _ = exchangeOf(t, w, head+"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n", false)
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
	require.Equal(t, http.StatusOK, ask(w, "POST", "/push/notes/a", `{"data":{}}`).Code)
	require.Equal(t, 1, asked)
	for range 3 { // all from one address, as ask's is another
		status, _ = exchangeOf(t, w, head+"Content-Length: 11\r\n\r\n{\"data\":{}}", false)
	}
	require.Equal(t, http.StatusTooManyRequests, status)
	status, _ = exchangeOf(t, w, head+"Content-Length: 1000\r\n\r\n", false)
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, 2, asked)
}

// A body that ends before all of it has come is no request that took too long, and leaves nothing.
func TestBodyThatEndsEarly(t *testing.T) {
	w := newWorld(t, []byte(open), nil)
	for path, media := range map[string]string{"notes/a": "application/json", "files/a": "image/png"} {
		head := "POST /push/" + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: " + media + "\r\n"
		for _, rest := range []string{
			"Content-Length: 12\r\n\r\n{\"data\":{}}",
			"Transfer-Encoding: chunked\r\n\r\nb\r\n{\"data\":{}}\r\n",
		} {
			status, body := exchangeOf(t, w, head+rest, true)
			require.Equal(t, http.StatusBadRequest, status)
			require.Equal(t, `{"error":"The body ends too early"}`, body)
		}
		_, err := w.store.Get(t.Context(), path)
		require.Error(t, err)
	}
}

// A body that is compressed, or said to be, is refused: what is stored is what was sent.
func TestCodedBodies(t *testing.T) {
	w := newWorld(t, []byte(open), func(o *collections.Options) { o.Revocations = newRevocations(t) })
	for _, coding := range []string{"gzip", "br", "zstd, identity", "GZIP"} {
		for path, media := range map[string]string{
			"/push/notes/a": "application/json", "/push/log/a": "application/json",
			"/push/files/a": "image/png", "/revocations": "application/json",
		} {
			rec := ask(w, "POST", path, `{"data":{}}`, "Content-Type", media, "Content-Encoding", coding)
			require.Equal(t, http.StatusUnsupportedMediaType, rec.Code, "%s %s", path, coding)
			require.JSONEq(t, `{"error":"Content-Encoding is not supported"}`, rec.Body.String())
		}
	}
	rec := ask(w, "POST", "/push/notes/a", `{"data":{}}`, "Content-Encoding", "identity")
	require.Equal(t, http.StatusOK, rec.Code)
}

// A push of JSON says that it is: of another media type, a certificate's signature would not count
// for the body, and a web page could send it without asking first.
func TestMediaTypeOfPushes(t *testing.T) {
	w := newWorld(t, configOf(
		column("mine", "mine/{identity}", `"self"`, `"self"`, ""),
		column("notes", "notes/{id}", `"public"`, `"public"`, ""),
	), nil)
	for media, want := range map[string]int{
		"application/json": 200, "application/json; charset=utf-8": 200, "application/json;": 200,
		"Application/JSON":               415, // as the published servers
		"text/plain; x=application/json": 415, "multipart/form-data; boundary=application/json": 415,
		"application/jsonp": 415, "x-application/json": 415, "text/plain": 415,
	} {
		path := fmt.Sprintf("/push/notes/%x", media[:min(len(media), 40)])
		rec := ask(w, "POST", path, `{"data":{}}`, "Content-Type", media)
		require.Equal(t, want, rec.Code, media)
	}
	who := newPerson(t, 7)
	cert := who.lets(who, capcert.Scope{
		Ops: []string{"read", "write"}, Collections: []string{"*"}, Paths: []string{"**"},
	})
	path, now := "/push/mine/"+who.id, w.now.UnixMilli()
	unsigned := capcert.Request{Method: "POST", PathAndQuery: path, Host: known} // of no body
	sig := unsigned.Sign(who.key, now, make([]byte, 16))
	r := httptest.NewRequest("POST", path, strings.NewReader(`{"data":{"forged":1}}`))
	r.Host = known
	for name, v := range map[string]string{
		"Content-Type": "text/plain; x=application/json", "Authorization": cert.Authorization(),
		access.HeaderSignature: sig.Signature, access.HeaderTime: fmt.Sprint(now),
		access.HeaderNonce: sig.Nonce,
	} {
		r.Header.Set(name, v)
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	require.Equal(t, http.StatusUnsupportedMediaType, rec.Code, rec.Body)
}

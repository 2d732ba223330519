package remote_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/value"
)

// priced is a collection of which some alone may write the price, and see and write the pin. Who
// may read and write the rest is still to be said.
const priced = `{"version": 1, "collections": [{"name": "posts", "storagePath": "posts/featured",
	"readRoles": [%[1]q], "writeRoles": [%[1]q], "encryption": "none", "maxBodyBytes": 65536,
	"fieldPermissions": {"price": {"writeRoles": ["cap:write:*"]},
		"pin": {"readRoles": ["cap:write:*"], "writeRoles": ["cap:write:*"]}}}]%[2]s}`

// through returns a server of priced, that a role reads and writes, and one for anybody that hands
// pushes on to it, by more.
func through(t *testing.T, role, more string) (primary, s *server) {
	primary = serveConfig(t, fmt.Sprintf(priced, role, ""))
	_, err := primary.docs.Push(t.Context(), "posts/featured",
		parse(t, `{"n":1,"price":9,"pin":1234}`), nil, nil, false)
	require.NoError(t, err)
	return primary, throughTo(t, primary, more)
}

// throughTo returns a server of priced for anybody that hands pushes on to another.
func throughTo(t *testing.T, primary *server, more string) *server {
	return serveConfig(
		t, fmt.Sprintf(priced, "public", fmt.Sprintf(`, "extensions": {"remotes": {"posts": {
		"url": %q, "pullPath": "/pull/posts/featured", "pushPath": "/push/posts/featured",
		"writeMode": "push_through"%s}}}`, primary.URL+"/v1", more)),
	)
}

// root is more of a server whose requests are those of the identity of a passphrase.
func root(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "passphrase")
	require.NoError(t, os.WriteFile(file, []byte("correct horse battery staple\n"), 0o600))
	return fmt.Sprintf(`, "passphraseFile": %q`, file)
}

// Pushes that are handed on are the server's there, which may write what its caller may not.
func TestFieldsOfPushThrough(t *testing.T) {
	primary, s := through(t, "cap:write:*", root(t))
	s.becomes(`{"n":1,"pin":1234,"price":9}`)
	seen := func() string {
		status, answer := s.do(http.MethodGet, "")
		require.Equal(t, http.StatusOK, status)
		require.NotContains(t, answer, "1234")
		hash, _ := parse(t, answer).String("hash")
		return hash
	}
	push := func(data, base string) (int, string) {
		return s.do(http.MethodPost, fmt.Sprintf(`{"data":%s,"baseHash":%s}`, data, base))
	}
	base := fmt.Sprintf("%q", seen())

	for _, field := range []string{"price", "pin"} {
		status, answer := push(fmt.Sprintf(`{"n":2,%q:0}`, field), base)
		require.Equal(t, http.StatusForbidden, status)
		require.Equal(t, `{"error":"Field '`+field+`' is not writable with your roles"}`, answer)
	}
	for _, wrong := range []string{"null", `""`, `"00"`} {
		status, answer := push(`{"n":2}`, wrong)
		require.Equal(t, http.StatusConflict, status, wrong)
		require.Equal(t, `{"error":"hash_mismatch"}`, answer)
	}
	_, whole := primary.has()
	status, _ := push(`{"n":2}`, fmt.Sprintf("%q", whole)) // which would tell the pin by trying
	require.Equal(t, http.StatusConflict, status)
	for body, reason := range map[string]string{
		`[]`: "Body must be a JSON object", `{"data":3}`: "Missing or invalid data",
		`{"data":{},"baseHash":3}`: "baseHash must be a string or null",
	} {
		status, answer := s.do(http.MethodPost, body)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, answer, reason)
	}
	data, _ := primary.has()
	require.Equal(t, `{"n":1,"pin":1234,"price":9}`, data)

	status, answer := push(`{"n":2}`, base)
	require.Equal(t, http.StatusOK, status, answer)
	data, _ = primary.has()
	require.Equal(t, `{"n":2,"pin":1234,"price":9}`, data, "what a push leaves out is kept")
	hash, _ := parse(t, answer).String("hash")
	require.Equal(t, value.Hash(parse(t, `{"n":2,"price":9}`)), hash, "the hash of what is shown")
	s.becomes(`{"n":2,"pin":1234,"price":9}`)
	require.Equal(t, hash, seen())

	primary.down.Store(true)
	status, _ = push(`{"n":3}`, fmt.Sprintf("%q", hash))
	require.Equal(t, http.StatusBadGateway, status)
}

// Of a server that is nobody there, the other one keeps the fields by itself.
func TestFieldsOfAnonymousPushThrough(t *testing.T) {
	primary, s := through(t, "public", "")
	s.becomes(`{"n":1,"price":9}`)
	status, _ := s.do(http.MethodPost, `{"data":{"price":1},"baseHash":null}`)
	require.Equal(t, http.StatusForbidden, status)
	s.write(`{"n":2}`)
	data, _ := primary.has()
	require.Equal(t, `{"n":2,"pin":1234,"price":9}`, data)
}

// A body of another type is not covered by its caller's signature, and any web page may send it.
func TestTypeOfPushThrough(t *testing.T) {
	primary := serve(t, "public", "")
	s := of(t, primary, "push_through", "")
	for _, media := range []string{"text/plain", "", "application/x-www-form-urlencoded"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			s.URL+"/v1/push/posts/featured", strings.NewReader(`{"data":{"n":1},"baseHash":null}`))
		require.NoError(t, err)
		r.Header["Content-Type"] = []string{media}
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusUnsupportedMediaType, resp.StatusCode, media)
	}
	data, _ := primary.has()
	require.Empty(t, data)
}

// Nor does a push get through that knows the hash of all there is, as nothing is hidden.
func TestUnwritableFieldOfPushThrough(t *testing.T) {
	primary, s := through(t, "cap:write:*", root(t))
	_, base := primary.has()
	_, err := primary.docs.Push(
		t.Context(), "posts/featured", parse(t, `{"price":9}`), &base, nil, false,
	)
	require.NoError(t, err)
	_, base = primary.has()
	status, answer := s.do(http.MethodPost, fmt.Sprintf(`{"data":{"price":0},"baseHash":%q}`, base))
	require.Equal(t, http.StatusForbidden, status, answer)
	data, _ := primary.has()
	require.Equal(t, `{"price":9}`, data)
}

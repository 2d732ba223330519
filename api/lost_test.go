package api

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// Text that is not UTF-8 (kopia #1764, borg #7535), and halves of characters, are refused: a parser that
// replaces them makes one name of two.
func TestTextThatIsNotUTF8IsRefused(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	_, err := n.Replicas.Create(ctx, "r")
	require.NoError(t, err)
	for _, line := range []string{"{\"key\":\"b\xff\",\"value\":\"1\"}", `{"key":"a\ud800","value":"1"}`,
		`{"key":"a\udc00","value":"1"}`, `{"key":"a\ud83d\ud83d","value":"1"}`, "{\"key\":\"b\",\"value\":\"\xc3\"}"} {
		sum, err := c.ImportItems(ctx, "r", "", "", strings.NewReader(`{"key":"x","value":"1"}`+"\n"+line))
		require.ErrorContains(t, err, "line 2", line)
		require.Zero(t, sum.Imported)
	}
	sum, err := c.ImportItems(ctx, "r", "", "", strings.NewReader(
		`{"key":"\ud83d\ude00","value":"1"}{"key":"\\ud800","value":"2"}{"key":"hex:ff","value":"3"}`))
	require.NoError(t, err)
	require.Equal(t, 3, sum.Imported)
	var keys []string
	_, err = Both[Entry, Listed](ctx, c, "replica/list", ListRequest{Name: "r"}, func(e Entry) error {
		keys = append(keys, string(e.Key))
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{`\ud800`, "😀", "\xff"}, keys)

	_, err = Call[Got](ctx, c, "get", GetRequest{What: strings.Repeat("0", 64), Path: "/tmp/o\xff"})
	require.ErrorContains(t, err, "UTF-8")
	require.ErrorContains(t, Each(ctx, c, "blob/add", AddRequest{Paths: []string{"/tmp/b\xff"}}, func(Added) error { return nil }), "UTF-8")
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, Usage, e.Kind)
	_, err = rawPost(t, c, "replica/info", "application/json", "{\"name\":\"r\xff\"}")
	require.ErrorContains(t, err, "UTF-8")
	_, err = rawPost(t, c, "replica/info", "application/json", `{"name":"r"} {"name":"s"}`)
	require.ErrorContains(t, err, "more follows")
}

// rawPost sends a body as it stands, and returns the last line of the answer.
func rawPost(t *testing.T, c *Client, op, contentType, body string) (string, error) {
	res, err := send[struct{}, replica.ID](t.Context(), c, op, contentType, strings.NewReader(body), nil)
	return res.String(), err
}

// The body of an import counts, whatever type it is sent with: curl's default is that of a form.
func TestImportTakesAnyContentType(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	_, err := n.Replicas.Create(ctx, "r")
	require.NoError(t, err)
	for _, kind := range []string{"application/x-www-form-urlencoded", "text/plain", "", "multipart/form-data"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"replica/import?name=r", strings.NewReader(`{"key":"k","value":"1"}`))
		require.NoError(t, err)
		r.Header.Set("Content-Type", kind)
		resp, err := c.http.Do(r)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.True(t, bytes.Contains(b, []byte(`"imported":1`)), "%s: %s", kind, b)
	}
}

// A line of an import without a key sets nothing, and says what is wrong as a person would.
func TestImportSaysWhatIsWrong(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	_, err := n.Replicas.Create(ctx, "r")
	require.NoError(t, err)
	for body, says := range map[string]string{
		`{"value":"1"}`:                              `line 1: it has no "key"`,
		`{"key":null,"value":""}`:                    `line 1: it has no "key"`,
		"{\"key\":\"a\",\"value\":\"1\"}\n\n[\"a\"]": `line 3: expected a JSON object like {"key":"…","value":"…"}, found an array`,
		`{"key":"a","value":1}`:                      `"value" must not be a number`,
		`{"key":"a","valu":"1"}`:                     `valu`,
		`{"key":`:                                    "line 1",
	} {
		_, err := c.ImportItems(ctx, "r", "", "", strings.NewReader(body))
		require.ErrorContains(t, err, says, body)
	}
}

// Words that are empty, or a keystore that is, are no order to make a new identity.
func TestEmptyWordsMakeNoIdentity(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	for _, req := range []AddIdentityRequest{{Mnemonic: new(string)}, {Keystore: []byte{}}} {
		req.Password = "correct horse"
		_, err := Call[Identity](ctx, c, "identity/add", req)
		require.Error(t, err)
	}
	words := " \n "
	_, err := Call[Identity](ctx, c, "identity/add", AddIdentityRequest{Mnemonic: &words, Password: "correct horse"})
	require.ErrorContains(t, err, "0 words, expected 24")
	all, err := n.Keyring().Identities(ctx)
	require.NoError(t, err)
	require.Empty(t, all)
}

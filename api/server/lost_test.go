package server

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
)

// Text that is not UTF-8 (kopia #1764, borg #7535), and halves of characters, are refused: a parser
// that replaces them makes one name of two.
func TestTextThatIsNotUTF8IsRefused(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	_, err := n.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	for _, line := range []string{
		"{\"key\":\"b\xff\",\"value\":\"1\"}", `{"key":"a\ud800","value":"1"}`,
		`{"key":"a\udc00","value":"1"}`, `{"key":"a\ud83d\ud83d","value":"1"}`,
		"{\"key\":\"b\",\"value\":\"\xc3\"}",
	} {
		sum, err := c.ImportItems(
			ctx, "r", "", "", strings.NewReader(`{"key":"x","value":"1"}`+"\n"+line),
		)
		require.ErrorContains(t, err, "line 2", line)
		require.Zero(t, sum.Imported)
	}
	sum, err := c.ImportItems(ctx, "r", "", "", strings.NewReader(
		`{"key":"\ud83d\ude00","value":"1"}{"key":"\\ud800","value":"2"}{"key":"hex:ff","value":"3"}`))
	require.NoError(t, err)
	require.Equal(t, 3, sum.Imported)
	var keys []string
	_, err = c.ReplicaEntries(ctx, api.ListRequest{Name: "r"}, func(e api.Entry) error {
		keys = append(keys, string(e.Key))
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{`\ud800`, "😀", "\xff"}, keys)

	_, err = c.Get(ctx, api.GetRequest{What: strings.Repeat("0", 64), Path: "/tmp/o\xff"})
	require.ErrorContains(t, err, "UTF-8")
	require.ErrorContains(
		t, c.BlobAdd(ctx, api.AddRequest{Paths: []string{"/tmp/b\xff"}}, func(api.Added) error {
			return nil
		}), "UTF-8",
	)
	var e *api.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, api.Usage, e.Kind)
	raw := func(body string) *api.Error {
		return post(t, New(n, "test"), "replica/info", "application/json", body).Error
	}
	require.Contains(t, raw("{\"name\":\"r\xff\"}").Message, "UTF-8")
	require.Contains(t, raw(`{"name":"r"} {"name":"s"}`).Message, "more follows")
}

// The body of an import counts, whatever type it is sent with: curl's default is that of a form.
func TestImportTakesAnyContentType(t *testing.T) {
	_, n := open(t)
	ctx := t.Context()
	_, err := n.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	for _, kind := range []string{
		"application/x-www-form-urlencoded", "text/plain", "", "multipart/form-data",
	} {
		l := post(t, New(n, "test"), "replica/import?name=r", kind, `{"key":"k","value":"1"}`)
		require.Nil(t, l.Error)
		require.Contains(t, string(l.Result), `"imported":1`, kind)
	}
}

// A line of an import without a key sets nothing, and says what is wrong as a person would.
func TestImportSaysWhatIsWrong(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	_, err := n.CreateReplica(ctx, "r", false)
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
	for _, req := range []api.AddIdentityRequest{{Mnemonic: new(string)}, {Keystore: []byte{}}} {
		req.Password = "correct horse"
		_, err := c.IdentityAdd(ctx, req)
		require.Error(t, err)
	}
	words := " \n "
	_, err := c.IdentityAdd(ctx, api.AddIdentityRequest{Mnemonic: &words, Password: "correct horse"})
	require.ErrorContains(t, err, "0 words, expected 24")
	all, err := n.Vaults.Keyring().Identities(ctx)
	require.NoError(t, err)
	require.Empty(t, all)
}

// writerFunc is a function that is written to.
type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// What is being read is not collected meanwhile, though nothing keeps it (iroh-blobs #235).
func TestCollectWhileSomethingIsRead(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	data := make([]byte, 30_000_000)
	for i := range data {
		data[i] = byte(i>>14 ^ i*7)
	}
	file := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	for _, chunked := range []bool{false, true} {
		var hash blobs.Hash
		req := api.AddRequest{Paths: []string{file}, NoPin: true, Chunked: chunked}
		require.NoError(t, c.BlobAdd(ctx, req, func(a api.Added) error { hash = a.Hash; return nil }))
		var got bytes.Buffer
		collected := false
		require.NoError(
			t, c.ReadBlob(ctx, hash.String(), 0, -1, false, writerFunc(func(b []byte) (int, error) {
				if !collected {
					collected = true
					_, err := n.Collect(ctx, false, nil)
					require.NoError(t, err)
				}
				return got.Write(b)
			})),
		)
		require.True(t, bytes.Equal(data, got.Bytes()), "chunked: %v", chunked)
		require.Eventually(t, func() bool { // the node lets go of it after its last byte
			if _, err := n.Collect(ctx, false, nil); err != nil {
				return false
			}
			_, err := n.Blobs().Stat(ctx, hash)
			return errors.Is(err, blobs.ErrNotFound)
		}, 20*time.Second, 20*time.Millisecond, "then it is collected")
	}
}

// Keys that cannot be files side by side do not keep the others from being written (aws-cli #1538).
func TestExportWritesWhatCanBeWritten(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	_, err := n.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	long := strings.Repeat("x", 256)
	for _, key := range []string{
		"a", "a!", "a/b/c", "a/b", "a/d", "../up", long, "ok/" + long + "/y", strings.Repeat("y", 255),
		"plain",
	} {
		_, err := c.ReplicaSet(ctx, api.SetRequest{Name: "r", Key: api.Key(key), Value: []byte(key)})
		require.NoError(t, err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	got, err := c.ReplicaExport(ctx, api.ExportReplicaRequest{Name: "r", Dir: dir})
	require.NoError(t, err)
	require.Equal(t, 5, got.Exported)
	require.ElementsMatch(t, []string{"a", "a/b", "../up", long, "ok/" + long + "/y"}, got.Skipped)
	require.Len(t, got.Why, len(got.Skipped))
	for _, name := range []string{"a!", "a/b/c", "a/d", strings.Repeat("y", 255), "plain"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, name, string(b))
	}
}

// A value of 4 MiB and more is stored as it comes, sealed or not, and nothing of it is still to
// come.
func TestLargeValueIsHere(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none")) // nothing may need it
	data := bytes.Repeat([]byte("0123456789abcdef"), 5<<16)
	for _, encrypted := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "sealed"}[encrypted]
		_, err := n.CreateReplica(ctx, name, encrypted)
		require.NoError(t, err)
		e, err := c.SetValue(ctx, api.SetRequest{Name: name, Key: api.Key("big")}, bytes.NewReader(data))
		require.NoError(t, err)
		require.EqualValues(t, len(data), e.Size)
		_, err = c.SetValue(
			ctx, api.SetRequest{Name: name, Key: api.Key("small")}, strings.NewReader("x"),
		)
		require.NoError(t, err)
		_, err = c.SetValue(ctx, api.SetRequest{Name: name, Key: api.Key("none")}, strings.NewReader(""))
		require.ErrorContains(t, err, "empty value")
		var got bytes.Buffer
		require.NoError(t, c.ReadValue(ctx, name, api.Key("big"), &got))
		require.True(t, bytes.Equal(data, got.Bytes()))
		info, err := c.ReplicaInfo(ctx, api.NameRequest{Name: name})
		require.NoError(t, err)
		require.Zero(t, info.PendingContent, name)
	}
}

// To revoke whoever holds a write ticket does not hold: that is said, with what does.
func TestRevokingAHolderOfTheKeyWarns(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	_, err := n.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	_, err = c.ReplicaSet(ctx, api.SetRequest{Name: "r", Key: api.Key("k"), Value: []byte("1")})
	require.NoError(t, err)
	id, err := n.Authors().Default(ctx)
	require.NoError(t, err)
	var warned []string
	c.Warn = func(text string) { warned = append(warned, text) }
	_, err = c.ReplicaRevoke(ctx, api.RevokeRequest{Name: "r", Author: id.String()})
	require.NoError(t, err)
	require.Len(t, warned, 1)
	require.Contains(t, warned[0], "new replica")

	other := replica.NewSecretKey().Author()
	_, err = c.ReplicaGrant(ctx, api.GrantRequest{
		Name: "r", Author: other.String(), Prefix: api.Key("p"),
	})
	require.NoError(t, err)
	_, err = c.ReplicaRevoke(ctx, api.RevokeRequest{Name: "r", Author: other.String()})
	require.NoError(t, err)
	require.Len(t, warned, 1, "a grant under a prefix is no sign of a write ticket")
}

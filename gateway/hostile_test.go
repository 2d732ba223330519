package gateway

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// Names in a directory are a stranger's. They are shown as they are, and lead nowhere else.
func TestHostileNames(t *testing.T) {
	n, l := start(t)
	dir := t.TempDir()
	for _, name := range []string{
		"https:evil.example/x", "gpj.\u202eexe", "a\u009b2Jb\x1b[2J", "<script>alert(1)</script>",
		"two\r\nSet-Cookie: a=b/x",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	info, err := directory.Import(t.Context(), n.Blobs(), dir, directory.ImportOptions{})
	require.NoError(t, err)
	at := "/seq/" + info.Hash.String()
	resp, b := get(t, l, at+"/")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Contains(t, string(b), `gpj.\u202eexe`)
	require.Contains(t, string(b), `a\u009b2Jb\u001b[2J`)
	require.Contains(t, string(b), `&lt;/`, "a name of HTML is text")
	for _, bad := range []string{"\u202e", "\u009b", "\x1b", "<script"} {
		require.NotContains(t, string(b), bad)
	}
	for _, path := range []string{"/https:evil.example", "/two%0d%0aSet-Cookie:%20a=b"} {
		resp, _ = get(t, l, at+path)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, l.URL, "http://"+resp.Request.URL.Host, "sent on to the same server")
		require.Empty(t, resp.Header.Get("Set-Cookie"))
	}
	resp, b = get(t, l, at+"/no\u202esuch")
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	require.NotContains(t, string(b), "\u202e")
}

// Names that are not UTF-8 are carried in lists of JSON, not replaced (kopia #1764, borg #7535).
func TestNamesThatAreNotUTF8(t *testing.T) {
	n, l := start(t)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "d\xfe"), 0o700))
	for _, name := range []string{"a\xff", "a\ufffd", "d\xfe/in"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Skipf("this file system has no such names: %v", err)
		}
	}
	require.NoError(t, os.Symlink("a\xff", filepath.Join(dir, "link")))
	info, err := directory.Import(t.Context(), n.Blobs(), dir, directory.ImportOptions{})
	require.NoError(t, err)
	at := "/seq/" + info.Hash.String() + "/"
	_, b := get(t, l, at, "Accept", "application/json")
	require.JSONEq(t, `[
		{"name":"a\ufffd","href":"./a%EF%BF%BD","kind":"file","size":4},
		{"name_hex":"61ff","href":"./a%FF","kind":"file","size":2},
		{"name_hex":"64fe","href":"./d%FE/","kind":"directory","size":5},
		{"name":"link","href":"./link","kind":"link","size":0,"target_hex":"61ff"}]`, string(b))
	_, b = get(t, l, at+"a%FF")
	require.Equal(t, "a\xff", string(b))
	resp, b := get(t, l, at+"d%FE/", "Accept", "application/json")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.JSONEq(t, `[{"name":"in","href":"./in","kind":"file","size":5}]`, string(b))
	_, b = get(t, l, at+"link")
	require.Equal(t, "a\xff", string(b))
}

// Conditions name tags in lists, weakly, or any (RFC 9110, 13.1.2), of lists of names as of
// content.
func TestConditionsOnLists(t *testing.T) {
	n, l := start(t)
	info, err := directory.Import(t.Context(), n.Blobs(), t.TempDir(), directory.ImportOptions{})
	require.NoError(t, err)
	at := "/seq/" + info.Hash.String() + "/"
	resp, _ := get(t, l, at)
	tag := resp.Header.Get("ETag")
	for condition, status := range map[string]int{
		tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200,
	} {
		resp, _ := get(t, l, at, "If-None-Match", condition)
		require.Equal(t, status, resp.StatusCode, condition)
	}
}

// A list of a million directories takes a moment. A list that looks for each name among all before
// it would take hours.
func TestListingIsLinear(t *testing.T) {
	testkit.OneGoroutine(t)
	d := &directory.Directory{}
	for i := range 1_000_000 {
		d.Manifest = append(
			d.Manifest, directory.Entry{Path: fmt.Sprintf("%08d/x", i), Kind: directory.File, Size: 1},
		)
	}
	d.Manifest = append(d.Manifest, directory.Entry{Path: "00999999/y", Kind: directory.File, Size: 2})
	done := make(chan []directory.Child, 1)
	go func() { done <- d.List("") }()
	select {
	case items := <-done:
		require.Len(t, items, 1_000_000)
		require.Equal(t, Item{Name: "00999999", Kind: "directory", Size: 3}, itemOf(items[999_999]))
	case <-time.After(time.Minute):
		t.Fatal("the list hangs")
	}
}

package gateway

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node"
)

// imported makes a directory of files and of links to other places, and returns its address.
func imported(t *testing.T, n *node.Node, files, links map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		return p
	}
	for name, content := range files {
		require.NoError(t, os.WriteFile(at(name), []byte(content), 0o644))
	}
	for name, target := range links {
		require.NoError(t, os.Symlink(target, at(name)))
	}
	info, err := directory.Import(t.Context(), n.Blobs(), dir, directory.ImportOptions{})
	require.NoError(t, err)
	return "/seq/" + info.Hash.String()
}

// The redirect to a directory leads there, whatever its name.
// https://github.com/ipfs/boxo/pull/779
func TestRedirects(t *testing.T) {
	n, l := start(t)
	names := []string{
		"what?", "50%25", "50%", "https:evil.example", "a b", "#x", `back\slash`, "ü", "dots..", "...",
	}
	files := map[string]string{}
	for _, name := range names {
		files["x/"+name+"/hello"] = name
	}
	at := imported(t, n, files, nil)
	_, b := get(t, l, at+"/x/", "Accept", "application/json")
	var items []Item
	require.NoError(t, json.Unmarshal(b, &items))
	require.Len(t, items, len(names))
	for _, x := range items {
		href := x.Href()
		without := at + "/x/" + href[2:len(href)-1]
		resp, b := get(t, l, without)
		require.Equal(t, http.StatusOK, resp.StatusCode, x.Name)
		require.Equal(t, l.URL+without+"/", resp.Request.URL.String(), x.Name)
		require.Contains(t, string(b), `href="./hello"`, x.Name)
		_, b = get(t, l, without+"/hello")
		require.Equal(t, x.Name, string(b))
	}
}

// https://github.com/ipfs/kubo/issues/4486, https://github.com/ipfs/kubo/issues/9525
func TestLinks(t *testing.T) {
	n, l := start(t)
	at := imported(t, n, map[string]string{"real/page.html": "<p>page", "top": "top"},
		map[string]string{
			"dir": "real", "one": "two", "two": "dir/page.html", "gone": "nowhere", "loop": "loop",
		})
	for path, want := range map[string]string{
		"/dir/page.html": "<p>page", "/one": "<p>page", "/two": "<p>page",
	} {
		resp, b := get(t, l, at+path)
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Equal(t, want, string(b))
		require.Contains(t, resp.Header.Get("Content-Type"), "text/html", "by the name of what is there")
	}
	resp, b := get(t, l, at+"/dir")
	require.Equal(t, at+"/dir/", resp.Request.URL.Path, "the address stays that of the link")
	require.Contains(t, string(b), `href="./page.html"`)
	for _, path := range []string{"/gone", "/loop", "/loop/x", "/top/"} {
		resp, b := get(t, l, at+path)
		require.Equal(t, http.StatusNotFound, resp.StatusCode, path)
		require.Contains(t, string(b), "not", path)
	}
}

var next = regexp.MustCompile(`rel="next" href="\.(/[^"]*)"`)

// A large directory is shown in pages, and parsed once. https://github.com/ipfs/kubo/issues/7588
func TestLargeDirectory(t *testing.T) {
	n, l := start(t)
	const count = 2*pageLines + 1
	var m directory.Manifest
	for i := range count {
		m = append(m, directory.Entry{Path: fmt.Sprintf("%06d+/file", i), Kind: directory.Empty})
	}
	info, err := n.Blobs().ImportBytes(t.Context(), m.Bytes())
	require.NoError(t, err)
	seq, err := n.Blobs().ImportBytes(t.Context(), blobs.Sequence{info.Hash}.Bytes())
	require.NoError(t, err)
	at := "/seq/" + seq.Hash.String()
	pages, seen := []string{"/"}, 0
	for len(pages) > 0 {
		resp, b := get(t, l, at+pages[0])
		require.Equal(t, http.StatusOK, resp.StatusCode)
		b = []byte(html.UnescapeString(string(b)))
		lines := regexp.MustCompile(`href="\./(\d{6})\+/"`).FindAllSubmatch(b, -1)
		for _, x := range lines {
			require.Equal(t, fmt.Sprintf("%06d", seen), string(x[1]))
			seen++
		}
		require.LessOrEqual(t, len(lines), pageLines)
		pages = pages[1:]
		if x := next.FindSubmatch(b); x != nil {
			pages = append(pages, string(x[1]))
		}
		tag := resp.Header.Get("ETag")
		resp, _ = get(t, l, at+resp.Request.URL.RequestURI()[len(at):], "If-None-Match", tag)
		require.Equal(t, http.StatusNotModified, resp.StatusCode)
		resp, _ = get(t, l, at+"/", "If-None-Match", tag, "Accept", "application/json")
		require.Equal(t, http.StatusOK, resp.StatusCode, "another form is another answer")
	}
	require.Equal(t, count, seen)
	_, b := get(t, l, at+"/", "Accept", "application/json")
	var items []Item
	require.NoError(t, json.Unmarshal(b, &items))
	require.Len(t, items, count)
	_, b = get(t, l, at+"/?after=no+such+name")
	require.Contains(t, string(b), "000000", "what is not there begins at the start")
}

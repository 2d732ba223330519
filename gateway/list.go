package gateway

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/visible"
	"github.com/skerry-sync/skerry/node/content"
)

// pageLines is how many names a page of a directory shows; what follows is on the next.
const pageLines = 1000

// inDirectory answers with what stands at a path of a directory. Links in it are followed, and the
// address stays the one that was asked for.
func (g *Gateway) inDirectory(
	w http.ResponseWriter, r *http.Request, s *content.Session, h blobs.Hash, dir *taken, name string,
) {
	at, err := dir.Resolve(name)
	if err != nil {
		g.fail(w, fmt.Errorf("%s: %w", h, err))
		return
	}
	if dir.IsDir(at) {
		g.inside(w, r, h, dir, name, at)
		return
	}
	if strings.HasSuffix(r.URL.Path, "/") {
		g.fail(
			w,
			fmt.Errorf(
				"%w: %q is a file in %s; its address has no slash at the end", fs.ErrNotExist, name, h,
			),
		)
		return
	}
	e, content, err := dir.Find(at)
	if err != nil {
		g.fail(w, err)
		return
	}
	tag := blobs.HashOf([]byte(h.String() + "/" + e.Path)).String()
	if len(content.Hashes) == 1 {
		tag = content.Hashes[0].String()
	}
	file, err := dir.file(content)
	if err != nil {
		g.fail(w, fmt.Errorf("%s: %q: %w", h, at, err))
		return
	}
	g.send(w, r, s.OpenChunks(file), tag, e.Path)
}

// inside answers with the list of the directory at a path, which was asked for by a name.
func (g *Gateway) inside(
	w http.ResponseWriter, r *http.Request, h blobs.Hash, dir *taken, name, at string,
) {
	if !strings.HasSuffix(r.URL.Path, "/") { // so that the names in the list are below it
		// "./" keeps a name such as https:example.org from being an address of another server.
		to := "./" + url.PathEscape(path.Base(r.URL.Path)) + "/"
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusMovedPermanently)
		return
	}
	// A list never changes: who has it already, in the form that he asks for, needs no other.
	asJSON := strings.Contains(r.Header.Get("Accept"), "application/json")
	tag := fmt.Sprintf(
		`"%s"`, blobs.HashOf(fmt.Appendf(nil, "list 2 %v %s %s %s", asJSON, h, at, r.URL.RawQuery)),
	)
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Vary", "Accept")
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	room := uint64(dir.Below(at)) * listRoom
	if err := takeRoom(dir.visit, room); err != nil {
		g.fail(w, err)
		return
	}
	list := dir.List(at)
	if asJSON {
		w.Header().Set("Content-Type", "application/json")
		writeItems(w, list)
		return
	}
	shown := pageOf(r, h, name, list)
	dir.release() // whoever reads slowly keeps no more than the page
	dir.visit.Give(int(room))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := page.Execute(w, shown); err != nil {
		g.log.Debug("gateway", "error", err)
	}
}

// writeItems writes a list as a JSON array, in pieces: as one, a long list would be in memory once
// more. A client that is gone, or too slow, needs no more of it.
func writeItems(w io.Writer, list []directory.Child) {
	b := bufio.NewWriterSize(w, 32<<10)
	between := byte('[')
	for _, c := range list {
		item, err := json.Marshal(itemOf(c).json())
		if err != nil {
			return
		}
		if b.WriteByte(between) != nil {
			return
		}
		if _, err := b.Write(item); err != nil {
			return
		}
		between = ','
	}
	if len(list) == 0 {
		_ = b.WriteByte('[')
	}
	_, _ = b.WriteString("]\n")
	_ = b.Flush()
}

// matches reports whether a condition If-None-Match names tag: in a list, weakly, or as any.
func matches(conditions []string, tag string) bool {
	for _, list := range conditions {
		for one := range strings.SplitSeq(list, ",") { // our own tags have no commas
			one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
			if one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}

// Item is a line of a directory's list.
type Item struct {
	Name   string
	Kind   string // "file", "directory" or "link"
	Size   uint64
	Target string // of a link
}

// jsonItem is an Item in a list for programs. Names are bytes; those that are not UTF-8, which no
// string of JSON can be, have their bytes in hexadecimal instead. Href is exact for all of them.
type jsonItem struct {
	Name      *string `json:"name,omitempty"`
	NameHex   string  `json:"name_hex,omitempty"`
	Href      string  `json:"href"`
	Kind      string  `json:"kind"`
	Size      uint64  `json:"size"`
	Target    string  `json:"target,omitempty"`
	TargetHex string  `json:"target_hex,omitempty"`
}

func (x Item) json() jsonItem {
	out := jsonItem{Href: x.Href(), Kind: x.Kind, Size: x.Size}
	if utf8.ValidString(x.Name) {
		out.Name = &x.Name
	} else {
		out.NameHex = hex.EncodeToString([]byte(x.Name))
	}
	if utf8.ValidString(x.Target) {
		out.Target = x.Target
	} else {
		out.TargetHex = hex.EncodeToString([]byte(x.Target))
	}
	return out
}

func itemOf(c directory.Child) Item {
	kind := "file"
	switch c.Kind {
	case directory.Empty:
		kind = "directory"
	case directory.Link:
		kind = "link"
	}
	return Item{c.Name, kind, c.Size, c.Target}
}

// Shown is the item's name as a page shows it: it cannot turn the letters of the page round.
func (x Item) Shown() string { return visible.Text(x.Name) }

// ShownTarget is the target likewise.
func (x Item) ShownTarget() string { return visible.Text(x.Target) }

// Href is the item's address, from that of its directory.
func (x Item) Href() string {
	href := "./" + url.PathEscape(x.Name)
	if x.Kind == "directory" {
		href += "/"
	}
	return href
}

var page = template.Must(template.New("list").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Name}}/</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:50rem;padding:0 1rem}
table{width:100%;border-collapse:collapse}
td{padding:.2rem .5rem;border-bottom:1px solid #8884}td+td{text-align:right;white-space:nowrap}
code{word-break:break-all}</style>
<h1>{{.Name}}/</h1><p><code>{{.Hash}}</code></p>
{{define "pages"}}{{if or .Before .After}}<p>{{.From}}–{{.To}} of {{.All}}
{{if .Before}}<a rel="prev" href="{{.Before}}">before</a>{{end}}
{{if .After}}<a rel="next" href="{{.After}}">next</a>{{end}}</p>{{end}}{{end}}
{{template "pages" .}}
<table>{{if .Up}}<tr><td><a href="../">../</a><td>{{end}}
{{range .Items}}<tr><td><a href="{{.Href}}">{{.Shown}}{{if eq .Kind "directory"}}/{{end}}</a>
{{- if .Target}} → {{.ShownTarget}}{{end}}<td>{{.Size}}
{{end}}</table>{{template "pages" .}}</html>
`))

// pageOf returns a page of a directory's list: the one that begins behind the name "after".
func pageOf(r *http.Request, h blobs.Hash, name string, list []directory.Child) map[string]any {
	after, from, all := r.URL.Query().Get("after"), 0, len(list)
	if after != "" {
		from = slices.IndexFunc(list, func(c directory.Child) bool { return c.Name == after }) + 1
	}
	to := min(from+pageLines, all)
	behind := func(i int) string { // the address of the page that begins there
		if i <= 0 {
			return "./"
		}
		return "./?after=" + url.QueryEscape(list[i-1].Name)
	}
	title := path.Base("/" + name)
	if title == "/" {
		title = ""
	}
	items := make([]Item, 0, to-from)
	for _, c := range list[from:to] {
		items = append(items, itemOf(c))
	}
	shown := map[string]any{"Name": visible.Text(title), "Hash": h, "Up": name != "",
		"Items": items, "From": from + 1, "To": to, "All": all}
	if from > 0 {
		shown["Before"] = behind(from - pageLines)
	}
	if to < all {
		shown["After"] = behind(to)
	}
	return shown
}

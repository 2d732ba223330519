package gateway

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node"
)

// BenchmarkList lists a directory of 60,000 directories.
func BenchmarkList(b *testing.B) {
	n, err := node.Open(b.Context(), node.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	var m directory.Manifest
	for i := range 60000 {
		m = append(m, directory.Entry{Path: fmt.Sprintf("%06d/file", i), Kind: directory.Empty})
	}
	info, err := n.Blobs().ImportBytes(b.Context(), m.Bytes())
	if err != nil {
		b.Fatal(err)
	}
	seq, err := n.Blobs().ImportBytes(b.Context(), blobs.Sequence{info.Hash}.Bytes())
	if err != nil {
		b.Fatal(err)
	}
	g := New(n, quiet)
	for b.Loop() {
		r, w := httptest.NewRequest("GET", "/seq/"+seq.Hash.String()+"/", nil), httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}

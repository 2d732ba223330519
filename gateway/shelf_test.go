package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/admission"
)

// empties makes a directory of so many empty directories, and returns its hash.
func empties(t *testing.T, n *node.Node, count int) blobs.Hash {
	t.Helper()
	m := make(directory.Manifest, 0, count)
	for i := range count {
		m = append(m, directory.Entry{Path: fmt.Sprintf("%07d", i), Kind: directory.Empty})
	}
	info, err := n.Blobs.ImportBytes(t.Context(), m.Bytes())
	require.NoError(t, err)
	seq, err := n.Blobs.ImportBytes(t.Context(), blobs.Sequence{info.Hash}.Bytes())
	require.NoError(t, err)
	return seq.Hash
}

// A manifest of a few megabytes would take gigabytes of memory if it were asked for often enough.
// It is refused before it is parsed.
func TestHugeDirectoriesAreRefused(t *testing.T) {
	n, l := start(t)
	h := empties(t, n, 1_800_000)
	for _, path := range []string{"/", "/0000001", "/nothing"} {
		resp, b := get(t, l, "/seq/"+h.String()+path)
		require.Equal(t, http.StatusInsufficientStorage, resp.StatusCode, "%s", b)
		require.Contains(t, string(b), "skerry get")
		require.Empty(t, resp.Header.Get("Cache-Control"))
	}
	resp, _ := get(t, l, "/blobs/"+h.String())
	require.Equal(t, http.StatusOK, resp.StatusCode, "as a blob it is no larger than others")
}

// Directories that are read at the same time share what memory there is for them, and those of one
// network have a share of it.
func TestDirectoriesShareRoom(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	g := New(n, quiet)
	at := "/seq/" + empties(t, n, 1000).String() + "/"
	ask := func(from string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest("GET", at, nil), httptest.NewRecorder()
		r.RemoteAddr = from
		r.Header.Set("Accept", "application/json")
		g.ServeHTTP(w, r)
		return w
	}
	other, err := g.shelf.room.Enter(requests, admission.Party{Net: "2a00::/56"})
	require.NoError(t, err)
	for other.Take(64<<10) == nil { // small pieces fill all of it
	}
	w := ask("[2a00::1]:80")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "5", w.Header().Get("Retry-After"))
	require.Empty(t, g.shelf.inUse)
	w = ask("[2a01::1]:80")
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	var items []Item
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &items))
	require.Len(t, items, 1000)
	other.Leave()
	require.Equal(t, http.StatusOK, ask("[2a00::1]:80").Code)
	require.Empty(t, g.shelf.inUse)
	held, _ := g.shelf.room.Held()
	require.Zero(t, held, "what is not in use is not counted")
}

// Those who ask for one directory at the same time have it read once, and whoever of them comes
// last ends its use.
func TestOneDirectoryIsReadOnce(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	f := newShelf()
	h := empties(t, n, 1000)
	s := n.NewSession(t.Context(), nil)
	defer func() { _, err := s.Close(); require.NoError(t, err) }()
	r := httptest.NewRequest("GET", "/", nil).WithContext(t.Context())
	u, mine := f.use(h)
	require.True(t, mine)
	var all sync.WaitGroup
	dirs := make([]*taken, 8)
	for i := range dirs {
		all.Go(func() { dirs[i], _ = f.take(r, s, h) })
	}
	f.read(r, s, h, u)
	all.Wait()
	for _, d := range dirs {
		require.Same(t, u.dir, d.Directory)
	}
	held, _ := f.room.Held()
	require.LessOrEqual(t, held, int64(1000*(entryRoom+16*manifestRoom)+1000))
	for _, d := range dirs {
		d.release()
		d.release()
	}
	f.leave(h, u)
	require.Empty(t, f.inUse)
	held, _ = f.room.Held()
	require.Zero(t, held)

	// What cannot be read is tried again.
	missing := blobs.HashOf([]byte("missing"))
	for range 2 {
		_, err = f.take(r, s, missing)
		require.Error(t, err)
		require.Empty(t, f.inUse)
	}
}

// deadlines notes what it is told.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error { d.set = append(d.set, at); return nil }

// A client that takes nothing does not keep its connection: each piece of an answer has its time.
func TestAnswersHaveTheirTime(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	g := New(n, quiet)
	info, err := n.Blobs.ImportBytes(t.Context(), random(1<<20))
	require.NoError(t, err)
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	g.ServeHTTP(w, httptest.NewRequest("GET", "/blobs/"+info.Hash.String(), nil))
	require.Equal(t, 1<<20, w.Body.Len())
	require.GreaterOrEqual(t, len(w.set), (1<<20)/(32<<10), "one for each piece")
	for _, path := range []string{"/blobs/zz", "/seq/" + strings.Repeat("0", 64) + "/x"} {
		w = &deadlines{ResponseRecorder: httptest.NewRecorder()}
		g.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		require.NotEmpty(t, w.set, path)
	}
}

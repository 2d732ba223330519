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
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/admission"
)

// empties makes a directory of so many empty directories, and returns its hash. Their names have
// length letters.
func empties(t *testing.T, n *node.Node, count, length int) blobs.Hash {
	t.Helper()
	m := make(directory.Manifest, 0, count)
	for i := range count {
		m = append(m, directory.Entry{Path: fmt.Sprintf("%0*d", length, i), Kind: directory.Empty})
	}
	info, err := n.Blobs().ImportBytes(t.Context(), m.Bytes())
	require.NoError(t, err)
	seq, err := n.Blobs().ImportBytes(t.Context(), blobs.Sequence{info.Hash}.Bytes())
	require.NoError(t, err)
	return seq.Hash
}

// A manifest of a few megabytes would take gigabytes of memory if it were asked for often enough.
// It is refused before it is parsed.
func TestHugeDirectoriesAreRefused(t *testing.T) {
	testkit.SeenElsewhere(t)
	n, l := start(t)
	h := empties(t, n, 1_300_000, 60)
	for _, path := range []string{"/", fmt.Sprintf("/%060d", 1), "/nothing"} {
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
	at := "/seq/" + empties(t, n, 1000, 7).String() + "/"
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
	// It is kept now; but each list is its request's own.
	w = ask("[2a00::1]:80")
	require.Equal(t, http.StatusServiceUnavailable, w.Code, "its network has no room for a list")
	require.Empty(t, w.Header().Get("ETag"))
	other.Leave()
	require.Equal(t, http.StatusOK, ask("[2a00::1]:80").Code)
	require.Len(t, g.shelf.inUse, 1)
	held, _ := g.shelf.room.Held()
	require.EqualValues(t, g.shelf.kept[0].takes, held, "what is kept is counted, and nothing else is")
}

// Who waits for a directory that another network has no room to read reads it himself.
func TestNoRoomElsewhere(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	f, h := newShelf(), empties(t, n, 10, 7)
	s := n.NewSession(t.Context(), nil)
	defer func() { _, err := s.Close(); require.NoError(t, err) }()
	r := httptest.NewRequest("GET", "/", nil).WithContext(t.Context())
	u, mine := f.use(h)
	require.True(t, mine)
	var waits sync.WaitGroup
	waits.Go(func() {
		d, err := f.take(r, s, h)
		require.NoError(t, err)
		d.end()
	})
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return u.users == 2
	}, 20*time.Second, time.Millisecond)
	f.mu.Lock()
	u.err = errBusy
	delete(f.inUse, h)
	f.mu.Unlock()
	close(u.done)
	waits.Wait()
}

// Directories that are kept are bounded in number and in bytes, and none of them lets all others
// go.
func TestKeptDirectoriesAreBounded(t *testing.T) {
	f := newShelf()
	asked := func(i int, takes uint64) {
		u, mine := f.use(blobs.Hash{byte(i)})
		if mine {
			u.takes = takes
			f.keep(u)
		}
		f.leave(u)
	}
	for i := range 2 * keptDirectories {
		asked(i, 1)
		asked(0, 1)
	}
	require.Len(t, f.kept, keptDirectories)
	require.Len(t, f.inUse, keptDirectories)
	require.Equal(t, blobs.Hash{}, f.kept[0].hash, "what is asked for stays")
	asked(100, keptRoom)
	require.Len(t, f.kept, keptDirectories)
	for i := range 8 {
		asked(101+i, keptRoom/4)
	}
	require.Len(t, f.kept, 4)
	require.Len(t, f.inUse, 4)
}

// Those who ask for one directory at the same time have it read once, and whoever of them comes
// last ends its use.
func TestOneDirectoryIsReadOnce(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	f := newShelf()
	h := empties(t, n, 1000, 7)
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
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return u.users == 1+len(dirs)
	}, 20*time.Second, time.Millisecond)
	f.read(r, s, u)
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
	f.leave(u)
	require.Equal(t, []*inUse{u}, f.kept)
	require.Equal(t, 1, u.users)

	// What cannot be read is tried again.
	missing := blobs.HashOf([]byte("missing"))
	for range 2 {
		_, err = f.take(r, s, missing)
		require.Error(t, err)
		require.Len(t, f.inUse, 1)
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
	info, err := n.Blobs().ImportBytes(t.Context(), testkit.Random(7, 1<<20))
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

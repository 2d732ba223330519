package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/admission"
)

// What a directory has to say is a stranger's, and whoever names it by its hash need not be its
// author: a page elsewhere can have a browser ask for it many times. So what directories take in
// memory is counted before they are read, for each network and for all (docs/protocol/limits.md).
const (
	roomOfNetwork = 512 << 20
	roomOfAll     = 1024 << 20
	// A larger directory would not fit in the room of one network, of which an eighth is kept for
	// small ones.
	maxDirectory = roomOfNetwork - roomOfNetwork/8

	// What an entry takes parsed, and in a list; a byte of a manifest, in names and sizes of chunks;
	// a byte of a sequence, which is read and parsed.
	entryRoom, manifestRoom, sequenceRoom = 256, 4, 2
	// chunkRoom is what a chunk of a file takes while the file is sent.
	chunkRoom = 128

	requests = "requests" // what the room calls them
)

var (
	errBusy     = errors.New("too many large directories are being read: try again in a moment")
	errTooLarge = errors.New("too large for a gateway: fetch it with skerry get")
)

// shelf holds the directories that requests are about. Those that are asked for at the same time
// are read once.
type shelf struct {
	room *admission.Room
	kept recent

	mu    sync.Mutex
	inUse map[blobs.Hash]*inUse
}

func newShelf() *shelf {
	shares := admission.Shares{Strangers: admission.Share{Net: roomOfNetwork, All: roomOfAll}}
	return &shelf{inUse: map[blobs.Hash]*inUse{}, room: admission.New(admission.Config{
		Bytes: shares, Streams: map[string]admission.Shares{requests: {}},
	})}
}

// inUse is a directory that is being read, or was and is looked at. All but users is set once,
// before done is closed.
type inUse struct {
	users int // guarded by shelf.mu
	done  chan struct{}
	dir   *directory.Directory
	err   error
	held  *admission.Visit
}

// taken is a directory until it is released. What was asked of it before stays good.
type taken struct {
	*directory.Directory
	release func()
	visit   *admission.Visit // of the request
}

// take returns a directory for a request, until its release; the request's visit ends with the
// request.
func (f *shelf) take(r *http.Request, s *node.Session, h blobs.Hash) (*taken, error) {
	visit, err := f.enter(r)
	if err != nil {
		return nil, errBusy
	}
	context.AfterFunc(r.Context(), visit.Leave) // which the server ends with the request
	if dir := f.kept.get(h); dir != nil {
		return &taken{dir, func() {}, visit}, nil
	}
	for {
		u, mine := f.use(h)
		t := &taken{nil, sync.OnceFunc(func() { f.leave(h, u) }), visit}
		if mine {
			f.read(r, s, h, u)
		}
		select {
		case <-u.done:
		case <-r.Context().Done():
			t.release()
			return nil, r.Context().Err()
		}
		if t.Directory = u.dir; u.err == nil {
			return t, nil
		}
		t.release()
		if mine || !errors.Is(u.err, context.Canceled) {
			return nil, u.err
		}
		// Whoever read it has gone.
	}
}

// use notes a user of a directory; mine says that the caller is to read it.
func (f *shelf) use(h blobs.Hash) (u *inUse, mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if u = f.inUse[h]; u == nil {
		u, mine = &inUse{done: make(chan struct{})}, true
		f.inUse[h] = u
	}
	u.users++
	return u, mine
}

// leave ends a use. After the last one, the directory is not counted any more.
func (f *shelf) leave(h blobs.Hash, u *inUse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if u.users--; u.users > 0 {
		return
	}
	u.held.Leave()
	if f.inUse[h] == u {
		delete(f.inUse, h)
	}
}

// read reads a directory for all who use it. If it cannot be read, also because of a panic, whoever
// comes next tries again.
func (f *shelf) read(r *http.Request, s *node.Session, h blobs.Hash, u *inUse) {
	u.err = errors.New("reading the directory was broken off")
	defer func() {
		if u.err != nil {
			f.mu.Lock()
			delete(f.inUse, h)
			f.mu.Unlock()
		}
		close(u.done)
	}()
	held, err := f.enter(r)
	if err != nil {
		u.err = errBusy
		return
	}
	u.held = held
	u.dir, u.err = s.Directory(h, func(entries, manifest, sequence uint64) error {
		return takeRoom(held, entries*entryRoom+manifest*manifestRoom+sequence*sequenceRoom)
	})
	if u.err == nil {
		f.kept.put(h, u.dir)
	}
}

// enter counts a request for the network that it comes from.
func (f *shelf) enter(r *http.Request) (*admission.Visit, error) {
	from := ""
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		if a, err := netip.ParseAddr(host); err == nil {
			from = netaddr.Network(a).String()
		}
	}
	return f.room.Enter(requests, admission.Party{Net: from})
}

// takeRoom counts bytes that a request, or a directory, takes.
func takeRoom(v *admission.Visit, bytes uint64) error {
	if bytes > maxDirectory {
		return fmt.Errorf("%w: it would take %d MiB of memory, at most %d are allowed",
			errTooLarge, bytes>>20, maxDirectory>>20)
	}
	if v.Take(int(bytes)) != nil {
		return errBusy
	}
	return nil
}

// file returns what is needed to send a file, and releases the directory: whoever reads slowly
// keeps no more than that.
func (t *taken) file(content chunked.Chunks) (chunked.Chunks, error) {
	if n := len(content.Hashes); n > 1 {
		if err := takeRoom(t.visit, uint64(n)*chunkRoom); err != nil {
			return content, err
		}
	}
	content = chunked.Chunks{
		Hashes: slices.Clone(content.Hashes), Sizes: slices.Clone(content.Sizes),
	}
	t.release()
	return content, nil
}

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
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/content"
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

	// What an entry takes parsed; a byte of a manifest, in names and sizes of chunks; a byte of a
	// sequence, which is read and parsed.
	entryRoom, manifestRoom, sequenceRoom = 128, 4, 2
	// listRoom is what an entry takes in a list, of which each request makes its own.
	listRoom = 128
	// chunkRoom is what a chunk of a file takes while the file is sent.
	chunkRoom = 128

	// Directories that are kept when nobody looks at them: at most so many, that take so many bytes
	// together. None takes more than a quarter of that.
	keptDirectories = 16
	keptRoom        = 64 << 20

	requests = "requests" // what the room calls them
)

var (
	errBusy     = errors.New("too many large directories are being read: try again in a moment")
	errTooLarge = errors.New("too large for a gateway: fetch it with skerry get")
)

// shelf holds the directories that requests are about. Those that are asked for at the same time
// are read once; those that were asked for last are kept, as whoever walks through one asks for
// many of its addresses.
type shelf struct {
	room *admission.Room

	mu    sync.Mutex
	inUse map[blobs.Hash]*inUse
	kept  []*inUse // the newest first; each is a use
}

func newShelf() *shelf {
	shares := admission.Shares{Strangers: admission.Share{Net: roomOfNetwork, All: roomOfAll}}
	return &shelf{inUse: map[blobs.Hash]*inUse{}, room: admission.New(admission.Config{
		Bytes: shares, Streams: map[string]admission.Shares{requests: {}},
	})}
}

// inUse is a directory that is being read, or was and is looked at or kept. All but users is set
// once, before done is closed.
type inUse struct {
	users int // guarded by shelf.mu
	hash  blobs.Hash
	done  chan struct{}
	dir   *directory.Directory
	err   error
	held  *admission.Visit
	takes uint64 // bytes
}

// taken is a directory until it is released. What was asked of it before stays good.
type taken struct {
	*directory.Directory
	release func()
	visit   *admission.Visit // of the request
}

// end releases the directory, and ends the request's visit.
func (t *taken) end() {
	t.release()
	t.visit.Leave()
}

// take returns a directory for a request, until its end.
func (f *shelf) take(r *http.Request, s *content.Session, h blobs.Hash) (_ *taken, err error) {
	visit, err := f.enter(r)
	if err != nil {
		return nil, errBusy
	}
	defer func() {
		if err != nil {
			visit.Leave()
		}
	}()
	for {
		u, mine := f.use(h)
		t := &taken{nil, sync.OnceFunc(func() { f.leave(u) }), visit}
		if mine {
			f.read(r, s, u)
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
		if mine || !errors.Is(u.err, context.Canceled) && !errors.Is(u.err, errBusy) {
			return nil, u.err
		}
		// Whoever read it has gone, or has no room where this one may have some.
	}
}

// use notes a user of a directory; mine says that the caller is to read it.
func (f *shelf) use(h blobs.Hash) (u *inUse, mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if u = f.inUse[h]; u == nil {
		u, mine = &inUse{hash: h, done: make(chan struct{})}, true
		f.inUse[h] = u
	}
	u.users++
	if i := slices.Index(f.kept, u); i > 0 {
		f.kept = slices.Insert(slices.Delete(f.kept, i, i+1), 0, u)
	}
	return u, mine
}

// leave ends a use. After the last one, the directory is not counted any more.
func (f *shelf) leave(u *inUse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end(u)
}

// end is leave; the caller holds the lock.
func (f *shelf) end(u *inUse) {
	if u.users--; u.users > 0 {
		return
	}
	u.held.Leave()
	if f.inUse[u.hash] == u {
		delete(f.inUse, u.hash)
	}
}

// keep keeps a directory that has been read, and lets those go that were asked for longest ago.
func (f *shelf) keep(u *inUse) {
	if u.takes > keptRoom/4 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	u.users++
	f.kept = slices.Insert(f.kept, 0, u)
	total := uint64(0)
	for i, k := range f.kept {
		if total += k.takes; total > keptRoom || i == keptDirectories {
			for _, gone := range f.kept[i:] {
				f.end(gone)
			}
			f.kept = slices.Delete(f.kept, i, len(f.kept))
			return
		}
	}
}

// read reads a directory for all who use it. If it cannot be read, also because of a panic, whoever
// comes next tries again.
func (f *shelf) read(r *http.Request, s *content.Session, u *inUse) {
	u.err = errors.New("reading the directory was broken off")
	defer func() {
		if u.err != nil {
			u.held.Leave() // after a panic, whoever reads does not end his use
			f.mu.Lock()
			delete(f.inUse, u.hash)
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
	u.dir, u.err = s.Directory(u.hash, func(entries, manifest, sequence uint64) error {
		u.takes = entries*entryRoom + manifest*manifestRoom + sequence*sequenceRoom
		return takeRoom(held, u.takes)
	})
	if u.err == nil {
		f.keep(u)
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

package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node/link"
)

// Reader reads content at any place.
type Reader interface {
	io.ReadSeeker
	io.ReaderAt
	Size() int64
}

// Session reads blobs that may not be here, fetching what is read, and no more, from providers.
// Several reads go over the same streams.
type Session struct {
	mu    sync.Mutex // fetches are one after the other
	f     *fetcher
	watch Watch
}

// Watch is told what a session brings into the store, and may refuse it.
type Watch interface {
	// Before is called before something is fetched. Its error is that of the read.
	Before() error
	// Brought is told that so many bytes of the blob h, and of proofs, have come. isNew says that
	// nothing of the blob was here before.
	Brought(h blobs.Hash, isNew bool, bytes uint64)
}

// WatchBy has w watch all that the session fetches. It is called before anything is.
func (s *Session) WatchBy(w Watch) { s.watch = w }

// NewSession returns a session that ends with ctx, or earlier with Close. Connected peers are asked
// for what the providers do not have.
func (x *Exchange) NewSession(ctx context.Context, providers []peer.AddrInfo) *Session {
	return &Session{f: x.newFetcher(ctx, x.blobs, providers, x.peers(), false, nil)}
}

// Close ends the session and says what was fetched.
func (s *Session) Close() (Fetched, error) { return s.f.close() }

// ensure brings byte ranges of a blob into the store; nil is all of it.
func (s *Session) ensure(w Want) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watch != nil {
		done, err := s.watched(w.Hash)
		if err != nil {
			return err
		}
		defer done()
	}
	err := s.f.fetch(w)
	if err == nil {
		err = s.f.rc.Flush()
	}
	if !errors.Is(err, link.ErrOffline) {
		return err
	}
	info, err := s.f.store.Stat(s.f.ctx, w.Hash)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s has %d of %d bytes, and this node is offline",
		blobs.ErrIncomplete, w.Hash, info.Present, info.Size)
}

// watched asks the watch before a fetch, and returns what tells it of that.
func (s *Session) watched(h blobs.Hash) (done func(), err error) {
	if err := s.watch.Before(); err != nil {
		return nil, err
	}
	before := s.f.fetched()
	_, err = s.f.store.Stat(s.f.ctx, h)
	isNew := errors.Is(err, blobs.ErrNotFound)
	return func() {
		if bytes := s.f.fetched() - before; bytes > 0 {
			s.watch.Brought(h, isNew, bytes)
		}
	}, nil
}

// Open opens the blob h, of which nothing needs to be here. Only the proof of its size is fetched.
func (s *Session) Open(h blobs.Hash) (SessionReader, error) {
	info, err := s.f.store.Stat(s.f.ctx, h)
	if errors.Is(err, blobs.ErrNotFound) {
		// The request for the first bytes proves the size, too.
		if err = s.ensure(Want{Hash: h, Ranges: blobs.Ranges{{Start: 0, End: 1}}}); err == nil {
			info, err = s.f.store.Stat(s.f.ctx, h)
		}
	}
	if err != nil {
		return SessionReader{}, err
	}
	return s.reader(h, info.Size)
}

// OpenAt is Open for somebody who will first read length bytes at off: they come with the proof of
// the size, in one round trip.
func (s *Session) OpenAt(h blobs.Hash, off, length uint64) (SessionReader, error) {
	if _, err := s.f.store.Stat(s.f.ctx, h); errors.Is(err, blobs.ErrNotFound) && length > 0 {
		length = min(length, readAhead)
		asked := blobs.Ranges{{Start: off, End: off + length}}
		if err := s.ensure(Want{Hash: h, Ranges: asked}); err != nil {
			return SessionReader{}, err
		}
	}
	return s.Open(h)
}

func (s *Session) reader(h blobs.Hash, size uint64) (SessionReader, error) {
	r, err := s.f.store.Reader(s.f.ctx, h)
	if err != nil {
		return SessionReader{}, err
	}
	blob := &sessionBlob{s: s, h: h, size: size, r: r}
	return SessionReader{io.NewSectionReader(blob, 0, int64(size))}, nil
}

// Directory fetches and reads the names of a directory; directory.ErrNotDirectory if h is something
// else. admit is called with the sizes before the names are fetched: the entries that the manifest
// says it has, its bytes, and those of the sequence. An error of admit is returned as it is.
func (s *Session) Directory(
	h blobs.Hash, admit func(entries, manifest, sequence uint64) error,
) (*directory.Directory, error) {
	first, manifest, err := s.firstChild(h)
	if !directory.IsManifest(first) || manifest > directory.MaxManifestSize {
		return nil, notKnownAs(directory.ErrNotDirectory, err)
	}
	entries, err := directory.EntriesOf(first)
	if err != nil {
		return nil, err
	}
	sequence, err := s.f.store.Stat(s.f.ctx, h)
	if err != nil {
		return nil, err
	}
	if err := admit(entries, manifest, sequence.Size); err != nil {
		return nil, err
	}
	if err := s.sequence(h); err != nil {
		return nil, err
	}
	return directory.Load(s.f.ctx, s.f.store, h)
}

// Chunks fetches and reads the list of a file in chunks; chunked.ErrNotChunked if h is something
// else.
func (s *Session) Chunks(h blobs.Hash) (*chunked.Index, error) {
	first, size, err := s.firstChild(h)
	if !chunked.IsList(first) || size > chunked.MaxList {
		return nil, notKnownAs(chunked.ErrNotChunked, err)
	}
	if err := s.sequence(h); err != nil {
		return nil, err
	}
	return chunked.Open(s.f.ctx, s.f.store, h)
}

// notKnownAs is the error for content of which err kept this node from telling what it is: it does
// not count as more than a blob, unless what is damaged here may be all that hides it.
func notKnownAs(not, err error) error {
	if damaged, is := errors.AsType[*blobs.DamageError](err); is {
		return damaged
	}
	return errors.Join(not, err)
}

// firstChild returns the beginning of the first child of h, and its size in bytes, if h may be a
// sequence and its first child is to be had; or nothing. No more than is needed to tell is fetched:
// most blobs are not sequences, and what begins like a manifest or a list can be of any size.
func (s *Session) firstChild(h blobs.Hash) (first []byte, size uint64, err error) {
	r, err := s.Open(h)
	if err != nil {
		return nil, 0, err
	}
	if !mayBeSequence(uint64(r.Size())) {
		return nil, 0, nil
	}
	var child blobs.Hash
	if _, err := r.ReadAt(child[:], 0); err != nil {
		return nil, 0, err
	}
	// What is damaged here must not pass for something else.
	var damaged *blobs.DamageError
	head := blobs.Ranges{{Start: 0, End: blobs.HashSize}}
	if err := s.f.store.Check(s.f.ctx, h, head); errors.As(err, &damaged) {
		return nil, 0, damaged
	}
	c, err := s.Open(child)
	var missing *MissingError
	if errors.As(err, &missing) || errors.Is(err, blobs.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	first = make([]byte, min(c.Size(), 32))
	if _, err = c.ReadAt(first, 0); err != nil {
		return nil, 0, err
	}
	if chunked.IsList(first) || directory.IsManifest(first) {
		return first, uint64(c.Size()), nil
	}
	if err := s.f.store.Check(s.f.ctx, child, head); errors.As(err, &damaged) {
		return nil, 0, damaged
	}
	return first, uint64(c.Size()), nil
}

// sequence fetches all of a sequence, and its first child, of which the caller knows the size.
func (s *Session) sequence(h blobs.Hash) error {
	if err := s.ensure(Want{Hash: h}); err != nil {
		return err
	}
	r, err := s.f.store.Reader(s.f.ctx, h)
	if err != nil {
		return err
	}
	var first blobs.Hash
	if _, err := r.ReadAt(first[:], 0); err != nil {
		return err
	}
	return s.ensure(Want{Hash: first})
}

// OpenChunks reads content in chunks as one.
func (s *Session) OpenChunks(c chunked.Chunks) Reader {
	for _, h := range c.Hashes { // they are not collected while the hold of the session lasts
		s.f.store.Touch(h)
	}
	if len(c.Hashes) == 1 {
		if r, err := s.Open(c.Hashes[0]); err == nil && uint64(r.Size()) == c.Size() {
			return r
		}
	}
	return chunked.NewReader(s.f.ctx, s.open, c)
}

// OpenIndex reads a file in chunks as one.
func (s *Session) OpenIndex(x *chunked.Index) (Reader, error) {
	err := s.f.store.TouchSequence(s.f.ctx, x.Hash())
	return x.Reader(s.f.ctx, s.open), err
}

func (s *Session) open(_ context.Context, h blobs.Hash) (io.ReaderAt, error) { return s.Open(h) }

// readAhead is how many bytes at most are fetched for a read that goes on from the one before; the
// first reads fetch less.
const readAhead = 8 << 20

// SessionReader reads one blob. What is missing is fetched when it is read, and a little ahead of
// reads that follow on each other. Its methods may not be called at the same time, except ReadAt.
type SessionReader struct{ *io.SectionReader }

var _ Reader = SessionReader{}

// sessionBlob is the blob that a SessionReader reads.
type sessionBlob struct {
	s    *Session
	h    blobs.Hash
	size uint64
	r    *blobs.Reader

	mu    sync.Mutex
	next  uint64 // where the last read ended
	ahead uint64 // bytes fetched ahead of it
}

// ReadAt implements io.ReaderAt.
func (r *sessionBlob) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.r.ReadAt(p, off)
	if !errors.Is(err, blobs.ErrIncomplete) {
		r.note(uint64(off) + uint64(n))
		return n, err
	}
	start := uint64(off) + uint64(n)
	end := min(uint64(off)+uint64(len(p)), r.size) + r.lookAhead(uint64(off))
	asked := blobs.Ranges{{Start: start, End: min(end, r.size)}}
	if err := r.s.ensure(Want{Hash: r.h, Ranges: asked}); err != nil {
		return n, err
	}
	n, err = r.r.ReadAt(p, off)
	r.note(uint64(off) + uint64(n))
	return n, err
}

func (r *sessionBlob) note(end uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = end
}

// lookAhead returns how many bytes are to be fetched beyond a read at off: none, unless it goes on
// where the last one ended.
func (r *sessionBlob) lookAhead(off uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off == 0 || off != r.next {
		r.ahead = 0
		return 0
	}
	r.ahead = min(max(2*r.ahead, 256<<10), readAhead)
	return r.ahead
}

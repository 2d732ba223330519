package replicas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// Anybody who may write to the replica can write entries whose content nobody gives, as many as
// they like. So a reader waits for content a little, and for little of it; and a key under which
// there is nothing else is free after a time, as it is as long as the entry itself has not come.
const (
	// contentWait is how long a reader waits for the content of a version that is on its way.
	contentWait = 2 * time.Second
	// After one vain wait, nobody waits for other content of the author for vainFor. With mostVain
	// such authors nobody waits for anybody.
	vainFor  = 30 * time.Second
	mostVain = 4
	// keptFor is for how long a key is neither read nor written after it was first found to have
	// nothing but content that has not come. mostKept is of how many keys that is remembered; of
	// others it is as if that time was over.
	keptFor  = time.Minute
	mostKept = 1 << 14
	// askWait is for how long whoever admits writes waits for the guard.
	askWait = time.Second
)

var errMissing = store.ErrNotCome

// patience remembers what was waited for in vain.
type patience struct {
	now func() time.Time

	mu   sync.Mutex
	vain map[replica.AuthorID]time.Time // until when an author is not waited for
	kept map[string]time.Time           // until when a key is neither read nor written
}

func newPatience(now func() time.Time) *patience {
	return &patience{
		now: now, vain: map[replica.AuthorID]time.Time{}, kept: map[string]time.Time{},
	}
}

// waits reports whether content of an author is to be waited for.
func (p *patience) waits(a replica.AuthorID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for a, until := range p.vain {
		if left := until.Sub(now); left <= 0 || left > vainFor { // or the clock has gone back
			delete(p.vain, a)
		}
	}
	_, vain := p.vain[a]
	return !vain && len(p.vain) < mostVain
}

// waited tells how a wait for content of an author has ended.
func (p *patience) waited(a replica.AuthorID, vain bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if vain {
		p.vain[a] = p.now().Add(vainFor)
	} else {
		delete(p.vain, a)
	}
}

// keeps reports whether a key, of which nothing has come, is not to be read or written yet.
func (p *patience) keeps(key string) bool { return p.keepsFor(key, keptFor, 0) }

// keepsFor reports whether something is to be waited for that is first waited for now, or less than
// some time ago; and again if that time was over another time ago, unless that is 0.
func (p *patience) keepsFor(key string, some, again time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	until, known := p.kept[key]
	if !known && len(p.kept) >= mostKept {
		return false
	}
	if !known || again > 0 && now.Sub(until) > again {
		until = now.Add(some)
		p.kept[key] = until
	}
	left := until.Sub(now)
	return left > 0 && left <= some // or the clock has gone back
}

// came tells that something has come under a key.
func (p *patience) came(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.kept, key)
}

type hurryKey struct{}

// hurried returns a context in which no content is waited for, and the guard has askWait for all of
// its answers: it may ask a chain, which takes as long as somebody likes.
func hurried(ctx context.Context) (context.Context, context.CancelFunc) {
	asking, cancel := context.WithTimeout(ctx, askWait)
	return context.WithValue(ctx, hurryKey{}, asking), cancel
}

// waits reports whether the content of an entry is to be waited for.
func (s *Store) waits(ctx context.Context, e *replica.Entry) bool {
	return ctx.Value(hurryKey{}) == nil && s.patience.waits(e.Author)
}

// asking returns the context in which the guard answers.
func asking(ctx context.Context) context.Context {
	if within, is := ctx.Value(hurryKey{}).(context.Context); is {
		return within
	}
	return ctx
}

// content reads the content of an entry, for which it waits a little if it is on its way; the error
// is errMissing if it does not come. Content of more than so many bytes is not read, nor is what
// has another size than its entry says: the error is an *unreadableError then.
func (s *Store) content(ctx context.Context, e *replica.Entry, most int64) ([]byte, error) {
	if e.Author == s.author.Author() { // which has kept to what could be stored then
		most = max(most, int64(e.Size))
	}
	if e.Size > uint64(most) {
		return nil, neverStored(e, fmt.Errorf("it has %d bytes, and what is read here at most %d",
			e.Size, most))
	}
	b, err := s.readAll(ctx, e, most)
	if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrIncomplete) {
		if err = s.wait(ctx, e); err == nil {
			b, err = s.readAll(ctx, e, most)
		}
	}
	return b, s.falseSize(e, err)
}

// wait waits for the content of an entry. The error is errMissing if it does not come, and a
// *content.SizeError if it will not come as the entry says.
func (s *Store) wait(ctx context.Context, e *replica.Entry) error {
	if !s.waits(ctx, e) {
		state, err := s.n.ContentOf(ctx, e)
		if err != nil {
			return err
		}
		if state == wanted.Missing || state == wanted.Partial {
			return errMissing
		}
	}
	within, cancel := context.WithTimeout(ctx, contentWait)
	defer cancel()
	err := s.n.WaitEntry(within, e)
	vain := err != nil && ctx.Err() == nil && within.Err() != nil
	if vain {
		err = errMissing
	}
	if err == nil || vain {
		s.patience.waited(e.Author, vain)
	}
	return err
}

// readAll reads the content of an entry. The error is blobs.ErrNotFound or blobs.ErrIncomplete if
// it is not all here, or will never be: of content in chunks, the list may be false, also if so
// much as it says can be read.
func (s *Store) readAll(ctx context.Context, e *replica.Entry, most int64) ([]byte, error) {
	r, err := s.n.OpenPlain(ctx, s.plain, e)
	if err != nil {
		return nil, err
	}
	if _, one := r.(*blobs.Reader); !one {
		state, err := s.n.ContentOf(ctx, e)
		if err == nil && state != wanted.Complete {
			err = blobs.ErrIncomplete
		}
		if err != nil {
			return nil, err
		}
	}
	if r.Size() > most { // of an entry that tells another length
		return nil, neverStored(e, fmt.Errorf("its content has %d bytes, not %d", r.Size(), e.Size))
	}
	b := make([]byte, r.Size())
	_, err = io.ReadFull(r, b)
	return b, err
}

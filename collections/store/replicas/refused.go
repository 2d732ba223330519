package replicas

import (
	"errors"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/replica"
)

// An author can write many versions of documents, and elements of logs, that do not count, and long
// ones: all may have the same content. To find out what they are takes much longer. So that is
// remembered, by entries.
const (
	// firstJunk is for how long a version does not count that has been found not to, without being
	// looked at again; each further time it is twice as long, up to lastJunk.
	firstJunk = 30 * time.Second
	lastJunk  = time.Hour
	mostJunk  = 1 << 15 // versions
	// An author of whom so many elements, or bytes of them, were looked at within wearsOff, and did
	// not count, is not looked at further until then, unless it is a server of the rules: of others it
	// cannot be told yet whether they do.
	mostLooks     = 10_000
	mostLookBytes = 256 << 20
	wearsOff      = time.Minute
	mostTiring    = 1 << 12 // authors
	// maxBehind is how many bytes of elements that do not count are read behind the last one that
	// does.
	maxBehind = 16 << 20
)

// junk remembers versions that do not count.
type junk struct {
	now func() time.Time

	mu     sync.Mutex
	of     map[[64]byte]verdict // by the signatures of their entries, which say all that they are
	tiring map[replica.AuthorID]looks
}

// looks are how many elements of an author were looked at since a time that do not count.
type looks struct {
	since time.Time
	n     int
	bytes uint64
}

var errTired = errors.New("its author has written too many elements that do not count")

// tired returns an error for an entry that is not looked at now, nil if it may be or is known.
func (j *junk) tired(e *replica.Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	l, is := j.tiring[e.Author]
	if _, known := j.of[e.Signature]; !is || known || l.n < mostLooks && l.bytes < mostLookBytes {
		return nil
	}
	if past := j.now().Sub(l.since); past < 0 || past >= wearsOff {
		delete(j.tiring, e.Author)
		return nil
	}
	return &undecidedError{errTired}
}

// tire notes a look at an entry that does not count. mu is held.
func (j *junk) tire(e *replica.Entry) {
	now := j.now()
	l := j.tiring[e.Author]
	if past := now.Sub(l.since); past < 0 || past >= wearsOff {
		l = looks{since: now}
	}
	l.n++
	l.bytes += e.Size
	if j.tiring == nil || len(j.tiring) >= mostTiring {
		j.tiring = map[replica.AuthorID]looks{}
	}
	j.tiring[e.Author] = l
}

// verdict is why a version does not count, and until when that is believed.
type verdict struct {
	why   error
	until time.Time
	wait  time.Duration
}

// why returns why a version does not count, nil if it must be looked at.
func (j *junk) why(e *replica.Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.of[e.Signature]
	if left := f.until.Sub(j.now()); left <= 0 || left > f.wait { // or the clock has gone back
		return nil
	}
	return f.why
}

// found tells what was found when a version was looked at, whose error is as of version.
func (j *junk) found(e *replica.Entry, err error) {
	var bad *unreadableError
	j.mu.Lock()
	defer j.mu.Unlock()
	if !errors.Is(err, ErrRefused) && !errors.As(err, &bad) {
		delete(j.of, e.Signature)
		return
	}
	j.tire(e)
	f := verdict{why: err, wait: min(max(firstJunk, 2*j.of[e.Signature].wait), lastJunk)}
	f.until = j.now().Add(f.wait)
	for old := range j.of {
		if len(j.of) < mostJunk {
			break
		}
		delete(j.of, old)
	}
	if j.of == nil {
		j.of = map[[64]byte]verdict{}
	}
	j.of[e.Signature] = f
}

// looked returns what look returns, unless it is remembered that a version does not count.
func (s *Store) looked(e *replica.Entry, look func() ([]byte, error)) ([]byte, error) {
	if why := s.junk.why(e); why != nil {
		return nil, why
	}
	b, err := look()
	s.junk.found(e, err)
	return b, err
}

// forget has all be looked at again, as by other rules.
func (j *junk) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.of, j.tiring = nil, nil
}

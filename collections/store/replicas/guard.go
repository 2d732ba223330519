package replicas

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/replica"
)

// ErrRefused reports a version that the rules do not allow. It is as if it was not there.
var ErrRefused = errors.New("the rules of the replica do not allow it")

// Guard says which versions of documents, files and elements of logs count, of those that authors
// of the replica have written. Its methods may be called by several goroutines at once.
type Guard interface {
	// InForce reports whether there are rules. Without them all versions count, and the other methods
	// are not called.
	InForce() bool
	// IsServer reports whether an author is a server that is believed to write nothing but what its
	// callers may: what does not count of that did so once, as before a caller was revoked.
	IsServer(a replica.AuthorID) bool
	// Attach returns the body of a document or an element with its proof, which may be nil.
	Attach(p *store.Proof, body []byte) []byte
	// Proof returns what is kept of the proof of a file, nil if there is none. It has no line's end.
	Proof(p *store.Proof) []byte
	// SignedAt returns when the request that has written a file was signed, in Unix milliseconds, or
	// when it was written, if it has no proof. Of several files that count the latest stands.
	SignedAt(v *Version) int64
	// Check returns the body of a version without its proof, or an error that is ErrRefused. Any other
	// error says that it cannot be told now.
	Check(ctx context.Context, v *Version) (body []byte, err error)
}

// Version is what an author has written under a key.
type Version struct {
	Key    string // of a document or file; of an element with NUL and its time behind it
	Kept   []byte // with the proof, but of a file
	Author replica.AuthorID
	Time   int64  // of the entry, in Unix milliseconds
	Media  string // of a file, "" of others
	Proof  []byte // of a file
}

// undecidedError reports a version of which cannot be told now whether it counts.
type undecidedError struct{ err error }

func (e *undecidedError) Error() string {
	return "it cannot be told now whether this counts: " + e.err.Error()
}
func (e *undecidedError) Unwrap() error { return e.err }

func isUndecided(err error) bool {
	var u *undecidedError
	return errors.As(err, &u)
}

// unreadableError reports a version that the codec cannot read.
type unreadableError struct {
	err   error
	never bool // no server has stored it
}

func (e *unreadableError) Error() string { return e.err.Error() }
func (e *unreadableError) Unwrap() error { return e.err }

// ruled reports whether there are rules.
func (s *Store) ruled() bool { return s.guard != nil && s.guard.InForce() }

func (s *Store) check(ctx context.Context, v *Version) ([]byte, error) {
	b, err := s.guard.Check(asking(ctx), v)
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, ErrRefused):
		return nil, fmt.Errorf("the version of author %s: %w", v.Author.String()[:10], err)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, &undecidedError{err}
}

// left are versions that are left out.
type left struct {
	missing    bool
	undecided  *undecidedError
	open       int   // how many of both there are
	unreadable error // the first one
	refused    error // the first one
	// more is how many others are unreadable: authors can write thousands.
	more int
	// never is the first one that no server has stored: it is as if it was not there, or anybody who
	// may write entries could keep a document from being made.
	never error
	// noElement is set if there is an entry that is no element of the log.
	noElement bool
}

// add notes why a version is left out; stop is what is no reason for that.
func (l *left) add(err error) (stop error) {
	var u *undecidedError
	var bad *unreadableError
	switch {
	case err == nil:
	case errors.Is(err, errMissing):
		l.missing = true
		l.open++
	case errors.As(err, &u):
		l.undecided = u
		l.open++
	case errors.As(err, &bad) && bad.never:
		l.never = cmp.Or(l.never, err)
	case errors.As(err, &bad):
		if l.unreadable != nil {
			l.more++
		} else {
			l.unreadable = err
		}
	case errors.Is(err, ErrRefused):
		l.refused = cmp.Or(l.refused, err)
	default:
		return err
	}
	return nil
}

// final reports whether what is left out stays so. What rules do not allow may be allowed later, as
// when somebody is given a role.
func (l *left) final() bool { return !l.missing && l.undecided == nil && l.refused == nil }

// reason says why there is nothing under a key, if nothing else is left; nil if there is nothing to
// tell of.
func (s *Store) reason(key string, l *left) error {
	switch {
	case l.undecided != nil:
		return l.undecided
	case l.unreadable != nil:
		return l.unreadable
	case l.missing && s.patience.keeps(key):
		return fmt.Errorf("%s: %w", key, errMissing)
	}
	return nil
}

// isLeftOut reports whether an error is one by which reason says that there may be something.
func isLeftOut(err error) bool {
	var u *undecidedError
	var bad *unreadableError
	return errors.Is(err, errMissing) || errors.As(err, &u) || errors.As(err, &bad)
}

// tell logs what is left out for good.
func (s *Store) tell(l *left) {
	if l.unreadable != nil {
		s.log.Error("what cannot be read is left out", "replica", s.id.Short(), "error", l.unreadable,
			"others", l.more)
	}
	if l.never != nil {
		s.log.Error("what no server stores is left out", "replica", s.id.Short(), "error", l.never)
	}
	if l.refused != nil {
		s.log.Debug(
			"what the rules do not allow is left out", "replica", s.id.Short(), "error", l.refused,
		) // of which the guard has told once
	}
}

// attach adds the proof of a request to what is kept.
func (s *Store) attach(p *store.Proof, body []byte) []byte {
	if !s.ruled() {
		return body
	}
	return s.guard.Attach(p, body)
}

// withProof is what is kept as the media type of a file.
func (s *Store) withProof(proof *store.Proof, media string) []byte {
	if s.ruled() {
		if p := s.guard.Proof(proof); p != nil {
			return append([]byte(media+"\n"), p...)
		}
	}
	return []byte(media)
}

// cutProof divides what is kept as the media type of a file.
func cutProof(kept []byte) (media string, proof []byte) {
	m, proof, _ := bytes.Cut(kept, []byte("\n"))
	return string(m), proof
}

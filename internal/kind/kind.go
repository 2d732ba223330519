// Package kind says what sort of failure an error is, so that whoever answers a person or a program
// need not know the packages that errors come from.
//
// What belongs here: the kinds, and how the kind of an error that wraps others is found. What
// never belongs here: exit codes and statuses, which the doors have in a table each.
//
// An error says its kind where it is made: with New, or by a method Kind of its type.
//
// Start at [Of].
package kind

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"syscall"
)

// Kind is a sort of failure. Its text travels in answers.
type Kind string

// The kinds. Failed is what has none.
const (
	Failed       Kind = "failed"
	Conflict     Kind = "conflict"     // something is there, or has changed, that is in the way
	NoSpace      Kind = "no_space"     // of a disk, or of what may be kept
	NotFound     Kind = "not_found"    // what was named is not here
	Usage        Kind = "usage"        // what was asked for cannot be meant
	Unreachable  Kind = "unreachable"  // a peer does not answer, or not in time
	NotAllowed   Kind = "not_allowed"  // whoever asks may not
	Verification Kind = "verification" // what is here, or came, is not what was signed or named
)

// order is that in which kinds count where an error has several: what a person can act on comes
// first, such as a peer that lied before one that did not answer.
var order = []Kind{
	Failed, Conflict, NoSpace, NotFound, Usage, Unreachable, NotAllowed, Verification,
}

func first(a, b Kind) Kind {
	if slices.Index(order, a) >= slices.Index(order, b) {
		return a
	}
	return b
}

// New returns an error with a text and a kind, to be compared with errors.Is.
func New(k Kind, text string) error { return &sentinel{k, text} }

type sentinel struct {
	kind Kind
	text string
}

func (s *sentinel) Error() string { return s.text }
func (s *sentinel) Kind() Kind    { return s.kind }

// Of returns the kind of an error: what its method Kind says, or the first kind of those that it
// wraps.
func Of(err error) Kind {
	if err == nil {
		return Failed
	}
	if k, ok := err.(interface{ Kind() Kind }); ok {
		return k.Kind()
	}
	switch w := err.(type) {
	case interface{ Unwrap() []error }:
		k := Failed
		for _, e := range w.Unwrap() {
			k = first(k, Of(e))
		}
		return k
	case interface{ Unwrap() error }:
		return Of(w.Unwrap())
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return NotAllowed
	case errors.Is(err, context.DeadlineExceeded):
		return Unreachable
	case errors.Is(err, fs.ErrNotExist):
		return NotFound
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return NoSpace
	}
	return Failed
}

// With returns k, or the kind of a cause if that comes first: for errors that have a kind and wrap
// another one.
func With(k Kind, causes ...error) Kind {
	for _, err := range causes {
		k = first(k, Of(err))
	}
	return k
}

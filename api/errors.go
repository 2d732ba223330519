package api

import (
	"context"
	"errors"
	"io/fs"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/ticket"
)

// AsError gives err its kind. Where several apply, what a person can act on comes first: a peer
// that lied before one that did not answer.
func AsError(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return &Error{known.Kind, plain(err)}
	}
	return &Error{kindOf(err), plain(err)}
}

func is[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

func kindOf(err error) Kind {
	var ref *blobs.ReferenceError
	if kind, ok := kindOfKeyring(err); ok {
		return kind
	}
	if kind, ok := kindOfProject(err); ok {
		return kind
	}
	if kind, ok := kindOfSeed(err); ok {
		return kind
	}
	switch {
	case errors.As(err, &ref) && ref.Err == nil:
		return Verification
	case is[*blobs.CorruptError](err), is[*kv.CorruptError](err), is[*node.SizeError](err), isAny(err, replica.ErrBadSignature, seal.ErrSealed):
		return Verification
	case is[*replica.NotAllowedError](err), isAny(err, replica.ErrCannotGrant, replica.ErrNoReadKey), errors.Is(err, fs.ErrPermission):
		return NotAllowed
	case is[*node.InviteError](err) && !is[*node.PendingInviteError](err):
		return NotAllowed
	case is[*node.UnreachableError](err), is[*node.PendingInviteError](err), isAny(err, context.DeadlineExceeded, node.ErrNotShared):
		return Unreachable
	case isAny(
		err, ticket.ErrNotTicket, ticket.ErrMistyped, ticket.ErrCutShort, ticket.ErrTooLong,
		ticket.ErrNewer, ticket.ErrNoAddresses, ticket.ErrWrongKind, blobs.ErrNotHash,
		blobs.ErrPinName, blobs.ErrAmbiguous, node.ErrOwnInvite, replica.ErrBadName,
		replica.ErrAmbiguous, replica.ErrKeyTooLong, replica.ErrEmptyValue, seal.ErrName,
	), is[*disk.NotRegularError](err):
		return Usage
	case isAny(err, blobs.ErrNotFound, blobs.ErrPinNotFound, replica.ErrNotFound, fs.ErrNotExist), is[*node.MissingError](err):
		return NotFound
	}
	return Failed
}

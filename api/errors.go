package api

import (
	"errors"

	"github.com/skerry-sync/skerry/internal/kind"
)

// AsError gives err its kind: that of an *Error that it wraps, or what package kind says.
func AsError(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return &Error{known.Kind, plain(err)}
	}
	return &Error{kind.Of(err), plain(err)}
}

func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

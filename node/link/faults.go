package link

import (
	"errors"
	"io"
)

// NoEOF returns err, or io.ErrUnexpectedEOF if a stream has ended where something was to come.
func NoEOF(err error) error {
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ResetAfterFault is deferred by whoever has opened a stream: a panic, which goes on, ends the
// stream.
func ResetAfterFault(s Stream) {
	if v := recover(); v != nil {
		_ = s.Reset() // the peer may be gone
		panic(v)
	}
}

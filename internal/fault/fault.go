// Package fault keeps a panic from ending the process: it becomes the error of the work that
// panicked.
//
// A panic is a mistake of the program, mostly about bytes of somebody else that it did not expect.
// It must cost the session, request or fetch at hand, and nothing else. Whoever starts a goroutine
// that works on such bytes runs that work with [Call], treats the error like any other, and hands
// it to [Report], so that the stack is in the log once.
//
// What belongs here: catching and telling. What never belongs here: errors that are expected, and
// what to do after one.
//
// Start at [Call].
package fault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// An Error is a panic that was caught.
type Error struct {
	Value any    // of the panic
	Stack string // where it happened
	told  atomic.Bool
}

func (e *Error) Error() string { return "a fault in skerry itself; the log has a report" }

// Unwrap gives the error that was the value of the panic, if it was one.
func (e *Error) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Call calls fn. If fn panics, the error is an *Error.
func Call(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Error{Value: v, Stack: string(debug.Stack())}
		}
	}()
	return fn()
}

// Report writes a panic in err to the log, unless that has been done before: what was going on,
// args as for slog, the value and the stack. It returns err, and does nothing about other errors.
func Report(log *slog.Logger, err error, what string, args ...any) error {
	if e, is := errors.AsType[*Error](err); is && e.told.CompareAndSwap(false, true) {
		log.Error("a fault in skerry itself ended "+what,
			append(args, "fault", fmt.Sprint(e.Value), "stack", e.Stack)...)
	}
	return err
}

// Guard is Call and Report.
func Guard(log *slog.Logger, what string, fn func() error, args ...any) error {
	return Report(log, Call(fn), what, args...)
}

// Pause is how long Keep waits before it goes on after a panic.
const Pause = time.Minute

// Keep calls fn, which works until ctx ends, and calls it again a while after a panic: one that
// looks after many things must not cease because of one of them.
func Keep(ctx context.Context, log *slog.Logger, what string, fn func(context.Context)) {
	for ctx.Err() == nil {
		err := Guard(log, what, func() error { fn(ctx); return nil })
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(Pause):
		}
	}
}

package kv

import "context"

type roomKey struct{}

// ToMakeRoom returns a context for what removes things, or is needed before anything can be
// removed: its Updates and Batches go on when the file system is so full that others get a
// *NoSpaceError, as long as there is the little room that they need. It must not be used for what
// grows with use, or nothing will be left for removing.
func ToMakeRoom(ctx context.Context) context.Context {
	return context.WithValue(ctx, roomKey{}, true)
}

// MakesRoom reports whether ctx is one of ToMakeRoom.
func MakesRoom(ctx context.Context) bool { return ctx.Value(roomKey{}) != nil }

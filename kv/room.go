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

// DeleteAll deletes keys of a store, also on a full disk. Without keys it begins no transaction.
func DeleteAll(ctx context.Context, s Store, keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	return s.Batch(ToMakeRoom(ctx), func(w Writer) error {
		for _, k := range keys {
			if err := w.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

package blobs

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
)

const (
	// roomLook is after how many written bytes Room looks how much is free.
	roomLook = 16 << 20
	// roomReserve is how many bytes Room leaves to others.
	roomReserve = 64 << 20
)

// Room watches how much is free where content is written to. What a hash names can be far larger
// than all that was fetched, since a file in chunks may name one chunk millions of times.
type Room struct {
	dir    string
	free   func(dir string) (uint64, error)
	cancel context.CancelCauseFunc

	mu   sync.Mutex
	next uint64 // written bytes at which it looks again
}

// NewRoom returns the Room of a file or directory that is to be written with size bytes, and a
// context for that. The context ends when hardly anything is left. NewRoom returns an error of the
// kind NoSpace if size bytes are more than what is free and what the store has together: where the
// file system can, it shares the blocks of the store.
func (s *Store) NewRoom(
	ctx context.Context, name string, size uint64,
) (context.Context, *Room, error) {
	r := &Room{dir: filepath.Dir(name), free: s.files.FreeIn, next: roomLook}
	if size > roomLook {
		left, err := r.free(r.dir)
		if err != nil {
			return ctx, nil, err
		}
		if shared := s.files.Used(); size > left && size-left > shared {
			return ctx, nil, kind.New(kind.NoSpace, fmt.Sprintf(
				"disk full: %s has %d MiB left for %d MiB; make room and try again",
				r.dir, left>>20, size>>20))
		}
	}
	ctx, r.cancel = context.WithCancelCause(ctx)
	return ctx, r, nil
}

// Wrote is told how many bytes have been written in all.
func (r *Room) Wrote(written uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if written < r.next {
		return
	}
	r.next = written + roomLook
	// What cannot be found out now is found out the next time.
	if left, err := r.free(r.dir); err == nil && left < roomReserve {
		r.cancel(&kv.NoSpaceError{Dir: r.dir, Free: left, Reserve: roomReserve})
	}
}

// End ends the context, and returns err, the error of what was done with it, or why the context has
// ended.
func (r *Room) End(ctx context.Context, err error) error {
	if why := context.Cause(ctx); err != nil && why != nil {
		err = why
	}
	r.cancel(nil)
	return err
}

package wanted

import (
	"context"
	"errors"
	"sync"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/replica"
)

// arrivals tells those who wait for content that some has come.
type arrivals struct {
	mu   sync.Mutex
	next chan struct{}
}

func (a *arrivals) publish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next != nil {
		close(a.next)
		a.next = nil
	}
}

// wait returns a channel that is closed when the next content has come.
func (a *arrivals) wait() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == nil {
		a.next = make(chan struct{})
	}
	return a.next
}

// Arrived returns a channel that is closed when the next content of any entry has come.
func (l *List) Arrived() <-chan struct{} { return l.arrived.wait() }

// WaitContent waits until the content that somebody names by hash and size is all here, or ctx
// ends. It returns a *content.SizeError if what is here of it shows that the size is wrong.
func (l *List) WaitContent(ctx context.Context, h blobs.Hash, size uint64) error {
	return l.wait(ctx, func() (State, error) { return l.State(ctx, h, size) }, func() error {
		info, err := l.blobs.Stat(ctx, h)
		return errors.Join(&content.SizeError{Hash: h, Want: size, Have: info.Size}, err)
	})
}

// WaitEntry waits until the content of an entry is all here, or ctx ends. It returns a
// *content.SizeError if the size that the entry gives turns out to be wrong.
func (l *List) WaitEntry(ctx context.Context, e *replica.Entry) error {
	state := func() (State, error) { return l.States().Of(ctx, e) }
	return l.wait(ctx, state, func() error { return l.wrongSize(ctx, e) })
}

func (l *List) wait(
	ctx context.Context, look func() (State, error), wrong func() error,
) error {
	for {
		wait := l.arrived.wait()
		switch state, err := look(); {
		case err != nil || state == Complete:
			return err
		case state == Refuted:
			return wrong()
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wrongSize is the error for an entry whose claim is refuted.
func (l *List) wrongSize(ctx context.Context, e *replica.Entry) error {
	proved := uint64(0)
	err := l.kv.View(ctx, func(r kv.Reader) error {
		info, err := blobs.StatIn(r, e.Hash)
		if err == nil || !errors.Is(err, blobs.ErrNotFound) {
			proved = info.Size
			return err
		}
		return r.Peek(refutedKey(wantedKey(e)), func(v []byte) error {
			w, err := Parse(kv.Pair{Key: refutedKey(wantedKey(e)), Value: v})
			proved = w.Proved
			return err
		})
	})
	if err != nil {
		return err
	}
	return &content.SizeError{Hash: e.Hash, Want: e.Size, Have: proved}
}

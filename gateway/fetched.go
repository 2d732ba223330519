package gateway

import (
	"context"
	"errors"
	"sync"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/content"
)

// What the gateway fetches stays in the node's store, where the next request finds it. But any web
// page can have a gateway fetch content, of any size. So it takes no more room than it leaves: when
// it has fetched as many bytes as may still come, it removes what it has fetched and nothing keeps
// (no pin, no entry, no request), and refuses to fetch more if that does not help.

const (
	// roomLook is after how many fetched bytes it is looked how many may still come.
	roomLook = 64 << 20
	// maxFetched is how many blobs are remembered that the gateway has fetched. They are looked
	// through when there are more.
	maxFetched = 1 << 16
)

// errNoRoom reports that requests that are being answered hold as much as is left.
var errNoRoom = errors.New("what the gateway has fetched takes as much room as is left: " +
	"try again later, or fetch it with skerry get")

// fetched knows what the gateway has fetched. Its methods may be called from many goroutines.
type fetched struct {
	node interface {
		StorageLeft() (uint64, error)
		CollectOnly(ctx context.Context, only func(blobs.Hash) bool) error
		Blobs() *blobs.Store
	}
	most      int        // maxFetched, but in tests
	look      uint64     // roomLook, but in tests
	tidying   sync.Mutex // held by who removes
	mu        sync.Mutex
	blobs     map[blobs.Hash]bool
	running   uint64 // bytes fetched for requests that are being answered
	ended     uint64 // for those that have been, since it was last removed
	nextCheck uint64 // bytes of both at which it is looked again
}

func newFetched(n *node.Node) *fetched {
	return &fetched{
		node: n, most: maxFetched, look: roomLook, nextCheck: roomLook, blobs: map[blobs.Hash]bool{},
	}
}

// one is what is fetched for one request. It implements content.Watch.
type one struct {
	of    *fetched
	ctx   context.Context
	bytes uint64
}

var _ content.Watch = (*one)(nil)

// Before implements content.Watch.
func (x *one) Before() error {
	f := x.of
	f.mu.Lock()
	bytes, many := f.running+f.ended, len(f.blobs) >= f.most
	due := many || bytes >= f.nextCheck
	f.mu.Unlock()
	if !due {
		return nil
	}
	left, err := f.node.StorageLeft()
	if err != nil {
		return err
	}
	if !many && bytes < left {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.nextCheck = bytes + min(f.look, left-bytes)
		return nil
	}
	if err := f.tidy(x.ctx); err != nil {
		return err
	}
	if left, err = f.node.StorageLeft(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if bytes = f.running + f.ended; bytes >= left {
		return errNoRoom
	}
	f.nextCheck = bytes + min(f.look, left-bytes)
	return nil
}

// Brought implements content.Watch.
func (x *one) Brought(h blobs.Hash, isNew bool, bytes uint64) {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	if isNew {
		x.of.blobs[h] = true
	}
	x.bytes += bytes
	x.of.running += bytes
}

// end is called when the request has been answered.
func (x *one) end() {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	x.of.running -= x.bytes
	x.of.ended += x.bytes
}

// tidy removes what the gateway has fetched and nothing keeps.
func (f *fetched) tidy(ctx context.Context) error {
	f.mu.Lock()
	before := f.ended
	f.mu.Unlock()
	f.tidying.Lock()
	defer f.tidying.Unlock()
	f.mu.Lock()
	if f.ended < before { // another has just done it
		f.mu.Unlock()
		return nil
	}
	some := make(map[blobs.Hash]bool, len(f.blobs))
	for h := range f.blobs {
		some[h] = true
	}
	before = f.ended
	f.mu.Unlock()
	if err := f.node.CollectOnly(ctx, func(h blobs.Hash) bool { return some[h] }); err != nil {
		return err
	}
	for h := range some {
		switch _, err := f.node.Blobs().Stat(ctx, h); {
		case err == nil:
			delete(some, h)
		case !errors.Is(err, blobs.ErrNotFound):
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for h := range some { // the others are in use, or kept by something
		delete(f.blobs, h)
	}
	if len(f.blobs) > f.most/2 {
		clear(f.blobs) // most of it has come to be kept
	}
	f.ended -= before
	return nil
}

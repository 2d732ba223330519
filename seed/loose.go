package seed

import (
	"context"
	"time"

	"github.com/skerry-sync/skerry/blobs"
)

const (
	// vainShare bounds what collections of garbage that free little may take: one part in so many of
	// the time.
	vainShare = 20
	// leastRest is how long the seed rests at least after such a collection, and growthEvery how often
	// it looks meanwhile whether the content has grown.
	leastRest   = time.Second
	growthEvery = time.Second
)

// loosening collects garbage whenever a quota's worth of content is charged to nobody any more.
//
// A collection looks at everything that is kept, for all identities. But what was charged may never
// have been stored, or somebody else has it kept as well: an entry that claims a gigabyte costs its
// writer some bytes, and another that replaces it as few. So after a collection that has freed less
// than half a quota, the next one waits until both took no more than a part of the time, or until
// as much as a quota has been stored since, which cannot be had for nothing.
type loosening struct {
	bell    <-chan struct{}
	begin   func() // a collection: what is loosened from now on counts for the next one
	collect func(context.Context) (blobs.Collected, error)
	stored  func() uint64 // bytes of content on the disk
	quota   uint64
}

func (l *loosening) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.bell:
		}
		l.begin()
		start := time.Now()
		got, err := l.collect(ctx)
		if err != nil || got.RemovedBytes < l.quota/2 {
			l.rest(ctx, max(leastRest, vainShare*time.Since(start)))
		}
	}
}

// rest waits for so long, or until the content has grown by a quota.
func (l *loosening) rest(ctx context.Context, long time.Duration) {
	over := time.NewTimer(long)
	defer over.Stop()
	look := time.NewTicker(growthEvery)
	defer look.Stop()
	before := l.stored()
	for {
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			return
		case <-look.C:
			if now := l.stored(); now > before && now-before >= l.quota {
				return
			}
		}
	}
}

// collectLoose collects what nobody is charged for any more.
func (s *Seed) collectLoose(ctx context.Context) {
	l := loosening{
		bell: s.reg.looseBell, begin: func() { s.reg.loose.Store(0) }, quota: s.reg.limits.Bytes,
		stored: s.n.StorageUsed,
		collect: func(ctx context.Context) (blobs.Collected, error) {
			got, err := s.n.Collect(ctx, false, nil)
			if err != nil && ctx.Err() == nil {
				s.log.Error("collecting what nobody is charged for", "error", err)
			}
			if err == nil {
				s.log.Info("collected what nobody is charged for",
					"removed", got.Removed, "bytes", got.RemovedBytes)
			}
			return got, err
		},
	}
	l.run(ctx)
}

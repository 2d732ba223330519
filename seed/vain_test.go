package seed

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// Claims of content that never comes, replaced over and over, have a seed collect garbage for a
// small part of the time; what really is stored and let go is collected at once.
func TestVainCollectionsTakeLittleTime(t *testing.T) {
	const quota, took = 1 << 30, time.Minute
	for name, c := range map[string]struct {
		frees     uint64 // by each collection
		grows     uint64 // in an hour
		fails     error
		collected int // in ten hours
	}{
		"claims alone":        {collected: 29},
		"less than half":      {frees: quota/2 - 1, collected: 29},
		"it fails":            {fails: errors.New("the disk is full"), collected: 29},
		"stored and replaced": {frees: quota, collected: 599},
		"it grows meanwhile":  {grows: quota * 10, collected: 86},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				bell, start, collected := make(chan struct{}, 1), time.Now(), 0
				l := loosening{
					bell: bell, quota: quota, begin: func() { bell <- struct{}{} },
					stored: func() uint64 {
						return uint64(time.Since(start)/time.Second) * c.grows / 3600
					},
					collect: func(ctx context.Context) (blobs.Collected, error) {
						select {
						case <-ctx.Done():
						case <-time.After(took):
						}
						collected++
						return blobs.Collected{RemovedBytes: c.frees}, c.fails
					},
				}
				bell <- struct{}{}
				go l.run(ctx)
				time.Sleep(10*time.Hour - time.Second)
				synctest.Wait()
				require.Equal(t, c.collected, collected)
			})
		})
	}
}

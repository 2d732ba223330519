package replica

import (
	"context"
	"fmt"
	"sync"

	"github.com/skerry-sync/skerry/internal/fault"
)

// maxInserting is how many batches of entries an Inserter holds that are not stored yet.
const maxInserting = 4

// Inserter stores entries of one replica that come one after the other: while some are stored, the
// next are verified, on all cores. Add and Flush may be called at the same time. It must be closed,
// after that.
type Inserter struct {
	s    *Store
	ctx  context.Context
	id   ID
	from Origin

	adding sync.Mutex // guards the batch, and the order of jobs
	batch  []Entry
	size   int // bytes of it

	jobs    chan *insertJob // in the order they came
	running sync.WaitGroup

	mu  sync.Mutex
	out Inserted
	err error
}

// insertJob is a batch on its way, or a flush.
type insertJob struct {
	ready chan struct{} // closed when the batch is verified
	good  []Entry
	out   Inserted // what was passed over
	err   error
	flush chan struct{} // closed when all before is stored
}

// NewInserter returns an inserter for the replica id. Entries are said to come from the origin
// given. What has been added is stored even if ctx ends: it is not much.
func (s *Store) NewInserter(ctx context.Context, id ID, from Origin) *Inserter {
	x := &Inserter{
		s: s, ctx: context.WithoutCancel(ctx), id: id, from: from,
		jobs: make(chan *insertJob, maxInserting),
	}
	x.running.Go(x.store)
	return x
}

// Add takes encoded entries, and copies them. It waits while many are not stored yet. The error is
// the first of all entries until now, as Insert would return it; after one, no more are taken.
func (x *Inserter) Add(items [][]byte) error {
	x.adding.Lock()
	defer x.adding.Unlock()
	total := 0
	for _, b := range items {
		total += len(b)
	}
	kept := make([]byte, 0, total)
	for _, b := range items {
		kept = append(kept, b...)
		e, err := ParseEntry(kept[len(kept)-len(b):])
		if err != nil {
			x.fail(err) // the good ones among its neighbours are kept
			continue
		}
		x.batch = append(x.batch, e)
		if x.size += len(b); len(x.batch) >= batchSize || x.size >= insertBytes {
			x.verify()
		}
	}
	return x.failed()
}

// verify sends the batch on its way; the caller holds the lock, or is alone.
func (x *Inserter) verify() {
	if len(x.batch) == 0 {
		return
	}
	job, batch := &insertJob{ready: make(chan struct{})}, x.batch
	x.batch, x.size = nil, 0
	x.running.Go(func() {
		defer close(job.ready)
		err := fault.Call(func() error {
			job.good, job.out, job.err = x.s.check(x.id, batch)
			return nil
		})
		if err != nil {
			job.good, job.err = nil, err
		}
	})
	x.jobs <- job
}

// Flush returns when everything added has been stored, with the first error of all.
func (x *Inserter) Flush() error {
	x.adding.Lock()
	x.verify()
	job := &insertJob{flush: make(chan struct{})}
	x.jobs <- job
	x.adding.Unlock()
	<-job.flush
	return x.failed()
}

// Close flushes and ends the inserter. It returns what became of the entries, without those that
// were added, and the first error of all.
func (x *Inserter) Close() (Inserted, error) {
	x.verify()
	close(x.jobs)
	x.running.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out, x.err
}

// store puts verified batches into the store until there are no more.
func (x *Inserter) store() {
	for job := range x.jobs {
		if job.flush != nil {
			close(job.flush)
			continue
		}
		<-job.ready
		if x.failed() == nil {
			x.storeOne(job)
		}
	}
}

func (x *Inserter) storeOne(job *insertJob) {
	out, refused := job.out, job.err
	lock := x.s.writes.of(x.id)
	lock.Lock()
	err := fault.Call(func() error {
		return x.s.store(x.ctx, x.id, job.good, x.from, &out, &refused)
	})
	lock.Unlock()
	if err != nil {
		refused = fmt.Errorf("insert into replica %s: %w", x.id.Short(), err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.out.Known += out.Known
	x.out.Later += out.Later
	x.out.Void += out.Void
	x.out.NoRoom += out.NoRoom
	x.err = firstOf(x.err, refused)
}

func (x *Inserter) fail(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.err = firstOf(x.err, err)
}

func (x *Inserter) failed() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

package replicas

import (
	"context"
	"sync"
	"time"
)

// What waits for nobody is done together with others, as that costs less: with so many, or with
// those that come within a time, which is longer while many come.
const (
	company     = 1024
	companyTime = 10 * time.Millisecond
	busy        = 64 // were done together the last time
	busyTime    = 50 * time.Millisecond
)

// queue holds the writes that have been taken and are not in the replica yet, in their order.
type queue struct {
	mu       sync.Mutex
	waiting  []*put
	under    int             // writes that are being done
	late     int             // that are aside, and count as finished
	objects  map[string]*put // of both, the last of each key
	added    uint64
	finished uint64
	bytes    int // of content, of both
	last     int // how many were done together the last time
	ended    bool
	hurry    int       // how many wait for what has been added
	since    time.Time // when the first of waiting came

	wake     chan struct{} // holds one, when something has been added, or the queue has ended
	progress chan struct{} // closed when something has been finished
}

func newQueue() *queue {
	return &queue{
		objects: map[string]*put{}, wake: make(chan struct{}, 1), progress: make(chan struct{}),
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) add(all []*put) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.since = time.Now()
	}
	q.waiting = append(q.waiting, all...)
	q.added += uint64(len(all))
	for _, p := range all {
		q.bytes += p.size()
		if !p.element {
			q.objects[p.key] = p
		}
		if p.record == nil {
			q.hurry++
		}
	}
	q.signal()
}

// end lets next return what there is, and then nothing.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.signal()
}

// next returns writes that are to be done together; none if there are none for some time, or if the
// queue has ended, and then more is false.
func (q *queue) next(wait time.Duration) (all []*put, more bool) {
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		q.mu.Lock()
		within := companyTime
		if q.last >= busy {
			within = busyTime
		}
		if left := within - time.Since(q.since); len(q.waiting) > 0 && len(q.waiting) < company &&
			q.hurry == 0 && !q.ended && left > 0 {
			q.mu.Unlock()
			t.Reset(left)
			select {
			case <-q.wake:
			case <-t.C:
			}
			t.Reset(wait)
			continue
		}
		size, n := 0, 0
		for n < len(q.waiting) && n < atOnce && size < atOnceBytes {
			size += q.waiting[n].size()
			n++
		}
		if n > 0 {
			all = append(all, q.waiting[:n]...)
			clear(q.waiting[:n])
			if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
				q.waiting = nil
			}
			q.under, q.last = n, n
		}
		more = !q.ended
		q.mu.Unlock()
		if n > 0 || !more {
			return all, more
		}
		select {
		case <-q.wake:
		case <-t.C:
			return nil, true
		}
	}
}

// done tells that writes which next has returned are done.
func (q *queue) done(all []*put) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range all {
		if q.objects[p.key] == p {
			delete(q.objects, p.key)
		}
		if p.late {
			q.late--
			continue
		}
		if p.record == nil {
			q.hurry--
		}
		q.finish(p)
	}
	close(q.progress)
	q.progress = make(chan struct{})
}

// finish has nobody wait for a write. mu is held.
func (q *queue) finish(p *put) {
	q.bytes -= p.size()
	q.under--
	q.finished++
}

// aside has nobody wait for a write, which is done later: who reads gets it.
func (q *queue) aside(p *put) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p.late = true
	q.late++
	q.finish(p)
	close(q.progress)
	q.progress = make(chan struct{})
}

// isLate reports whether the last write of a key is aside.
func (q *queue) isLate(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.objects[key]
	return p != nil && p.late
}

// forget tells that nothing more is done.
func (q *queue) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finished, q.bytes = q.added, 0
	close(q.progress)
	q.progress = make(chan struct{})
}

// object returns the last write of a key, if it is not in the replica yet.
func (q *queue) object(key string) *put {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.objects[key]
}

// isEmpty reports whether nothing is left to do but what is aside.
func (q *queue) isEmpty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) == 0 && q.under == 0
}

// room waits until not too many writes wait.
func (q *queue) room(ctx context.Context) error {
	return q.until(ctx, func() bool {
		return q.added-q.finished < maxWaiting &&
			q.bytes < maxWaitingBytes
	})
}

// settled waits until what has been added is in the replica, or aside.
func (q *queue) settled(ctx context.Context) error {
	q.mu.Lock()
	added := q.added
	if q.finished >= added {
		q.mu.Unlock()
		return nil
	}
	q.hurry++
	q.signal()
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.hurry--
		q.mu.Unlock()
	}()
	return q.until(ctx, func() bool { return q.finished >= added })
}

func (q *queue) until(ctx context.Context, is func() bool) error {
	for {
		q.mu.Lock()
		ok, progress := is(), q.progress
		q.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

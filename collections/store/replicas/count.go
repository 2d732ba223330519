package replicas

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/replica"
)

// Any author can write entries below a log that do not count. How many do can be found out only by
// looking at all; so what was found is remembered, and what has come since is taken to count.
const (
	// recount is after how long, at least, a log is counted again, and recountShare how many times as
	// long as counting took.
	recount      = time.Second
	recountShare = 20
	mostCounts   = 1 << 12 // logs
)

// counts remembers how many elements of logs count.
type counts struct {
	mu sync.Mutex
	of map[string]count
}

// count is what was found in a log.
type count struct {
	entries  int64 // that there were
	elements int64 // that count
	again    time.Time
}

func (c *counts) get(key string) (was count, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, known = c.of[key]
	return was, known
}

func (c *counts) put(key string, now count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for old := range c.of {
		if len(c.of) < mostCounts {
			break
		}
		delete(c.of, old)
	}
	if c.of == nil {
		c.of = map[string]count{}
	}
	c.of[key] = now
}

// forget has all logs be counted again, as by other rules.
func (c *counts) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of = nil
}

// Count implements store.Logs.
func (s *Store) Count(ctx context.Context, key string, most int64) (int64, error) {
	length, err := s.Length(ctx, key, maxTime)
	if err != nil {
		return 0, err
	}
	was, known := s.counts.get(key)
	if known && length.All >= was.entries {
		atMost := was.elements + length.All - was.entries
		if wait := was.again.Sub(s.n.Now()); atMost < most || wait > 0 && wait <= time.Hour {
			return atMost, nil
		}
	}
	began := time.Now()
	now := count{entries: length.All}
	if now.elements, err = s.countUpTo(ctx, key, most); err != nil {
		return 0, err
	}
	now.again = s.n.Now().Add(min(time.Hour, max(recount, recountShare*time.Since(began))))
	s.counts.put(key, now)
	return now.elements, nil
}

// countUpTo looks at the elements of a log until most of them count, which those do of which it
// cannot be told.
func (s *Store) countUpTo(ctx context.Context, key string, most int64) (n int64, err error) {
	ctx, cancel := hurried(ctx)
	defer cancel()
	q := replica.Query{Prefix: logPrefix(key), Reverse: true}
	for it, err := range s.plain.Entries(ctx, q) {
		if err != nil {
			return 0, err
		}
		t, ok := timeIn(key, it.Key)
		if !ok {
			continue
		}
		_, err := s.element(ctx, key, t, &it.Entry)
		var out left
		if stop := out.add(err); stop != nil {
			return 0, stop
		}
		if out.refused != nil || out.never != nil || out.unreadable != nil || errors.Is(err, errTired) {
			continue
		}
		if n++; n >= most {
			break
		}
	}
	return n, nil
}

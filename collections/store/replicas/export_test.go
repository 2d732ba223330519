package replicas

import (
	"context"
	"slices"

	"github.com/skerry-sync/skerry/collections/store"
)

// KeptFor is for how long a key is kept for content that has not come, for tests.
const KeptFor = keptFor

// Of elements that do not count, for tests.
const (
	FirstJunk     = firstJunk
	MaxBehind     = maxBehind
	MostLookBytes = mostLookBytes
	UndecidedFor  = undecidedFor
	MissingFor    = missingFor
)

// Of the journal, for tests.
const (
	MaxInMemory = maxInMemory
	MaxJournal  = maxJournal
)

// HasNoneAside reports whether no write waits for the clock.
func (s *Store) HasNoneAside() bool {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return s.queue.late == 0
}

// Misses reports whether a cursor says that an element of a time is missing.
func Misses(text string, time int64) bool {
	c, err := parseCursor(text)
	return err == nil && slices.ContainsFunc(c.missing, func(m place) bool { return m.time == time })
}

// HasWaited reports whether some content was waited for in vain.
func (s *Store) HasWaited() bool { return len(s.patience.vain) > 0 }

// Admit says what the writer of the journal answers to a write.
func (s *Store) Admit(ctx context.Context, key string, o *store.Object, c store.Condition) error {
	s.journaling.Lock()
	defer s.journaling.Unlock()
	p := newPut(key, o, o.Body, c)
	p.err = make(chan error, 1)
	if taken := s.admit(ctx, []*put{p}, false); len(taken) > 0 {
		return nil
	}
	return <-p.err
}

// Filter is the filter, for tests.
type Filter struct{ f *filter }

func NewFilter() Filter                   { return Filter{newFilter()} }
func (f Filter) Add(key string)           { f.f.add(key) }
func (f Filter) Excludes(key string) bool { return f.f.excludes(key) }
func (f Filter) Miss()                    { f.f.miss() }
func (f Filter) Complete()                { f.f.complete(f.f.times()) }
func Excludes(s *Store, key string) bool  { return s.filter.excludes(key) }

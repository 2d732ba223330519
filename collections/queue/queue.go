// Package queue announces what has been written to collections, on a queue that others read.
//
// What belongs here: the form of messages, which messages there are, and the bounded buffer between
// writes and the queue. What never belongs here: the writes themselves, and connections to queues
// of other makers, which have packages of their own below this one.
//
// Start at NewAnnouncer. Messages are those of docs/protocol/starfish-v3.md, "Queue messages".
package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/fault"
)

// ErrRefused reports a message that a queue will never take, whatever happens; it is dropped, so
// that those behind it are not held up.
var ErrRefused = errors.New("the queue does not take such messages")

// Queue takes messages. Publish returns when a message is where it survives; id is the same if one
// is published again, as it is not known whether it has been before. It returns an error that is
// ErrRefused for what need not be tried again.
type Queue interface {
	Publish(ctx context.Context, subject, id string, message []byte) error
	Close() error
}

// Message is one that has been published.
type Message struct {
	Subject string
	ID      string
	Body    []byte
}

// Memory keeps the last Limit messages in memory, for programs that hold the server and for tests.
// Its methods may be called by several goroutines at once.
type Memory struct {
	Limit int // 0 is 1,000

	mu  sync.Mutex
	all []Message
}

// Publish implements Queue.
func (m *Memory) Publish(_ context.Context, subject, id string, message []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	limit := m.Limit
	if limit == 0 {
		limit = 1000
	}
	if len(m.all) >= limit {
		m.all = append(m.all[:0:0], m.all[len(m.all)-limit+1:]...)
	}
	m.all = append(m.all, Message{subject, id, message})
	return nil
}

// Close implements Queue.
func (m *Memory) Close() error { return nil }

// Messages returns those that are kept, the oldest first.
func (m *Memory) Messages() []Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Message(nil), m.all...)
}

// Func is a Queue that hands messages to a function.
type Func func(ctx context.Context, subject, id string, message []byte) error

// Publish implements Queue.
func (f Func) Publish(ctx context.Context, subject, id string, message []byte) error {
	return f(ctx, subject, id, message)
}

// Close implements Queue.
func (f Func) Close() error { return nil }

// Bounds of what waits for a queue that is away.
const (
	MaxWaiting      = 1 << 16  // messages
	MaxWaitingBytes = 64 << 20 // of their bodies
)

const (
	// before a message that was not taken is tried again; each later one waits twice as long
	firstWait = 100 * time.Millisecond
	maxWait   = 10 * time.Second
	drainTime = 5 * time.Second // for what waits when an Announcer is closed
)

// Stats count messages.
type Stats struct{ Published, Failed, Dropped, Waiting int64 }

// Announcer publishes, in their order, what its hook is told of. Whoever writes does not wait for
// that. What waits when the process dies is not announced any more.
type Announcer struct {
	queue  Queue
	config func() *config.Config
	log    *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	waiting []Message
	bytes   int
	stats   Stats
	wake    chan struct{} // holds one

	once    sync.Once
	closing chan struct{}
	stop    context.CancelFunc
	done    chan struct{}
}

// NewAnnouncer returns one that publishes on a queue, which it closes in the end, what a
// configuration says.
func NewAnnouncer(q Queue, cfg func() *config.Config, log *slog.Logger) *Announcer {
	ctx, stop := context.WithCancel(context.Background())
	a := &Announcer{
		queue: q, config: cfg, log: log, now: time.Now, wake: make(chan struct{}, 1),
		closing: make(chan struct{}), stop: stop, done: make(chan struct{}),
	}
	go func() {
		defer close(a.done)
		fault.Keep(ctx, log, "announcing writes", a.run)
	}()
	return a
}

// Hook returns what a server must tell of writes.
func (a *Announcer) Hook() collections.Hook { return collections.Hook{AfterWrite: a.wrote} }

// Stats returns how many messages there were.
func (a *Announcer) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	s.Waiting = int64(len(a.waiting))
	return s
}

// errFull reports a message that was dropped.
var errFull = errors.New("too many messages wait for the queue; this one is dropped")

func (a *Announcer) wrote(_ context.Context, e *collections.Event) error {
	t := a.config().Queue.Topic(e.Collection)
	if t == nil {
		return nil
	}
	m := a.message(t, e)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) >= MaxWaiting || a.bytes+len(m.Body) > MaxWaitingBytes {
		a.stats.Dropped++
		return errFull
	}
	a.waiting = append(a.waiting, m)
	a.bytes += len(m.Body)
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return nil
}

func (a *Announcer) message(t *config.Topic, e *collections.Event) Message {
	subject := t.Subject
	if subject == "" {
		subject = e.Collection.Name
	}
	if v := e.Params[t.SubjectParam]; t.SubjectParam != "" && t.SubjectPattern.FindString(v) == v &&
		plainToken(v) {
		subject += "." + v
	}
	at := e.Time
	if at == 0 {
		at = a.now().UnixMilli()
	}
	o := value.NewObject(
		value.Member{Key: "collection", Value: e.Collection.Name},
		value.Member{Key: "hash", Value: e.Hash}, value.Member{Key: "timestamp", Value: float64(at)},
	)
	if t.IncludeParams && len(e.Params) > 0 {
		params := &value.Object{}
		for _, name := range config.Params(e.Collection.StoragePath) {
			if v, ok := e.Params[name]; ok {
				params.Set(name, v)
			}
		}
		o.Set("params", params)
	}
	if t.IncludeBody && e.Data != nil {
		o.Set("body", e.Data)
	}
	if t.IncludeIdentity && e.Identity != "" {
		o.Set("identity", e.Identity)
	}
	id := fmt.Sprintf("%s@%d:%s", e.Key, at, e.Hash)
	if a := e.Collection.AppendOnly; a != nil && !a.Persist && !e.TimeGiven {
		id += "#" + rand.Text() // several that are alike may come in one millisecond
	}
	return Message{subject, id, value.Append(nil, o)}
}

// plainToken reports whether a text can be a word of a subject, whatever the pattern lets through.
func plainToken(s string) bool {
	for _, r := range s {
		if r <= ' ' || r == '.' || r == '*' || r == '>' || r == 0x7f {
			return false
		}
	}
	return s != ""
}

// next returns the message that has waited longest.
func (a *Announcer) next() (Message, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		return Message{}, false
	}
	return a.waiting[0], true
}

// gone forgets that message, and counts it.
func (a *Announcer) gone(count *int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes -= len(a.waiting[0].Body)
	a.waiting[0] = Message{}
	if a.waiting = a.waiting[1:]; len(a.waiting) == 0 {
		a.waiting = nil
	}
	*count++
}

// run publishes until ctx is done, or until it is closing and nothing waits.
func (a *Announcer) run(ctx context.Context) {
	wait := firstWait
	for {
		m, ok := a.next()
		if !ok {
			select {
			case <-a.wake:
				continue
			case <-a.closing:
				if _, more := a.next(); more {
					continue
				}
				return
			case <-ctx.Done():
				return
			}
		}
		err := a.queue.Publish(ctx, m.Subject, m.ID, m.Body)
		if err == nil {
			a.gone(&a.stats.Published)
			wait = firstWait
			continue
		}
		if errors.Is(err, ErrRefused) {
			a.log.Error(
				"a write cannot be announced", "subject", m.Subject, "id", m.ID, "bytes", len(m.Body), "error",
				err,
			)
			a.gone(&a.stats.Dropped)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		a.stats.Failed++
		a.mu.Unlock()
		a.log.Warn(
			"a write could not be announced, and will be tried again", "subject", m.Subject, "error", err,
			"after", wait,
		)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, maxWait)
	}
}

// Close publishes what waits, for as long as that takes within some seconds, and closes the queue.
// It may be called several times.
func (a *Announcer) Close() (err error) {
	a.once.Do(func() { err = a.end() })
	return err
}

func (a *Announcer) end() error {
	close(a.closing)
	t := time.AfterFunc(drainTime, a.stop)
	<-a.done
	t.Stop()
	a.stop()
	if n := a.Stats().Waiting; n > 0 {
		a.log.Error("writes were not announced", "messages", n)
	}
	return a.queue.Close()
}

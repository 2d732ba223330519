// Package nats is a queue of writes on a NATS server with JetStream.
//
// What belongs here: the connection and the stream. What never belongs here: what a message says;
// that is package queue.
package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/queue"
)

// Queue publishes to JetStream. A message is published once within the stream's window of
// duplicates, however often it is tried.
type Queue struct {
	conn   *client.Conn
	js     jetstream.JetStream
	stream string
	topics func() []string
	ready  bool // the stream has been there
}

// Open returns a queue on a server, which need not be there yet. topics returns the subjects that
// the stream takes if Open must make it, each also with a word more.
func Open(c *config.NATS, topics func() []string, log *slog.Logger) (*Queue, error) {
	shown := redacted(c.URL)
	opts := []client.Option{
		client.Name("skerry collections"), client.RetryOnFailedConnect(true), client.MaxReconnects(-1),
		client.IgnoreAuthErrorAbort(), // a server that lets nobody in may do so again
		client.DisconnectErrHandler(func(_ *client.Conn, err error) {
			if err != nil {
				log.Warn("the NATS server has gone", "url", shown, "error", err)
			}
		}),
		client.ReconnectHandler(func(*client.Conn) { log.Info("the NATS server is back", "url", shown) }),
	}
	if c.Credentials != "" {
		opts = append(opts, client.UserCredentials(c.Credentials))
	}
	conn, err := client.Connect(c.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("NATS server %s: %w", shown, err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("NATS server %s: %w", shown, err)
	}
	return &Queue{conn: conn, js: js, stream: c.Stream, topics: topics}, nil
}

// redacted returns URLs with commas between as they may be shown, without passwords.
func redacted(urls string) string {
	all := strings.Split(urls, ",")
	for i, s := range all {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil {
			all[i] = "?"
			continue
		}
		if u.User != nil {
			u.User = url.User("xxxxx") // a name alone is a token
		}
		all[i] = u.String()
	}
	return strings.Join(all, ",")
}

// publishTime is how long a message may take.
const publishTime = 5 * time.Second

// Publish implements queue.Queue. It is to be called by one goroutine at a time.
func (q *Queue) Publish(ctx context.Context, subject, id string, message []byte) error {
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	if q.stream != "" && !q.ready {
		if err := q.prepare(ctx); err != nil {
			return err
		}
		q.ready = true
	}
	// What calls this tries again by itself. A subject that no stream takes must not cost the others
	// the time that the client would wait for one.
	opts := []jetstream.PublishOpt{jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0)}
	if q.stream != "" {
		opts = append(opts, jetstream.WithExpectStream(q.stream))
	}
	_, err := q.js.Publish(ctx, subject, message, opts...)
	if refuses(err) {
		return fmt.Errorf("%w: %w", queue.ErrRefused, err)
	}
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		q.ready = false
		err = fmt.Errorf("no stream takes the subject %s: %w", subject, err)
		if q.leavesOut(ctx, subject) {
			err = fmt.Errorf("%w: %w", queue.ErrRefused, err)
		}
	}
	return err
}

// What a stream answers to a message that it does not take as somebody has set it up so.
const (
	otherStream jetstream.ErrorCode = 10060 // another one takes the subject
	storeFailed jetstream.ErrorCode = 10077 // the description says why
	// fullForSubject is that description if it is only of the message's subject that the stream has
	// as much as it may. A whole stream that is full has room again when somebody has read from it.
	fullForSubject = "maximum messages per subject exceeded"
)

// refuses reports whether an error is about the message alone. Whoever writes decides how long a
// message is and what its subject ends with: others must not wait until such a message is taken.
func refuses(err error) bool {
	var answer *jetstream.APIError
	if errors.As(err, &answer) {
		switch answer.ErrorCode {
		case jetstream.JSErrCodeStreamMessageExceedsMaximum, otherStream:
			return true
		case storeFailed:
			return answer.Description == fullForSubject
		}
	}
	return errors.Is(err, client.ErrMaxPayload) || errors.Is(err, client.ErrBadSubject)
}

// leavesOut reports whether no stream takes a subject, but the stream takes others of the topics:
// then it is not that the stream has still to be made. If no stream is named, each topic may have
// its own, and what counts is whether one takes others of the same topic.
func (q *Queue) leavesOut(ctx context.Context, subject string) bool {
	_, err := q.js.StreamNameBySubject(ctx, subject)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return false
	}
	others := q.subjects()
	if q.stream == "" {
		topic := q.topicOf(subject)
		others = []string{topic, topic + ".*"}
	}
	for _, s := range others {
		if s == subject {
			continue
		}
		name, err := q.js.StreamNameBySubject(ctx, s)
		if err == nil && (q.stream == "" || name == q.stream) {
			return true
		}
	}
	return false
}

// topicOf returns the subject of the topic that a message is of: its own, or that without the last
// word.
func (q *Queue) topicOf(subject string) string {
	if at := strings.LastIndexByte(subject, '.'); at > 0 && !slices.Contains(q.topics(), subject) {
		return subject[:at]
	}
	return subject
}

// subjects are those of the topics, each also with a word more.
func (q *Queue) subjects() (all []string) {
	for _, t := range q.topics() {
		all = append(all, t, t+".*")
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// prepare makes the stream if there is none, and lets one that we have made take subjects that are
// new.
func (q *Queue) prepare(ctx context.Context) error {
	subjects := q.subjects()
	s, err := q.js.Stream(ctx, q.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = q.js.CreateStream(
			ctx, jetstream.StreamConfig{Name: q.stream, Subjects: subjects, Description: made},
		)
		if err != nil {
			return fmt.Errorf("make the stream %s: %w", q.stream, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", q.stream, err)
	}
	c := s.CachedInfo().Config
	if c.Description != made { // somebody else decides what it takes
		return nil
	}
	all := append(slices.Clone(c.Subjects), subjects...)
	slices.Sort(all)
	if all = slices.Compact(all); len(all) > len(c.Subjects) {
		c.Subjects = all
		if _, err := q.js.UpdateStream(ctx, c); err != nil {
			return fmt.Errorf("let the stream %s take more subjects: %w", q.stream, err)
		}
	}
	return nil
}

// made is the description of streams that Publish has made.
const made = "writes to Skerry collections"

// Broker is Open for those who know queues by their interface.
func Broker(
	c *config.NATS, topics func() []string, log *slog.Logger,
) (queue.Queue, error) {
	q, err := Open(c, topics, log)
	if err != nil {
		return nil, err
	}
	return q, nil
}

// Close implements queue.Queue.
func (q *Queue) Close() error {
	q.conn.Close()
	return nil
}

package servertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/queue"
	"github.com/skerry-sync/skerry/collections/queue/nats"
)

// run starts a NATS server at a port, 0 for any, and returns its URL and what stops it.
func run(t *testing.T, dir string, port int) (s *server.Server, stop func()) {
	if port == 0 {
		port = -1
	}
	s, err := server.NewServer(
		&server.Options{
			Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
		},
	)
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(10*time.Second))
	return s, func() {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

// stored returns what a stream has.
func stored(
	t *testing.T, at, stream string,
) (all []*jetstream.RawStreamMsg, c jetstream.StreamConfig) {
	conn, err := client.Connect(at)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		all = append(all, m)
	}
	return all, info.Config
}

func open(t *testing.T, c *config.NATS, topics ...string) *nats.Queue {
	q, err := nats.Open(c, func() []string { return topics }, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	return q
}

func portOf(t *testing.T, at string) int {
	u, err := url.Parse(at)
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	return port
}

func TestJetStream(t *testing.T) {
	dir := t.TempDir()
	s, stop := run(t, dir, 0)
	at := s.ClientURL()
	q := open(t, &config.NATS{URL: at, Stream: "writes"}, "posts", "data.comments")
	require.NoError(t, q.Publish(t.Context(), "posts", "1", []byte("one")))
	require.NoError(t, q.Publish(t.Context(), "data.comments.p1", "2", []byte("two")))
	// Once more, as if its acknowledgement had been lost.
	require.NoError(t, q.Publish(t.Context(), "data.comments.p1", "2", []byte("two")))
	all, c := stored(t, at, "writes")
	require.Equal(t, []string{"data.comments", "data.comments.*", "posts", "posts.*"}, c.Subjects)
	require.Len(t, all, 2)
	require.Equal(t, "data.comments.p1", all[1].Subject)
	require.Equal(t, "two", string(all[1].Data))
	require.Error(t, q.Publish(t.Context(), "elsewhere", "3", nil))

	// A server that comes back has what it had, and takes more.
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	require.Error(t, q.Publish(ctx, "posts", "4", []byte("four")))
	cancel()
	_, stop = run(t, dir, portOf(t, at))
	defer stop()
	require.Eventually(t, func() bool {
		return q.Publish(t.Context(), "posts", "4", []byte("four")) == nil
	}, 20*time.Second, 50*time.Millisecond)
	all, _ = stored(t, at, "writes")
	require.Len(t, all, 3)

	// A later configuration has a topic more.
	later := open(t, &config.NATS{URL: at, Stream: "writes"}, "posts", "news")
	require.NoError(t, later.Publish(t.Context(), "news", "5", []byte("five")))
	_, c = stored(t, at, "writes")
	require.Contains(t, c.Subjects, "news")
	require.Contains(t, c.Subjects, "data.comments")
}

// What somebody else has set up is left as it is.
func TestForeignStream(t *testing.T) {
	s, stop := run(t, t.TempDir(), 0)
	defer stop()
	conn, err := client.Connect(s.ClientURL())
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	_, err = js.CreateStream(
		t.Context(), jetstream.StreamConfig{Name: "all", Subjects: []string{"app.>"}},
	)
	require.NoError(t, err)
	q := open(t, &config.NATS{URL: s.ClientURL(), Stream: "all"}, "posts", "app.posts")
	require.NoError(t, q.Publish(t.Context(), "app.posts", "1", []byte("x")))
	require.ErrorContains(
		t, q.Publish(t.Context(), "posts", "2", []byte("x")), "no stream takes the subject posts",
	)
	_, c := stored(t, s.ClientURL(), "all")
	require.Equal(t, []string{"app.>"}, c.Subjects)
	any := open(t, &config.NATS{URL: s.ClientURL()}, "app.posts")
	require.NoError(t, any.Publish(t.Context(), "app.posts", "3", []byte("y")))
}

// A server that is not there yet is waited for.
func TestServerComesLater(t *testing.T) {
	s, stop := run(t, t.TempDir(), 0)
	at := s.ClientURL()
	port := portOf(t, at)
	stop()
	q := open(t, &config.NATS{URL: at, Stream: "writes"}, "posts")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, q.Publish(ctx, "posts", "1", nil))
	_, stop = run(t, t.TempDir(), port)
	defer stop()
	require.Eventually(t, func() bool {
		return q.Publish(t.Context(), "posts", "1", nil) == nil
	}, 20*time.Second, 50*time.Millisecond)
	_, err := nats.Open(
		&config.NATS{URL: "nats://127.0.0.1:1", Credentials: "/nowhere"}, nil,
		slog.New(slog.DiscardHandler),
	)
	require.Error(t, err)
}

// What the server will never take is told apart from what it may take later.
func TestTooLarge(t *testing.T) {
	s, stop := run(t, t.TempDir(), 0)
	defer stop()
	q := open(t, &config.NATS{URL: s.ClientURL(), Stream: "writes"}, "c")
	require.Eventually(t, func() bool {
		return q.Publish(t.Context(), "c", "1", []byte("{}")) == nil
	}, 10*time.Second, 10*time.Millisecond)
	require.ErrorIs(t, q.Publish(t.Context(), "c", "2", make([]byte, 2<<20)), queue.ErrRefused)
	require.NoError(t, q.Publish(t.Context(), "c", "3", []byte("{}")))
}

// What a stream is set up not to take, which whoever writes may choose, holds up nothing behind it.
func TestWhatAStreamLeavesOut(t *testing.T) {
	s, stop := run(t, t.TempDir(), 0)
	defer stop()
	conn, err := client.Connect(s.ClientURL())
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	waits := open(t, &config.NATS{URL: s.ClientURL()}, "app.posts")
	err = waits.Publish(t.Context(), "app.posts", "0", nil)
	require.Error(t, err) // the stream is still to be made
	require.NotErrorIs(t, err, queue.ErrRefused)
	for _, c := range []jetstream.StreamConfig{
		{Name: "all", Subjects: []string{"app.posts.*"}, MaxMsgSize: 100, MaxMsgsPerSubject: 1,
			Discard: jetstream.DiscardNew, DiscardNewPerSubject: true},
		{Name: "other", Subjects: []string{"app.notes"}},
	} {
		_, err = js.CreateStream(t.Context(), c)
		require.NoError(t, err)
	}
	for i, stream := range []string{"all", ""} {
		q := open(t, &config.NATS{URL: s.ClientURL(), Stream: stream},
			"app.later", "app.notes", "app.posts")
		id := strconv.Itoa
		one, two := "app.posts.a"+id(i), "app.posts.b"+id(i)
		require.NoError(t, q.Publish(t.Context(), one, one, []byte("x")))
		for _, m := range []struct {
			subject string
			body    int
		}{{"app.posts", 1}, {two, 101}, {one, 1}} {
			err := q.Publish(t.Context(), m.subject, "again"+id(i), make([]byte, m.body))
			require.ErrorIs(t, err, queue.ErrRefused, "%s: %d bytes", m.subject, m.body)
		}
		if stream != "" {
			require.ErrorIs(t, q.Publish(t.Context(), "app.notes", "n", nil), queue.ErrRefused)
		}
		// Its own stream is still to be made if none is named that all topics go to.
		err := q.Publish(t.Context(), "app.later", "l", nil)
		require.Error(t, err)
		require.Equal(t, stream != "", errors.Is(err, queue.ErrRefused), "%q", stream)
		require.NoError(t, q.Publish(t.Context(), two, two, []byte("x")))
	}
}

// sends counts the messages that a server is sent to a subject.
type sends struct {
	server.Logger
	subject string
	n       atomic.Int32
}

func (c *sends) Noticef(string, ...any) {}
func (c *sends) Tracef(format string, v ...any) {
	if strings.Contains(fmt.Sprintf(format, v...), "[HPUB "+c.subject+" ") {
		c.n.Add(1)
	}
}

// What no stream takes is sent once: what waits behind it waits no longer than for that.
func TestWhatNoStreamTakesIsSentOnce(t *testing.T) {
	s, stop := run(t, t.TempDir(), 0)
	defer stop()
	count := &sends{subject: "elsewhere"}
	s.SetLogger(count, false, true)
	q := open(t, &config.NATS{URL: s.ClientURL(), Stream: "writes"}, "posts")
	require.NoError(t, q.Publish(t.Context(), "posts", "1", nil))
	require.ErrorIs(t, q.Publish(t.Context(), "elsewhere", "2", nil), queue.ErrRefused)
	require.EqualValues(t, 1, count.n.Load())
}

// A stream that is full takes a message once it has room again, so the message is kept.
func TestAFullStream(t *testing.T) {
	s, stop := run(t, t.TempDir(), 0)
	defer stop()
	conn, err := client.Connect(s.ClientURL())
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	for _, c := range []jetstream.StreamConfig{
		{Name: "messages", MaxMsgs: 1}, {Name: "bytes", MaxBytes: 200},
	} {
		c.Subjects, c.Discard = []string{c.Name + ".>"}, jetstream.DiscardNew
		stream, err := js.CreateStream(t.Context(), c)
		require.NoError(t, err)
		q := open(t, &config.NATS{URL: s.ClientURL(), Stream: c.Name}, c.Name+".posts")
		require.NoError(t, q.Publish(t.Context(), c.Name+".posts", "1", []byte("one")))
		err = q.Publish(t.Context(), c.Name+".posts", "2", []byte("two"))
		require.ErrorContains(t, err, "maximum "+c.Name+" exceeded")
		require.NotErrorIs(t, err, queue.ErrRefused)
		require.NoError(t, stream.Purge(t.Context()))
		require.NoError(t, q.Publish(t.Context(), c.Name+".posts", "2", []byte("two")))
	}
}

// A server that lets nobody in for a while is tried again.
func TestNobodyIsLetIn(t *testing.T) {
	dir := t.TempDir()
	s, stop := run(t, dir, 0)
	at := s.ClientURL()
	q := open(t, &config.NATS{URL: at, Stream: "writes"}, "posts")
	require.NoError(t, q.Publish(t.Context(), "posts", "1", nil))
	stop()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: portOf(t, at), JetStream: true,
		StoreDir: dir, NoSigs: true, NoLog: true, Authorization: "a token that the queue does not have"})
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(10*time.Second))
	tried := func() bool {
		v, err := s.Varz(nil)
		return err == nil && v.TotalConnections >= 3
	}
	require.Eventually(t, tried, 30*time.Second, 50*time.Millisecond)
	s.Shutdown()
	s.WaitForShutdown()
	_, stop = run(t, dir, portOf(t, at))
	defer stop()
	published := func() bool { return q.Publish(t.Context(), "posts", "2", nil) == nil }
	require.Eventually(t, published, 30*time.Second, 50*time.Millisecond)
}

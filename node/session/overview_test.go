package session

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// shareAll makes two alone nodes hold the same replicas and know it of each other.
func shareAll(t *testing.T, a, b *world, names ...string) (ids []replica.ID) {
	a.contacts.Changed(b.id, true)
	b.contacts.Changed(a.id, true)
	for _, name := range names {
		r, err := a.replicas.Create(t.Context(), name)
		require.NoError(t, err)
		_, err = b.replicas.Join(t.Context(), r)
		require.NoError(t, err)
		a.contacts.Note(r.ID, b.id, holders.Known)
		b.contacts.Note(r.ID, a.id, holders.Known)
		ids = append(ids, r.ID)
	}
	return ids
}

// overviewOnce runs an overview that a begins with b, and returns how many bytes a was sent.
func overviewOnce(t *testing.T, a, b *world) int {
	ours, theirs := net.Pipe()
	counted := &countingConn{Conn: ours}
	done := make(chan error, 1)
	go func() {
		done <- b.answerOverview(t.Context(), pipeStream{theirs, a.id})
		theirs.Close()
	}()
	require.NoError(t, a.askOverview(t.Context(), pipeStream{counted, b.id}))
	require.NoError(t, <-done)
	ours.Close()
	return counted.n
}

type countingConn struct {
	net.Conn
	n int
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n += n
	return n, err
}

func due(n *world, p *world) map[replica.ID]bool {
	out := map[replica.ID]bool{}
	for _, id := range n.contacts.Snapshot(p.id).Due {
		out[id] = true
	}
	return out
}

// An overview of many replicas costs next to nothing if they are the same, and finds those that are
// not, whatever it is that differs.
func TestOverview(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a, b := alone(t, &now), alone(t, &now)
	var names []string
	for i := range 400 { // with a hyphen, which no id has: a name that an id begins with is refused
		names = append(names, fmt.Sprintf("replica-%d", i))
	}
	ids := shareAll(t, a, b, names...)
	require.LessOrEqual(t, overviewOnce(t, a, b), 64, "a nonce and a status")
	require.Empty(t, due(a, b))
	require.Equal(t, 2*interval, a.contacts.Snapshot(b.id).Pause,
		"the longer nothing happens, the rarer")
	require.True(t, a.contacts.Holds(b.id, ids[0]))

	author := replica.NewSecretKey()
	change := []replica.Change{{Key: []byte("k"), Hash: blobs.HashOf([]byte("v")), Size: 1}}
	for _, i := range []int{3, 77} {
		_, err := a.replicas.Write(t.Context(), ids[i], author, change)
		require.NoError(t, err)
	}
	_, err := b.replicas.Write(t.Context(), ids[200], author, change)
	require.NoError(t, err)
	secret, err := b.replicas.Get(t.Context(), ids[300])
	require.NoError(t, err)
	g := replica.NewGrant(secret.Secret, author.Author(), 1)
	_, err = b.replicas.InsertStatements(t.Context(), ids[300], []replica.Statement{&g})
	require.NoError(t, err)
	require.NoError(t, b.replicas.Leave(t.Context(), ids[9])) // a does not know yet
	require.Less(t, overviewOnce(t, a, b), 4000)
	want := map[replica.ID]bool{ids[3]: true, ids[77]: true, ids[200]: true, ids[300]: true}
	require.Equal(t, want, due(a, b))
	require.Empty(t, due(b, a), "whoever began goes on")
	require.False(t, a.contacts.Holds(b.id, ids[9]))
	require.True(t, a.contacts.Holds(b.id, ids[3]))
	require.Equal(t, interval, a.contacts.Snapshot(b.id).Pause)
	overviewOnce(t, a, b)
	want[ids[9]] = true // it is asked for by name only when it has been gone twice
	require.Equal(t, want, due(a, b))
}

// Two nodes that hold the same, but know only some of it of each other, know all after an overview,
// without a session.
func TestOverviewRecognises(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a, b := alone(t, &now), alone(t, &now)
	ids := shareAll(t, a, b, "one", "two", "three", "four", "five")
	a.contacts.Forget(ids[0])
	b.contacts.Forget(ids[1])
	b.contacts.Forget(ids[2])
	overviewOnce(t, a, b)
	require.Len(t, a.contacts.ToCompare(b.id), 5)
	require.Len(t, b.contacts.ToCompare(a.id), 5)
	require.LessOrEqual(t, overviewOnce(t, a, b), 64, "now they are the same")
	for _, id := range ids {
		require.True(t, a.contacts.Holds(b.id, id))
		require.True(t, b.contacts.Holds(a.id, id))
	}
	require.Empty(t, due(a, b))
	require.Empty(t, due(b, a))
}

// A peer that knows nothing of a replica does not learn from an overview that there is one, beyond
// the number.
func TestOverviewTellsNothing(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a, b := alone(t, &now), alone(t, &now)
	r, err := a.replicas.Create(t.Context(), "secret")
	require.NoError(t, err)
	a.contacts.Changed(b.id, true)
	a.contacts.Note(r.ID, b.id, holders.Known) // wrongly
	ours, theirs := net.Pipe()
	seen := &recordingConn{Conn: theirs}
	done := make(chan error, 1)
	go func() {
		done <- b.answerOverview(t.Context(), pipeStream{seen, a.id})
		theirs.Close()
	}()
	require.NoError(t, a.askOverview(t.Context(), pipeStream{ours, b.id}))
	require.NoError(t, <-done)
	require.False(t, bytes.Contains(seen.all, r.ID[:]))
	require.False(t, a.contacts.Holds(b.id, r.ID))
	require.Empty(t, due(a, b))
}

type recordingConn struct {
	net.Conn
	all []byte
}

func (c *recordingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.all = append(c.all, b[:n]...)
	return n, err
}

// A peer that talks rubbish in an overview is refused from then on.
func TestRubbishInOverview(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a, b := alone(t, &now), alone(t, &now)
	shareAll(t, a, b, "r")
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- b.answerOverview(t.Context(), pipeStream{theirs, a.id})
		theirs.Close()
	}()
	_, err := ours.Write(append([]byte{OverviewVersion}, make([]byte, 32)...))
	require.NoError(t, err)
	_, err = ours.Read(make([]byte, 64))
	require.NoError(t, err)
	_, err = ours.Write(make([]byte, 32)) // another digest
	require.NoError(t, err)
	_, err = ours.Read(make([]byte, 1))
	require.NoError(t, err)
	_, _ = ours.Write([]byte{99, 0}) // no frame of a session
	var protocol *reconcile.ProtocolError
	require.ErrorAs(t, <-done, &protocol)
	ours.Close()
	require.True(t, b.blamed.Refused(a.id))
}

func FuzzOverview(f *testing.F) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(f, &now)
	f.Add(append([]byte{OverviewVersion}, make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = n.answerOverview(t.Context(), reading{bytes.NewReader(b)}) // must end, without a panic
	})
}

// BenchmarkOverview compares 10,000 replicas that are the same, both sides.
func BenchmarkOverview(b *testing.B) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	x, y := alone(b, &now), alone(b, &now)
	x.contacts.Changed(y.id, true)
	y.contacts.Changed(x.id, true)
	for i := range 10_000 {
		r, err := x.replicas.Create(b.Context(), fmt.Sprintf("replica-%d", i))
		require.NoError(b, err)
		_, err = y.replicas.Join(b.Context(), r)
		require.NoError(b, err)
		x.contacts.Note(r.ID, y.id, holders.Known)
		y.contacts.Note(r.ID, x.id, holders.Known)
	}
	b.ResetTimer()
	for range b.N {
		ours, theirs := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- y.answerOverview(b.Context(), pipeStream{theirs, x.id}) }()
		if err := x.askOverview(b.Context(), pipeStream{ours, y.id}); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

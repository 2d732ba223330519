package onnode

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

// alone is a machine with a replica whose versions are not open.
func alone(t *testing.T) (*machine, *Sets) {
	m := newMachine(t, t.TempDir()).start(false).found(false)
	m.set.Close()
	m.set = nil
	return m, NewSets(m.n)
}

// Many use the versions of a replica at the same time: it is opened once, and closed when nobody
// uses it any more.
func TestSetsAreShared(t *testing.T) {
	ctx := t.Context()
	m, sets := alone(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				s, release, err := sets.Open(ctx, m.id)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Read(ctx, []byte("k"), versions.Looked{}); err != nil {
					t.Error(err)
				}
				release()
				release() // once more does nothing
			}
		})
	}
	all.Wait()
	require.Empty(t, sets.open)
	one, release, err := sets.Open(ctx, m.id)
	require.NoError(t, err)
	other, releaseOther, err := sets.Open(ctx, m.id)
	require.NoError(t, err)
	require.Same(t, one, other)
	w, err := one.Watch(ctx)
	require.NoError(t, err)
	release()
	require.NoError(t, other.Set.Set(ctx, read(t, other, "k"), []byte("a")))
	until(t, w, "k")
	releaseOther()
	for err == nil {
		_, _, err = w.Next(ctx)
	}
	require.ErrorIs(t, err, node.ErrClosed)
	_, _, err = sets.Open(ctx, replica.ID{1})
	require.ErrorIs(t, err, replica.ErrNotFound)
	require.Empty(t, sets.open)
}

func read(t *testing.T, s *Set, key string) *versions.Item {
	item, err := s.Read(t.Context(), []byte(key), versions.Looked{})
	require.NoError(t, err)
	return item
}

// Whoever waits for a Set that another opens goes away with its own context, and opens it itself if
// the other has gone away.
func TestSetsWhoseOpenerGoesAway(t *testing.T) {
	m, sets := alone(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	// somebody is opening it
	x := &shared{users: 1, opened: make(chan struct{}), gone: make(chan struct{})}
	sets.open[m.id] = x
	_, _, err := sets.Open(gone, m.id)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, x.users)
	got := make(chan error)
	go func() {
		_, release, err := sets.Open(t.Context(), m.id)
		if err == nil {
			release()
		}
		got <- err
	}()
	sets.openFor(gone, m.id, x)
	require.Error(t, x.err)
	require.NoError(t, <-got)
	require.Empty(t, sets.open)
}

// What is opened to be read only shows what is there, beside whoever writes it, and writes nothing.
func TestLook(t *testing.T) {
	ctx := t.Context()
	m := newMachine(t, t.TempDir()).start(false).found(false)
	sets := NewSets(m.n)
	m.write("k", "ab")
	look, err := sets.Look(ctx, m.id)
	require.NoError(t, err)
	item, err := look.Read(ctx, []byte("k"), versions.Looked{})
	require.NoError(t, err)
	b, err := item.Content(ctx, 10)
	require.NoError(t, err)
	require.Equal(t, "ab", string(b))
	require.ErrorIs(t, look.Set(ctx, item, []byte("c")), ErrLooking)
	fresh, err := m.n.CreateReplica(ctx, "fresh", false)
	require.NoError(t, err)
	look, err = sets.Look(ctx, fresh.ID)
	require.NoError(t, err)
	item, err = look.Read(ctx, []byte("k"), versions.Looked{})
	require.NoError(t, err)
	require.ErrorIs(t, look.Set(ctx, item, []byte("c")), ErrLooking)
}

// asking is a layer whose replicas cannot be told.
type asking struct{ err error }

func (asking) Kind() string { return "folder" }

func (a asking) Options(context.Context, replica.ID) (Options, bool, error) {
	return Options{Name: "laptop"}, true, a.err
}

func (asking) Name(context.Context, replica.ID, []byte) (string, error) { return "", nil }

// A layer that cannot tell whether a replica is its own keeps it from being opened in another way;
// and the name by which it has told others of the device stays when somebody else opens it.
func TestUserOfSets(t *testing.T) {
	ctx := t.Context()
	m, sets := alone(t)
	broken := errors.New("its records are damaged")
	sets.Add(asking{broken})
	_, _, err := sets.Open(ctx, m.id)
	require.ErrorIs(t, err, broken)
	_, err = sets.Look(ctx, m.id)
	require.ErrorIs(t, err, broken)

	as := func(sets *Sets) (name string) {
		s, release, err := sets.Open(ctx, m.id)
		require.NoError(t, err)
		defer release()
		require.NoError(t, s.Set.Set(ctx, read(t, s, "k"), []byte("a")))
		_, _, err = s.ReadDevices(ctx) // what it has said before is known
		require.NoError(t, err)
		require.NoError(t, s.Acknowledge(ctx))
		_, name, err = s.ReadDevices(ctx)
		require.NoError(t, err)
		return name
	}
	named := NewSets(m.n)
	named.Add(asking{})
	require.Equal(t, "laptop", as(named))
	require.Equal(t, "laptop", as(NewSets(m.n)))
}

// later is a layer that says only later that a replica is its.
type later struct {
	asking
	yes atomic.Bool
}

func (l *later) Options(context.Context, replica.ID) (Options, bool, error) {
	return Options{Name: "laptop"}, l.yes.Load(), nil
}

// Versions that were opened before their user said so are opened anew, in its way, once nobody uses
// them.
func TestSetsOpenedBeforeTheirUser(t *testing.T) {
	m, sets := alone(t)
	user := &later{}
	sets.Add(user)
	_, before, err := sets.Open(t.Context(), m.id)
	require.NoError(t, err)
	user.yes.Store(true)
	hurried, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = sets.Open(hurried, m.id)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	time.AfterFunc(50*time.Millisecond, before)
	s, release, err := sets.Open(t.Context(), m.id)
	require.NoError(t, err)
	defer release()
	require.Same(t, user, sets.open[m.id].user)
	require.Same(t, s, sets.open[m.id].set)
}

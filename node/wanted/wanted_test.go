package wanted

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked/chunkedtest"
	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/replica"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a List with the stores that it stands on, and a replica.
type world struct {
	*List
	t        *testing.T
	replicas *replica.Store
	replica  replica.Replica
	author   replica.SecretKey
	keys     int
}

func newWorld(t *testing.T, host Host) *world {
	ctx := t.Context()
	store, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	bytes, err := files.Open(t.TempDir(), files.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bytes.Close()) })
	w := &world{t: t, author: replica.NewSecretKey()}
	all, err := blobs.Open(ctx, store, bytes)
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	w.List = New(Config{Store: store, Blobs: all, Host: host, Log: log})
	w.replicas, err = replica.Open(ctx, store, replica.Config{Now: time.Now, OnPut: w.Put})
	require.NoError(t, err)
	t.Cleanup(w.replicas.Close)
	require.NoError(t, w.Load(ctx))
	w.replica, err = w.replicas.Create(ctx, "r")
	require.NoError(t, err)
	return w
}

// store stores content here.
func (w *world) store(text string) (h blobs.Hash, size uint64) {
	info, err := w.blobs.ImportBytes(context.Background(), []byte(text))
	require.NoError(w.t, err)
	return info.Hash, info.Size
}

// put puts an entry that names content under a new key.
func (w *world) put(h blobs.Hash, size uint64) *replica.Entry {
	w.keys++
	return w.set(fmt.Sprint(w.keys), h, size)
}

func (w *world) set(key string, h blobs.Hash, size uint64) *replica.Entry {
	entries, err := w.replicas.Write(context.Background(), w.replica.ID, w.author,
		[]replica.Change{{Key: []byte(key), Hash: h, Size: size}})
	require.NoError(w.t, err)
	return &entries[0]
}

func (w *world) requireCount(want int) {
	w.t.Helper()
	count, err := w.Count(context.Background())
	require.NoError(w.t, err)
	require.Equal(w.t, want, count)
}

func (w *world) requireState(want State, e *replica.Entry) {
	w.t.Helper()
	state, err := w.States().Of(context.Background(), e)
	require.NoError(w.t, err)
	require.Equal(w.t, want, state)
}

func (w *world) refuted() (all []RefutedClaim) { return w.refutedOf(w.replica.ID) }

func (w *world) refutedOf(id replica.ID) (all []RefutedClaim) {
	require.NoError(w.t, w.RefutedClaims(context.Background(), id,
		func(c RefutedClaim) error { all = append(all, c); return nil }))
	return all
}

// records returns the records of wanted content as they lie in the store.
func (w *world) records() (all []Content) {
	require.NoError(w.t, w.kv.View(context.Background(), func(r kv.Reader) error {
		for p, err := range r.Scan(From(First()), kv.ScanOptions{}) {
			require.NoError(w.t, err)
			c, err := Parse(p)
			require.NoError(w.t, err)
			all = append(all, c)
		}
		return nil
	}))
	return all
}

// An entry is noted as wanted if its content is not here, and its claim as wrong if what is here
// shows that it is.
func TestPutNotesWhatIsMissing(t *testing.T) {
	w := newWorld(t, nil)
	here, size := w.store("here")
	w.requireState(Complete, w.put(here, size))
	w.requireState(Refuted, w.put(here, size+1))
	w.put(blobs.Hash{}, 0) // a deletion
	w.requireCount(0)
	missing := w.put(blobs.Hash{1}, 5)
	w.requireState(Missing, missing)
	require.Equal(t, []Content{ContentOf(missing)}, w.records())
	require.Len(t, w.refuted(), 1)
	require.Equal(t, size+1, w.refuted()[0].Claimed)

	require.NoError(t, w.SetPolicy(t.Context(), w.replica.ID, Policy{MaxSize: 10}))
	w.put(blobs.Hash{2}, 11)
	w.requireCount(1)
	w.put(blobs.Hash{2}, 10)
	w.requireCount(2)
	pending, err := w.Pending(t.Context(), w.replica.ID)
	require.NoError(t, err)
	require.Equal(t, 2, pending)
}

// What is wanted for an entry that names other content meanwhile is not wanted any more, nor is
// what is here, and a claim that the store contradicts is wrong.
func TestStillWanted(t *testing.T) {
	w := newWorld(t, nil)
	later := blobs.HashOf([]byte("later"))
	w.set("replaced", blobs.Hash{1}, 5)
	w.set("missing", blobs.Hash{2}, 5)
	w.set("here", later, 5)
	w.set("wrong", later, 6)
	w.store("later")
	w.set("replaced", blobs.Hash{3}, 5)
	got := map[string]bool{}
	for _, c := range w.records() {
		require.NoError(t, w.kv.View(t.Context(), func(r kv.Reader) error {
			still, err := c.StillWanted(r)
			got[fmt.Sprint(string(c.Key), c.Hash[0])] = still
			require.Equal(t, string(c.Key) == "wrong", c.Refuted)
			return err
		}))
		if c.Refuted {
			require.EqualValues(t, 5, c.Proved)
			require.NoError(t, w.Refute(t.Context(), []Content{c}))
		}
	}
	require.Equal(t, map[string]bool{
		"replaced1": false, "replaced3": true, "missing2": true,
		fmt.Sprint("here", later[0]): false, fmt.Sprint("wrong", later[0]): false,
	}, got)
	require.Len(t, w.refuted(), 1)
	w.requireCount(4)
}

// A walk can skip what it is not to see.
func TestRecordsAreInTheOrderOfReplicaAndHash(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 3 {
		w.put(blobs.Hash{byte(i)}, 5)
		w.put(blobs.Hash{byte(i)}, 6)
	}
	first := w.records()[0]
	for from, left := range map[string]int{
		string(first.Record): 6, string(first.Next()): 5, string(first.NextBlob()): 4,
		string(first.NextReplica()): 0,
	} {
		require.NoError(t, w.kv.View(t.Context(), func(r kv.Reader) error {
			count := 0
			for _, err := range r.Scan(From([]byte(from)), kv.ScanOptions{KeysOnly: true}) {
				require.NoError(t, err)
				count++
			}
			require.Equal(t, left, count)
			return nil
		}))
	}
}

// All that is noted of a replica goes when it is left, and nothing of another one.
func TestForgetDropsAllOfAReplica(t *testing.T) {
	w := newWorld(t, nil)
	here, size := w.store("here")
	note := func() {
		require.NoError(t, w.SetPolicy(t.Context(), w.replica.ID, Policy{MaxSize: 100}))
		w.put(here, size+1)
		w.put(blobs.Hash{1}, 5)
	}
	note()
	left := w.replica.ID
	var err error
	w.replica, err = w.replicas.Create(t.Context(), "another")
	require.NoError(t, err)
	note()
	w.requireCount(2)
	require.Len(t, w.refutedOf(left), 1)
	require.NoError(t, w.Forget(t.Context(), left))
	w.requireCount(1)
	require.Empty(t, w.refutedOf(left))
	require.Len(t, w.refuted(), 1)
	require.Zero(t, w.Policy(left))
	require.Equal(t, Policy{MaxSize: 100}, w.Policy(w.replica.ID))
	again := New(w.cfg)
	require.NoError(t, again.Load(t.Context()))
	require.Zero(t, again.Policy(left))
	require.Equal(t, Policy{MaxSize: 100}, again.Policy(w.replica.ID))
}

// Whoever waits for content is told when it has come and when its claim turns out to be wrong, and
// waits no longer than its context lives.
func TestWaiting(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		later := blobs.HashOf([]byte("later"))
		right, wrong := w.put(later, 5), w.put(later, 6)
		wait := func(ctx context.Context, e *replica.Entry) <-chan error {
			done := make(chan error, 2)
			go func() { done <- w.WaitEntry(ctx, e) }()
			go func() { done <- w.WaitContent(ctx, e.Hash, e.Size) }()
			synctest.Wait()
			require.Empty(t, done)
			return done
		}
		ended, cancel := context.WithCancel(t.Context())
		ends := wait(ended, right)
		comes, refuted := wait(t.Context(), right), wait(t.Context(), wrong)
		cancel()
		for range 2 {
			require.ErrorIs(t, <-ends, context.Canceled)
		}
		w.store("later")
		require.NoError(t, w.Came(t.Context(), [][]byte{ContentOf(right).Record}))
		for range 2 {
			require.NoError(t, <-comes)
			size, ok := errors.AsType[*content.SizeError](<-refuted)
			require.True(t, ok)
			require.Equal(t, &content.SizeError{Hash: later, Want: 6, Have: 5}, size)
		}
		w.requireCount(1)
	})
}

// A file in chunks that this node has written itself is wanted by its entry until it is said that
// all of it is here.
func TestWrittenChunksAreNotWanted(t *testing.T) {
	w := newWorld(t, nil)
	h, size, _, _ := chunkedtest.Store(t, w.blobs)
	e := w.put(h, size)
	w.requireCount(1)
	w.requireState(Complete, e)
	require.NoError(t, w.Written(t.Context(), e))
	w.requireCount(0)
	w.requireState(Refuted, w.put(h, size+1))

	w.put(h, size)
	w.requireCount(2)
	pending, err := w.Pending(t.Context(), w.replica.ID)
	require.NoError(t, err)
	require.Equal(t, 1, pending, "the one with the wrong size")
	w.requireCount(1)
}

// host fetches what is under some keys only, and notes what it is told.
type host struct {
	fetch   func(e *replica.Entry) bool
	refuted []string
}

func (h *host) Put(_ kv.Txn, e *replica.Entry) (bool, error) { return h.fetch(e), nil }

func (h *host) Refute(_ kv.Txn, e *replica.Entry) error {
	h.refuted = append(h.refuted, string(e.Key))
	return nil
}

// A host decides about each entry, again when the entries are caught up with, and is told of wrong
// claims.
func TestHostDecides(t *testing.T) {
	h := &host{fetch: func(e *replica.Entry) bool { return string(e.Key) == "a" }}
	w := newWorld(t, h)
	a := w.set("a", blobs.Hash{1}, 5)
	w.set("b", blobs.Hash{2}, 5)
	require.Equal(t, []Content{ContentOf(a)}, w.records())
	h.fetch = func(*replica.Entry) bool { return true }
	entries := w.replicas.Entries(t.Context(), w.replica.ID, replica.Query{})
	require.NoError(t, w.CatchUp(t.Context(), w.replica.ID, entries))
	w.requireCount(2)
	wrong := w.records()
	for i := range wrong {
		wrong[i].Refuted, wrong[i].Proved = true, 7
	}
	w.set("b", blobs.Hash{3}, 5)
	require.NoError(t, w.Refute(t.Context(), wrong))
	require.Equal(t, []string{"a"}, h.refuted, "and not of a claim that does not stand any more")
	require.Len(t, w.refuted(), 1)
	w.requireCount(1)
	w.requireState(Refuted, a)
}

package onnode

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// Whoever may not let an author write can read, and is told what to do when writing; with a grant
// that may be passed on it can write, and the owner takes it. The default
// author writes no versions.
func TestAuthors(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(true).found(false)
	a.write("k", "a")
	b := newMachine(t, t.TempDir()).start(true).join(a, replica.Read)
	eventually(t, "k", "a", b)
	err := b.set.Set.Set(ctx, b.read("k"), []byte("ab"))
	require.ErrorIs(t, err, versions.ErrNoAuthor)
	require.Equal(t, kind.NotAllowed, kind.Of(err))
	require.ErrorContains(t, err, "--delegable")
	before, err := b.n.Authors().Default(ctx)
	require.NoError(t, err)
	for _, may := range []replica.Permission{{}, {Delegable: true, Prefix: []byte("x/")}} {
		_, err = a.n.Grant(ctx, b.id, before, may)
		require.NoError(t, err)
		b.meet(a)
		require.ErrorIs(t, b.set.Set.Set(ctx, b.read("k"), []byte("ab")), versions.ErrNoAuthor)
	}
	_, err = a.n.Grant(ctx, b.id, before, replica.Permission{Delegable: true})
	require.NoError(t, err)
	b.meet(a)
	b.write("k", "ab")
	eventually(t, "k", "ab", a)
	after, err := b.n.Authors().Default(ctx)
	require.NoError(t, err)
	require.Equal(t, before, after)
	d, ok := b.set.Device()
	require.True(t, ok)
	require.NotEqual(t, record.TagOf(before), d.Author)
	def, err := a.n.Authors().Default(ctx)
	require.NoError(t, err)
	d, _ = a.set.Device()
	require.NotEqual(t, record.TagOf(def), d.Author)
}

// A device that was copied and may have no new author can be opened and read; it says why it does
// not write, until it may.
func TestNoNewAuthorAtOpen(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(false).found(false)
	b := newMachine(t, t.TempDir()).start(false)
	r, err := a.n.Replicas().Get(ctx, a.id)
	require.NoError(t, err)
	r.Capability, r.Secret = replica.Read, replica.SecretKey{}
	joinOffline(t, b, r)
	x := &device{n: b.n, id: b.id}
	key := replica.NewSecretKey()
	require.NoError(t, b.n.Authors().Import(ctx, key))
	require.NoError(t, x.Save(ctx, versions.Device{Author: key.Author(), Copied: true}))
	b.set.Close()
	b.open(Options{})
	item := b.read("k")
	require.True(t, item.Deleted())
	require.ErrorIs(t, b.set.Set.Set(ctx, item, []byte("v")), versions.ErrNoAuthor)
}

// What an entry's content is not, is said in the terms of versions, and never waited for.
func TestContentThatCannotBeRead(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(false).found(true)
	of := &slots{n: a.n, r: a.n.ReplicaOf(a.id)}
	write := func(content []byte) replica.Entry {
		items, err := of.Put(ctx, replica.NewSecretKey(), []versions.Value{
			{Key: []byte("x"), Stream: bytes.NewReader(content)},
		})
		require.NoError(t, err)
		return items[0].Entry
	}
	requireTiny := func(want []byte, e replica.Entry) {
		tiny, err := of.Tiny(ctx, []*replica.Entry{&e})
		require.NoError(t, err)
		require.Equal(t, [][]byte{want}, tiny)
	}
	for _, size := range []int{1, 900, 3000, blobs.SegmentSize, blobs.SegmentSize + 1, 5 << 20} {
		data := testkit.Random(1, size)
		e := write(data)
		if size < blobs.InlineSize {
			requireTiny(data, e)
		} else {
			requireTiny(nil, e)
		}
		in, err := of.Open(ctx, &e)
		require.NoError(t, err)
		got := make([]byte, in.Size())
		_, err = in.ReadAt(got, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got), size)
		_, err = in.ReadAt(got, 1)
		require.ErrorIs(t, err, io.EOF)
	}
	large := write(testkit.Random(2, 5<<20))
	list, err := a.n.Blobs().ReadAll(ctx, large.Hash, 1<<20)
	require.NoError(t, err)
	require.NoError(t, a.n.Blobs().Delete(ctx, blobs.Hash(list[:32])))
	_, err = of.Open(ctx, &large)
	require.ErrorIs(t, err, plan.ErrMissing, "a chunk")
	small := write([]byte("small"))
	require.NoError(t, a.n.Blobs().Delete(ctx, small.Hash))
	_, err = of.Open(ctx, &small)
	require.ErrorIs(t, err, plan.ErrMissing)
	requireTiny(nil, small)
	for _, size := range []int{100, 50_000} { // sealed by nobody
		info, err := a.n.Blobs().ImportBytes(ctx, testkit.Random(3, size))
		require.NoError(t, err)
		requireTiny(nil, replica.Entry{Replica: a.id, Hash: info.Hash, Size: info.Size})
		_, err = of.Open(ctx, &replica.Entry{Replica: a.id, Hash: info.Hash, Size: info.Size})
		require.ErrorIs(t, err, record.ErrMalformed)
		_, err = of.Open(ctx, &replica.Entry{Replica: a.id, Hash: info.Hash, Size: info.Size + 7})
		require.ErrorIs(t, err, record.ErrMalformed, "of another size")
	}
}

// What is written with a read key that comes after the Set was opened is read as well.
func TestRotatedKey(t *testing.T) {
	a := newMachine(t, t.TempDir()).start(true).found(true)
	b := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
	a.write("k", "a")
	eventually(t, "k", "a", b)
	_, err := a.n.Rotate(t.Context(), a.id)
	require.NoError(t, err)
	a.write("k", "ab")
	b.meet(a)
	eventually(t, "k", "ab", b)
	b.write("k", "abc")
	eventually(t, "k", "abc", a)
	require.Len(t, a.read("k").Heads, 1)
	require.Equal(t, "abc", a.text("k"))
}

// A replica has one Set at a time. One that was left and joined again has another device.
func TestOneSet(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(false).found(false)
	_, err := Open(ctx, a.n, a.id, Options{})
	require.ErrorIs(t, err, node.ErrDisplacedInUse)
	_, err = Open(ctx, a.n, replica.ID{3}, Options{})
	require.ErrorIs(t, err, replica.ErrNotFound)
	a.write("k", "a")
	was, _ := a.set.Device()
	a.restart(false)
	a.write("k", "ab")
	same, _ := a.set.Device()
	require.Equal(t, was, same)
	r, err := a.n.Replicas().Get(ctx, a.id)
	require.NoError(t, err)
	a.set.Close()
	a.set.Close()
	require.NoError(t, a.n.Leave(ctx, a.id))
	x := &device{n: a.n, id: a.id}
	require.ErrorIs(t, x.Save(ctx, versions.Device{}), replica.ErrNotFound)
	joinOffline(t, a, r)
	a.write("k", "x")
	now, _ := a.set.Device()
	require.NotEqual(t, was, now)
}

// joinOffline joins a replica without a peer.
func joinOffline(t *testing.T, m *machine, r replica.Replica) {
	ctx := t.Context()
	of := newMachine(t, t.TempDir()).start(false)
	defer of.stop()
	tk, err := of.n.Ticket(ctx, r, r.Capability)
	require.NoError(t, err)
	_, err = m.n.Join(ctx, tk, "r")
	require.NoError(t, err)
	m.id = r.ID
	m.open(Options{})
}

// The keys of what has come from peers, and those alone, are told, also once their content is here
// that was not, and when a revocation takes them away.
func TestChanged(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(true).found(false)
	b := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
	b.set.Close()
	var mu sync.Mutex
	told := map[string]string{}
	b.open(Options{Changed: func(keys [][]byte) {
		mu.Lock()
		defer mu.Unlock()
		for _, k := range keys {
			told[string(k)] = ""
		}
	}})
	was := func(key string) bool {
		mu.Lock()
		defer mu.Unlock()
		_, ok := told[key]
		return ok
	}
	reset := func() {
		mu.Lock()
		defer mu.Unlock()
		clear(told)
	}
	soon := func(what func() bool) {
		t.Helper()
		require.Eventually(t, what, 30*time.Second, 5*time.Millisecond)
	}
	a.write("k", "a")
	soon(func() bool { return was("k") })
	a.write("k2", "a")
	soon(func() bool { return was("k2") }) // all have been looked at that were here at first
	b.write("mine", "b")
	a.write("k3", "a")
	soon(func() bool { return was("k3") && b.text("k3") == "a" })
	require.False(t, was("mine"))
	reset()
	require.NoError(t, a.set.Set.Set(ctx, a.read("large"), testkit.Random(1, 3<<20)))
	soon(func() bool {
		item := b.read("large")
		return was("large") && item.Pending == 0 && !item.Deleted()
	})
	d := a.read("k").Heads[0].Author
	soon(func() bool { reset(); return len(b.read("large").Heads) == 1 })
	_, err := a.n.Revoke(ctx, a.id, d, 0)
	require.NoError(t, err)
	soon(func() bool { return was("large") && was("k") && b.read("k").Deleted() })
}

// Golden: the record of a device.
func TestDeviceGolden(t *testing.T) {
	d := versions.Device{
		Author: replica.AuthorID{1, 2}, Incarnation: record.Incarnation{3, 4}, Reserved: 4097,
		Copied: true, Former: replica.AuthorID{5}, Held: 6, Rescue: replica.AuthorID{7},
	}
	b := marshal(&d, time.UnixMicro(0x0102030405))
	zeros := func(n int) string { return hex.EncodeToString(make([]byte, n)) }
	require.Equal(t, "01"+"0000000102030405"+"01"+"0102"+zeros(30)+"0304"+zeros(6)+
		"0000000000001001"+"05"+zeros(31)+"0000000000000006"+"07"+zeros(31), hex.EncodeToString(b))
	require.Len(t, b, deviceLength)
}

// FuzzDevice: whatever is read as the record of a device is written the same.
func FuzzDevice(f *testing.F) {
	f.Add(marshal(&versions.Device{Author: replica.AuthorID{1}}, time.UnixMicro(1)))
	f.Add([]byte{2})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, held, err := parse(b)
		if err != nil {
			require.ErrorIs(t, err, errMalformed)
			return
		}
		require.Equal(t, b, marshal(&d, held))
	})
}

// A record of a device that cannot be read makes no new device in silence.
func TestDamagedDevice(t *testing.T) {
	a := newMachine(t, t.TempDir()).start(false).found(false)
	a.write("k", "a")
	a.set.Close()
	var whole []byte
	store := a.n.Store()
	set := func(b []byte) {
		require.NoError(t, store.Update(t.Context(), func(tx kv.Txn) (err error) {
			if whole == nil {
				whole, err = tx.Get(deviceKey(a.id))
			}
			return errors.Join(err, tx.Set(deviceKey(a.id), b))
		}))
	}
	for _, b := range [][]byte{{}, {2}, {1, 2}} {
		set(b)
		_, err := Open(t.Context(), a.n, a.id, Options{})
		require.ErrorIs(t, err, errMalformed)
	}
	set(slices.Clone(whole))
	a.open(Options{})
	require.Equal(t, "a", a.text("k"))
}

// When events were missed, or something failed, all entries are looked at again; so a device
// notices that it was copied although nobody told it of the copy's entries.
func TestMissedEvents(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(false).found(false)
	a.write("k", "a")
	before, _ := a.set.Device()
	a.set.cancel()
	a.set.running.Wait()
	w := a.set.watcher
	told := map[string]bool{}
	w.changed = func(keys [][]byte) {
		for _, k := range keys {
			told[string(k)] = true
		}
	}
	w.all = false
	require.NoError(t, w.take(ctx, seen{missed: 1}))
	require.True(t, w.all)
	require.NoError(t, w.lookAtAll(ctx))
	require.False(t, w.all)
	require.Equal(t, map[string]bool{"k": true}, told)
	now, _ := a.set.Device()
	require.Equal(t, before, now, "its own entries are no sign of a copy")

	// A copy has written with a counter that this device has not used, and its entry is here.
	d, err := (&device{n: a.n, id: a.id}).Load(ctx)
	require.NoError(t, err)
	key, err := a.n.Authors().Key(ctx, d.Author)
	require.NoError(t, err)
	item := a.read("k")
	r := *item.Heads[0].Record
	r.Dot.Counter = 1 << 20
	head, err := r.Append(nil)
	require.NoError(t, err)
	_, err = w.slots.Put(ctx, key, []versions.Value{
		{Key: []byte("l"), Stream: bytes.NewReader(append(head, 'a'))},
	})
	require.NoError(t, err)
	require.NoError(t, w.lookAtAll(ctx))
	now, _ = a.set.Device()
	require.NotEqual(t, before.Author, now.Author)
	require.Equal(t, "a", a.text("k"))
	require.Equal(t, "a", a.text("l"))

	w.failed(ctx, errors.New("a failure"))
	require.True(t, w.retry)
	w.retry = false
	w.failed(ctx, node.ErrClosed)
	require.False(t, w.retry)
}

// Entries that came before their read key are looked at when it comes.
func TestKeyThatComesLater(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(false).found(true)
	a.write("k", "a")
	a.set.cancel()
	a.set.running.Wait()
	w := a.set.watcher
	require.NoError(t, w.lookForKey(ctx))
	w.all = false
	require.NoError(t, w.lookForKey(ctx))
	require.False(t, w.all)
	_, err := a.n.Rotate(ctx, a.id)
	require.NoError(t, err)
	require.NoError(t, w.lookForKey(ctx))
	require.True(t, w.all)
}

// An entry whose content comes after it is looked at when that is here: that this device was copied
// shows in the content alone.
func TestContentThatComesLater(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(false).found(false)
	a.write("k", "a")
	before, _ := a.set.Device()
	a.set.cancel()
	a.set.running.Wait()
	w := a.set.watcher
	w.all = false
	told := 0
	w.changed = func([][]byte) { told++ }

	d, err := (&device{n: a.n, id: a.id}).Load(ctx)
	require.NoError(t, err)
	key, err := a.n.Authors().Key(ctx, d.Author)
	require.NoError(t, err)
	r := *a.read("k").Heads[0].Record
	r.Dot.Counter = 1 << 20
	stored, err := r.Append(nil)
	require.NoError(t, err)
	stored = append(stored, 'a')
	e := replica.Entry{
		Replica: a.id, Key: []byte("l"), Timestamp: uint64(a.n.Now().UnixMicro()),
		Hash: blobs.HashOf(stored), Size: uint64(len(stored)),
	}
	e.Sign(key)
	from := replica.Origin{Peer: "a copy"}
	_, err = a.n.TakeEntries(ctx, a.id, []replica.Entry{e}, from)
	require.NoError(t, err)
	it := replica.Item{Key: e.Key, Entry: e}
	require.NoError(t, w.take(ctx, seen{all: []node.Seen{{Item: it, From: from}}}))
	require.Len(t, w.waits, 1)
	require.NoError(t, w.lookAtWaiting(ctx))
	require.Len(t, w.waits, 1)
	now, _ := a.set.Device()
	require.Equal(t, before, now)
	require.Equal(t, 1, told)

	_, err = a.n.Blobs().ImportBytes(ctx, stored)
	require.NoError(t, err)
	require.NoError(t, w.lookAtWaiting(ctx))
	require.Empty(t, w.waits)
	require.Equal(t, 2, told)
	now, _ = a.set.Device()
	require.NotEqual(t, before.Author, now.Author)

	// What this node writes itself does not wait, nor is it told of.
	require.NoError(t, w.take(ctx, seen{all: []node.Seen{{Item: it, From: replica.Local}}}))
	require.Equal(t, 2, told)
}

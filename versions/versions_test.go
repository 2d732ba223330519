package versions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// lab has devices whose clocks run together.
type lab struct {
	t      testing.TB
	time   uint64
	author byte
	all    []*device
}

type device struct {
	l    *lab
	disk *disk
	*Set
}

func newLab(t testing.TB) *lab { return &lab{t: t, time: 1_800_000_000_000_000} }

func (l *lab) newKey() replica.SecretKey {
	l.author++
	return replica.SecretKeyFromSeed([32]byte{l.author})
}

func (l *lab) device() *device {
	return l.deviceOn(newDisk(func() uint64 { l.time++; return l.time }))
}

func (l *lab) deviceOn(d *disk) *device {
	v := &device{l: l, disk: d}
	v.reopen()
	l.all = append(l.all, v)
	return v
}

// reopen has the device begin anew with what is on its disk.
func (d *device) reopen() {
	s, err := d.disk.open(d.l.t.Context(), d.l.newKey)
	require.NoError(d.l.t, err)
	d.Set = s
}

// from brings what another device has.
func (d *device) from(o *device) {
	var came []replica.Item
	for a := range o.disk.revoked {
		d.disk.revoke(a)
	}
	for at, e := range o.disk.slots {
		if d.disk.take(at.key, e, o.disk.content[e.Hash]) {
			came = append(came, replica.Item{Key: []byte(at.key), Entry: e})
		}
	}
	_, err := d.Arrived(d.l.t.Context(), came)
	require.NoError(d.l.t, err)
}

// sync brings all devices to the same.
func (l *lab) sync() {
	for range 3 {
		for _, a := range l.all {
			for _, b := range l.all {
				a.from(b)
			}
		}
	}
}

func (d *device) read(key string) *Item {
	item, err := d.Read(d.l.t.Context(), []byte(key), Looked{})
	require.NoError(d.l.t, err)
	return item
}

func (d *device) set(key, content string) {
	require.NoError(d.l.t, d.Set.Set(d.l.t.Context(), d.read(key), []byte(content)))
}

func (d *device) settle(key string) *Item {
	item, err := d.Settle(d.l.t.Context(), []byte(key), Looked{Waited: true})
	require.NoError(d.l.t, err)
	return item
}

// text returns what an item shows; "-" if it is deleted, "…" if nothing of it is here.
func (d *device) text(key string) string { return d.textOf(d.read(key)) }

func (d *device) textOf(i *Item) string {
	b, err := i.Content(d.l.t.Context(), 1<<20)
	if errors.Is(err, replica.ErrNotFound) {
		return "-"
	}
	if len(i.Heads) == 0 && errors.Is(err, plan.ErrMissing) {
		return "…"
	}
	require.NoError(d.l.t, err)
	return string(b)
}

func (l *lab) requireAll(key, want string) {
	l.t.Helper()
	for _, d := range l.all {
		require.Equal(l.t, want, d.text(key))
	}
}

// What devices write beside each other is merged by one, and the same on all.
func TestMerge(t *testing.T) {
	l := newLab(t)
	a, b, c := l.device(), l.device(), l.device()
	a.set("k", "ab")
	l.sync()
	a.set("k", "abx")
	b.set("k", "by")
	c.set("k", "abz")
	l.sync()
	l.requireAll("k", "bxyz")
	for _, d := range l.all {
		item, err := d.Settle(t.Context(), []byte("k"), Looked{})
		require.NoError(t, err)
		require.Len(t, item.Heads, map[*device]int{a: 3, b: 3, c: 1}[d], "the greatest head's author")
	}
	l.sync()
	for _, d := range l.all {
		item := d.settle("k")
		require.Len(t, item.Heads, 1)
		require.Equal(t, "bxyz", d.textOf(item))
	}
	require.Equal(t, 2, c.disk.writes)
	require.Equal(t, 2, a.disk.writes)
	b.set("k", "q")
	l.sync()
	l.requireAll("k", "q")
	require.Len(t, a.read("k").Heads, 1)
}

// A deletion is one, and what nobody wrote is none.
func TestDelete(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	require.True(t, a.read("k").Deleted())
	require.NoError(t, a.Delete(t.Context(), a.read("k")))
	require.Zero(t, a.disk.writes)
	a.set("k", "a")
	l.sync()
	require.NoError(t, b.Delete(t.Context(), b.read("k")))
	require.Equal(t, "-", b.text("k"))
	a.set("k", "ab")
	l.sync()
	l.requireAll("k", "ab")
	require.NoError(t, b.Delete(t.Context(), b.read("k")))
	l.sync()
	l.requireAll("k", "-")
	require.Len(t, a.read("k").Heads, 1)
	// Entries that are gone, or say nothing, are no deletion.
	a.set("k", "c")
	l.sync()
	for at, e := range b.disk.slots {
		delete(b.disk.content, e.Hash)
		_ = at
	}
	item := b.read("k")
	require.Equal(t, 2, item.Pending)
	require.Empty(t, item.Heads)
	b.from(a)
	require.Equal(t, "c", b.text("k"))
}

// A conflict is on all devices; each goes on with its own until one resolves it.
func TestConflict(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	a.set("k", "A")
	b.set("k", "B")
	l.sync()
	require.ErrorIs(t, a.settle("k").Conflict, plan.ErrContents)
	require.ErrorIs(t, a.settle("k").Conflict, errCapitals, "it says why")
	require.Equal(t, "A", a.text("k"))
	require.Equal(t, "B", b.text("k"))
	b.set("k", "Bb")
	l.sync()
	require.Equal(t, "A", a.text("k"))
	require.Len(t, a.read("k").Heads, 2)
	require.NoError(t, a.Resolve(t.Context(), a.read("k"), []byte("Cab")))
	require.Equal(t, record.Resolution, a.read("k").Heads[0].Kind)
	l.sync()
	l.requireAll("k", "Cab")
}

// All items come in the order of their keys, each with what was shown of it, as far as somebody
// wants them; an error comes after what is before it.
func TestAll(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	const many = 2*itemsTogether + 10
	for i := range many {
		a.set(fmt.Sprintf("p/%04d", i), fmt.Sprint("a", i))
		if i%3 == 0 {
			b.set(fmt.Sprintf("p/%04d", i), fmt.Sprint("b", i))
		}
	}
	a.set("q", "other")
	a.from(b)
	asked := 0
	looked := func(key []byte) Looked {
		require.Equal(t, fmt.Sprintf("p/%04d", asked), string(key))
		asked++
		return Looked{}
	}
	n := 0
	for item, err := range a.All(t.Context(), []byte("p/"), looked) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("p/%04d", n), string(item.Key))
		require.Len(t, item.Heads, map[bool]int{true: 2, false: 1}[n%3 == 0])
		n++
	}
	require.Equal(t, many, n)
	require.Equal(t, many, asked)
	n = 0
	for range a.All(t.Context(), nil, nil) {
		if n++; n == 5 {
			break
		}
	}
	require.Equal(t, 5, n)
	a.cfg.Slots = brokenSlots{a.disk, "p/0007"}
	n = 0
	for item, err := range a.All(t.Context(), nil, nil) {
		if n == 7 {
			require.ErrorIs(t, err, errBroken)
			require.Nil(t, item)
			continue
		}
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 7, n)
}

// Items of some keys come in the order of these, also of one that comes twice or has no version.
// Small contents that were read with them are not opened again.
func TestReadAll(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	keys := [][]byte{[]byte("none"), nil}
	for i := range 2 * inTurn {
		key := fmt.Sprintf("p/%04d", 2*inTurn-i)
		a.set(key, fmt.Sprint("content ", i))
		if i%3 == 0 {
			b.set(key, "other")
		}
		keys = append(keys, []byte(key))
	}
	a.from(b)
	keys = append(keys, keys[5])
	slots := &countingSlots{disk: a.disk}
	a.cfg.Slots = slots
	asked := 0
	items, err := a.ReadAll(t.Context(), keys, func(key []byte) Looked {
		require.True(t, bytes.Equal(keys[asked], key))
		asked++
		return Looked{}
	})
	require.NoError(t, err)
	require.Len(t, items, len(keys))
	require.Equal(t, len(keys), asked)
	for i, item := range items {
		want := a.read(string(keys[i]))
		require.Equal(t, want.Key, item.Key)
		require.Equal(t, want.Heads, item.Heads)
		require.Equal(t, i < 2, item.Deleted())
	}
	slots.opened.Store(0)
	for i, item := range items[2 : len(items)-1] {
		if len(item.Heads) == 1 {
			require.Equal(t, fmt.Sprint("content ", i), a.textOf(item))
		}
	}
	require.Zero(t, slots.opened.Load())
	keys[3] = []byte("\x00x")
	_, err = a.ReadAll(t.Context(), keys, nil)
	require.ErrorIs(t, err, ErrReservedKey)
	items, err = a.ReadAll(t.Context(), nil, nil)
	require.NoError(t, err)
	require.Empty(t, items)
}

// brokenSlots fail for one key.
type brokenSlots struct {
	*disk
	key string
}

var errBroken = errors.New("the disk is broken")

func (s brokenSlots) Open(ctx context.Context, e *replica.Entry) (Content, error) {
	if string(e.Key) == s.key {
		return nil, errBroken
	}
	return s.disk.Open(ctx, e)
}

// What this device has written since an item was read is not overwritten unseen.
func TestStale(t *testing.T) {
	l := newLab(t)
	a := l.device()
	before := a.read("k")
	a.set("k", "a")
	err := a.Set.Set(t.Context(), before, []byte("b"))
	require.ErrorIs(t, err, ErrStale)
	require.Equal(t, "a", a.text("k"))
	_, err = a.Read(t.Context(), []byte("\x00x"), Looked{})
	require.ErrorIs(t, err, ErrReservedKey)
}

// A content that is not what its hash says is no version, however long it is.
func TestFalseContent(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	b.set("k", "true")
	long := strings.Repeat("x", 2*readAtOnce)
	for _, content := range []string{"short", long} {
		src := a.SourceOf([]byte(content))
		item := a.read("k")
		require.NoError(t, a.Write(t.Context(), Edit{Item: item, Content: &src}))
		for at, e := range a.disk.slots { // the same record with another content
			if e.Author == a.dev.Author {
				other := strings.ToUpper(content)
				raw := []byte(strings.Replace(string(a.disk.content[e.Hash]), content, other, 1))
				e.Hash = blobs.HashOf(raw)
				a.disk.content[e.Hash], a.disk.slots[at] = raw, e
			}
		}
		b.from(a)
		item = b.settle("k")
		require.Equal(t, 1, item.Malformed)
		require.Equal(t, "true", b.textOf(item))
	}
	// A stream that changes while it is read is not written.
	for _, size := range []int{3, 2 * readAtOnce} {
		one := bytes.Repeat([]byte("a"), size)
		for _, other := range [][]byte{bytes.Repeat([]byte("b"), size), one[1:], append(one, 'a')} {
			src := b.SourceOf(one)
			src.Open = b.SourceOf(other).Open
			require.ErrorIs(t, b.Write(t.Context(), Edit{Item: b.read("k"), Content: &src}), ErrChanged)
		}
	}
	require.Equal(t, "true", b.text("k"))
}

// Parts of a batch are seen together.
func TestBatch(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	a.set("1", "before")
	l.sync()
	edits := []Edit{}
	for _, k := range []string{"1", "2", "3"} {
		src := a.SourceOf([]byte("in " + k))
		edits = append(edits, Edit{Item: a.read(k), Content: &src})
	}
	require.NoError(t, a.Write(t.Context(), edits...))
	require.Equal(t, "in 2", a.text("2"))
	order := []string{"1", "", "3", "2"} // "" is the manifest
	for i, key := range order {
		for at, e := range a.disk.slots {
			if at.key == key || key == "" && at.key[0] == 0 {
				require.True(t, b.disk.take(at.key, e, a.disk.content[e.Hash]))
				keys, err := b.Arrived(t.Context(), []replica.Item{{Key: []byte(at.key), Entry: e}})
				require.NoError(t, err)
				if i == 3 {
					require.Contains(t, keys, []byte("1"))
				}
			}
		}
		if i < 3 {
			require.NotEqual(t, "in 3", b.text("3"))
			require.NotEqual(t, "in 1", b.text("1"))
		}
	}
	for _, k := range []string{"1", "2", "3"} {
		require.Equal(t, "in "+k, b.text(k))
	}
	// Part of it is superseded: the rest counts for whoever comes later.
	a.set("2", "later")
	c := l.device()
	c.from(a)
	require.Equal(t, "in 1", c.text("1"))
	require.Equal(t, "later", c.text("2"))
}

// To read all items of a batch that is still coming costs as much for each as for one of a small
// batch, and so does each of its parts that comes.
func TestLargeBatchThatIsComing(t *testing.T) {
	opened := func(parts int) int {
		l := newLab(t)
		a, b := l.device(), l.device()
		var edits []Edit
		for i := range parts {
			src := a.SourceOf([]byte("x"))
			edits = append(edits, Edit{Item: a.read(fmt.Sprintf("%05d", i)), Content: &src})
		}
		require.NoError(t, a.Write(t.Context(), edits...))
		last := fmt.Sprintf("%05d", parts-1)
		var came []replica.Item
		for at, e := range a.disk.slots {
			if at.key != last {
				b.disk.take(at.key, e, a.disk.content[e.Hash])
				came = append(came, replica.Item{Key: []byte(at.key), Entry: e})
			}
		}
		keys, err := b.Arrived(t.Context(), came)
		require.NoError(t, err)
		require.LessOrEqual(t, len(keys), 4*parts)
		slots := &countingSlots{disk: b.disk}
		b.cfg.Slots = slots
		for i := range parts - 1 {
			require.Equal(t, 1, b.read(fmt.Sprintf("%05d", i)).Pending)
		}
		n := int(slots.opened.Load())
		b.from(a)
		require.Equal(t, "x", b.text("00000"))
		return n
	}
	few, many := opened(50), opened(100)
	require.Less(t, many, 3*few)
}

// countingSlots count what is opened.
type countingSlots struct {
	*disk
	opened atomic.Int64
}

func (s *countingSlots) Tiny(ctx context.Context, all []*replica.Entry) ([][]byte, error) {
	s.opened.Add(int64(len(all)))
	return s.disk.Tiny(ctx, all)
}

func (s *countingSlots) Open(ctx context.Context, e *replica.Entry) (Content, error) {
	s.opened.Add(1)
	return s.disk.Open(ctx, e)
}

// Former versions can be listed and restored.
func TestHistory(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	for _, content := range []string{"a", "b", "c"} {
		a.set("k", content)
	}
	require.NoError(t, a.Delete(t.Context(), a.read("k")))
	l.sync()
	b.set("k", "d")
	item := b.read("k")
	all := item.History()
	require.Len(t, all, 5)
	require.True(t, all[0].Head)
	require.True(t, all[1].Deleted)
	var got []string
	for _, p := range all {
		if p.Deleted {
			_, err := item.OpenPast(t.Context(), p)
			require.ErrorIs(t, err, ErrNotKept)
			continue
		}
		in, err := item.OpenPast(t.Context(), p)
		require.NoError(t, err)
		content := make([]byte, in.Size())
		_, err = in.ReadAt(content, 0)
		require.NoError(t, err)
		got = append(got, string(content))
	}
	require.Equal(t, []string{"d", "c", "b", "a"}, got)
	p, err := item.Past(all[3].Dot)
	require.NoError(t, err)
	require.NoError(t, b.Restore(t.Context(), item, p))
	l.sync()
	l.requireAll("k", "b")
	_, err = item.Past(record.Dot{Counter: 99})
	require.ErrorIs(t, err, ErrNotKept)
}

// Two that are copies of each other lose nothing of what either writes.
func TestClone(t *testing.T) {
	l := newLab(t)
	a := l.device()
	a.set("k", "ab")
	a.set("other", "o")
	b, c := l.deviceOn(a.disk.copy()), l.device()
	a.reopen() // from here on, both use the same counters
	a.set("k", "abx")
	b.set("k", "aby")
	a.set("alone", "p")
	b.set("else", "q")
	c.from(a)
	c.from(b)
	l.sync()
	l.sync()
	for _, d := range l.all {
		d.settle("k")
	}
	l.sync()
	l.requireAll("k", "abxy")
	l.requireAll("alone", "p")
	l.requireAll("else", "q")
	l.requireAll("other", "o")
	da, _ := a.Device()
	db, _ := b.Device()
	require.NotEqual(t, da.Author, db.Author)
	writes := a.disk.writes + b.disk.writes + c.disk.writes
	a.set("k", "abxyz")
	l.sync()
	l.requireAll("k", "abxyz")
	require.Equal(t, writes+1, a.disk.writes+b.disk.writes+c.disk.writes)
}

// An older copy of a directory takes nothing back.
func TestRestoredDirectory(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	a.set("k", "a")
	a.set("gone", "g")
	l.sync()
	backup := a.disk.copy()
	backup.device.Reserved = 2 // all that was written, so what follows used later counters
	a.set("k", "ab")
	require.NoError(t, a.Delete(t.Context(), a.read("gone")))
	l.sync()
	*a.disk = *backup
	a.reopen()
	a.set("k", "ac")
	l.sync()
	for _, d := range l.all {
		d.settle("k")
	}
	l.sync()
	l.requireAll("k", "abc")
	l.requireAll("gone", "-")
	_ = b
}

// The end of what a device wrote may be lost with the power, and comes back.
func TestLostEnd(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	a.set("k", "a")
	before := a.disk.copy()
	a.set("k", "ab")
	a.set("new", "n")
	b.from(a)
	author := a.dev.Author
	before.device = a.disk.device // which was durable
	*a.disk = *before
	a.reopen()
	require.Equal(t, "a", a.text("k"))
	a.from(b)
	l.requireAll("k", "ab")
	l.requireAll("new", "n")
	require.Equal(t, author, a.dev.Author)
	a.set("k", "abc")
	l.sync()
	l.requireAll("k", "abc")
}

// Whoever claims to have seen what a device has not written takes nothing from it.
func TestFalseClaim(t *testing.T) {
	l := newLab(t)
	a, evil := l.device(), l.device()
	a.set("k", "a")
	l.sync()
	item := evil.read("k")
	v := item.Heads[0]
	v.Context = v.Context.With(record.Dot{Device: v.Dot.Device, Counter: v.Dot.Counter})
	v.Dot.Counter = record.MaxCounter // in the vector of what evil writes over it
	require.NoError(t, evil.Set.Set(t.Context(), item, []byte("e")))
	author, first := a.dev.Author, a.dev.Incarnation
	a.set("k", "ab")
	l.sync()
	require.Equal(t, author, a.dev.Author)
	require.NotEqual(t, first, a.dev.Incarnation)
	require.Len(t, evil.read("k").Heads, 2)
	require.ErrorIs(t, a.settle("k").Conflict, plan.ErrNoBase, "they name different versions")
	require.Equal(t, "ab", a.text("k"))
	require.NoError(t, a.Resolve(t.Context(), a.read("k"), []byte("abe")))
	l.sync()
	l.requireAll("k", "abe")
	a.set("k", "abz")
	l.sync()
	l.requireAll("k", "abz")
}

// What this device has written is not overwritten while its content is not here.
func TestPendingOwn(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	a.set("k", "a")
	old := a.disk.copy()
	a.set("k", "ab")
	b.from(a)
	old.device = a.disk.device
	*a.disk = *old
	a.reopen() // which has lost the end of what it wrote, and gets the entry back
	for at, e := range b.disk.slots {
		a.disk.take(at.key, e, nil)
	}
	require.ErrorIs(t, a.Set.Set(t.Context(), a.read("k"), []byte("c")), ErrPending)
	a.from(b)
	require.Equal(t, "ab", a.text("k"))
	a.set("k", "abc")
	l.sync()
	l.requireAll("k", "abc")
}

// A device whose next counter others have seen used takes another incarnation.
func TestUsedCounters(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	a.set("k", "a")
	old := a.disk.copy()
	old.device.Reserved = 1 // as if it had been saved when that was all
	a.set("k", "ab")
	b.from(a)
	b.set("k", "abc")
	*a.disk = *old
	a.reopen()
	before, _ := a.Device()
	for at, e := range b.disk.slots { // only what b has written comes, and a looks at nothing
		if e.Author == b.dev.Author {
			a.disk.take(at.key, e, b.disk.content[e.Hash])
		}
	}
	require.Equal(t, "abc", a.text("k"))
	a.set("k", "abcd")
	after, _ := a.Device()
	require.Equal(t, before.Author, after.Author)
	require.NotEqual(t, before.Incarnation, after.Incarnation)
	require.Equal(t, "abcd", a.text("k"))
	b.from(a)
	require.Equal(t, "abcd", b.text("k"))
}

// A device that cannot get a new author writes nothing more, and says why, until it can.
func TestNoNewAuthor(t *testing.T) {
	l := newLab(t)
	a := l.device()
	a.set("k", "a")
	b := l.deviceOn(a.disk.copy())
	a.reopen()
	a.set("k", "ab")
	b.set("k", "ac")
	refused := errors.New("not now")
	newKey := a.cfg.NewKey
	no := true
	for _, d := range l.all {
		d.cfg.NewKey = func(ctx context.Context) (k replica.SecretKey, err error) {
			if no {
				return k, refused
			}
			return newKey(ctx)
		}
	}
	for at, e := range b.disk.slots {
		a.disk.take(at.key, e, b.disk.content[e.Hash])
	}
	_, err := a.Arrived(t.Context(), nil)
	require.ErrorIs(t, err, refused)
	require.ErrorIs(t, a.Set.Set(t.Context(), a.read("k"), []byte("z")), refused)
	no = false
	l.sync()
	a.settle("k")
	l.sync()
	l.requireAll("k", "abc")
}

// What comes from elsewhere between reading and writing is not overwritten unseen: a copy's version
// stays, and the edit is to be made again.
func TestArrivalWithinWrite(t *testing.T) {
	l := newLab(t)
	a := l.device()
	a.set("k", "a")
	b := l.deviceOn(a.disk.copy())
	b.set("k", "ab")
	b.set("new", "n")
	a.disk.beforeWrite = func() {
		a.disk.beforeWrite = nil
		for at, e := range b.disk.slots {
			a.disk.take(at.key, e, b.disk.content[e.Hash])
		}
	}
	item := a.read("k")
	require.ErrorIs(t, a.Set.Set(t.Context(), item, []byte("ac")), ErrStale)
	l.sync()
	a.set("k", "abc")
	l.sync()
	l.requireAll("k", "abc")
	l.requireAll("new", "n")
}

// However many versions of another author are displaced beside a device's own, it makes one more
// author to publish them, and a third if another of the same item is.
func TestRescuedVersionsHaveOneAuthor(t *testing.T) {
	l := newLab(t)
	a, e := l.device(), l.device()
	e.set("first", "x")
	copied := l.deviceOn(e.disk.copy())
	again := l.deviceOn(e.disk.copy())
	var keys []string
	for i := range 10 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	for _, key := range keys {
		a.set(key, "A")
		e.set(key, "B")
		copied.set(key, "C")
	}
	again.set(keys[0], "D")
	take := func(o *device) {
		for at, entry := range o.disk.slots {
			a.disk.take(at.key, entry, o.disk.content[entry.Hash])
		}
	}
	take(e)
	take(copied)
	take(again)
	for _, key := range keys {
		a.settle(key)
	}
	require.Len(t, a.disk.keys, 3)
	require.Empty(t, a.disk.displaced)
	require.Len(t, a.read(keys[0]).Heads, 4)
	require.Len(t, a.read(keys[1]).Heads, 3)
	a.reopen()
	a.set("later", "A")
	e.set("later", "B")
	copied.set("later", "C")
	take(e)
	take(copied)
	a.settle("later")
	require.Empty(t, a.disk.displaced)
	require.Len(t, a.disk.keys, 3)
}

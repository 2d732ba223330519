package versions

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/record"
)

// by returns what reports the entries of an author.
func by(a replica.AuthorID) func(*replica.Entry) (bool, error) {
	return func(e *replica.Entry) (bool, error) { return e.Author == a, nil }
}

func (d *device) authorID() replica.AuthorID { return d.dev.Author }

// adopt adopts what an author has written.
func (d *device) adopt(a replica.AuthorID, leave bool) int {
	n, err := d.Adopt(d.l.t.Context(), by(a), leave)
	require.NoError(d.l.t, err)
	return n
}

// What a device shows stays as it is when another one is revoked whose heads were adopted:
// contents, deletions, conflicts, and what others have written over the heads meanwhile. What the
// revoked device had superseded does not come back.
func TestAdopt(t *testing.T) {
	l := newLab(t)
	a, b, c := l.device(), l.device(), l.device()
	a.set("k", "a")
	a.set("deleted", "d")
	a.set("conflict", "A")
	a.set("older", "o")
	l.sync()
	b.set("k", "ab")
	require.NoError(t, b.Delete(t.Context(), b.read("deleted")))
	b.set("new", "n")
	b.set("two", "x")
	b.set("older", "ob")
	a.set("conflict", "B")
	b.set("conflict", "C")
	l.sync()
	a.set("older", "oba")
	c.set("k", "abc") // a does not know of it
	before := map[string]string{}
	conflict := a.read("conflict")
	require.Error(t, conflict.Conflict)
	for _, key := range []string{"deleted", "conflict", "new", "two", "older"} {
		before[key] = a.text(key)
	}
	require.Equal(t, 5, a.adopt(b.authorID(), false), "all but what a has superseded")
	require.Zero(t, a.adopt(b.authorID(), false))
	require.Equal(t, "ab", a.text("k"))

	a.disk.revoke(b.authorID())
	for key, want := range before {
		require.Equal(t, want, a.text(key), key)
	}
	writes := a.disk.writes + c.disk.writes
	l.sync()
	for _, d := range l.all {
		require.Empty(t, d.disk.slotsOf(b.authorID()))
		k := d.settle("k")
		require.NoError(t, k.Conflict)
		require.Equal(t, "abc", d.textOf(k))
		for _, key := range []string{"deleted", "new", "two", "older"} {
			require.Equal(t, before[key], d.textOf(d.settle(key)), key)
		}
		both := d.settle("conflict")
		require.ErrorContains(t, both.Conflict, conflict.Conflict.Error())
		require.Len(t, both.Heads, 2)
	}
	require.Equal(t, writes, a.disk.writes+c.disk.writes, "nothing was to be merged")
}

func (d *disk) slotsOf(a replica.AuthorID) (keys []string) {
	for at := range d.slots {
		if at.by == a {
			keys = append(keys, at.key)
		}
	}
	return keys
}

// A revocation without adoption takes what the author wrote: items show what is left, which is
// neither an edit nor a conflict, also on a device that has shown the void version.
func TestVoidVersionsHideNothing(t *testing.T) {
	l := newLab(t)
	a, b, c := l.device(), l.device(), l.device()
	a.set("k", "a")
	l.sync()
	b.set("k", "ab")
	b.set("only", "b")
	l.sync()
	looked := c.settle("k").Looked()
	require.Equal(t, "ab", c.text("k"))
	c.disk.revoke(b.authorID())
	item, err := c.Settle(t.Context(), []byte("k"), looked)
	require.NoError(t, err)
	require.NoError(t, item.Conflict)
	require.Equal(t, "a", c.textOf(item))
	require.Zero(t, c.disk.writes)
	require.False(t, item.Looked().Applied.CoversAll(looked.Applied), "it has left the vector")
	require.Empty(t, c.read("only").Heads)
	c.set("k", "ac")
	l.sync()
	l.requireAll("k", "ac")
}

// What is not all here cannot be adopted: that is said before anything is published, unless it is
// to be left out. A content that is not what its record says is left out.
func TestAdoptWhatIsMissing(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	a.set("z", "z")
	b.set("k", "b")
	b.set("l", "b")
	l.sync()
	e := a.disk.slots[slot{"l", b.authorID()}]
	content := a.disk.content[e.Hash]
	delete(a.disk.content, e.Hash)
	writes := a.disk.writes
	_, err := a.Adopt(t.Context(), by(b.authorID()), false)
	var missing *MissingError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, 1, missing.Versions)
	require.Equal(t, "l", string(missing.Key))
	require.Equal(t, kind.Unreachable, kind.Of(err))
	require.Equal(t, writes, a.disk.writes)
	require.Equal(t, 1, a.adopt(b.authorID(), true))
	a.disk.content[e.Hash] = content
	require.Equal(t, 1, a.adopt(b.authorID(), false))

	src := b.SourceOf([]byte("1"))
	require.NoError(t, b.Write(t.Context(), Edit{Item: b.read("1"), Content: &src},
		Edit{Item: b.read("2"), Content: &src}))
	for at, e := range b.disk.slots {
		if at.key != "2" {
			a.disk.take(at.key, e, b.disk.content[e.Hash])
		}
	}
	_, err = a.Adopt(t.Context(), by(b.authorID()), false)
	require.ErrorAs(t, err, &missing, "a part of a batch")
	require.Equal(t, "1", string(missing.Key))
	require.Equal(t, 1, a.adopt(b.authorID(), true))

	// A large content is not looked at before it is read.
	false1 := make([]byte, 3*readAtOnce)
	r := record.Record{
		Dot: record.Dot{Device: b.device(), Counter: 1 << 20}, Height: 1,
		Content: record.Content{Size: uint64(len(false1)), Hash: record.Hash{1}},
	}
	bytes, err := r.Append(nil)
	require.NoError(t, err)
	bytes = append(bytes, false1...)
	lie := replica.Entry{
		Replica: testReplica, Author: b.authorID(), Key: []byte("lie"), Size: uint64(len(bytes)),
		Hash: blobs.HashOf(bytes), Timestamp: l.time,
	}
	require.True(t, a.disk.take("lie", lie, bytes))
	require.Zero(t, a.adopt(b.authorID(), false))
	require.Equal(t, 1, a.read("lie").Malformed)
}

// A device whose own author is to be revoked takes another one, and adopts what it wrote itself.
func TestRenew(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	a.set("k", "a")
	a.set("l", "a")
	l.sync()
	former := a.authorID()
	require.NoError(t, a.Renew(t.Context()))
	require.NotEqual(t, former, a.authorID())
	require.Equal(t, 2, a.adopt(former, false))
	a.disk.revoke(former)
	a.reopen()
	a.set("k", "ab")
	l.sync()
	l.requireAll("k", "ab")
	l.requireAll("l", "a")
	require.Equal(t, "a", b.text("l"))
}

// A device that was revoked shows what there is, writes nothing and says why, and can give out what
// no other device has, until one has taken it up.
func TestRemoved(t *testing.T) {
	ctx := t.Context()
	l := newLab(t)
	a, b, c := l.device(), l.device(), l.device()
	a.set("k", "a")
	a.set("deleted", "d")
	l.sync()
	b.set("known", "1")
	b.set("k", "ab")
	l.sync()
	require.Equal(t, 2, a.adopt(b.authorID(), false))
	a.disk.revoke(b.authorID())
	// b knows nothing of it.
	b.set("k", "abx")
	b.set("k", "abxy")
	b.set("own", "o")
	require.NoError(t, b.Delete(ctx, b.read("deleted")))
	c.set("k", "abz")
	c.set("own", "p")
	unsent := func() (out []string) {
		for u, err := range b.Unsent(ctx) {
			require.NoError(t, err)
			in, err := u.Open(ctx)
			if u.Deleted {
				require.ErrorIs(t, err, replica.ErrNotFound)
				out = append(out, string(u.Key)+" deleted")
				continue
			}
			require.NoError(t, err)
			content, err := io.ReadAll(in)
			require.NoError(t, err)
			require.Len(t, content, int(u.Size))
			require.NotZero(t, u.Time)
			out = append(out, string(u.Key)+"="+string(content))
		}
		return out
	}
	want := []string{"deleted deleted", "k=abxy", "own=o"}
	require.Equal(t, append(want[:2:2], "known=1", want[2]), unsent(), "before it has heard of others")
	l.sync()
	require.Equal(t, want, unsent())

	require.Equal(t, "abz", b.text("k"))
	writes := b.disk.writes
	err := b.Set.Set(ctx, b.read("k"), []byte("q"))
	require.ErrorIs(t, err, ErrRemoved)
	require.Equal(t, kind.NotAllowed, kind.Of(err))
	require.ErrorIs(t, b.Delete(ctx, b.read("k")), ErrRemoved)
	a.set("k", "abzc")
	c.set("k", "abzd")
	l.sync()
	require.True(t, b.read("k").Plan.Write, "it is to be merged by others")
	require.Equal(t, "abcdz", b.textOf(b.settle("k")))
	require.Equal(t, writes, b.disk.writes)

	b.reopen()
	require.Equal(t, want, unsent())
	c.set("own", "o")
	require.NoError(t, a.Delete(ctx, a.read("deleted")))
	l.sync()
	require.Equal(t, want[1:2], unsent())
	_, err = b.Arrived(ctx, nil)
	require.NoError(t, err)
	require.Len(t, b.disk.void, 1, "the others are kept no longer")
}

// A head that is adopted may follow on counters of this device that only a copy of it has used: the
// version over it has another incarnation.
func TestAdoptOverCountersOfACopy(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	a.set("first", "x")
	copied := l.deviceOn(a.disk.copy())
	copied.set("k", "c") // it goes on with later counters
	b.from(copied)
	b.set("k", "cb")
	for at, e := range b.disk.slots {
		if e.Author == b.authorID() {
			a.disk.take(at.key, e, b.disk.content[e.Hash])
		}
	}
	require.Equal(t, 1, a.adopt(b.authorID(), false))
	a.disk.revoke(b.authorID())
	require.Equal(t, "cb", a.text("k"))
	require.Len(t, a.read("k").Heads, 1)
}

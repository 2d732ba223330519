package review

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/onnode"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk is a node with a replica, and what answers for it.
type desk struct {
	t    *testing.T
	n    *node.Node
	r    replica.Replica
	sets *onnode.Sets
	*Service
}

func newDesk(t *testing.T, encrypted bool) *desk {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	r, err := n.CreateReplica(t.Context(), "notes", encrypted)
	require.NoError(t, err)
	sets := onnode.NewSets(n)
	return &desk{t, n, r, sets, New(n, sets)}
}

// write writes a version as this device does, over all that is shown.
func (d *desk) write(key, content string) {
	set, release, err := d.sets.Open(d.t.Context(), d.r.ID)
	require.NoError(d.t, err)
	defer release()
	item, err := set.Read(d.t.Context(), []byte(key), versions.Looked{})
	require.NoError(d.t, err)
	require.NoError(d.t, set.Set.Set(d.t.Context(), item, []byte(content)))
}

// heads are the versions of an item that stand.
func (d *desk) heads(key string) []*plan.Version {
	set, err := d.sets.Look(d.t.Context(), d.r.ID)
	require.NoError(d.t, err)
	item, err := set.Read(d.t.Context(), []byte(key), versions.Looked{})
	require.NoError(d.t, err)
	return item.Heads
}

// other is another device, whose entries come to be here.
type other struct {
	d    *desk
	key  replica.SecretKey
	next uint64
}

func (d *desk) other(name string) *other {
	x := &other{d: d, key: replica.NewSecretKey(), next: 1}
	_, err := d.n.Grant(d.t.Context(), d.r.ID, x.key.Author(), replica.Permission{})
	require.NoError(d.t, err)
	if name != "" {
		b, err := (&record.Acknowledgement{Name: name}).Append(nil)
		require.NoError(d.t, err)
		x.put("\x00device", b)
	}
	return x
}

func (x *other) put(key string, value []byte) {
	_, err := x.d.n.ReplicaOf(x.d.r.ID).Apply(
		x.d.t.Context(), node.WriteOptions{As: x.key}, node.Change{Key: []byte(key), Value: value},
	)
	require.NoError(x.d.t, err)
}

// write writes a version over some heads, whose contents it keeps.
func (x *other) write(key, content string, over ...*plan.Version) {
	x.writeOver(key, content, true, over)
}

func (x *other) writeOver(key, content string, keep bool, over []*plan.Version) {
	look, err := x.d.sets.Look(x.d.t.Context(), x.d.r.ID)
	require.NoError(x.d.t, err)
	kept := map[record.Dot][]byte{}
	for _, v := range over {
		kept[v.Dot], err = look.Bytes(x.d.t.Context(), v, -1, 1<<20)
		require.NoError(x.d.t, err)
	}
	by := record.Device{Author: record.TagOf(x.key.Author()), Incarnation: record.Incarnation{1}}
	r := plan.Over(over, by, nil, func(a record.Ancestor) bool { return keep && kept[a.Dot] != nil })
	r.Dot.Counter = x.next
	x.next++
	r.Content = record.Content{
		Size: uint64(len(content)), Hash: record.HashOf(x.d.r.ID, []byte(content)),
	}
	b, err := r.Append(nil)
	require.NoError(x.d.t, err)
	b = append(b, content...)
	for _, a := range r.Ancestors {
		if a.Kept {
			b = append(b, kept[a.Dot]...)
		}
	}
	x.put(key, b)
}

func (d *desk) conflicts() (all []Conflict) {
	for c, err := range d.All(d.t.Context()) {
		require.NoError(d.t, err)
		all = append(all, c)
	}
	return all
}

func (d *desk) text(key string, c Choice) string {
	in, err := d.Service.Open(d.t.Context(), d.r, []byte(key), c)
	require.NoError(d.t, err)
	b, err := io.ReadAll(in)
	require.NoError(d.t, err)
	return string(b)
}

// A conflict is listed with whose versions they are, shown with what each has changed, and ended by
// taking one; what was there before is restored, by its number and by its id.
func TestConflict(t *testing.T) {
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			d := newDesk(t, encrypted)
			d.write("k", "a\nb\nc\n")
			base := d.heads("k")
			laptop, somebody := d.other("laptop"), d.other("")
			laptop.write("k", "a\nB\nc\n", base...)
			d.write("merges", "1\n2\n3\n")
			laptop.write("merges", "1\n2\n3\n4\n", d.heads("merges")...)
			require.Empty(t, d.conflicts(), "one version follows on the other")
			somebody.write("k", "a\nbb\nc\n", base...)
			all := d.conflicts()
			require.Len(t, all, 1)
			c := all[0]
			require.Equal(t, "k", string(c.Key))
			require.ErrorIs(t, c.Reason, plan.ErrContents)
			require.Contains(t, c.Reason.Error(), "line 2: both sides changed it")
			require.Len(t, c.Heads, 2)
			require.Equal(t, "laptop", c.Heads[0].Device)
			require.Empty(t, c.Heads[1].Device)
			require.Equal(t, somebody.key.Author().String(), c.Heads[1].Author)
			require.False(t, c.Heads[0].Here)

			x, err := d.Show(ctx, d.r, []byte("k"))
			require.NoError(t, err)
			require.NotNil(t, x.Base)
			require.True(t, x.Base.Here)
			require.Equal(t, "@@ line 1\n a\n-b\n+B\n c\n", x.Texts[0].Text)
			_, err = d.Show(ctx, d.r, []byte("merges"))
			require.ErrorIs(t, err, ErrNoConflict)

			_, err = d.Resolve(ctx, d.r, []byte("k"), Decision{Take: &Choice{Number: 3}})
			require.ErrorIs(t, err, ErrNoVersion)
			_, err = d.Resolve(ctx, d.r, []byte("k"), Decision{Take: &Choice{Number: -1}})
			require.ErrorIs(t, err, ErrNoVersion)
			_, err = d.Resolve(ctx, d.r, []byte("k"), Decision{Take: &Choice{}})
			require.ErrorIs(t, err, ErrNoVersion)
			require.Len(t, d.heads("k"), 2)
			out, err := d.Resolve(ctx, d.r, []byte("k"), Decision{Take: &Choice{ID: c.Heads[1].ID}})
			require.NoError(t, err)
			require.Equal(t, c.Heads[1].ID, out.Took.ID)
			require.Equal(t, 2, out.Over)
			require.Empty(t, d.conflicts())
			require.Len(t, d.heads("k"), 1)
			require.Equal(t, record.Resolution, d.heads("k")[0].Kind)

			past, waiting, err := d.History(ctx, d.r, []byte("k"))
			require.NoError(t, err)
			require.Zero(t, waiting)
			require.Len(t, past, 4)
			require.True(t, past[0].Shown && past[0].Here)
			require.Equal(t, "a\nbb\nc\n", d.text("k", Choice{Number: 1}))
			require.Equal(t, "a\nB\nc\n", d.text("k", Choice{ID: c.Heads[0].ID}))
			require.Equal(t, "a\nb\nc\n", d.text("k", Choice{Number: 4}))
			v, err := d.Restore(ctx, d.r, []byte("k"), Choice{ID: c.Heads[0].ID})
			require.NoError(t, err)
			require.Equal(t, "laptop", v.Device)
			require.Equal(t, "a\nB\nc\n", d.text("k", Choice{Number: 1}))
			_, err = d.Resolve(ctx, d.r, []byte("k"), Decision{Delete: true})
			require.ErrorIs(t, err, ErrNoConflict)
		})
	}
}

// What each version changed in the one that all follow on is shown if that is kept, and why there
// is no text if there is none; a content of one's own, and a deletion, end a conflict.
func TestShow(t *testing.T) {
	ctx := t.Context()
	d := newDesk(t, false)
	d.write("k", "a\nb\nc\n")
	base := d.heads("k")
	x := d.other("")
	x.write("k", "a\nbb\nc\n", base...)
	y := d.other("")
	y.write("k", "a\x00", base...)
	z := d.other("")
	z.write("k", strings.Repeat("x", MaxShown+1), base...)
	set, release, err := d.sets.Open(ctx, d.r.ID)
	require.NoError(t, err)
	item, err := set.Read(ctx, []byte("k"), versions.Looked{})
	require.NoError(t, err)
	item.Basis = base
	require.NoError(t, set.Set.Set(ctx, item, []byte("a\nb\nC\n")))
	release()
	s, err := d.Show(ctx, d.r, []byte("k"))
	require.NoError(t, err)
	require.Equal(t, []Text{
		{Text: "@@ line 1\n a\n-b\n+bb\n c\n", Diff: true},
		{Why: ErrNoText},
		{Why: ErrTooLarge},
		{Text: "@@ line 1\n a\n b\n-c\n+C\n", Diff: true},
	}, s.Texts)
	require.True(t, s.Heads[3].Shown && s.Heads[3].Here)
	text := "mine"
	out, err := d.Resolve(ctx, d.r, []byte("k"), Decision{
		Content: io.NewSectionReader(strings.NewReader(text), 0, int64(len(text))),
	})
	require.NoError(t, err)
	require.EqualValues(t, 4, out.Size)
	require.Equal(t, 4, out.Over)
	require.Equal(t, "mine", d.text("k", Choice{Number: 1}))
	over := d.heads("k")
	x.write("k", "one\n", over...)
	y.write("k", "two\n", over...)
	require.Len(t, d.conflicts(), 1)
	out, err = d.Resolve(ctx, d.r, []byte("k"), Decision{Delete: true})
	require.NoError(t, err)
	require.True(t, out.Deleted)
	require.Equal(t, record.Deletion, d.heads("k")[0].Kind)
	require.Len(t, d.heads("k"), 1)
}

// Nothing here makes a replica of plain values one with versions: it is listed as it is, nothing is
// restored in it, and the node keeps nothing for it that it did not keep.
func TestPlainValuesStayPlain(t *testing.T) {
	ctx := t.Context()
	d := newDesk(t, false)
	d.other("").put("k", []byte("other's"))
	_, err := d.n.ReplicaOf(d.r.ID).Set(ctx, []byte("k"), []byte("mine"))
	require.NoError(t, err)
	before := d.stored()
	require.Empty(t, d.conflicts())
	all, waiting, err := d.History(ctx, d.r, []byte("k"))
	require.NoError(t, err)
	require.Zero(t, waiting)
	require.Len(t, all, 2)
	require.True(t, all[0].Plain && all[0].Here && all[1].Plain && !all[1].Here)
	require.Equal(t, "other's", d.text("k", Choice{Number: 2}))
	_, err = d.Restore(ctx, d.r, []byte("k"), Choice{Number: 2})
	require.ErrorIs(t, err, ErrPlain)
	_, err = d.Resolve(ctx, d.r, []byte("k"), Decision{Take: &Choice{Number: 1}})
	require.ErrorIs(t, err, ErrNoConflict)
	_, err = d.Show(ctx, d.r, []byte("k"))
	require.ErrorIs(t, err, ErrNoConflict)
	_, _, err = d.History(ctx, d.r, []byte("nothing"))
	require.ErrorIs(t, err, replica.ErrNotFound)
	_, _, err = d.History(ctx, d.r, nil)
	require.ErrorIs(t, err, replica.ErrNotFound)
	require.Equal(t, before, d.stored())
	authors, err := d.n.Authors().All(ctx)
	require.NoError(t, err)
	require.Len(t, authors, 1, "no author was made")
}

// stored is all that the node has in its store.
func (d *desk) stored() map[string]string {
	all := map[string]string{}
	require.NoError(d.t, d.n.Store().View(d.t.Context(), func(rd kv.Reader) error {
		for p, err := range rd.Scan(kv.Range{}, kv.ScanOptions{}) {
			require.NoError(d.t, err)
			all[string(p.Key)] = string(p.Value)
		}
		return nil
	}))
	require.NotEmpty(d.t, all)
	return all
}

// What all follow on may be kept by nobody any more: that is a conflict, too, and no diff is shown.
func TestBaseThatIsNotKept(t *testing.T) {
	ctx := t.Context()
	d := newDesk(t, false)
	x, y, z := d.other(""), d.other(""), d.other("")
	x.write("k", "a\nb\nc\n")
	base := d.heads("k")
	y.writeOver("k", "a\nB\nc\n", false, base)
	z.writeOver("k", "a\nbb\nc\n", false, base)
	all := d.conflicts()
	require.Len(t, all, 1)
	require.ErrorIs(t, all[0].Reason, plan.ErrNoBase)
	s, err := d.Show(ctx, d.r, []byte("k"))
	require.NoError(t, err)
	require.NotNil(t, s.Base)
	require.False(t, s.Base.Kept)
	require.Equal(t, []Text{{Text: "a\nB\nc\n"}, {Text: "a\nbb\nc\n"}}, s.Texts)
	_, err = d.Restore(ctx, d.r, []byte("k"), Choice{ID: s.Base.ID})
	require.ErrorIs(t, err, versions.ErrNotKept)
	require.Len(t, d.heads("k"), 2)
	_, err = d.Resolve(ctx, d.r, []byte("k"), Decision{Take: &Choice{Number: 1}})
	require.NoError(t, err)
	require.Empty(t, d.conflicts())
}

// Versions that somebody else has open can be seen, and are not written beside that.
func TestVersionsInUse(t *testing.T) {
	ctx := t.Context()
	d := newDesk(t, false)
	d.write("k", "a")
	app, err := onnode.Open(ctx, d.n, d.r.ID, onnode.Options{})
	require.NoError(t, err)
	past, _, err := d.History(ctx, d.r, []byte("k"))
	require.NoError(t, err)
	require.Len(t, past, 1)
	_, err = d.Restore(ctx, d.r, []byte("k"), Choice{Number: 1})
	require.ErrorIs(t, err, node.ErrDisplacedInUse)
	require.ErrorContains(t, err, "decide in the app")
	app.Close()
	_, err = d.Restore(ctx, d.r, []byte("k"), Choice{Number: 1})
	require.NoError(t, err)
}

// folders is a layer above, as it may come to be.
type folders struct{ of replica.ID }

func (folders) Kind() string { return "folder" }

func (f folders) Options(_ context.Context, id replica.ID) (onnode.Options, bool, error) {
	return onnode.Options{}, id == f.of, nil
}

func (folders) Name(_ context.Context, _ replica.ID, key []byte) (string, error) {
	return "papers/" + string(key), nil
}

// The layer whose the versions are says what people call an item, and whether it can be merged.
func TestUserNamesItems(t *testing.T) {
	d := newDesk(t, false)
	d.write("k", "a\nb\nc\n")
	base := d.heads("k")
	d.other("").write("k", "A\nb\nc\n", base...)
	d.other("").write("k", "a\nb\nC\n", base...)
	require.Empty(t, d.conflicts(), "their contents are merged by what they are")
	d.sets.Add(folders{replica.ID{1}})
	require.Empty(t, d.conflicts())
	d.sets.Add(folders{d.r.ID})
	all := d.conflicts()
	require.Len(t, all, 1)
	require.Equal(t, "folder", all[0].Kind)
	require.Equal(t, "papers/k", all[0].Name)
}

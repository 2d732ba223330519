package versions

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// edit writes a content over what was shown at another time, as it is kept.
func (d *device) edit(key string, over []byte, content string) {
	x, err := ParseShown(over)
	require.NoError(d.l.t, err)
	src := d.SourceOf([]byte(content))
	require.NoError(d.l.t, d.Write(d.l.t.Context(),
		Edit{Item: d.read(key), Content: &src, Over: &x}))
}

func (d *device) shown(key string) []byte {
	x := d.read(key).Shown()
	b, err := x.Append(nil)
	require.NoError(d.l.t, err)
	return b
}

// An edit of what was shown long ago stands beside what has come since, and is merged with it from
// what both follow on, although no entry holds that any more.
func TestEditOverWhatWasShown(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	b.set("k", "abc")
	l.sync()
	before := a.shown("k")
	b.set("k", "abcx") // in the slot of what a has shown
	b.set("k", "abcxy")
	l.sync()
	a.reopen()
	a.edit("k", before, "bc")
	require.Len(t, a.read("k").Heads, 2)
	l.sync()
	a.settle("k")
	l.sync()
	l.requireAll("k", "bcxy")
	require.Len(t, a.read("k").Heads, 1)
	require.Len(t, a.disk.keys, 1)
}

// An edit that was made before this device wrote another one, as after an old copy of an app's data
// was restored, takes nothing from that: both stand, and are merged.
func TestEditBesideTheDevicesOwn(t *testing.T) {
	for name, x := range map[string]struct{ first, second, shows string }{
		"merged":   {"abcx", "bc", "bcx"},
		"conflict": {"A", "B", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			a, b := l.device(), l.device()
			a.set("k", "abc")
			before := a.shown("k")
			a.edit("k", before, x.first)
			a.edit("k", before, x.second)
			item := a.read("k")
			require.Len(t, item.Heads, 2)
			l.sync()
			a.settle("k")
			l.sync()
			if x.shows == "" {
				require.Error(t, b.read("k").Conflict)
				return
			}
			l.requireAll("k", x.shows)
			b.edit("k", before, "abcz")
			l.sync()
			b.settle("k")
			a.settle("k")
			l.sync()
			l.requireAll("k", "bcxz")
		})
	}
}

// What a device has written since stays what an edit follows on, if whoever made it saw that.
func TestEditOverTheDevicesOwn(t *testing.T) {
	l := newLab(t)
	a := l.device()
	a.set("k", "A")
	a.edit("k", a.shown("k"), "B")
	a.edit("k", a.shown("k"), "C")
	require.Len(t, a.read("k").Heads, 1)
	require.Equal(t, "C", a.text("k"))
	none := Shown{}
	b, err := none.Append(nil)
	require.NoError(t, err)
	a.edit("l", b, "new")
	require.Equal(t, "new", a.text("l"))
	src := a.SourceOf(nil)
	require.Error(t, a.Write(t.Context(),
		Edit{Item: a.read("l"), Content: &src, Over: &none, Resolve: true}))
}

// Golden: what is kept of what was shown.
func TestShownGolden(t *testing.T) {
	x := Shown{hash: record.Hash{1}, basis: []*plan.Version{{
		Author: replica.AuthorID{2}, Time: 3, Record: &record.Record{
			Dot: record.Dot{
				Device: record.Device{
					Author: record.TagOf(replica.AuthorID{2}), Incarnation: record.Incarnation{4},
				},
				Counter: 5,
			},
			Height: 1, Content: record.Content{Size: 6, Hash: record.Hash{7}},
		},
	}}}
	b, err := x.Append(nil)
	require.NoError(t, err)
	require.Equal(t, shownGolden, hex.EncodeToString(b))
	y, err := ParseShown(b)
	require.NoError(t, err)
	require.Equal(t, x, y)
	for i := range b {
		_, err := ParseShown(b[:i])
		require.ErrorIs(t, err, record.ErrMalformed, i)
	}
	_, err = ParseShown(append(b, 0))
	require.ErrorIs(t, err, record.ErrMalformed)
}

const shownGolden = "01" + // version
	"0100000000000000000000000000000000000000000000000000000000000000" + // hash
	"01" + // one version
	"0200000000000000000000000000000000000000000000000000000000000000" +
	"0000000000000003" + // author and time
	"44" + // length
	"736b657272792076657273696f6e20310a3200000400000000000000050100000000" +
	"06070000000000000000000000000000000000000000000000000000000000000000"

func FuzzParseShown(f *testing.F) {
	b, _ := (&Shown{}).Append(nil)
	f.Add(b)
	golden, _ := hex.DecodeString(shownGolden)
	f.Add(golden)
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseShown(b)
		if err != nil {
			require.ErrorIs(t, err, record.ErrMalformed)
			return
		}
		again, err := x.Append(nil)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

// Contents that came and were superseded after something was shown are told from older ones.
func TestMissed(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	b.set("k", "older")
	b.set("k", "shown")
	l.sync()
	shown, err := ParseShown(a.shown("k"))
	require.NoError(t, err)
	b.set("k", "missed")
	b.set("k", "now")
	l.sync()
	item := a.read("k")
	for content, want := range map[string]bool{
		"older": false, "shown": false, "missed": true, "now": false, "never": false,
	} {
		require.Equal(t, want, shown.Missed(item, a.HashOf([]byte(content))), content)
		require.False(t, new(Shown).Missed(item, a.HashOf([]byte(content))), content)
	}
	require.False(t, shown.Missed(item, record.Hash{}), "nobody has deleted it")
	require.True(t, func() bool { is, _ := item.HasAncestor(a.HashOf([]byte("missed"))); return is }())
}
